//! Client JSON, parsed leniently: known fields are kept, the rest is skipped without allocating. Types are checked per
//! field afterwards, so a wrong type does not abort parsing and every error can be named.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;
use serde_json::value::RawValue;

/// A field of an object as it was sent. Its default, `Absent`, stands for one that was not.
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

/// Reads JSON text only, such as that of `serde_json::from_str`: an array or an object is skipped there without being
/// built.
impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        if text.starts_with(['[', '{']) {
            return Ok(JsonValue::ArrayOrObject);
        }
        Ok(match serde_json::from_str(text).map_err(D::Error::custom)? {
            Value::Null => JsonValue::Null,
            Value::Bool(value) => JsonValue::Bool(value),
            Value::Number(number) => match number.as_i128() {
                Some(integer) => JsonValue::Integer(integer),
                None => JsonValue::Float(number.as_f64().unwrap_or(f64::INFINITY)),
            },
            Value::String(text) => JsonValue::Text(text),
            Value::Array(_) | Value::Object(_) => JsonValue::ArrayOrObject,
        })
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
