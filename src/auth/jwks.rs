//! The issuer's public keys: which keys of a set (RFC 7517) are used, what for, and whether a signature holds.
//!
//! A key is bound to its `kid` and to its algorithms when it is read. What a token's header says can only find a key or not
//! find it; it can never make a key check what it is not for.

use std::collections::{BTreeMap, HashMap};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The most keys that a set may have.
pub const MAX_KEYS: usize = 256;
/// The sizes of an RSA key that are accepted, in bytes of its modulus (2048 to 8192 bits; RFC 7518, section 3.3).
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The asymmetric algorithms that Better Auth signs with (RFC 7518, section 3.1; RFC 8037, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    EdDsa,
    Es256,
    Es512,
    Rs256,
    Ps256,
}

impl Algorithm {
    /// The algorithm of this name, which is case-sensitive.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "EdDSA" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "ES512" => Some(Self::Es512),
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            _ => None,
        }
    }
}

/// The keys of an issuer that are used.
#[derive(Default)]
pub(super) struct KeySet {
    keys: HashMap<String, BTreeMap<Algorithm, ParsedPublicKey>>,
    /// Why others are not used, a line each.
    pub(super) unused: Vec<String>,
    /// Whether there is no such set at all.
    pub(super) is_absent: bool,
}

impl KeySet {
    /// What stands for a set where there is none.
    pub(super) fn absent() -> Self {
        Self { is_absent: true, ..Self::default() }
    }

    /// Reads JSON Web Keys. One that cannot be used does not spoil the others. Where two have the same `kid` and algorithm
    /// nobody can say which is meant, and neither is used.
    ///
    /// # Errors
    /// When there are more than [`MAX_KEYS`].
    pub(super) fn read(jwks: &[Value]) -> Result<Self, String> {
        if jwks.len() > MAX_KEYS {
            return Err(format!("it has {} keys; at most {MAX_KEYS} are accepted", jwks.len()));
        }
        let mut set = Self::default();
        let mut repeated = Vec::new();
        for jwk in jwks {
            let kid = jwk["kid"].as_str().unwrap_or_default();
            match read_key(jwk) {
                Ok(_) if kid.is_empty() => set.unused.push("a key without `kid`".to_owned()),
                Ok(keys) => {
                    let own = set.keys.entry(kid.to_owned()).or_default();
                    for (algorithm, key) in keys {
                        if own.insert(algorithm, key).is_some() {
                            repeated.push((kid, algorithm));
                        }
                    }
                }
                Err(why) => set.unused.push(format!("the key {kid:?}: {why}")),
            }
        }
        for (kid, algorithm) in repeated {
            set.unused.push(format!("the key {kid:?}: its `kid` stands twice"));
            if let Some(keys) = set.keys.get_mut(kid) {
                keys.remove(&algorithm);
            }
        }
        set.keys.retain(|_, keys| !keys.is_empty());
        Ok(set)
    }

    /// Whether a key of this `kid` is used at all.
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// The key of this `kid` for this algorithm.
    pub(super) fn find(&self, kid: &str, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        self.keys.get(kid)?.get(&algorithm)
    }

    /// How many keys are used.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

/// A JSON Web Key as the algorithms that it is for, each with the key. An `RSA` key without `alg` is for both of RSA's: old
/// versions of Better Auth did not write it down.
fn read_key(jwk: &Value) -> Result<Vec<(Algorithm, ParsedPublicKey)>, &'static str> {
    let member = |name: &str| jwk.get(name).filter(|value| !value.is_null());
    if member("d").is_some() || member("k").is_some() {
        return Err("it holds a secret");
    }
    if member("use").is_some_and(|purpose| purpose != "sig") {
        return Err("its `use` is another than signatures");
    }
    if member("key_ops").is_some_and(|ops| !ops.as_array().is_some_and(|ops| ops.contains(&"verify".into())))
    {
        return Err("its `key_ops` do not include `verify`");
    }
    let mut keys = match (text(jwk, "kty"), text(jwk, "crv")) {
        ("OKP", "Ed25519") => vec![(Algorithm::EdDsa, ed25519(jwk)?)],
        ("EC", "P-256") => vec![(Algorithm::Es256, on_curve(jwk, &ECDSA_P256_SHA256_FIXED, 32)?)],
        ("EC", "P-521") => vec![(Algorithm::Es512, on_curve(jwk, &ECDSA_P521_SHA512_FIXED, 66)?)],
        ("RSA", _) => rsa(jwk)?,
        _ => return Err("its type and curve are none of Ed25519, P-256, P-521 and RSA"),
    };
    if let Some(alg) = member("alg") {
        let alg = alg.as_str().and_then(Algorithm::from_name);
        keys.retain(|(algorithm, _)| Some(*algorithm) == alg);
    }
    if keys.is_empty() { Err("its `alg` does not fit its type") } else { Ok(keys) }
}

