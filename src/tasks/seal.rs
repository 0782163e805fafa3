//! What a client sees of a tag, which is nothing: a block of AES under a key that is made of the secret.
//!
//! A tag has the number of a transaction in it, and those count what everybody writes. It has to be read again when it comes
//! back, for the statement compares what it was made of; and every server has to make the same of it, so chance has no part.

use aws_lc_rs::cipher::{
    AES_128, AES_128_KEY_LEN, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::hmac;

/// The key is made of the secret with this; no signed token has a form like it.
const KEY_LABEL: &[u8] = b"todo-backend: tags of tasks";
/// Bytes of a block of AES.
const BLOCK_BYTES: usize = 16;

/// A key for one purpose, which tells nothing of the current secret, the first. Replicas have the same.
pub fn derived_key(secrets: &[String], label: &[u8]) -> hmac::Tag {
    let current = secrets.first().map(String::as_bytes).unwrap_or_default();
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, current), label)
}

/// What tells one state of a task from all others: a strong entity tag (RFC 9110, section 8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The number of the transaction that wrote the row.
    pub writer: u32,
    /// In microseconds since 1970.
    pub updated_at: i64,
}

impl Tag {
    /// As the statements have it.
    pub fn text(self) -> String {
        format!("{}-{}", self.writer, self.updated_at)
    }
}

/// Closes tags, and opens those that it closed.
pub struct Seal {
    closing: EncryptingKey,
    opening: DecryptingKey,
}

impl Seal {
    /// The seal of a server with these secrets. A tag that another secret closed is none.
    pub fn new(secrets: &[String]) -> Self {
        let derived = derived_key(secrets, KEY_LABEL);
        let key = || {
            UnboundCipherKey::new(&AES_128, &derived.as_ref()[..AES_128_KEY_LEN])
                .expect("its length is right")
        };
        // One block, which never stands twice for different things: there is nothing to chain.
        let closing = EncryptingKey::ecb(key()).expect("AES has this mode");
        let opening = DecryptingKey::ecb(key()).expect("AES has this mode");
        Self { closing, opening }
    }

    /// The tag as a client is shown it, without quotes: 32 hexadecimal digits.
    pub fn close(&self, tag: Tag) -> String {
        let mut block =
            (u128::from(tag.writer) << 64 | u128::from(tag.updated_at.cast_unsigned())).to_be_bytes();
        self.closing.encrypt(&mut block).expect("it is one block");
        format!("{:032x}", u128::from_be_bytes(block))
    }

    /// What was closed as this text; `None` for what nobody closed with this key.
    pub fn open(&self, text: &str) -> Option<Tag> {
        if text.len() != 2 * BLOCK_BYTES
            || !text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        {
            return None;
        }
        let mut block = u128::from_str_radix(text, 16).ok()?.to_be_bytes();
        self.opening.decrypt(&mut block, DecryptionContext::None).ok()?;
        let block = u128::from_be_bytes(block);
        let writer = u32::try_from(block >> 64).ok()?;
        Some(Tag { writer, updated_at: (block as u64).cast_signed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secret: &str) -> Seal {
        Seal::new(&[secret.to_owned(), "an older one".to_owned()])
    }

    #[test]
    fn a_tag_comes_back_and_shows_nothing_meanwhile() {
        let seal = seal("a secret of the tests, 32 bytes or more");
        let tags = [
            (0, 0),
            (742, 1_772_357_400_123_456),
            (743, 1_772_357_400_123_456),
            (u32::MAX, -1),
            (1, i64::MIN),
        ];
        let closed = tags.map(|(writer, updated_at)| seal.close(Tag { writer, updated_at }));
        for ((writer, updated_at), text) in tags.into_iter().zip(&closed) {
            assert_eq!(seal.open(text), Some(Tag { writer, updated_at }));
            assert_eq!(seal.close(Tag { writer, updated_at }), *text, "always the same");
        }
        // By openssl, from the words of specs/database/queries.md.
        assert_eq!(closed[1], "3f1235adab38127f08efe5590dbfc572");
    }

    #[test]
    fn what_nobody_closed_is_no_tag() {
        let (own, other) = (seal("a secret of the tests, 32 bytes or more"), seal("another"));
        let text = own.close(Tag { writer: 742, updated_at: 1 });
        assert_eq!(other.open(&text), None);
        for text in [
            "",
            "742-1",
            &text[1..],
            &format!("+{}", &text[1..]),
            &text.to_uppercase(),
            &"é".repeat(16),
            &"0".repeat(32),
        ] {
            assert_eq!(own.open(text), None, "{text}");
        }
    }
}
