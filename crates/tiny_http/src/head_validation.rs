//! Validation of a request head beyond its grammar: headers that contradict each other, the target, and the body's
//! framing.
//!
//! Pure. Every rule prevents an attack on two HTTP implementations that read a request differently: the end of a
//! request and its host are unambiguous, or the request is rejected.

use crate::head::{Framing, Head, HttpError};
use crate::message::Method;

/// Checks the headers together, and sets the fields of `head` that depend on them.
pub(crate) fn validate(head: &mut Head, headers: &[httparse::Header<'_>]) -> Result<(), HttpError> {
    let mut framing = FramingHeaders::default();
    for header in headers {
        framing.record(header.name, header.value)?;
    }
    let is_1_0 = head.version.1 == 0;
    head.keep_alive = if is_1_0 { framing.keep_alive && !framing.close } else { !framing.close };
    head.expects_continue = framing.expects_continue && !is_1_0;
    if framing.host.is_none() && !is_1_0 {
        return Err(HttpError::bad("The Host header is missing"));
    }
    check_target(&head.method, head.target())?;
    head.framing = match (framing.length, framing.coding) {
        (Some(_), Some(_)) => {
            return Err(HttpError::bad("Content-Length and Transfer-Encoding exclude each other"));
        }
        (None, Some(_)) if is_1_0 => return Err(HttpError::bad("HTTP/1.0 has no Transfer-Encoding")),
        (None, Some(coding)) => parse_coding(coding)?,
        (Some(length), None) => Framing::Length(length),
        (None, None) => Framing::Absent,
    };
    Ok(())
}

/// The headers that determine the end of a request and its host.
#[derive(Default)]
struct FramingHeaders<'a> {
    host: Option<()>,
    length: Option<u64>,
    coding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'a> FramingHeaders<'a> {
    fn record(&mut self, name: &str, value: &'a [u8]) -> Result<(), HttpError> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is("host") => {
                check_host(value)?;
                set_once(&mut self.host, (), "There is more than one Host header")
            }
            6 if is("expect") => {
                self.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            10 if is("connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
                Ok(())
            }
            14 if is("content-length") => {
                set_once(&mut self.length, parse_length(value)?, "There is more than one Content-Length header")
            }
            17 if is("transfer-encoding") => {
                set_once(&mut self.coding, value, "There is more than one Transfer-Encoding header")
            }
            _ => Ok(()),
        }
    }
}

/// Stores a value, or fails with `error` if there was one.
fn set_once<T>(place: &mut Option<T>, value: T, error: &'static str) -> Result<(), HttpError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(HttpError::bad(error)),
    }
}

/// Parses a length of digits only (RFC 9112, section 6.3): no sign, no list, no white space.
fn parse_length(value: &[u8]) -> Result<u64, HttpError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HttpError::bad("The Content-Length is not a number"));
    }
    let digit = |total: u64, byte: &u8| total.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    Ok(value.iter().fold(0, digit))
}

fn parse_coding(value: &[u8]) -> Result<Framing, HttpError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let last = codings.next_back().unwrap_or_default();
    // RFC 9112, section 6.3: the end of the body is known only if `chunked` occurs once and last.
    if last.is_empty() || codings.any(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"chunked")) {
        return Err(HttpError::bad("The Transfer-Encoding is malformed"));
    }
    Err(HttpError::new(501, "Only the chunked transfer coding is supported"))
}

/// Accepts `uri-host [ ":" port ]` or an empty value (RFC 9110, section 7.2).
fn check_host(value: &[u8]) -> Result<(), HttpError> {
    const MALFORMED: HttpError = HttpError::bad("The Host header is malformed");
    let (host, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !value.ends_with(b"]") => (&value[..colon], &value[colon + 1..]),
        _ => (value, &value[..0]),
    };
    let name = match host.strip_prefix(b"[") {
        Some(literal) => {
            let literal = literal.strip_suffix(b"]").ok_or(MALFORMED)?;
            return if !literal.is_empty()
                && literal.iter().all(|byte| byte.is_ascii_alphanumeric() || b":.-_~!$&'()*+,;=".contains(byte))
                && port.iter().all(u8::is_ascii_digit)
            {
                Ok(())
            } else {
                Err(MALFORMED)
            };
        }
        None => host,
    };
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    if name.iter().all(in_name) && port.iter().all(u8::is_ascii_digit) { Ok(()) } else { Err(MALFORMED) }
}

/// Accepts the forms of a request target (RFC 9112, section 3.2) with the methods that may use them. `CONNECT` is not
/// supported.
fn check_target(method: &Method, target: &str) -> Result<(), HttpError> {
    const MALFORMED: HttpError = HttpError::bad("The request target is malformed");
    if *method == Method::Connect {
        return Err(HttpError::new(501, "CONNECT is for proxies"));
    }
    if target.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(MALFORMED);
    }
    if target.starts_with('/') || (target == "*" && *method == Method::Options) {
        return Ok(());
    }
    let (scheme, rest) = target.split_once("://").ok_or(MALFORMED)?;
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") || authority.is_empty() {
        return Err(MALFORMED);
    }
    check_host(authority.as_bytes()).map_err(|_| MALFORMED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_above_64_bits_becomes_the_maximum() {
        let digits = "9".repeat(30);
        for (text, length) in [("2147483648", 1 << 31), ("18446744073709551616", u64::MAX), (digits.as_str(), u64::MAX)]
        {
            assert_eq!(parse_length(text.as_bytes()), Ok(length));
        }
    }
}