/// RFC 8037, section 2.
fn ed25519(jwk: &Value) -> Result<ParsedPublicKey, &'static str> {
    parse(&ED25519, &bytes(jwk, "x")?)
}

/// The point as SEC 1 writes it, uncompressed; each coordinate has all its bytes (RFC 7518, section 6.2.1.2).
fn on_curve(
    jwk: &Value,
    algorithm: &'static dyn VerificationAlgorithm,
    coordinate_bytes: usize,
) -> Result<ParsedPublicKey, &'static str> {
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
        return Err("its coordinates are not as long as its curve's");
    }
    parse(algorithm, &[&[4], x.as_slice(), y.as_slice()].concat())
}

/// RFC 7518, section 6.3.1.
fn rsa(jwk: &Value) -> Result<Vec<(Algorithm, ParsedPublicKey)>, &'static str> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let has_all_its_bits = n.first().is_some_and(|first| *first >= 0x80) || n.len() > 256;
    if !RSA_MODULUS_BYTES.contains(&n.len()) || !has_all_its_bits {
        return Err("it has not 2048 to 8192 bits");
    }
    let key = RsaPublicKeyComponents { n, e };
    let parsed = |parameters| key.to_parsed_public_key(parameters).map_err(|_| NO_PROPER_KEY);
    Ok(vec![
        (Algorithm::Rs256, parsed(&RSA_PKCS1_2048_8192_SHA256)?),
        (Algorithm::Ps256, parsed(&RSA_PSS_2048_8192_SHA256)?),
    ])
}

const NO_PROPER_KEY: &str = "its numbers are no proper key";

fn parse(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Result<ParsedPublicKey, &'static str> {
    ParsedPublicKey::new(algorithm, key).map_err(|_| NO_PROPER_KEY)
}

fn text<'j>(jwk: &'j Value, name: &str) -> &'j str {
    jwk[name].as_str().unwrap_or_default()
}

fn bytes(jwk: &Value, name: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text(jwk, name)).map_err(|_| "its numbers are not proper base64url")
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
        ALL.into_iter().filter(|algorithm| set.find("a", *algorithm).is_some()).collect()
    }

    #[test]
    fn a_key_is_for_its_own_algorithm_and_no_other() {
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
    fn a_key_that_does_not_say_its_algorithm_is_for_those_of_its_type() {
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
    fn what_is_no_public_key_for_signatures_is_not_used() {
        let changed = |name: &'static str, changes: Value| {
            let mut jwk = Signer::new("a", name).jwk();
            for (member, value) in changes.as_object().unwrap() {
                jwk[member] = value.clone();
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
            assert_eq!((set.len(), set.unused.len()), (1, 1), "{jwk}");
            assert!(set.knows("good") && !set.knows("a") && !set.knows(""), "{jwk}");
        }
    }

    #[test]
    fn two_keys_that_cannot_be_told_apart_are_both_not_used() {
        let [first, second, third] = [(); 3].map(|()| Signer::new("a", "EdDSA").jwk());
        let other = Signer::new("a", "ES256").jwk();
        let set = KeySet::read(&[first.clone(), second, third, other]).unwrap();
        assert!(set.find("a", Algorithm::EdDsa).is_none());
        assert!(set.find("a", Algorithm::Es256).is_some(), "another algorithm tells them apart");
        assert_eq!(KeySet::read(&[first.clone(), first]).unwrap().len(), 0);
    }

    #[test]
    fn a_set_is_bounded() {
        assert!(KeySet::read(&vec![Value::Null; MAX_KEYS]).is_ok());
        assert!(KeySet::read(&vec![Value::Null; MAX_KEYS + 1]).is_err());
    }
}
