//! Request id: correlates a request in the client's, the frontend's and this server's logs.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// The header of requests and responses that carries it.
pub const HEADER: &str = "X-Request-Id";
/// The longest accepted id, in bytes.
const MAX_BYTES: usize = 128;

/// The id that the client sent if it is well-formed, else a new one.
pub fn from_header_or_new(sent: Option<&str>) -> Arc<str> {
    sent.filter(|id| is_well_formed(id)).map_or_else(|| generate().into(), Arc::from)
}

/// Accepts UUIDs, trace ids and Base64, and no character that a log line would have to escape.
fn is_well_formed(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:~+/=@".contains(&byte);
    (1..=MAX_BYTES).contains(&id.len()) && id.bytes().all(allowed)
}

/// 16 hexadecimal digits. Each `RandomState` has other keys, so two ids are the same only by chance.
fn generate() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn id_when_well_formed_is_kept_else_replaced() {
        let longest = "x".repeat(MAX_BYTES);
        for id in [
            "1",
            "9b2e5d0c-6f1a-4d7e-8a33-0c1d2e3f4a5b",
            "Root=1-67891233-abcdef012345678912345678",
            "aGk+/w==",
            &longest,
        ] {
            assert_eq!(&*from_header_or_new(Some(id)), id);
        }
        let too_long = "x".repeat(MAX_BYTES + 1);
        for id in ["", " ", "a b", "a\"b", "a\\b", "a,b", "a\tb", "é", "?\u{0}", &too_long] {
            let made = from_header_or_new(Some(id));
            assert!(&*made != id && made.len() == 16 && is_well_formed(&made), "{id:?}: {made}");
        }
        assert!(is_well_formed(&from_header_or_new(None)));
    }

    #[test]
    fn ids_when_generated_are_unique() {
        let ids: HashSet<_> = (0..10_000).map(|_| generate()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
