//! Sources of the issuer's key set: HTTP from the issuer, or any function (the table `jwks`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use serde::Deserialize;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};

use super::jwks::KeySet;
use super::jws::parse_object;

/// How long the connection to the issuer may take: DNS, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a fetch may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest key set that is read, in bytes.
const MAX_KEY_SET_BYTES: u64 = 64 * 1024;
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The path below which Better Auth serves its endpoints by default.
const BASE_PATH: &str = "/api/auth";

type FetchFn = dyn Fn() -> Result<Option<Vec<Value>>, String> + Send + Sync;

/// A source of JSON Web Keys.
pub struct KeySource {
    name: String,
    fetch: Box<FetchFn>,
}

impl KeySource {
    /// A source with this name for the log. `fetch` returns the keys, `None` if there is no key set at all, or why it
    /// failed. It must return within a few seconds.
    pub fn new(
        name: impl Into<String>,
        fetch: impl Fn() -> Result<Option<Vec<Value>>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), fetch: Box::new(fetch) }
    }

    /// Its name in the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fetches the key set. Blocks as long as the source does.
    ///
    /// # Errors
    /// Why it failed. A panic counts as a failure.
    pub fn fetch(&self) -> Result<KeySet, String> {
        let jwks =
            catch_unwind(AssertUnwindSafe(&self.fetch)).unwrap_or_else(|_| Err("the fetch panicked".to_owned()))?;
        jwks.map_or_else(|| Ok(KeySet::absent()), |jwks| KeySet::read(&jwks))
    }

    /// The key set at this URL, `http://…` or `https://…`. Its name lacks the query, which may contain a secret. With
    /// `https`, the certificate is verified against Mozilla's roots. Redirects are not followed, no proxy is used and
    /// no connection is kept.
    ///
    /// # Errors
    /// What is wrong with the URL. Does not quote it: it may contain a secret.
    pub fn at_url(url: &str) -> Result<Self, String> {
        let not_a_url = || "is not a URL of the form http://host or https://host".to_owned();
        let uri: Uri = url.parse().map_err(|_| not_a_url())?;
        let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if host.contains('@') {
            return Err("contains a user name or password: remove them".to_owned());
        }
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_wrong_port = uri.port_u16().is_none() && uri.host() != Some(host);
        if !is_http || host.is_empty() || has_wrong_port {
            return Err(not_a_url());
        }
        let name = uri.to_string().split('?').next().unwrap_or_default().to_owned();
        let agent = agent(FETCH_TIMEOUT);
        Ok(Self::new(name, move || fetch(&agent, &uri).map(Some)))
    }

    /// The key set of the Better Auth at this base URL. As in Better Auth, `/api/auth` is added to a URL without a
    /// path.
    ///
    /// # Errors
    /// As for [`KeySource::at_url`].
    pub fn of_better_auth(url: &str) -> Result<Self, String> {
        let base = url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let has_path = base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        Self::at_url(&format!("{base}{}/jwks", if has_path { "" } else { BASE_PATH }))
    }
}

fn agent(timeout: Duration) -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::WebPki)
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .max_response_header_size(MAX_HEAD_BYTES)
        .max_idle_connections(0)
        .proxy(None)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

fn fetch(agent: &Agent, url: &Uri) -> Result<Vec<Value>, String> {
    let mut response = agent.get(url).call().map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("the issuer answered {}", response.status()));
    }
    // The library refuses a body that is as long as its limit.
    let body = response.body_mut().with_config().limit(MAX_KEY_SET_BYTES + 1).read_to_vec();
    read_key_set(&body.map_err(|error| error.to_string())?)
}

/// A JSON Web Key Set (RFC 7517, section 5).
#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

