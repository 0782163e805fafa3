//! JSON: how ours is written, and how that is read whose shape a stranger chose.
//!
//! Of a stranger's any value can be read, what can matter is kept, the rest is skipped unstored. Bodies and claims are judged field by
//! field, so that the answer can name what is wrong with which; a value of the wrong type must therefore not end the reading, and one
//! of a megabyte must not be kept.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Adds a value to JSON.
pub fn write(json: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(json, value).expect("our own types have string keys and serialise");
}

/// Adds a text to JSON, as [`write`] does. Mostly there is nothing to escape in it; to find that out by looking at all of it takes a
/// fraction of the time that it takes to look for the first such character. Where there is one, both are done.
pub fn write_text(json: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| (byte >= b' ') & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
    } else {
        write(json, text);
    }
}

/// A member of an object as it was sent. `Absent` comes about by `#[serde(default)]`.
#[derive(Debug, Default, Clone, PartialEq)]
pub enum Scalar {
    /// Not sent at all.
    #[default]
    Absent,
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction or exponent, in the range of 64 bits.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// An array or an object.
    Compound,
}

/// Whether JSON text, if it is any, is an object: `serde` would also read an array into a struct.
pub fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Compound)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Compound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_can_be_read() {
        for (json, expected) in [
            ("null", Scalar::Null),
            ("true", Scalar::Bool(true)),
            ("-5", Scalar::Integer(-5)),
            ("18446744073709551615", Scalar::Integer(u64::MAX.into())),
            ("1.0", Scalar::Float(1.0)),
            ("\"\\u00e9\"", Scalar::Text("é".to_owned())),
            ("[1,[2]]", Scalar::Compound),
            ("{\"a\":{}}", Scalar::Compound),
        ] {
            assert_eq!(serde_json::from_str::<Scalar>(json).unwrap(), expected, "{json}");
        }
        assert!(serde_json::from_str::<Scalar>("[1,").is_err());
    }

    #[test]
    fn a_text_is_escaped_as_serde_json_does() {
        let mut texts: Vec<_> = ('\0'..='\u{ff}').map(String::from).collect();
        texts.extend(["", "plain", "\u{2028}😀"].map(String::from));
        for text in texts {
            for text in [text.clone(), format!("{}{text}", "long and plain ".repeat(9))] {
                let mut json = Vec::new();
                write_text(&mut json, &text);
                assert_eq!(json, serde_json::to_vec(&text).unwrap(), "{text:?}");
            }
        }
    }

    #[test]
    fn only_an_object_is_an_object() {
        for (json, expected) in [(" \n{}", true), ("[]", false), ("null", false), ("", false)] {
            assert_eq!(is_object(json.as_bytes()), expected, "{json}");
        }
    }
}
