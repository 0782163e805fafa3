//! The issuer's public keys (RFC 7517): which keys of a set are usable, for which algorithm, and signature
//! verification.
//!
//! A key is bound to its `kid` and its algorithms when it is read. The header of a token can select a key or fail to;
//! it can never use a key for another algorithm.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::error::AuthError;

/// The most keys that a set may have.
pub const MAX_KEYS: usize = 256;

/// The accepted sizes of an RSA modulus (RFC 7518, section 3.3). The library checks them only when it verifies.
const RSA_MODULUS_BITS: RangeInclusive<usize> = 2048..=8192;

/// The asymmetric algorithms that Better Auth signs with (RFC 7518, section 3.1; RFC 8037, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    EdDsa,
    Es256,
    Es512,
    Rs256,
    Ps256,
}

impl Algorithm {
    /// The algorithm of this name, which is case-sensitive. `Ed25519` is the name of RFC 9864 for EdDSA with Ed25519.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "ES512" => Some(Self::Es512),
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            _ => None,
        }
    }
}

/// The usable keys of an issuer.
#[derive(Default)]
pub struct KeySet {
    /// By `kid`. One `kid` may have a key for each algorithm.
    keys: BTreeMap<String, Vec<(Algorithm, ParsedPublicKey)>>,
    /// Which keys were rejected and why, one line each.
    pub rejected: Vec<String>,
    /// The source has no key set at all.
    pub(super) is_absent: bool,
}

impl KeySet {
    /// Stands for the key set of a source that has none.
    pub(super) fn absent() -> Self {
        Self { is_absent: true, ..Self::default() }
    }

    /// Reads JSON Web Keys. A rejected key does not affect the others. Keys with the same `kid` and algorithm are all
    /// rejected: it is ambiguous which one is meant.
    ///
    /// # Errors
    /// When there are more than [`MAX_KEYS`].
    pub fn read(jwks: &[Value]) -> Result<Self, String> {
        if jwks.len() > MAX_KEYS {
            return Err(format!("the key set has {} keys; at most {MAX_KEYS} are accepted", jwks.len()));
        }
        let mut set = Self::default();
        for jwk in jwks {
            let kid = text(jwk, "kid");
            match read_key(jwk) {
                Ok(keys) => set.keys.entry(kid.to_owned()).or_default().extend(keys),
                Err(why) => set.rejected.push(format!("key {kid:?}: {why}")),
            }
        }
        for (kid, keys) in &mut set.keys {
            let all: Vec<Algorithm> = keys.iter().map(|(algorithm, _)| *algorithm).collect();
            keys.retain(|(own, _)| all.iter().filter(|other| *other == own).count() == 1);
            if keys.len() < all.len() {
                set.rejected.push(format!("key {kid:?}: its `kid` is repeated"));
            }
        }
        set.keys.retain(|_, keys| !keys.is_empty());
        Ok(set)
    }

    /// Whether the set has a usable key of this `kid`.
    pub fn contains(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// The number of different `kid`s.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Verifies a signature with the key of this `kid` for this algorithm.
    pub(super) fn verify(
        &self,
        kid: &str,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), AuthError> {
        let keys = self.keys.get(kid).ok_or(AuthError::Invalid(match self.is_absent {
            true => "signed with a key, but this server has no key set",
            false => "`kid` names no key in the issuer's key set",
        }))?;
        let (_, key) = keys
            .iter()
            .find(|(own, _)| *own == algorithm)
            .ok_or(AuthError::Invalid("`alg` is not the algorithm of the key that `kid` names"))?;
        key.verify_sig(message, signature).map_err(|_| AuthError::Invalid("signature verification failed"))
    }
}

/// The algorithms of a JSON Web Key, each with the parsed key. An `RSA` key without `alg` serves both RSA algorithms:
/// old versions of Better Auth did not store `alg`.
fn read_key(jwk: &Value) -> Result<Vec<(Algorithm, ParsedPublicKey)>, &'static str> {
    let field = |name: &str| jwk.get(name).filter(|value| !value.is_null());
    if text(jwk, "kid").is_empty() {
        return Err("it has no `kid`");
    }
    if field("d").is_some() || field("k").is_some() {
        return Err("it contains a private or symmetric key (`d` or `k`)");
    }
    if field("use").is_some_and(|purpose| purpose != "sig") {
        return Err("its `use` is not `sig`");
    }
    if field("key_ops").is_some_and(|ops| !ops.as_array().is_some_and(|ops| ops.contains(&"verify".into()))) {
        return Err("its `key_ops` does not contain `verify`");
    }
    let mut keys = match (text(jwk, "kty"), text(jwk, "crv")) {
        ("OKP", "Ed25519") => vec![(Algorithm::EdDsa, parse(&ED25519, &bytes(jwk, "x")?)?)],
        ("EC", "P-256") => vec![(Algorithm::Es256, ec(jwk, &ECDSA_P256_SHA256_FIXED)?)],
        ("EC", "P-521") => vec![(Algorithm::Es512, ec(jwk, &ECDSA_P521_SHA512_FIXED)?)],
        ("RSA", _) => rsa(jwk)?,
        _ => return Err("its `kty` and `crv` are not supported (Ed25519, P-256, P-521 or RSA)"),
    };
    if let Some(alg) = field("alg") {
        let alg = alg.as_str().and_then(Algorithm::from_name);
        keys.retain(|(algorithm, _)| Some(*algorithm) == alg);
    }
    if keys.is_empty() { Err("its `alg` does not fit its `kty` and `crv`") } else { Ok(keys) }
}

