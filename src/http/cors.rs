//! Cross-origin resource sharing (CORS): which pages may read the responses.
//!
//! No I/O. With credentials a browser takes `*` literally in these headers (Fetch standard, "CORS protocol and
//! credentials"). So each list is written out, and the origin is echoed.

use std::net::Ipv6Addr;
use std::num::NonZeroU16;

use crate::http::Response;

/// How long a browser may cache a preflight, in seconds: the most that Chromium accepts.
const PREFLIGHT_MAX_AGE_SECONDS: &str = "7200";
/// Methods that a page may use.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// Request headers that a page may always send. Others that a preflight asks for are added.
const REQUEST_HEADERS: [&str; 4] = ["Authorization", "Content-Type", "If-Match", "If-None-Match"];
/// The most requested headers that are read. Each is compared with those before it, so their number must be bounded.
const MAX_REQUESTED_HEADERS: usize = 64;
/// Response headers that a page may read.
const RESPONSE_HEADERS: &str =
    "WWW-Authenticate, Location, ETag, Retry-After, X-Total-Count, X-Request-Id, Server-Timing";

/// The origins whose pages may read our responses: exact ones, `*` for any, or patterns in which `*` is a part of one
/// host label.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Policy(Vec<String>);

fn matches(pattern: &str, origin: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return origin == pattern };
    let label = origin.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    pattern == "*" || label.is_some_and(|label| !label.is_empty() && label.bytes().all(is_label_byte))
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

impl Policy {
    /// Reads a comma-separated list of origins. Trailing slashes and default ports are dropped, as browsers do.
    ///
    /// # Errors
    /// The entries that are no origin, and why. The text follows the variable's name.
    pub fn parse(list: &str) -> Result<Self, String> {
        let (mut patterns, mut errors) = (Vec::new(), Vec::new());
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match parse_pattern(entry) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(Self(patterns))
        } else {
            Err(format!("contains invalid origins: {}", errors.join("; ")))
        }
    }

    /// The origin to name in the response; `None` if it is not allowed. `null` is the origin of all sandboxed and local
    /// pages, and is never allowed.
    pub fn allowed_origin<'o>(&self, origin: Option<&'o str>) -> Option<&'o str> {
        let is_visible = |origin: &str| !origin.is_empty() && origin.bytes().all(|byte| byte.is_ascii_graphic());
        let origin = origin.filter(|origin| *origin != "null" && is_visible(origin))?;
        self.0.iter().any(|pattern| matches(pattern, origin)).then_some(origin)
    }
}

fn parse_pattern(entry: &str) -> Result<String, String> {
    let origin = entry.trim_end_matches('/').to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("://").unwrap_or_default();
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    if entry == "*" {
        Ok(entry.to_owned())
    } else if !is_scheme(scheme) || !is_authority(authority) {
        Err(format!("`{entry}` is not an origin (http://host, https://host:port; no path, no quotes)"))
    } else if authority.split_once('*').is_some_and(|(_, after)| !is_subdomain_suffix(after)) {
        Err(format!("`{entry}` may have one `*`, in the label of a sub-domain"))
    } else {
        Ok(format!("{scheme}://{authority}"))
    }
}

/// RFC 3986, section 3.1. An app's own, such as `capacitor://localhost`, is one too.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A host name, perhaps with `*`, or an IPv6 address in brackets; and a port if there is one.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| is_label_byte(byte) || b"._*".contains(&byte)),
    };
    is_host && port.is_none_or(|port| port.parse::<NonZeroU16>().is_ok())
}

/// Whether the rest after `*` is a sub-domain's: anybody can register a name that matches `*.com` or `*-app.com`.
fn is_subdomain_suffix(after: &str) -> bool {
    let host = after.split(':').next().unwrap_or_default();
    let domain = host.split_once('.').map_or("", |(_, domain)| domain);
    !after.contains('*') && (domain.contains('.') || domain == "localhost")
}

/// Adds `Vary`, and for an allowed origin the headers that let its pages read the response. For every status.
pub fn with_headers(response: Response, allowed: Option<&str>) -> Response {
    let response = response.with_header("Vary", "Origin");
    let Some(origin) = allowed else { return response };
    response
        .with_header("Access-Control-Allow-Origin", origin.to_owned())
        .with_header("Access-Control-Allow-Credentials", "true")
        .with_header("Access-Control-Expose-Headers", RESPONSE_HEADERS)
}

/// The response to a preflight, without the headers of [`with_headers`]. `requested_headers` is the value of
/// `Access-Control-Request-Headers`.
pub fn preflight(allowed: Option<&str>, requested_headers: Option<&str>) -> Response {
    let response = Response::empty(204);
    if allowed.is_none() {
        return response;
    }
    response
        .with_header("Access-Control-Allow-Methods", METHODS)
        .with_header("Access-Control-Allow-Headers", allowed_headers(requested_headers.unwrap_or_default()))
        .with_header("Access-Control-Max-Age", PREFLIGHT_MAX_AGE_SECONDS)
}

