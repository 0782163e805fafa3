//! Every vector, then each rule of `specs/api/auth.md` by itself.

use serde_json::{Value, json};

use super::*;

pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub(super) const NOW: f64 = 1_800_000_000.0;

pub(super) fn sign(secret: &str, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

pub(super) fn token(claims: &Value) -> String {
    sign(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

/// A verifier of what these secrets sign, where there is no key set.
pub(super) fn verifier(secrets: &[&str]) -> Verifier {
    let secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    Verifier::new(Trust { secrets, ..Trust::default() }, KeySource::new("nowhere", || Ok(None)), 1)
}

pub(super) fn verify(token: &str) -> Result<Identity, Refusal> {
    verifier(&[SECRET]).verify(token, NOW, Patience::Some)
}

fn user(claims: &Value) -> Result<String, Refusal> {
    verify(&token(claims)).map(|identity| identity.user.0)
}

pub(super) fn refused(result: Result<impl fmt::Debug, Refusal>) -> bool {
    matches!(result, Err(Refusal::Invalid(_)))
}

/// `tests/vectors.json`: real tokens of Better Auth 1.7.7, and tokens minted the way public projects mint them.
#[test]
fn every_vector_gets_its_verdict() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../../tests/vectors.json")).unwrap();
    let mut judged = 0;
    for vector in &vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let keys = vector["jwks"]["keys"].as_array().unwrap().clone();
        let source = KeySource::new("the vector", move || Ok(Some(keys.clone())));
        let trust = Trust { secrets: vec![text("secret").to_owned()], ..Trust::default() };
        let verdict = Verifier::new(trust, source, 1).verify(
            text("token"),
            vector["now"].as_f64().unwrap(),
            Patience::Some,
        );
        let (expect, name) = (&vector["expect"], text("name"));
        if expect["ok"] == true {
            let identity = verdict.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
            assert_eq!(identity.user.as_str(), expect["user_id"], "{name}");
            assert_eq!(identity.email.as_deref(), expect["email"].as_str(), "{name}");
        } else {
            assert_ne!(verdict, Err(Refusal::NotNow), "{name}");
            assert!(verdict.is_err(), "{name}: accepted");
        }
        judged += 1;
    }
    assert!(judged >= 78, "only {judged} vectors");
}

#[test]
fn the_form_is_judged_first() {
    let good = token(&json!({"sub": "ada", "exp": NOW + 60.0}));
    assert!(verify(&good).is_ok());
    let [header, claims, signature] = three_parts(&good).unwrap();
    for bad in [
        String::new(),
        "opaque".to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        format!("{good}.{signature}"),
        format!("{header}.{claims}.a.b.{signature}"),
        format!("{good}="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}\n.{signature}"),
        format!("{header}.{claims}.{}", signature.replace(['-', '_'], "+")) + "+",
        good.replace('.', " . "),
    ] {
        assert!(refused(verify(&bad)), "{bad}");
    }
    let long = token(&json!({"sub": "ada", "exp": NOW + 60.0, "image": "x".repeat(MAX_TOKEN_BYTES)}));
    assert_eq!(verify(&long), Err(Refusal::Invalid("too long")));
    let avatar = token(&json!({"sub": "ada", "exp": NOW + 60.0, "image": "x".repeat(8 * 1024)}));
    assert!(verify(&avatar).is_ok(), "a token of 8 KB is a real one");
}

#[test]
fn header_and_claims_are_objects() {
    let claims = format!(r#"{{"sub":"ada","exp":{}}}"#, NOW + 60.0);
    for header in
        ["[]", "null", "\"HS256\"", "[\"HS256\",null,null]", "{}", r#"{"alg":null}"#, r#"{"alg":"HS256""#]
    {
        assert!(refused(verify(&sign(SECRET, header, &claims))), "{header}");
    }
    for claims in ["[]", "null", "\"x\"", "1", "{", "{} {}"] {
        assert!(refused(verify(&sign(SECRET, r#"{"alg":"HS256"}"#, claims))), "{claims}");
    }
}

#[test]
fn the_header_names_hs256_and_nothing_that_changes_its_meaning() {
    let claims = json!({"sub": "ada", "exp": NOW + 60.0}).to_string();
    for header in
        [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","typ":"jwt"}"#, r#"{"alg":"HS256","typ":"JWT","kid":"1"}"#]
    {
        assert!(verify(&sign(SECRET, header, &claims)).is_ok(), "{header}");
    }
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"EdDSA","kid":"1"}"#,
        r#"{"alg":"RS256","kid":"1"}"#,
        r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        r#"{"alg":"HS256","typ":"better-auth.session-cache+jwt"}"#,
        r#"{"alg":"HS256","typ":""}"#,
        r#"{"alg":"HS256","typ":null}"#,
        r#"{"alg":"HS256","typ":1}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
    ] {
        assert!(refused(verify(&sign(SECRET, header, &claims))), "{header}");
    }
}

#[test]
fn the_signature_is_judged_before_the_claims() {
    let expired = json!({"sub": "ada", "exp": NOW - 60.0}).to_string();
    let forged = sign("another secret, long enough to be one", r#"{"alg":"HS256"}"#, &expired);
    assert_eq!(verify(&forged), Err(Refusal::Invalid("its signature does not hold")));
    let good = token(&json!({"sub": "ada", "exp": NOW + 60.0}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    assert!(refused(verify(&format!("{signed}.{flipped}{}", &signature[1..]))));
    assert!(refused(verify(&format!("{signed}.{}", &signature[..signature.len() - 4]))));
}

#[test]
fn an_expiry_is_required_and_has_no_leeway() {
    let at = |exp: Value| user(&json!({"sub": "ada", "exp": exp}));
    assert!(at(json!(NOW as i64 + 1)).is_ok());
    assert!(at(json!(NOW + 0.5)).is_ok());
    assert_eq!(at(json!(NOW as i64)), Err(Refusal::Expired));
    assert_eq!(at(json!(NOW as i64 - 1)), Err(Refusal::Expired));
    assert_eq!(at(json!(-1)), Err(Refusal::Expired));
    assert!(at(json!(253_402_300_799_i64)).is_ok());
    for exp in [
        json!(253_402_300_800_i64),
        json!(NOW * 1000.0),
        json!("1900000000"),
        json!(null),
        json!([1]),
        json!(true),
    ] {
        assert!(refused(at(exp.clone())), "{exp}");
    }
    assert!(refused(user(&json!({"sub": "ada"}))));
}

#[test]
fn a_token_may_begin_a_minute_ahead() {
    let at = |nbf: Value| user(&json!({"sub": "ada", "exp": NOW + 600.0, "nbf": nbf, "iat": NOW + 500.0}));
    assert!(at(json!(NOW + 60.0)).is_ok());
    assert!(refused(at(json!(NOW + 61.0))));
    assert!(refused(at(json!("now"))));
    assert!(refused(at(json!(null))));
}

#[test]
fn the_user_id_is_the_first_of_four_claims_that_is_there() {
    let with = |mut claims: Value| {
        claims["exp"] = json!(NOW + 60.0);
        user(&claims)
    };
    for (claims, id) in [
        (json!({"sub": "a", "user_id": "b", "userId": "c", "id": "d"}), "a"),
        (json!({"sub": null, "user_id": "b", "userId": "c", "id": "d"}), "b"),
        (json!({"userId": "c", "id": "d"}), "c"),
        (json!({"id": "d", "email": "e@example.com"}), "d"),
        (json!({"sub": 42}), "42"),
        (json!({"sub": 18_446_744_073_709_551_615_u64}), "18446744073709551615"),
        (json!({"sub": "ada@example.com"}), "ada@example.com"),
        (json!({"sub": "x".repeat(MAX_USER_ID_CHARS)}), &"x".repeat(MAX_USER_ID_CHARS)),
        (json!({"sub": "a", "session": "s", "user": {"id": "b"}}), "a"),
    ] {
        assert_eq!(with(claims.clone()).as_deref(), Ok(id), "{claims}");
    }
    for claims in [
        json!({}),
        json!({"email": "ada@example.com", "name": "Ada"}),
        json!({"sub": "", "user_id": "b"}),
        json!({"sub": true, "user_id": "b"}),
        json!({"sub": 1.5, "user_id": "b"}),
        json!({"sub": ["a"], "user_id": "b"}),
        json!({"sub": {"id": "a"}}),
        json!({"sub": "a\0b"}),
        json!({"sub": "x".repeat(MAX_USER_ID_CHARS + 1)}),
    ] {
        assert!(refused(with(claims.clone())), "{claims}");
    }
    let twice = format!(r#"{{"sub":"a","sub":"b","exp":{}}}"#, NOW + 60.0);
    assert!(refused(verify(&sign(SECRET, r#"{"alg":"HS256"}"#, &twice))));
}

#[test]
fn an_email_is_carried_along_only_as_a_string() {
    let email = |email: Value| {
        verify(&token(&json!({"sub": "ada", "exp": NOW + 60.0, "email": email}))).unwrap().email
    };
    assert_eq!(email(json!("ada@example.com")).as_deref(), Some("ada@example.com"));
    assert_eq!(email(json!(5)), None);
    assert_eq!(email(json!(null)), None);
}

#[test]
fn a_session_token_speaks_of_one_user_and_a_running_session() {
    let with = |session: Value, user_claim: Value| {
        user(&json!({"session": session, "user": user_claim, "exp": NOW + 600.0}))
    };
    let ahead = "2027-01-15T08:01:00.000Z"; // NOW is 08:00:00
    let behind = "2027-01-15T08:00:00.000Z";
    let ada = json!({"id": "ada", "email": "ada@example.com"});
    assert_eq!(with(json!({"userId": "ada", "expiresAt": ahead}), ada.clone()).as_deref(), Ok("ada"));
    assert_eq!(with(json!({"userId": "ada", "expiresAt": behind}), ada.clone()), Err(Refusal::Expired));
    for session in [
        json!({"userId": "eve", "expiresAt": ahead}),
        json!({"expiresAt": ahead}),
        json!({"userId": "ada"}),
        json!({"userId": "ada", "expiresAt": "soon"}),
        json!({"userId": "ada", "expiresAt": 1_900_000_000}),
    ] {
        assert!(refused(with(session.clone(), ada.clone())), "{session}");
    }
    assert!(refused(with(json!({"userId": "ada", "expiresAt": ahead}), json!({"email": "ada@example.com"}))));
}

#[test]
fn what_is_sent_by_mail_is_no_login() {
    let untyped = |claims: Value| verify(&sign(SECRET, r#"{"alg":"HS256"}"#, &claims.to_string()));
    let exp = NOW + 60.0;
    assert!(refused(untyped(json!({"email": "ada@example.com", "userId": "ada", "iat": NOW, "exp": exp}))));
    assert!(refused(untyped(json!({"email": "ada@example.com", "iat": NOW, "exp": exp}))));
    assert!(refused(untyped(
        json!({"email": "a@b.c", "updateTo": "d@e.f", "requestType": "x", "sub": "ada", "exp": exp})
    )));
    assert!(refused(user(&json!({"sub": "ada", "requestType": "change-email-verification", "exp": exp}))));
    assert!(untyped(json!({"email": "ada@example.com", "userId": "ada", "name": "Ada", "exp": exp})).is_ok());
    assert!(untyped(json!({"userId": "ada", "iat": NOW, "exp": exp})).is_ok(), "no mail without an address");
    assert!(
        user(&json!({"email": "ada@example.com", "userId": "ada", "iat": NOW, "exp": exp})).is_ok(),
        "typ JWT"
    );
}

#[test]
fn the_header_field_is_read_as_rfc_6750_has_it() {
    let good = token(&json!({"sub": "ada", "exp": NOW + 60.0}));
    let identify = |authorization: Result<Option<&str>, Unclear>| {
        verifier(&[SECRET]).identify(authorization, NOW, Patience::Some)
    };
    for value in [format!("Bearer {good}"), format!("bearer {good}"), format!("BEARER   {good} ")] {
        assert!(identify(Ok(Some(&value))).is_ok(), "{value}");
    }
    for value in ["", "Bearer", "Bearer ", &good, &format!("Basic {good}"), &format!("Bearer: {good}")] {
        assert_eq!(identify(Ok(Some(value))), Err(Refusal::Missing), "{value}");
    }
    assert_eq!(identify(Ok(None)), Err(Refusal::Missing));
    assert!(refused(identify(Err(Unclear))));
    assert!(refused(identify(Ok(Some(&format!("Bearer {good} {good}"))))));
}

#[test]
fn a_challenge_is_well_formed() {
    assert_eq!(Refusal::Missing.challenge(), "Bearer");
    assert_eq!(
        Refusal::Expired.challenge(),
        "Bearer error=\"invalid_token\", error_description=\"The token has expired\""
    );
}