/// The uncompressed point of SEC 1 (RFC 7518, section 6.2.1). The library checks its length.
fn ec(jwk: &Value, algorithm: &'static dyn VerificationAlgorithm) -> Result<ParsedPublicKey, &'static str> {
    parse(algorithm, &[vec![4], bytes(jwk, "x")?, bytes(jwk, "y")?].concat())
}

/// RFC 7518, section 6.3.1.
fn rsa(jwk: &Value) -> Result<Vec<(Algorithm, ParsedPublicKey)>, &'static str> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let bits = 8 * n.len() - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_MODULUS_BITS.contains(&bits) {
        return Err("its modulus does not have 2048 to 8192 bits");
    }
    let key = RsaPublicKeyComponents { n, e };
    let parsed = |parameters| key.to_parsed_public_key(parameters).map_err(|_| NOT_A_KEY);
    Ok(vec![
        (Algorithm::Rs256, parsed(&RSA_PKCS1_2048_8192_SHA256)?),
        (Algorithm::Ps256, parsed(&RSA_PSS_2048_8192_SHA256)?),
    ])
}

const NOT_A_KEY: &str = "it is not a valid public key";

fn parse(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Result<ParsedPublicKey, &'static str> {
    ParsedPublicKey::new(algorithm, key).map_err(|_| NOT_A_KEY)
}

fn text<'j>(jwk: &'j Value, name: &str) -> &'j str {
    jwk[name].as_str().unwrap_or_default()
}

