//! Client JSON, parsed leniently: known fields are kept, the rest is skipped without allocating. Types are checked per field
//! afterwards, so a wrong type does not abort parsing and every error can be named.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A member of an object as it was sent. Its default, `Absent`, stands for one that was not.
#[derive(Debug, Default, Clone, PartialEq)]
pub enum JsonValue {
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
    ArrayOrObject,
}

/// Whether JSON text is an object, if it is valid: `serde` would also read an array into a struct.
pub fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonValueVisitor)
    }
}

struct JsonValueVisitor;

impl<'de> Visitor<'de> for JsonValueVisitor {
    type Value = JsonValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<JsonValue, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<JsonValue, E> {
        Ok(JsonValue::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<JsonValue, E> {
        Ok(JsonValue::Integer(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<JsonValue, E> {
        Ok(JsonValue::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<JsonValue, E> {
        Ok(JsonValue::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<JsonValue, E> {
        Ok(JsonValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<JsonValue, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(JsonValue::ArrayOrObject)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonValue, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(JsonValue::ArrayOrObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_when_of_any_type_is_read() {
        for (json, expected) in [
            ("null", JsonValue::Null),
            ("true", JsonValue::Bool(true)),
            ("-5", JsonValue::Integer(-5)),
            ("18446744073709551615", JsonValue::Integer(u64::MAX.into())),
            ("1.0", JsonValue::Float(1.0)),
            ("\"\\u00e9\"", JsonValue::Text("é".to_owned())),
            ("[1,[2]]", JsonValue::ArrayOrObject),
            ("{\"a\":{}}", JsonValue::ArrayOrObject),
        ] {
            assert_eq!(serde_json::from_str::<JsonValue>(json).unwrap(), expected, "{json}");
        }
        assert!(serde_json::from_str::<JsonValue>("[1,").is_err());
    }

    #[test]
    fn text_when_it_starts_with_a_brace_is_an_object() {
        for (json, expected) in [(" \n{}", true), ("[]", false), ("null", false), ("", false)] {
            assert_eq!(is_object(json.as_bytes()), expected, "{json}");
        }
    }
}
