//! From the value of `Authorization` to an identity: what a request pays before anything else is done for it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use signer::{ALGORITHMS, Signer};
use todo_backend::auth::{KeySource, Patience, Trust, Verifier};

#[path = "../../../tests/support/signer.rs"]
mod signer;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: f64 = 1_800_000_000.0;

fn hs256(claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(&claims.to_string()));
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn verify(criterion: &mut Criterion) {
    let claims = json!({
        "sub": "59tDFPsRGPHlRTjr0MoqSEf5iJQXNccu", "email": "ada@example.com", "name": "Ada Lovelace",
        "iat": NOW, "exp": NOW + 900.0, "iss": "http://localhost:3000", "aud": "http://localhost:3000"
    });
    let signers = ALGORITHMS.map(|alg| Signer::new(alg, alg));
    let keys: Vec<Value> = signers.iter().map(Signer::jwk).collect();
    let trust = Trust { secrets: vec![SECRET.to_owned()], ..Trust::default() };
    let verifier = Verifier::new(trust, KeySource::new("the benchmark", move || Ok(Some(keys.clone()))), 1);

    let tokens = signers.iter().map(|signer| (signer.alg, signer.token(&claims)));
    for (name, token) in [("HS256", hs256(&claims))].into_iter().chain(tokens) {
        let header = format!("Bearer {token}");
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| verifier.identify(Ok(Some(&header)), NOW, Patience::Some).unwrap());
        });
    }
}

criterion_group!(benches, verify);
criterion_main!(benches);