fn bytes(jwk: &Value, name: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text(jwk, name)).map_err(|_| "a field is not valid base64url")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::signer::{ALGORITHMS, Signer};
    use super::*;

    const ALL: [Algorithm; 5] =
        [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Es512, Algorithm::Rs256, Algorithm::Ps256];

    fn algorithms_of(jwk: Value) -> Vec<Algorithm> {
        let set = KeySet::read(&[jwk]).unwrap();
        ALL.into_iter().filter(|algorithm| serves(&set, *algorithm)).collect()
    }

    fn serves(set: &KeySet, algorithm: Algorithm) -> bool {
        set.keys.get("a").is_some_and(|keys| keys.iter().any(|(own, _)| *own == algorithm))
    }

    #[test]
    fn key_with_alg_serves_only_that_algorithm() {
        for name in ALGORITHMS {
            let mut jwk = Signer::new("a", name).jwk();
            let own = vec![Algorithm::from_name(name).unwrap()];
            assert_eq!(algorithms_of(jwk.clone()), own, "{name}");

            jwk["use"] = "sig".into();
            jwk["key_ops"] = json!(["verify"]);
            assert_eq!(algorithms_of(jwk.clone()), own, "{name}");

            for other in ALGORITHMS.into_iter().filter(|other| *other != name) {
                let is_rsa = |alg: &str| alg.ends_with("S256") && !alg.starts_with('E');
                jwk["alg"] = other.into();
                let expected = if is_rsa(name) && is_rsa(other) { 1 } else { 0 };
                assert_eq!(algorithms_of(jwk.clone()).len(), expected, "{name} as {other}");
            }
        }
    }

    #[test]
    fn key_without_alg_serves_the_algorithms_of_its_type() {
        for (name, expected) in [
            ("EdDSA", vec![Algorithm::EdDsa]),
            ("ES256", vec![Algorithm::Es256]),
            ("ES512", vec![Algorithm::Es512]),
            ("RS256", vec![Algorithm::Rs256, Algorithm::Ps256]),
        ] {
            let mut jwk = Signer::new("a", name).jwk();
            jwk["alg"] = Value::Null;
            assert_eq!(algorithms_of(jwk), expected, "{name}");
        }
    }

    #[test]
    fn unusable_key_is_rejected_and_others_are_kept() {
        let changed = |name: &'static str, changes: Value| {
            let mut jwk = Signer::new("a", name).jwk();
            for (field, value) in changes.as_object().unwrap() {
                jwk[field] = value.clone();
            }
            jwk
        };
        let zeros = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0; bytes]);
        let modulus = |first: u8, bytes: usize| {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = first;
            URL_SAFE_NO_PAD.encode(modulus)
        };
        for jwk in [
            json!(null),
            json!("a"),
            json!([]),
            json!({"kid": "a"}),
            json!({"kid": "a", "kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
            json!({"kid": "a", "kty": "oct", "alg": "EdDSA"}),
            changed("EdDSA", json!({"d": "c2VjcmV0"})),
            changed("RS256", json!({"d": "c2VjcmV0"})),
            changed("ES256", json!({"k": "c2VjcmV0"})),
            changed("EdDSA", json!({"use": "enc"})),
            changed("EdDSA", json!({"use": 1})),
            changed("EdDSA", json!({"key_ops": ["sign"]})),
            changed("EdDSA", json!({"key_ops": []})),
            changed("EdDSA", json!({"key_ops": "verify"})),
            changed("EdDSA", json!({"alg": "HS256"})),
            changed("EdDSA", json!({"alg": "none"})),
            changed("EdDSA", json!({"alg": 1})),
            changed("EdDSA", json!({"crv": "X25519"})),
            changed("EdDSA", json!({"crv": "Ed448"})),
            changed("EdDSA", json!({"kty": "EC"})),
            changed("EdDSA", json!({"x": zeros(31)})),
            changed("EdDSA", json!({"x": zeros(32) + "="})),
            changed("EdDSA", json!({"x": null})),
            changed("ES256", json!({"crv": "P-384"})),
            changed("ES256", json!({"crv": "secp256k1"})),
            changed("ES256", json!({"crv": "P-521"})),
            changed("ES256", json!({"x": zeros(32)})),
            changed("ES256", json!({"x": zeros(31)})),
            changed("ES256", json!({"x": zeros(32), "y": zeros(32)})),
            changed("ES512", json!({"y": zeros(66)})),
            changed("RS256", json!({"n": modulus(0xff, 128)})),
            changed("RS256", json!({"n": modulus(0x7f, 256)})),
            changed("RS256", json!({"n": modulus(0xff, 1025)})),
            changed("RS256", json!({"n": modulus(0, 257)})),
            changed("RS256", json!({"n": ""})),
            changed("RS256", json!({"e": ""})),
            changed("RS256", json!({"kid": ""})),
            changed("RS256", json!({"kid": 1})),
        ] {
            let good = Signer::new("good", "ES256");
            let set = KeySet::read(&[jwk.clone(), good.jwk()]).unwrap();
            assert_eq!((set.count(), set.rejected.len()), (1, 1), "{jwk}");
            assert!(set.contains("good") && !set.contains("a") && !set.contains(""), "{jwk}");
        }
    }

    #[test]
    fn keys_with_the_same_kid_and_algorithm_are_all_rejected() {
        let [first, second, third] = [(); 3].map(|()| Signer::new("a", "EdDSA").jwk());
        let other = Signer::new("a", "ES256").jwk();
        let set = KeySet::read(&[first.clone(), second, third, other]).unwrap();
        assert!(!serves(&set, Algorithm::EdDsa));
        assert!(serves(&set, Algorithm::Es256), "another algorithm tells them apart");
        assert_eq!(set.rejected, ["key \"a\": its `kid` is repeated"]);
        assert_eq!(KeySet::read(&[first.clone(), first]).unwrap().count(), 0);
    }

    #[test]
    fn key_set_with_too_many_keys_is_refused() {
        assert!(KeySet::read(&vec![Value::Null; MAX_KEYS]).is_ok());
        assert!(KeySet::read(&vec![Value::Null; MAX_KEYS + 1]).is_err());
    }
}
