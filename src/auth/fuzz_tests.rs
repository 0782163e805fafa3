//! Any token, claims and key set: nothing panics, and nothing is accepted that was not signed.
//!
//! `tests/fuzz` calls the `check_` functions with the input of libFuzzer, the tests here with mutated seeds, in the
//! same order in every run (but for the keys). `FUZZ_SECONDS` says for how long (default: 1).

use serde::Deserialize;
use serde_json::Value;

use super::signer::hs256;
use super::*;

pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Seconds since 1970.
pub(super) const NOW: f64 = 1_800_000_000.0;
/// Headers with good signatures.
const SEEDS: [&str; 2] = [
    include_str!("../../tests/fuzz/seeds/authorization/sub"),
    include_str!("../../tests/fuzz/seeds/authorization/session"),
];

fn authenticate(header: &str) -> Result<Identity, AuthError> {
    let verifier = Verifier::new(AuthConfig { secrets: vec![SECRET.to_owned()], ..AuthConfig::default() });
    match verifier.authenticate(Some(header), Some(&KeySet::absent()), NOW)? {
        Verdict::Verified(identity) => Ok(identity),
        Verdict::NeedsKey { .. } => panic!("it has a key set"),
    }
}

/// Verifies it as an `Authorization` header. What is accepted is one of the seeds, whose signatures are good.
pub fn check_authorization(header: &str) {
    let token = |header: &str| header.trim().split_once(' ').map(|(_, token)| token.trim().to_owned());
    if authenticate(header).is_ok() {
        assert!(SEEDS.iter().any(|seed| token(seed) == token(header)), "accepted: {header}");
    }
}

/// Reads nothing else: other claims may have any value, even a number out of range.
#[derive(Deserialize)]
struct Expiry {
    exp: f64,
}

/// Verifies a token with these claims and a good signature: signed claims are untrusted input, too. Whether it is
/// accepted.
pub fn check_claims(claims: &str) -> bool {
    let token = hs256(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, claims);
    let identity = authenticate(&format!("Bearer {token}"));
    if let Ok(identity) = &identity {
        let id = identity.user.as_str();
        assert!((1..=MAX_USER_ID_CHARS).contains(&id.chars().count()) && !id.contains('\0'), "{claims}");
        let read: Expiry = serde_json::from_str(claims).expect("accepted claims are JSON");
        assert!(read.exp > NOW, "{claims}");
    }
    identity.is_ok()
}

/// Reads it as a JSON Web Key Set.
pub fn check_key_set(json: &str) {
    if let Ok(Value::Array(keys)) = serde_json::from_str(json) {
        let count = KeySet::read(&keys).map_or(0, |read| read.count());
        assert!(count <= keys.len());
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::auth::jws::{decode, split_jws};
    use crate::auth::signer::{ALGORITHMS, Signer};
    use crate::auth::tests::{authenticate, sign, verifier};
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

    #[test]
    fn seeds_of_authorization_are_accepted() {
        for seed in SEEDS {
            assert!(super::authenticate(seed.trim()).is_ok(), "{seed}");
            check_authorization(seed.trim());
        }
    }

    #[test]
    fn signed_mutated_claims_give_a_usable_user_id_or_an_error() {
        let claim_sets = claim_sets().map(|claims| claims.to_string());
        let mut accepted = 0;
        fuzz(|random| {
            let claims = random.pick(&claim_sets);
            accepted += usize::from(check_claims(&mutate(random, claims)));
        });
        assert!(accepted > 0, "none of the mutated claims were any");
    }

    #[test]
    fn mutated_key_set_is_read_without_panic() {
        let keys: Vec<Value> = ALGORITHMS.iter().map(|alg| Signer::new("a", alg).jwk()).collect();
        let set = json!(keys).to_string();
        fuzz(|random| check_key_set(&mutate(random, &set)));
    }
}
