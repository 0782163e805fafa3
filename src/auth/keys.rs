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
