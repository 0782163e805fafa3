//! Who may have signed a token, and for whom: keys, secrets, issuer and audience.

use serde_json::{Value, json};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::signer::{ALGORITHMS, Signer, hs256};
use super::tests::{NOW, SECRET, authenticate, refused, sign, token, verifier};
use super::*;

fn key_set(signers: &[&Signer]) -> KeySet {
    let jwks: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    KeySet::read(&jwks).unwrap()
}

/// Verifies with [`SECRET`] and these keys.
fn verify_with(keys: &KeySet, token: &str) -> Result<Identity, AuthError> {
    authenticate(&verifier(&[SECRET]), keys, &format!("Bearer {token}"), NOW)
}

fn claims() -> Value {
    json!({"sub": "ada", "exp": NOW + 60.0})
}

#[test]
fn each_algorithm_is_verified_with_the_key_of_its_kid_only() {
    let signers = ALGORITHMS.map(|alg| Signer::new(alg, alg));
    let keys = key_set(&signers.each_ref());
    for signer in &signers {
        let good = signer.token(&claims());
        assert_eq!(verify_with(&keys, &good).unwrap().user.as_str(), "ada", "{}", signer.alg);
        let expired = signer.token(&json!({"sub": "ada", "exp": NOW}));
        assert_eq!(verify_with(&keys, &expired), Err(AuthError::Expired), "{}", signer.alg);

        let (signed, signature) = good.rsplit_once('.').unwrap();
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        for forged in [
            format!("{signed}.{flipped}{}", &signature[1..]),
            format!("{signed}.{}", &signature[..signature.len() - 4]),
            format!("{signed}.AAAA"),
            Signer::new(signer.alg, signer.alg).token(&claims()),
            signer.sign(&json!({"alg": signer.alg}), &claims()),
            signer.sign(&json!({"alg": signer.alg, "kid": ""}), &claims()),
            signer.sign(&json!({"alg": signer.alg, "kid": 1}), &claims()),
            signer.sign(&json!({"alg": signer.alg, "kid": "unknown"}), &claims()),
            signer.sign(&json!({"alg": signer.alg, "kid": "unknown", "jwk": signer.jwk()}), &claims()),
            signer.sign(&json!({"alg": signer.alg, "kid": signer.kid, "typ": "at+jwt"}), &claims()),
            signer.sign(&json!({"alg": signer.alg, "kid": signer.kid, "crit": ["exp"]}), &claims()),
        ] {
            assert!(refused(verify_with(&keys, &forged)), "{forged}");
        }
        for other in ALGORITHMS.into_iter().chain(["HS256", "none"]).filter(|other| *other != signer.alg) {
            for kid in [other, signer.alg] {
                let confused = signer.sign(&json!({"alg": other, "kid": kid}), &claims());
                assert!(refused(verify_with(&keys, &confused)), "{} as {other}, {kid}", signer.alg);
            }
        }
    }
}

