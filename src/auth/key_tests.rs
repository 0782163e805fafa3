//! Who may have signed a token, and for whom: keys, secrets, issuer and audience.

use serde_json::{Value, json};

use super::signer::{ALGORITHMS, Signer};
use super::tests::{NOW, SECRET, refused, sign, token, verifier, verify};
use super::*;

/// A verifier of what these keys sign, and the secret.
fn verifier_of(signers: &[&Signer]) -> Verifier {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    let trust = Trust { secrets: vec![SECRET.to_owned()], ..Trust::default() };
    Verifier::new(trust, KeySource::new("the test", move || Ok(Some(keys.clone()))), 1)
}

fn claims() -> Value {
    json!({"sub": "ada", "exp": NOW + 60.0})
}

#[test]
fn each_algorithm_is_checked_with_the_key_that_the_token_names() {
    let signers = ALGORITHMS.map(|alg| Signer::new(alg, alg));
    let verifier = verifier_of(&signers.each_ref());
    for signer in &signers {
        let good = signer.token(&claims());
        assert_eq!(
            verifier.verify(&good, NOW, Patience::Some).unwrap().user.as_str(),
            "ada",
            "{}",
            signer.alg
        );
        let expired = signer.token(&json!({"sub": "ada", "exp": NOW}));
        assert_eq!(verifier.verify(&expired, NOW, Patience::Some), Err(Refusal::Expired), "{}", signer.alg);

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
            assert!(refused(verifier.verify(&forged, NOW, Patience::Some)), "{forged}");
        }
        for other in ALGORITHMS.into_iter().chain(["HS256", "none"]).filter(|other| *other != signer.alg) {
            for kid in [other, signer.alg] {
                let confused = signer.sign(&json!({"alg": other, "kid": kid}), &claims());
                assert!(
                    refused(verifier.verify(&confused, NOW, Patience::Some)),
                    "{} as {other}, {kid}",
                    signer.alg
                );
            }
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let signer = Signer::new("a", "RS256");
    let verifier = verifier_of(&[&signer]);
    let (jwk, header) = (signer.jwk(), r#"{"alg":"HS256","kid":"a"}"#);
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let secrets = [jwk.to_string().into_bytes(), jwk["n"].as_str().unwrap().into(), modulus, b"a".to_vec()];
    for secret in secrets {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims().to_string()));
        let key = jsonwebtoken::EncodingKey::from_secret(&secret);
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
        assert!(refused(verifier.verify(&format!("{signed}.{signature}"), NOW, Patience::Some)));
    }
}

#[test]
fn without_a_key_set_a_token_that_needs_one_is_refused_with_that_reason() {
    let refusal = verify(&Signer::new("a", "EdDSA").token(&claims())).unwrap_err();
    assert!(refusal.to_string().contains("knows no issuer's keys"), "{refusal}");
    let trust = Trust::default();
    let away = Verifier::new(trust, KeySource::new("the test", || Err("away".to_owned())), 1);
    assert_eq!(
        away.verify(&Signer::new("a", "EdDSA").token(&claims()), NOW, Patience::Some),
        Err(Refusal::NotNow)
    );
    assert_eq!(away.key_status().last_error.as_deref(), Some("away"));
}

#[test]
fn a_key_signs_no_mail() {
    let signer = Signer::new("a", "EdDSA");
    let verifier = verifier_of(&[&signer]);
    let with = |claims: Value| verifier.verify(&signer.token(&claims), NOW, Patience::Some);
    let exp = NOW + 60.0;
    assert!(with(json!({"email": "ada@example.com", "userId": "ada", "iat": NOW, "exp": exp})).is_ok());
    assert!(refused(with(json!({"email": "a@b.c", "updateTo": "d@e.f", "sub": "ada", "exp": exp}))));
}

#[test]
fn each_secret_may_have_signed_and_no_other() {
    let verifier = verifier(&["the new secret, 32 bytes or more", SECRET]);
    let header = r#"{"alg":"HS256"}"#;
    for (secret, good) in
        [("the new secret, 32 bytes or more", true), (SECRET, true), ("an older one", false), ("", false)]
    {
        let verdict = verifier.verify(&sign(secret, header, &claims().to_string()), NOW, Patience::Some);
        assert_eq!(verdict.is_ok(), good, "{secret}");
    }
}

#[test]
fn issuer_and_audience_are_required_where_they_are_configured() {
    let (issuer, audience) = ("https://a.example", "todo");
    let trusting = |issuer: Option<&str>, audience: Option<&str>| {
        let (issuer, audience) = (issuer.map(str::to_owned), audience.map(str::to_owned));
        let trust = Trust { secrets: vec![SECRET.to_owned()], issuer, audience };
        Verifier::new(trust, KeySource::new("nowhere", || Ok(None)), 1)
    };
    let verdict = |verifier: &Verifier, mut more: Value| {
        more["sub"] = json!("ada");
        more["exp"] = json!(NOW + 60.0);
        verifier.verify(&token(&more), NOW, Patience::Some)
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