fn read_key_set(json: &[u8]) -> Result<Vec<Value>, String> {
    let set: Option<JwkSet> = parse_object(json);
    set.map(|set| set.keys).ok_or_else(|| "the response is not a JSON Web Key Set".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// The outcome of a fetch from an issuer that sends this response and then keeps the connection open.
    fn fetch_of(response: &str, timeout: Duration) -> Result<Vec<Value>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap()).parse().unwrap();
        let response = response.to_owned();
        // Nobody joins it: a fetch that times out may not have connected.
        thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut line = String::new();
            // An empty line ends the head.
            while stream.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let _ = stream.get_mut().write_all(response.as_bytes());
            // Until the client has closed the connection; it may reset it.
            let _ = stream.read_line(&mut line);
        });
        fetch(&agent(timeout), &url)
    }

    #[test]
    fn failed_fetch_says_the_cause() {
        let too_long = format!("HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n{}", " ".repeat(65_537));
        for (response, cause) in [
            ("", "timeout"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{", "timeout"),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "http status: 404"),
            ("HTTP/1.1 307 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "answered 307 Temporary Redirect"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "not a JSON Web Key Set"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "not a JSON Web Key Set"),
            (&too_long, "larger than request limit: 65537"),
        ] {
            // Only what is to time out does so soon, however busy the machine is.
            let timeout = if cause == "timeout" { Duration::from_millis(100) } else { FETCH_TIMEOUT };
            let error = fetch_of(response, timeout).unwrap_err();
            assert!(error.contains(cause), "{error}, not {cause}");
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetch(&agent(FETCH_TIMEOUT), &format!("http://{free}/").parse().unwrap()).unwrap_err();
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn key_set_of_64_kib_is_fetched() {
        let body = format!("{{\"keys\":[{{}}]{}}}", " ".repeat(64 * 1024 - 13));
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!((body.len(), fetch_of(&response, FETCH_TIMEOUT)), (64 * 1024, Ok(vec![serde_json::json!({})])));
    }

    #[test]
    fn jwks_url_accepts_http_and_https_without_credentials() {
        for (url, shown) in [
            ("http://localhost:3000/api/auth/jwks", "http://localhost:3000/api/auth/jwks"),
            ("https://a.example/.well-known/jwks.json", "https://a.example/.well-known/jwks.json"),
            ("https://a.example", "https://a.example/"),
            ("http://[::1]:3000/jwks?token=secret", "http://[::1]:3000/jwks"),
        ] {
            assert_eq!(KeySource::at_url(url).unwrap().name(), shown, "{url}");
        }
        for url in [
            "localhost:3000",
            "/api/auth/jwks",
            "ftp://a.example/",
            "file:///etc/passwd",
            "http://",
            "https:a.example",
            "",
            "http://a b/",
            "http://a:99999/",
            "http://a:port/",
            "http://[::1]:99999/",
            "https://ada:s3cr3t@a.example/",
        ] {
            let why = KeySource::at_url(url).err().unwrap();
            assert!(!why.contains("s3cr3t"), "{why}");
        }
    }

    #[test]
    fn better_auth_url_without_a_path_gets_the_default_path() {
        for (url, expected) in [
            ("http://localhost:3000", "http://localhost:3000/api/auth/jwks"),
            ("https://a.example/", "https://a.example/api/auth/jwks"),
            ("https://a.example/?a#b", "https://a.example/api/auth/jwks"),
            ("https://a.example/auth/", "https://a.example/auth/jwks"),
            ("https://a.example/api/auth", "https://a.example/api/auth/jwks"),
        ] {
            assert_eq!(KeySource::of_better_auth(url).unwrap().name(), expected, "{url}");
        }
        for url in ["a.example", "", "https://", "https:///auth", "https://ada:s3cr3t@a.example"] {
            let why = KeySource::of_better_auth(url).err().unwrap();
            assert!(!why.contains("s3cr3t"), "{why}");
        }
    }

    #[test]
    fn key_set_is_an_object_with_an_array_of_keys() {
        assert_eq!(read_key_set(br#"{"keys":[{}, 1],"more":1}"#).unwrap().len(), 2);
        assert_eq!(read_key_set(br#"{"keys":[]}"#).unwrap().len(), 0);
        let deep = "[".repeat(10_000);
        for json in [r#"{"keys":{}}"#, "{}", "[]", "null", "", "<html>", r#"{"keys":[]} x"#, &deep] {
            assert!(read_key_set(json.as_bytes()).is_err(), "{json}");
        }
    }
}
