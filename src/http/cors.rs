//! Cross-origin resource sharing: which pages may read our answers.
//!
//! Pure. The frontend sends credentials, so a browser takes `*` literally in each of these headers (Fetch standard,
//! "CORS protocol and credentials"): everything is written out, and the origin is echoed.

use std::net::Ipv6Addr;
use std::num::NonZeroU16;

use crate::http::Response;

/// How long a browser may remember a preflight, in seconds. Chromium caps it at this value.
const PREFLIGHT_MAX_AGE_SECONDS: &str = "7200";
/// What a page may do.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// What a page may always send; what a preflight asks for beyond is added.
const REQUEST_HEADERS: [&str; 4] = ["Authorization", "Content-Type", "If-Match", "If-None-Match"];
/// How many of the headers that a preflight asks for are looked at. A page has a handful; each is compared with those before it.
const MAX_ASKED_HEADERS: usize = 64;
/// What a page may read beside the body.
const RESPONSE_HEADERS: &str =
    "WWW-Authenticate, Location, ETag, Retry-After, X-Total-Count, X-Request-Id, Server-Timing";

/// The origins whose pages may read our answers: exact ones, `*` for any, or such with a `*` for a part of one host label.
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

    /// The origin to name in the answer, or `None` when this page may not read it. `null`, the origin of sandboxed
    /// and local pages, stands for everybody and is never allowed.
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
    match authority.split_once('*') {
        _ if entry == "*" => Ok(entry.to_owned()),
        _ if !is_scheme(scheme) || !is_authority(authority) => {
            Err(format!("`{entry}` is not an origin (http://host, https://host:port; no path, no quotes)"))
        }
        Some((_, after)) if !is_in_a_domain(after) => {
            Err(format!("`{entry}` may have one `*`, in the label of a sub-domain"))
        }
        _ => Ok(format!("{scheme}://{authority}")),
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

/// Whether what follows a `*` keeps it within a domain: `*.com` and `*-app.com` are anybody's who registers a name.
fn is_in_a_domain(after: &str) -> bool {
    let host = after.split(':').next().unwrap_or_default();
    let domain = host.split_once('.').map_or("", |(_, domain)| domain);
    !after.contains('*') && (domain.contains('.') || domain == "localhost")
}

/// Adds to any answer, of any status, what lets an allowed page read it.
pub fn with_headers(response: Response, allowed: Option<&str>) -> Response {
    let response = response.with_header("Vary", "Origin");
    match allowed {
        None => response,
        Some(origin) => response
            .with_header("Access-Control-Allow-Origin", origin.to_owned())
            .with_header("Access-Control-Allow-Credentials", "true")
            .with_header("Access-Control-Expose-Headers", RESPONSE_HEADERS),
    }
}

/// The answer to a preflight, without what [`with_headers`] adds. `asked_headers` is the value of
/// `Access-Control-Request-Headers`.
pub fn preflight(allowed: Option<&str>, asked_headers: Option<&str>) -> Response {
    let response = Response::empty(204);
    if allowed.is_none() {
        return response;
    }
    response
        .with_header("Access-Control-Allow-Methods", METHODS)
        .with_header("Access-Control-Allow-Headers", allowed_headers(asked_headers.unwrap_or_default()))
        .with_header("Access-Control-Max-Age", PREFLIGHT_MAX_AGE_SECONDS)
}

/// What a page may always send, then what it asked for beyond, each once; what is no header name is left out, and so is
/// all behind the first [`MAX_ASKED_HEADERS`].
fn allowed_headers(asked: &str) -> String {
    let mut names = REQUEST_HEADERS.to_vec();
    for name in asked.split(',').take(MAX_ASKED_HEADERS).map(str::trim).filter(|name| is_header_name(name)) {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// A `token` of RFC 9110, section 5.6.2.
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
    fn an_origin_is_allowed_exactly_or_by_one_star_in_a_label() {
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
            ("capacitor://localhost", "capacitor://localhost", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://a.b.example.com", false),
            ("*", "https://anything.example", true),
            ("*", "null", false),
            ("", "https://anything.example", false),
        ];
        for (list, origin, expected) in table {
            assert_eq!(policy(list).allowed_origin(Some(origin)).is_some(), expected, "{list} / {origin}");
        }
        assert_eq!(policy("*").allowed_origin(None), None);
    }

    #[test]
    fn an_entry_that_is_no_origin_is_named() {
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
            "https://user@a.example",
        ] {
            let bad = Policy::parse(entry).unwrap_err();
            assert!(bad.contains(entry), "{bad}");
        }
    }

    #[test]
    fn a_preflight_echoes_what_was_asked_for_and_only_header_names() {
        let headers = |asked| {
            preflight(Some("http://a"), asked).header("Access-Control-Allow-Headers").map(str::to_owned).unwrap()
        };
        let always = REQUEST_HEADERS.join(", ");
        assert_eq!(headers(None), always);
        assert_eq!(headers(Some("authorization,x-trace, X-Trace")), format!("{always}, x-trace"));
        assert_eq!(headers(Some("x y, z:\u{7f}, ,ok")), format!("{always}, ok"));
        let asked: Vec<_> = (0..=MAX_ASKED_HEADERS).map(|number| format!("x-{number}")).collect();
        let echoed = asked[..MAX_ASKED_HEADERS].join(", ");
        assert_eq!(headers(Some(&asked.join(","))), format!("{always}, {echoed}"), "the last is one too many");
        assert_eq!(preflight(None, Some("x")).header("Access-Control-Allow-Headers"), None);
    }

    #[test]
    fn every_answer_varies_by_origin_and_only_an_allowed_page_may_read_it() {
        let other = with_headers(Response::empty(200), None);
        assert_eq!(other.header("Vary"), Some("Origin"));
        assert_eq!(other.header("Access-Control-Allow-Origin"), None);
        let allowed = with_headers(Response::empty(401), Some("http://a"));
        assert_eq!(allowed.header("Access-Control-Allow-Origin"), Some("http://a"));
        assert_eq!(allowed.header("Access-Control-Allow-Credentials"), Some("true"));
    }
}
