//! Access log: one line, one count and one `Server-Timing` header per request.
//!
//! It never shows the target, a header, the token or the body of a request. The path is the router's pattern, the user
//! a pseudonym.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use log::{Level, log, log_enabled};

use crate::auth::UserId;
use crate::http::Method;
use crate::http::router::UNKNOWN;
use crate::ops::metrics::Metrics;

/// The target of the lines, for `RUST_LOG`.
pub const TARGET: &str = "request";
/// The pseudonyms' key is derived from the secret with this label. A changed label would change every pseudonym.
const KEY_LABEL: &[u8] = b"todo-backend: tags of users in the log";

/// The methods that are named in the log and in the metrics; each other one is `other`.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// A request that is being answered.
pub struct AccessLogEntry {
    received_at: Instant,
    method: &'static str,
    /// The router's pattern of its path, or `unknown`.
    pub route: &'static str,
    user: Option<String>,
    /// The trace that the request belongs to.
    pub trace_id: Option<String>,
    /// Time for verifying the token.
    pub auth: Timer,
    /// Time for the database, waiting for a connection included.
    pub database: Timer,
}

impl AccessLogEntry {
    /// A request that was received now.
    pub fn new(method: &Method) -> Self {
        Self {
            received_at: Instant::now(),
            method: METHODS.into_iter().find(|name| *name == method.as_str()).unwrap_or("other"),
            route: UNKNOWN,
            user: None,
            trace_id: None,
            auth: Timer::default(),
            database: Timer::default(),
        }
    }

    /// Sets the user whose token was verified.
    pub fn set_user(&mut self, user: &UserId, pseudonyms: &UserPseudonyms) {
        if log_enabled!(target: TARGET, Level::Info) {
            self.user = Some(pseudonyms.pseudonym(user.as_str()));
        }
    }

    /// The time since the request was received.
    pub fn duration(&self) -> Duration {
        self.received_at.elapsed()
    }

    /// The value of `Server-Timing`: in milliseconds with one decimal, which shows where the time goes, but not whether
    /// a row was found.
    pub fn server_timing(&self, total: Duration) -> String {
        let parts = [("auth", self.auth.0), ("db", self.database.0), ("total", Some(total))];
        let entries = parts.into_iter().filter_map(|(name, duration)| {
            let tenths = (duration?.as_micros() + 50) / 100;
            Some(format!("{name};dur={}.{}", tenths / 10, tenths % 10))
        });
        entries.collect::<Vec<_>>().join(", ")
    }

    /// Counts and logs the request: at `debug` if it is a health probe that succeeded, else at `info`. `status` is what
    /// the client got, `bytes` the length of the response's body if it is known.
    pub fn log_and_count(&self, status: u16, bytes: Option<usize>, duration: Duration, metrics: &Metrics) {
        let bytes = if self.method == "HEAD" { Some(0) } else { bytes };
        metrics.count(self.method, self.route, status, duration);
        let is_probe = status == 200 && matches!(self.route, "/health" | "/ready");
        let level = if is_probe { Level::Debug } else { Level::Info };
        log!(
            target: TARGET, level,
            method = self.method, route = self.route, status,
            duration_ms = duration.as_micros() as f64 / 1_000.0, bytes,
            user = self.user.as_deref(), trace_id = self.trace_id.as_deref();
            "answered"
        );
    }
}

/// A sum of durations; `None` until something is measured.
#[derive(Debug, Default)]
pub struct Timer(Option<Duration>);

impl Timer {
    /// Runs `work`, and adds the time that it takes.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(start.elapsed());
        result
    }

    /// Adds a duration.
    pub fn add(&mut self, duration: Duration) {
        self.0 = Some(self.0.unwrap_or_default() + duration);
    }
}

/// Pseudonyms of users in the log: stable, and without the secret neither readable nor guessable.
pub struct UserPseudonyms(hmac::Key);

impl UserPseudonyms {
    /// Pseudonyms under the current secret, which is the first. Replicas with the same secret agree.
    pub fn new(secrets: &[String]) -> Self {
        let secret = secrets.first().map(String::as_bytes).unwrap_or_default();
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), KEY_LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// 16 hexadecimal digits.
    fn pseudonym(&self, user: &str) -> String {
        let signature = hmac::sign(&self.0, user.as_bytes());
        let start = signature.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
        format!("{:016x}", u64::from_be_bytes(*start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonym_is_what_the_specification_says() {
        // Computed with Python's hmac from the words of specs/operations.md.
        let secrets = ["a secret of the tests, 32 bytes or more".to_owned(), "an older one".to_owned()];
        let pseudonyms = UserPseudonyms::new(&secrets);
        assert_eq!(pseudonyms.pseudonym("ada"), "f1b5193bb425715b");
        assert_ne!(pseudonyms.pseudonym("ada"), pseudonyms.pseudonym("eve"));
        assert_ne!(pseudonyms.pseudonym("ada"), UserPseudonyms::new(&["another".to_owned()]).pseudonym("ada"));
    }

    #[test]
    fn server_timing_names_only_what_was_measured() {
        let mut entry = AccessLogEntry::new(&Method::Get);
        assert_eq!(entry.server_timing(Duration::from_micros(1_290)), "total;dur=1.3");
        entry.auth.measure(|| ());
        entry.database.measure(|| ());
        let timing = entry.server_timing(Duration::from_secs(10));
        let names: Vec<_> = timing.split(", ").map(|part| part.split(";dur=").next().unwrap()).collect();
        assert_eq!(names, ["auth", "db", "total"], "{timing}");
        assert!(timing.ends_with("total;dur=10000.0"), "{timing}");
    }

    #[test]
    fn method_when_the_log_does_not_name_it_is_other() {
        for (method, name) in [(Method::Get, "GET"), (Method::Head, "HEAD"), (Method::Connect, "other")] {
            assert_eq!(AccessLogEntry::new(&method).method, name);
        }
    }
}