#[test]
fn hs256_signature_made_with_a_public_key_is_refused() {
    let signer = Signer::new("a", "RS256");
    let keys = key_set(&[&signer]);
    let (jwk, header) = (signer.jwk(), r#"{"alg":"HS256","kid":"a"}"#);
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let secrets = [jwk.to_string().into_bytes(), jwk["n"].as_str().unwrap().into(), modulus, b"a".to_vec()];
    for secret in secrets {
        assert!(refused(verify_with(&keys, &hs256(&secret, header, &claims().to_string()))));
    }
}

#[test]
fn token_signed_with_a_key_is_refused_with_the_cause() {
    let signer = Signer::new("a", "RS256");
    let with = |keys: &KeySet, alg: &str, kid: &str| {
        let token = signer.sign(&json!({"alg": alg, "kid": kid}), &claims());
        verify_with(keys, &token).unwrap_err().to_string()
    };
    let keys = key_set(&[&signer]);
    assert!(with(&KeySet::absent(), "RS256", "a").contains("this server has no key set"));
    assert!(with(&keys, "RS256", "b").contains("`kid` names no key"));
    assert!(with(&keys, "PS256", "a").contains("`alg` is not the algorithm of the key"));
    assert!(with(&key_set(&[&Signer::new("a", "RS256")]), "RS256", "a").contains("signature verification failed"));
}

#[test]
fn ed25519_is_a_name_of_eddsa_in_header_and_key() {
    for in_key in ["EdDSA", "Ed25519"] {
        let signer = Signer::new("a", in_key);
        let keys = key_set(&[&signer]);
        for in_header in ["EdDSA", "Ed25519"] {
            let token = signer.sign(&json!({"alg": in_header, "kid": "a"}), &claims());
            assert!(verify_with(&keys, &token).is_ok(), "{in_header} with {in_key}");
        }
        for in_header in ["ed25519", "Ed448", "ES256"] {
            let token = signer.sign(&json!({"alg": in_header, "kid": "a"}), &claims());
            assert!(refused(verify_with(&keys, &token)), "{in_header} with {in_key}");
        }
    }
}

#[test]
fn email_verification_rule_applies_to_hs256_only() {
    let signer = Signer::new("a", "EdDSA");
    let keys = key_set(&[&signer]);
    let with = |claims: Value| verify_with(&keys, &signer.token(&claims));
    let exp = NOW + 60.0;
    assert!(with(json!({"email": "ada@example.com", "userId": "ada", "iat": NOW, "exp": exp})).is_ok());
    assert!(refused(with(json!({"email": "a@b.c", "updateTo": "d@e.f", "sub": "ada", "exp": exp}))));
}

#[test]
fn each_configured_secret_verifies_and_no_other() {
    let verifier = verifier(&["the new secret, 32 bytes or more", SECRET]);
    let header = r#"{"alg":"HS256"}"#;
    for (secret, good) in
        [("the new secret, 32 bytes or more", true), (SECRET, true), ("an older one", false), ("", false)]
    {
        let bearer = format!("Bearer {}", sign(secret, header, &claims().to_string()));
        let verdict = verifier.authenticate(Some(&bearer), None, NOW);
        assert_eq!(verdict.is_ok(), good, "{secret}");
    }
}

#[test]
fn iss_and_aud_are_required_if_configured() {
    let (issuer, audience) = ("https://a.example", "todo");
    let trusting = |issuer: Option<&str>, audience: Option<&str>| {
        let (issuer, audience) = (issuer.map(str::to_owned), audience.map(str::to_owned));
        Verifier::new(AuthConfig { secrets: vec![SECRET.to_owned()], issuer, audience })
    };
    let verdict = |verifier: &Verifier, mut more: Value| {
        more["sub"] = json!("ada");
        more["exp"] = json!(NOW + 60.0);
        verifier.authenticate(Some(&format!("Bearer {}", token(&more))), None, NOW)
    };
    let both = trusting(Some(issuer), Some(audience));
    for aud in [json!(audience), json!([audience]), json!([1, "other", audience])] {
        assert!(verdict(&both, json!({"iss": issuer, "aud": aud.clone()})).is_ok(), "{aud}");
    }
    for more in [
        json!({}),
        json!({"iss": issuer}),
        json!({"aud": audience}),
        json!({"iss": "https://a.example/", "aud": audience}),
        json!({"iss": [issuer], "aud": audience}),
        json!({"iss": null, "aud": audience}),
        json!({"iss": issuer, "aud": "Todo"}),
        json!({"iss": issuer, "aud": []}),
        json!({"iss": issuer, "aud": null}),
        json!({"iss": issuer, "aud": {"todo": 1}}),
        json!({"iss": issuer, "aud": [[audience]]}),
    ] {
        assert!(refused(verdict(&both, more.clone())), "{more}");
    }
    assert!(verdict(&trusting(Some(issuer), None), json!({"iss": issuer})).is_ok());
    assert!(verdict(&trusting(None, Some(audience)), json!({"aud": audience})).is_ok());
    assert!(verdict(&trusting(None, None), json!({"iss": 1, "aud": {}})).is_ok());
}
