//! Fuzz tests: nothing panics on mutated input, and nothing is accepted that was not signed.
//!
//! Deterministic: the same inputs in the same order (but for the keys). `FUZZ_SECONDS` says for how long (default: 1).

use serde_json::{Value, json};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::jws::{decode, split_jws};
use super::signer::{ALGORITHMS, Signer};
use super::tests::{NOW, SECRET, authenticate, sign, verifier, verify};
use super::*;
use crate::random::{self, Random, fuzz};

/// Pieces that mean something to one grammar or the other.
const WORDS: [&str; 24] = [
    ".",
    "..",
    "=",
    "==",
    " ",
    "-",
    "_",
    "A",
    "\0",
    "é",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "1e999",
    "-1",
    "\"alg\":\"none\",",
    "\"kid\":\"EdDSA\",",
    "\"exp\":1,",
    "\"session\":{\"userId\":\"a\"},",
];

fn mutate(random: &mut Random, text: &str) -> String {
    random::mutate(random, text, &WORDS)
}

fn claim_sets() -> [Value; 3] {
    let exp = NOW + 60.0;
    [
        json!({"sub": "ada", "email": "ada@example.com", "aud": ["a", "b"], "exp": exp}),
        json!({"userId": "ada", "email": "ada@example.com", "iat": NOW, "nbf": NOW, "exp": exp, "name": "Ada"}),
        json!({
            "session": {"userId": "ada", "expiresAt": "2099-01-01T00:00:00.000Z"},
            "user": {"id": "ada", "email": "ada@example.com"},
            "exp": exp
        }),
    ]
}

#[test]
fn no_mutated_token_is_accepted() {
    let signers = ALGORITHMS.map(|alg| Signer::new(alg, alg));
    let jwks: Vec<Value> = signers.iter().map(Signer::jwk).collect();
    let (verifier, keys) = (verifier(&[SECRET]), KeySet::read(&jwks).unwrap());
    let mut good = Vec::new();
    for claims in claim_sets() {
        good.push(sign(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string()));
        good.extend(signers.iter().map(|signer| signer.token(&claims)));
    }
    for token in &good {
        assert!(authenticate(&verifier, &keys, &format!("Bearer {token}"), NOW).is_ok(), "{token}");
    }
    fuzz(|random| {
        let token = random.pick(&good).clone();
        let header = if random.below(2) == 0 {
            mutate(random, &format!("Bearer {token}"))
        } else {
            // Mutated header or claims under the signature of the original.
            let mut parts = split_jws(&token).unwrap().map(str::to_owned);
            let part = random.below(2);
            let text = String::from_utf8(decode(&parts[part]).unwrap()).unwrap();
            parts[part] = URL_SAFE_NO_PAD.encode(mutate(random, &text));
            format!("Bearer {}", parts.join("."))
        };
        if authenticate(&verifier, &keys, &header, NOW).is_ok() {
            let token = header.trim().split_once(' ').unwrap().1.trim_start();
            assert!(good.iter().any(|good| good == token), "accepted: {header}");
        }
    });
}

/// Reads nothing else: other fields may have any value, even a number out of range.
#[derive(Deserialize)]
struct Expiry {
    exp: f64,
}

/// Signed claims are untrusted input, too.
#[test]
fn signed_mutated_claims_give_a_usable_user_id_or_an_error() {
    let claim_sets = claim_sets().map(|claims| claims.to_string());
    let mut accepted = 0;
    fuzz(|random| {
        let claims = random.pick(&claim_sets);
        let claims = mutate(random, claims);
        if let Ok(identity) = verify(&sign(SECRET, r#"{"alg":"HS256"}"#, &claims)) {
            let id = identity.user.as_str();
            assert!((1..=MAX_USER_ID_CHARS).contains(&id.chars().count()) && !id.contains('\0'), "{claims}");
            let read: Expiry = serde_json::from_str(&claims).unwrap();
            assert!(read.exp > NOW, "{claims}");
            accepted += 1;
        }
    });
    assert!(accepted > 0, "none of the mutated claims were any");
}

#[test]
fn mutated_key_set_is_read_without_panic() {
    let keys: Vec<Value> = ALGORITHMS.iter().map(|alg| Signer::new("a", alg).jwk()).collect();
    let set = json!(keys).to_string();
    fuzz(|random| {
        if let Ok(Value::Array(keys)) = serde_json::from_str(&mutate(random, &set)) {
            let read = KeySet::read(&keys).unwrap();
            assert!(read.count() <= keys.len());
        }
    });
}