/// [`REQUEST_HEADERS`] and the first [`MAX_REQUESTED_HEADERS`] requested ones, each once, without invalid names.
fn allowed_headers(requested: &str) -> String {
    let mut names = REQUEST_HEADERS.to_vec();
    for name in requested.split(',').take(MAX_REQUESTED_HEADERS).map(str::trim).filter(|name| is_header_name(name)) {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// Whether this is a `token` (RFC 9110, section 5.6.2).
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(list: &str) -> Policy {
        Policy::parse(list).unwrap()
    }

    #[test]
    fn origin_when_equal_or_matching_a_wildcard_is_allowed() {
        let table = [
            ("http://localhost:3000", "http://localhost:3000", true),
            ("http://localhost:3000/", "http://localhost:3000", true),
            ("http://localhost:3000", "https://localhost:3000", false),
            ("http://localhost:3000", "http://localhost:30001", false),
            ("http://localhost:3000", "http://localhost:3000/", false),
            ("https://a.example:443", "https://a.example", true),
            ("http://a.example:80", "http://a.example", true),
            ("https://A.Example", "https://a.example", true),
            (" https://a.example , https://b.example,", "https://b.example", true),
            ("https://my-app-*.vercel.app", "https://my-app-git-main.vercel.app", true),
            ("https://my-app-*.vercel.app", "https://my-app-.vercel.app", false),
            ("https://my-app-*.vercel.app", "https://my-app-x.evil.vercel.app", false),
            ("https://my-app-*.vercel.app", "https://my-app-x.vercel.app.evil.example", false),
            ("https://my-app-*.vercel.app", "https://evil.example/my-app-x.vercel.app", false),
            ("https://*.example.com", "https://a.example.com", true),
            ("https://*.example.com:8443", "https://a.example.com:8443", true),
            ("http://*.localhost:3000", "http://a.localhost:3000", true),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("http://[::1]", "http://[::1]", true),
            ("capacitor://localhost", "capacitor://localhost", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://a.b.example.com", false),
            ("*", "https://anything.example", true),
            ("*", "null", false),
            ("*", "", false),
            ("*", "https://a.example b", false),
            ("", "https://anything.example", false),
        ];
        for (list, origin, expected) in table {
            assert_eq!(policy(list).allowed_origin(Some(origin)).is_some(), expected, "{list} / {origin}");
        }
        assert_eq!(policy("*").allowed_origin(None), None);
    }

    #[test]
    fn entry_when_not_an_origin_is_named() {
        for entry in [
            "localhost:3000",
            "null",
            "https://",
            "https://a/b",
            "https://*.*.com",
            "https://*",
            "https://a b",
            "https://*.com",
            "https://*-app.com:8443",
            "https://app.*.com",
            "*://a.example",
            "\"http://localhost:3000\"",
            "http://localhost:3000\"",
            "http://localhost:",
            "http://localhost:0",
            "http://localhost:65536",
            "http://localhost:port",
            "http://a:1:2",
            "http://[::1",
            "http://[::1]3000",
            "http://[a]",
            "1http://a.example",
            "ht_tp://a.example",
            "https://user@a.example",
        ] {
            let bad = Policy::parse(entry).unwrap_err();
            assert!(bad.contains(entry), "{bad}");
        }
    }

    #[test]
    fn preflight_when_it_requests_headers_lists_valid_names_once() {
        let headers = |requested| {
            preflight(Some("http://a"), requested).header("Access-Control-Allow-Headers").map(str::to_owned).unwrap()
        };
        let always = REQUEST_HEADERS.join(", ");
        assert_eq!(headers(None), always);
        assert_eq!(headers(Some("authorization,x-trace, X-Trace")), format!("{always}, x-trace"));
        assert_eq!(headers(Some("x y, z:\u{7f}, ,ok")), format!("{always}, ok"));
        let requested: Vec<_> = (0..=MAX_REQUESTED_HEADERS).map(|number| format!("x-{number}")).collect();
        let echoed = requested[..MAX_REQUESTED_HEADERS].join(", ");
        assert_eq!(
            headers(Some(&requested.join(","))),
            format!("{always}, {echoed}"),
            "the last one is beyond the limit"
        );
        assert_eq!(preflight(None, Some("x")).header("Access-Control-Allow-Headers"), None);
    }

    #[test]
    fn response_when_its_origin_is_allowed_has_cors_headers_and_always_varies() {
        let other = with_headers(Response::empty(200), None);
        assert_eq!(other.header("Vary"), Some("Origin"));
        assert_eq!(other.header("Access-Control-Allow-Origin"), None);
        let allowed = with_headers(Response::empty(401), Some("http://a"));
        assert_eq!(allowed.header("Access-Control-Allow-Origin"), Some("http://a"));
        assert_eq!(allowed.header("Access-Control-Allow-Credentials"), Some("true"));
    }
}
