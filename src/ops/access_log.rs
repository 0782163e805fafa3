//! Access log: one line, one count and one `Server-Timing` header per request.
//!
//! It never shows the target, a header, the token or the body of a request. The path is the router's pattern, the user a pseudonym.

use std::fmt::Write;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use log::{Level, log, log_enabled};

use crate::auth::UserId;
use crate::http::trace_context::TraceId;
use crate::http::{Method, Response};
use crate::ops::metrics::Metrics;
use crate::ops::timing::Timer;

/// The target of the lines, for `RUST_LOG`.
pub const TARGET: &str = "request";
/// The pseudonyms' key is derived from the secret with this label. A changed label would change every pseudonym.
const KEY_LABEL: &[u8] = b"todo-backend: tags of users in the log";

/// A request that is being answered.
pub struct AccessLogEntry {
    received_at: Instant,
    method: &'static str,
    route: &'static str,
    user: Option<String>,
    trace: Option<TraceId>,
    /// Time for verifying the token.
    pub auth: Timer,
    /// Time for the database, waiting for a connection included.
    pub database: Timer,
}

/// An answered request.
pub struct CompletedRequest {
    entry: AccessLogEntry,
    status: u16,
    /// Length of the response's body; `None` when it is not known yet.
    bytes: Option<usize>,
    duration: Duration,
}

impl AccessLogEntry {
    /// A request that was received now. `route` is the router's pattern of its path, or `unknown`.
    pub fn new(method: &Method, route: &'static str) -> Self {
        Self {
            received_at: Instant::now(),
            method: method_name(method),
            route,
            user: None,
            trace: None,
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

    /// Sets the trace that the request belongs to.
    pub fn set_trace(&mut self, trace: Option<TraceId>) {
        self.trace = trace;
    }

    /// Time since the request was received.
    pub fn elapsed(&self) -> Duration {
        self.received_at.elapsed()
    }

    /// Adds `Server-Timing` to the response, and ends the measurement.
    pub fn finish(self, response: Response) -> (Response, CompletedRequest) {
        let duration = self.elapsed();
        let response = response.with_header("Server-Timing", self.server_timing(duration));
        let bytes = if self.method == "HEAD" { Some(0) } else { response.body().map(<[u8]>::len) };
        let completed = CompletedRequest { status: response.status(), bytes, duration, entry: self };
        (response, completed)
    }

    /// In milliseconds with one decimal: this shows where the time goes, but not whether a row was found.
    fn server_timing(&self, total: Duration) -> String {
        let parts = [("auth", self.auth.elapsed()), ("db", self.database.elapsed()), ("total", Some(total))];
        let mut timing = String::with_capacity(64);
        for (name, duration) in parts {
            let Some(duration) = duration else { continue };
            let separator = if timing.is_empty() { "" } else { ", " };
            let tenths = duration.as_micros() / 100;
            write!(timing, "{separator}{name};dur={}.{}", tenths / 10, tenths % 10).expect("a String accepts all text");
        }
        timing
    }
}

impl CompletedRequest {
    /// Replaces the status when the response could not be sent and the HTTP engine answered with this one instead.
    pub fn set_engine_status(&mut self, status: u16) {
        (self.status, self.bytes) = (status, None);
    }

    /// Counts and logs the request: at `debug` if it is a health probe that succeeded, else at `info`.
    pub fn log_and_count(&self, metrics: &Metrics) {
        let CompletedRequest { entry, status, bytes, duration } = self;
        metrics.count(entry.method, entry.route, *status, *duration);
        let is_probe = *status == 200 && matches!(entry.route, "/health" | "/ready");
        let level = if is_probe { Level::Debug } else { Level::Info };
        log!(
            target: TARGET, level,
            method = entry.method, route = entry.route, status,
            duration_ms = duration.as_micros() as f64 / 1_000.0, bytes,
            user = entry.user.as_deref(), trace_id = entry.trace.as_ref().map(TraceId::as_str);
            "answered"
        );
    }
}

/// A method of the standards, or `other`.
fn method_name(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Patch => "PATCH",
        _ => "other",
    }
}

/// Pseudonyms of users in the log: stable, and without the secret neither readable nor guessable.
pub struct UserPseudonyms {
    key: hmac::Key,
}

impl UserPseudonyms {
    /// Pseudonyms under the current secret, which is the first. Replicas with the same secret agree.
    pub fn new(secrets: &[String]) -> Self {
        let secret = secrets.first().map(String::as_bytes).unwrap_or_default();
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), KEY_LABEL);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    /// 16 hexadecimal digits.
    fn pseudonym(&self, user: &str) -> String {
        let signature = hmac::sign(&self.key, user.as_bytes());
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
        let entry = AccessLogEntry::new(&Method::Get, "/api/tasks");
        assert_eq!(entry.server_timing(Duration::from_micros(1_290)), "total;dur=1.2");
        entry.auth.measure(|| ());
        entry.database.measure(|| ());
        let timing = entry.server_timing(Duration::from_secs(10));
        let names: Vec<_> = timing.split(", ").map(|part| part.split(";dur=").next().unwrap()).collect();
        assert_eq!(names, ["auth", "db", "total"], "{timing}");
        assert!(timing.ends_with("total;dur=10000.0"), "{timing}");
    }

    #[test]
    fn completed_request_when_the_engine_answered_instead_has_the_engines_status() {
        let entry = AccessLogEntry::new(&Method::Get, "/api/tasks");
        let (_, mut completed) = entry.finish(Response::empty(204));
        assert_eq!((completed.status, completed.bytes), (204, Some(0)));
        completed.set_engine_status(500);
        assert_eq!((completed.status, completed.bytes), (500, None));
    }
}
