//! Every vector, then each rule of `specs/api/auth.md` by itself.

use std::fmt;

use serde_json::{Value, json};

pub(super) use super::fuzz_tests::{NOW, SECRET};
use super::jws::split_jws;
use super::signer::{Signer, hs256};
use super::*;

pub(super) fn sign(secret: &str, header: &str, claims: &str) -> String {
    hs256(secret.as_bytes(), header, claims)
}

pub(super) fn token(claims: &Value) -> String {
    sign(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

/// A verifier for these secrets.
pub(super) fn verifier(secrets: &[&str]) -> Verifier {
    let secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    Verifier::new(AuthConfig { secrets, ..AuthConfig::default() })
}

/// Verifies in two steps where the token needs a key, as the server does.
pub(super) fn authenticate(
    verifier: &Verifier,
    keys: &KeySet,
    authorization: &str,
    now: f64,
) -> Result<Identity, AuthError> {
    let verdict = match verifier.authenticate(Some(authorization), None, now)? {
        Verdict::NeedsKey { .. } => verifier.authenticate(Some(authorization), Some(keys), now)?,
        verified => verified,
    };
    let Verdict::Verified(identity) = verdict else { panic!("it has the keys") };
    Ok(identity)
}

/// Verifies with [`SECRET`], without a key set.
pub(super) fn verify(token: &str) -> Result<Identity, AuthError> {
    authenticate(&verifier(&[SECRET]), &KeySet::absent(), &format!("Bearer {token}"), NOW)
}

fn user(claims: &Value) -> Result<String, AuthError> {
    verify(&token(claims)).map(|identity| identity.user.0)
}

pub(super) fn refused(result: Result<impl fmt::Debug, AuthError>) -> bool {
    matches!(result, Err(AuthError::Invalid(_)))
}

/// `tests/vectors.json`: real tokens of Better Auth 1.7.7, and tokens minted the way public projects mint them.
#[test]
fn every_vector_has_its_verdict() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../../tests/vectors.json")).unwrap();
    let mut judged = 0;
    for vector in &vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let keys = KeySet::read(vector["jwks"]["keys"].as_array().unwrap()).unwrap();
        let verifier = verifier(&[text("secret")]);
        let now = vector["now"].as_f64().unwrap();
        let verdict = authenticate(&verifier, &keys, &format!("Bearer {}", text("token")), now);
        let (expect, name) = (&vector["expect"], text("name"));
        if expect["ok"] == true {
            let identity = verdict.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(identity.user.as_str(), expect["user_id"], "{name}");
            assert_eq!(identity.email.as_deref(), expect["email"].as_str(), "{name}");
        } else {
            assert!(verdict.is_err(), "{name}: accepted");
        }
        judged += 1;
    }
    assert!(judged >= 78, "only {judged} vectors");
}

