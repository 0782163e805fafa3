//! Cost of authentication: from the value of `Authorization` to an identity.

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use signer::{ALGORITHMS, Signer, hs256};
use todo_backend::auth::{AuthConfig, KeySet, Verifier};

#[path = "../../../tests/support/signer.rs"]
mod signer;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: f64 = 1_800_000_000.0;

fn verify(criterion: &mut Criterion) {
    let claims = json!({
        "sub": "59tDFPsRGPHlRTjr0MoqSEf5iJQXNccu", "email": "ada@example.com", "name": "Ada Lovelace",
        "iat": NOW, "exp": NOW + 900.0, "iss": "http://localhost:3000", "aud": "http://localhost:3000"
    });
    let signers = ALGORITHMS.map(|alg| Signer::new(alg, alg));
    let jwks: Vec<Value> = signers.iter().map(Signer::jwk).collect();
    let keys = KeySet::read(&jwks).unwrap();
    let verifier = Verifier::new(AuthConfig { secrets: vec![SECRET.to_owned()], ..AuthConfig::default() });

    let tokens = signers.iter().map(|signer| (signer.alg, signer.token(&claims)));
    let hs256 = hs256(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, &claims.to_string());
    for (name, token) in [("HS256", hs256)].into_iter().chain(tokens) {
        let header = format!("Bearer {token}");
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| verifier.authenticate(Some(&header), Some(&keys), NOW).unwrap());
        });
    }
}

criterion_group!(benches, verify);
criterion_main!(benches);
