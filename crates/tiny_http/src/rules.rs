//! What a request head must hold beyond its grammar, and what it says of body and connection.
//!
//! Pure. Each rule is here because two implementations that differ on it can be played against each other: where a request
//! ends, and which host it means, must have one answer or none.

use crate::head::{Fault, Framing, Head};
use crate::message::Method;

/// The checks across headers, and what they say of body and connection.
pub(crate) fn judge(head: &mut Head, fields: &[httparse::Header<'_>]) -> Result<(), Fault> {
    let mut seen = Seen::default();
    for field in fields {
        seen.note(field.name, field.value)?;
    }
    let is_1_0 = head.version.1 == 0;
    head.keep_alive = if is_1_0 { seen.keep_alive && !seen.close } else { !seen.close };
    head.expects_continue = seen.expects_continue && !is_1_0;
    if seen.host.is_none() && !is_1_0 {
        return Err(Fault::bad("The Host header is missing"));
    }
    check_target(&head.method, head.target())?;
    head.framing = match (seen.length, seen.coding) {
        (Some(_), Some(_)) => {
            return Err(Fault::bad("Content-Length and Transfer-Encoding exclude each other"));
        }
        (None, Some(_)) if is_1_0 => return Err(Fault::bad("HTTP/1.0 has no Transfer-Encoding")),
        (None, Some(coding)) => framing_of_coding(coding)?,
        (Some(length), None) => Framing::Length(length),
        (None, None) => Framing::Absent,
    };
    Ok(())
}

/// The headers that decide where a request ends and which host it means.
#[derive(Default)]
struct Seen<'a> {
    host: Option<()>,
    length: Option<u64>,
    coding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'a> Seen<'a> {
    fn note(&mut self, name: &str, value: &'a [u8]) -> Result<(), Fault> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is("host") => {
                check_host(value)?;
                once(&mut self.host, (), "The Host header stands more than once")
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
                once(&mut self.length, length_of(value)?, "The Content-Length header stands more than once")
            }
            17 if is("transfer-encoding") => {
                once(&mut self.coding, value, "The Transfer-Encoding header stands more than once")
            }
            _ => Ok(()),
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, otherwise: &'static str) -> Result<(), Fault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::bad(otherwise)),
    }
}

/// Digits and nothing else (RFC 9112, section 6.3): no sign, no list, no white space.
fn length_of(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::bad("The Content-Length is not a number"));
    }
    let digit = |total: u64, byte: &u8| total.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    Ok(value.iter().fold(0, digit))
}

fn framing_of_coding(value: &[u8]) -> Result<Framing, Fault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let last = codings.next_back().unwrap_or_default();
    // RFC 9112, section 6.3: chunked once, and last, or nobody knows where the body ends.
    if last.is_empty() || codings.any(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"chunked")) {
        return Err(Fault::bad("The Transfer-Encoding is malformed"));
    }
    Err(Fault::new(501, "Only the chunked transfer coding is understood"))
}

/// `uri-host [ ":" port ]` or nothing (RFC 9110, section 7.2). User information, paths, lists and blanks are refused.
fn check_host(value: &[u8]) -> Result<(), Fault> {
    const WRONG: Fault = Fault::bad("The Host header is malformed");
    let (host, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !value.ends_with(b"]") => (&value[..colon], &value[colon + 1..]),
        _ => (value, &value[..0]),
    };
    let name = match host.strip_prefix(b"[") {
        Some(literal) => {
            let literal = literal.strip_suffix(b"]").ok_or(WRONG)?;
            return if !literal.is_empty()
                && literal
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b":.-_~!$&'()*+,;=".contains(byte))
                && port.iter().all(u8::is_ascii_digit)
            {
                Ok(())
            } else {
                Err(WRONG)
            };
        }
        None => host,
    };
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    if name.iter().all(in_name) && port.iter().all(u8::is_ascii_digit) { Ok(()) } else { Err(WRONG) }
}

/// The four forms of a request target (RFC 9112, section 3.2), each with the methods that may use it.
fn check_target(method: &Method, target: &str) -> Result<(), Fault> {
    const WRONG: Fault = Fault::bad("The request target is malformed");
    if *method == Method::Connect {
        return Err(Fault::new(501, "CONNECT is for proxies"));
    }
    if target.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(WRONG);
    }
    if target.starts_with('/') || (target == "*" && *method == Method::Options) {
        return Ok(());
    }
    let (scheme, rest) = target.split_once("://").ok_or(WRONG)?;
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") || authority.is_empty() {
        return Err(WRONG);
    }
    check_host(authority.as_bytes()).map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_past_64_bits_read_as_the_largest() {
        let digits = "9".repeat(30);
        for (text, length) in
            [("2147483648", 1 << 31), ("18446744073709551616", u64::MAX), (digits.as_str(), u64::MAX)]
        {
            assert_eq!(length_of(text.as_bytes()), Ok(length));
        }
    }
}