#[test]
fn malformed_jws_is_refused() {
    let good = token(&json!({"sub": "ada", "exp": NOW + 60.0}));
    assert!(verify(&good).is_ok());
    let [header, claims, signature] = split_jws(&good).unwrap();
    for bad in [
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
    assert_eq!(verify(&format!("{header}..{signature}")), Err(AuthError::Invalid("not a JWS: expected three parts")));
    let (longest, longer) = ("x".repeat(MAX_TOKEN_BYTES), "x".repeat(MAX_TOKEN_BYTES + 1));
    assert_ne!(verify(&longest), Err(AuthError::Invalid("longer than 16384 bytes")));
    assert_eq!(verify(&longer), Err(AuthError::Invalid("longer than 16384 bytes")));
    let avatar = token(&json!({"sub": "ada", "exp": NOW + 60.0, "image": "x".repeat(8 * 1024)}));
    assert!(verify(&avatar).is_ok(), "a token of 8 KB is a real one");
}

#[test]
fn header_or_claims_that_are_not_an_object_are_refused() {
    let claims = format!(r#"{{"sub":"ada","exp":{}}}"#, NOW + 60.0);
    for header in ["[]", "null", "\"HS256\"", "[\"HS256\",null,null]", "{}", r#"{"alg":null}"#, r#"{"alg":"HS256""#] {
        assert!(refused(verify(&sign(SECRET, header, &claims))), "{header}");
    }
    for claims in ["[]", "null", "\"x\"", "1", "{", "{} {}"] {
        assert!(refused(verify(&sign(SECRET, r#"{"alg":"HS256"}"#, claims))), "{claims}");
    }
}

#[test]
fn header_accepts_only_known_alg_and_typ_and_no_crit() {
    let claims = json!({"sub": "ada", "exp": NOW + 60.0}).to_string();
    for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","typ":"jwt"}"#, r#"{"alg":"HS256","typ":"JWT","kid":"1"}"#] {
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
fn bad_signature_is_reported_before_expiry() {
    let expired = json!({"sub": "ada", "exp": NOW - 60.0}).to_string();
    let forged = sign("another secret, long enough to be one", r#"{"alg":"HS256"}"#, &expired);
    assert_eq!(verify(&forged), Err(AuthError::Invalid("signature verification failed")));
    let good = token(&json!({"sub": "ada", "exp": NOW + 60.0}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    assert!(refused(verify(&format!("{signed}.{flipped}{}", &signature[1..]))));
    assert!(refused(verify(&format!("{signed}.{}", &signature[..signature.len() - 4]))));
}

#[test]
fn exp_is_required_and_has_no_leeway() {
    let at = |exp: Value| user(&json!({"sub": "ada", "exp": exp}));
    assert!(at(json!(NOW as i64 + 1)).is_ok());
    assert!(at(json!(NOW + 0.5)).is_ok());
    assert_eq!(at(json!(NOW as i64)), Err(AuthError::Expired));
    assert_eq!(at(json!(NOW as i64 - 1)), Err(AuthError::Expired));
    assert_eq!(at(json!(-1)), Err(AuthError::Expired));
    assert!(at(json!(253_402_300_799_i64)).is_ok());
    for exp in
        [json!(253_402_300_800_i64), json!(NOW * 1000.0), json!("1900000000"), json!(null), json!([1]), json!(true)]
    {
        assert!(refused(at(exp.clone())), "{exp}");
    }
    assert!(refused(user(&json!({"sub": "ada"}))));
}

#[test]
fn nbf_may_be_a_minute_ahead() {
    let at = |nbf: Value| user(&json!({"sub": "ada", "exp": NOW + 600.0, "nbf": nbf, "iat": NOW + 500.0}));
    assert!(at(json!(NOW + 60.0)).is_ok());
    assert!(refused(at(json!(NOW + 61.0))));
    assert!(refused(at(json!("now"))));
    assert!(refused(at(json!(null))));
}

#[test]
fn user_id_is_the_first_present_of_four_claims() {
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
    assert_eq!(with(json!({})), Err(AuthError::Invalid("no user id: `sub` is missing")));
    let twice = format!(r#"{{"sub":"a","sub":"b","exp":{}}}"#, NOW + 60.0);
    assert!(refused(verify(&sign(SECRET, r#"{"alg":"HS256"}"#, &twice))));
}

#[test]
fn email_is_kept_only_if_it_is_a_string() {
    let email = |email: Value| verify(&token(&json!({"sub": "ada", "exp": NOW + 60.0, "email": email}))).unwrap().email;
    assert_eq!(email(json!("ada@example.com")).as_deref(), Some("ada@example.com"));
    assert_eq!(email(json!(5)), None);
    assert_eq!(email(json!(null)), None);
}

#[test]
fn session_token_needs_one_user_and_an_unexpired_session() {
    let with =
        |session: Value, user_claim: Value| user(&json!({"session": session, "user": user_claim, "exp": NOW + 600.0}));
    let ahead = "2027-01-15T08:01:00.000Z"; // NOW is 08:00:00
    let behind = "2027-01-15T08:00:00.000Z";
    let ada = json!({"id": "ada", "email": "ada@example.com"});
    assert_eq!(with(json!({"userId": "ada", "expiresAt": ahead}), ada.clone()).as_deref(), Ok("ada"));
    assert_eq!(with(json!({"userId": "ada", "expiresAt": behind}), ada.clone()), Err(AuthError::Expired));
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
fn email_verification_token_is_no_login() {
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
    assert!(user(&json!({"email": "ada@example.com", "userId": "ada", "iat": NOW, "exp": exp})).is_ok(), "typ JWT");
}

#[test]
fn authorization_header_is_parsed_as_rfc_6750_says() {
    let good = token(&json!({"sub": "ada", "exp": NOW + 60.0}));
    let authenticate = |value: Option<&str>| verifier(&[SECRET]).authenticate(value, None, NOW);
    for value in [format!("Bearer {good}"), format!("bearer {good}"), format!("BEARER   {good} ")] {
        assert!(authenticate(Some(&value)).is_ok(), "{value}");
    }
    for value in ["", "Bearer", "Bearer ", &good, &format!("Basic {good}"), &format!("Bearer: {good}")] {
        assert_eq!(authenticate(Some(value)), Err(AuthError::Missing), "{value}");
    }
    assert_eq!(authenticate(None), Err(AuthError::Missing));
    assert!(refused(authenticate(Some(&format!("Bearer {good} {good}")))));
}

#[test]
fn token_signed_with_a_key_needs_that_key_before_its_claims_are_read() {
    let signer = Signer::new("a", "EdDSA");
    let token = signer.token(&json!({"sub": "ada", "exp": NOW - 60.0}));
    let authorization = format!("Bearer {token}");
    let verdict = verifier(&[SECRET]).authenticate(Some(&authorization), None, NOW);
    assert_eq!(verdict, Ok(Verdict::NeedsKey { kid: "a".to_owned() }));
    let nameless = Signer::new("", "EdDSA").token(&json!({"sub": "ada", "exp": NOW + 60.0}));
    assert_eq!(verify(&nameless), Err(AuthError::Invalid("`kid` is missing or not a string")));
}

#[test]
fn opaque_session_token_is_told_where_to_get_a_jwt() {
    let error = verify("q3xBLpcVyRn8Yk2mT0aWfZsD").unwrap_err().to_string();
    for words in ["Invalid token: ", "opaque", "JWT", "/api/auth/token"] {
        assert!(error.contains(words), "{error}");
    }
    let signed_cookie = verify("q3xBLpcVyRn8Yk2mT0aWfZsD.c2lnbmF0dXJl").unwrap_err();
    assert_eq!(signed_cookie, AuthError::Invalid("not a JWS: expected three parts"));
}

#[test]
fn ten_bad_signatures_make_the_secret_suspect_once() {
    let verifier = verifier(&[SECRET]);
    let suspect: Vec<bool> = (1..=100).map(|_| verifier.count_bad_signature()).collect();
    assert_eq!(suspect.iter().position(|suspect| *suspect), Some(9));
    assert_eq!(suspect.iter().filter(|suspect| **suspect).count(), 1);
}

#[test]
fn bad_signatures_are_counted_until_a_good_one_comes() {
    let count = |verifier: &Verifier| verifier.bad_signatures.load(Ordering::Relaxed);
    let claims = json!({"sub": "ada", "exp": NOW + 60.0}).to_string();
    let bearer = |secret| format!("Bearer {}", sign(secret, r#"{"alg":"HS256"}"#, &claims));
    let verifier = verifier(&[SECRET]);
    for number in 1..=9 {
        assert!(verifier.authenticate(Some(&bearer("another secret")), None, NOW).is_err());
        assert_eq!(count(&verifier), number);
    }
    assert!(verifier.authenticate(Some("Bearer opaque"), None, NOW).is_err());
    assert_eq!(count(&verifier), 9, "no signature was verified");
    assert!(verifier.authenticate(Some(&bearer(SECRET)), None, NOW).is_ok());
    assert!(verifier.authenticate(Some(&bearer("another secret")), None, NOW).is_err());
    assert_eq!(count(&verifier), 9, "the secret is known to be right");
    assert!(!verifier.count_bad_signature());
}

#[test]
fn www_authenticate_follows_rfc_6750() {
    assert_eq!(AuthError::Missing.www_authenticate(), "Bearer");
    assert_eq!(
        AuthError::Expired.www_authenticate(),
        "Bearer error=\"invalid_token\", error_description=\"Token has expired\""
    );
    assert_eq!(
        AuthError::Invalid("`exp` is not in seconds").www_authenticate(),
        "Bearer error=\"invalid_token\", error_description=\"Invalid token: `exp` is not in seconds\""
    );
}
