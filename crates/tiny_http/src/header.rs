//! Headers of requests and responses.
//!
//! The constructors of [`Header`] reject a name that is not a token and a value with a control character such as CR,
//! LF or NUL, which prevents response splitting.

use std::fmt;
use std::str::FromStr;

use ascii::{AsciiStr, AsciiString, FromAsciiError};

use crate::message::is_token;

/// A header: a name and a value.
#[derive(Debug, Clone)]
pub struct Header {
    /// The name, such as `Content-Type`.
    pub field: HeaderField,
    /// The value, without the white space around it.
    pub value: AsciiString,
}

impl Header {
    /// Builds a header from a name and a value.
    ///
    /// # Errors
    /// When the name is not a token, or the value has a byte that is not visible ASCII, space or tab (RFC 9110,
    /// section 5.5).
    #[allow(clippy::result_unit_err)]
    pub fn from_bytes<B1, B2>(header: B1, value: B2) -> Result<Header, ()>
    where
        B1: Into<Vec<u8>> + AsRef<[u8]>,
        B2: Into<Vec<u8>> + AsRef<[u8]>,
    {
        if !is_token(header.as_ref()) || !is_field_value(value.as_ref()) {
            return Err(());
        }
        Ok(Header {
            field: HeaderField::from_bytes(header).map_err(|_| ())?,
            value: AsciiString::from_ascii(value).map_err(|_| ())?,
        })
    }
}

impl FromStr for Header {
    type Err = ();

    /// Parses `Name: value`.
    ///
    /// # Errors
    /// When there is no colon or white space before it, and as [`Header::from_bytes`].
    fn from_str(text: &str) -> Result<Header, ()> {
        let (name, value) = text.split_once(':').ok_or(())?;
        Header::from_bytes(name, value.trim_matches([' ', '\t']))
    }
}

impl fmt::Display for Header {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.field, self.value)
    }
}

/// Whether only the engine may send a header with this name.
pub(crate) fn is_engine_header(name: &str) -> bool {
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
    match name.len() {
        4 => is("date"),
        7 => is("trailer") || is("upgrade"),
        10 => is("connection"),
        14 => is("content-length"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

/// Whether `bytes` are allowed in the value of a response header: visible ASCII, space and tab.
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    // Without an early return the compiler vectorizes this loop.
    bytes.iter().fold(true, |valid, byte| valid & matches!(byte, b' '..=b'~' | b'\t'))
}

/// The name of a header. Comparison ignores case.
#[derive(Debug, Clone, Eq)]
pub struct HeaderField(AsciiString);

impl HeaderField {
    /// Builds a name from bytes.
    ///
    /// # Errors
    /// When `bytes` are not ASCII. Whether they are a token is checked when the header is sent.
    pub fn from_bytes<B>(bytes: B) -> Result<HeaderField, FromAsciiError<B>>
    where
        B: Into<Vec<u8>> + AsRef<[u8]>,
    {
        AsciiString::from_ascii(bytes).map(HeaderField)
    }

    /// Wraps an ASCII name.
    pub(crate) fn from_ascii(name: AsciiString) -> HeaderField {
        HeaderField(name)
    }

    /// The name in its original case.
    pub fn as_str(&self) -> &AsciiStr {
        &self.0
    }

    /// Whether this name equals `other`, ignoring case.
    pub fn equiv(&self, other: &'static str) -> bool {
        self.0.as_str().eq_ignore_ascii_case(other)
    }
}

impl FromStr for HeaderField {
    type Err = ();

    /// # Errors
    /// When `text` is not a token.
    fn from_str(text: &str) -> Result<HeaderField, ()> {
        if !is_token(text.as_bytes()) {
            return Err(());
        }
        HeaderField::from_bytes(text).map_err(|_| ())
    }
}

impl PartialEq for HeaderField {
    fn eq(&self, other: &HeaderField) -> bool {
        self.0.as_str().eq_ignore_ascii_case(other.0.as_str())
    }
}

impl fmt::Display for HeaderField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_when_it_could_split_a_response_is_rejected() {
        for (name, value) in [
            ("X", "a\r\nSet-Cookie: b"),
            ("X", "a\nb"),
            ("X", "a\rb"),
            ("X", "a\0b"),
            ("X", "\u{7f}"),
            ("X", "\u{e9}"),
            ("X\r\nY", "a"),
            ("X Y", "a"),
            ("X:", "a"),
            ("", "a"),
        ] {
            assert!(Header::from_bytes(name, value).is_err(), "{name:?}: {value:?}");
            assert!(Header::from_str(&format!("{name}: {value}")).is_err() || name == "X:");
        }
    }

    #[test]
    fn header_line_is_parsed_and_its_value_trimmed() {
        for (line, name, value) in
            [("A: b", "A", "b"), ("a:b: c", "A", "b: c"), ("A: \t b \t", "A", "b"), ("A:", "A", "")]
        {
            let header = Header::from_str(line).unwrap();
            assert!(header.field == HeaderField::from_str(name).unwrap());
            assert_eq!(header.value.as_str(), value);
        }
        assert!(Header::from_str("A : b").is_err());
        assert!(Header::from_str("A").is_err());
    }
}
