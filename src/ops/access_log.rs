//! What an operator may know of one request: its line in the log, its place in the metrics, its `Server-Timing`.
//!
//! Never its target, a header of its own, its token or its body: the path is shown as the router's, the user as a tag.

use std::fmt::Write;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use log::{Level, log, log_enabled};

use crate::auth::UserId;
use crate::http::router;
use crate::http::{Method, Response};
use crate::ops::metrics::Metrics;
use crate::ops::timing::Stopwatch;
use crate::tasks::seal::derived_key;

/// The target of the lines, for `RUST_LOG`.
pub const TARGET: &str = "request";
/// What users' tags are made with is made of the secret with this; no signed token has a form like it.
const TAG_KEY_LABEL: &[u8] = b"todo-backend: tags of users in the log";

/// A request that is being answered.
pub struct Visit {
    since: Instant,
    method: &'static str,
    label: usize,
    user: Option<String>,
    /// The time that judging the token takes.
    pub auth: Stopwatch,
    /// The time that the database takes, a wait for a connection included.
    pub database: Stopwatch,
}

/// A request that was answered.
pub struct Finished {
    visit: Visit,
    status: u16,
    /// Of the body; `None` when it is still to be read.
    bytes: Option<usize>,
    duration: Duration,
}

impl Visit {
    /// A request that came in just now.
    pub fn new(method: &Method, path: &str) -> Self {
        Self {
            since: Instant::now(),
            method: method_name(method),
            label: router::label(path),
            user: None,
            auth: Stopwatch::default(),
            database: Stopwatch::default(),
        }
    }

    /// Tells who is asking.
    pub fn is_by(&mut self, user: &UserId, tags: &Tags) {
        if log_enabled!(target: TARGET, Level::Info) {
            self.user = Some(tags.of(user.as_str()));
        }
    }

    /// How long ago it came in.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// What became of it; and the answer with `Server-Timing`.
    pub fn finish(self, response: Response) -> (Response, Finished) {
        let duration = self.since.elapsed();
        let response = response.with_header("Server-Timing", self.server_timing(duration));
        let bytes = if self.method == "HEAD" { Some(0) } else { response.body().map(<[u8]>::len) };
        let finished = Finished { status: response.status(), bytes, duration, visit: self };
        (response, finished)
    }

    /// In milliseconds and to a tenth of one: that tells where the time goes, and not what the database found.
    fn server_timing(&self, total: Duration) -> String {
        let mut timing = String::with_capacity(64);
        for (name, time) in [("auth", self.auth.total()), ("db", self.database.total())] {
            if let Some(time) = time {
                write_timing(&mut timing, name, time);
                timing.push_str(", ");
            }
        }
        write_timing(&mut timing, "total", total);
        timing
    }
}

fn write_timing(timing: &mut String, name: &str, time: Duration) {
    let tenths = time.as_micros() / 100;
    write!(timing, "{name};dur={}.{}", tenths / 10, tenths % 10).expect("a String takes all");
}

impl Finished {
    /// Counts and logs it. What only says that all is well to somebody who asks all the time is logged at debug.
    pub fn tell(&self, metrics: &Metrics) {
        let Finished { visit, status, duration, .. } = self;
        metrics.count(visit.method, visit.label, *status, *duration);
        let route = router::PATHS[visit.label];
        let is_probe = *status == 200 && matches!(route, "/health" | "/ready");
        let level = if is_probe { Level::Debug } else { Level::Info };
        log!(
            target: TARGET, level,
            method = visit.method, route, status, duration_ms = to_microsecond(*duration),
            bytes = self.bytes,
            user = visit.user.as_deref();
            "answered"
        );
    }
}

/// Milliseconds with three decimals.
fn to_microsecond(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// A method of the standards, or that it is another.
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

/// What users are called in the log: always the same, and of no use to somebody who has the log and not the secret.
pub struct Tags {
    key: hmac::Key,
}

impl Tags {
    /// Tags of a server with these secrets. Only the current one, which is the first, counts; replicas have the same.
    pub fn new(secrets: &[String]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, derived_key(secrets, TAG_KEY_LABEL).as_ref()) }
    }

    /// 16 hexadecimal digits: enough to tell users apart.
    fn of(&self, user: &str) -> String {
        let signature = hmac::sign(&self.key, user.as_bytes());
        let start = signature.as_ref().first_chunk().expect("it has 32 bytes");
        format!("{:016x}", u64::from_be_bytes(*start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_the_specification_says() {
        // By Python's hmac, from the words of specs/operations.md.
        let tags =
            Tags::new(&["a secret of the tests, 32 bytes or more".to_owned(), "an older one".to_owned()]);
        assert_eq!(tags.of("ada"), "f1b5193bb425715b");
        assert_ne!(tags.of("ada"), tags.of("eve"));
        assert_ne!(tags.of("ada"), Tags::new(&["another".to_owned()]).of("ada"));
    }

    #[test]
    fn the_timing_names_what_took_place() {
        let visit = Visit::new(&Method::Get, "/api/tasks");
        assert_eq!(visit.server_timing(Duration::from_micros(1_290)), "total;dur=1.2");
        visit.auth.time(|| ());
        visit.database.time(|| ());
        let timing = visit.server_timing(Duration::from_secs(10));
        let names: Vec<_> = timing.split(", ").map(|part| part.split(";dur=").next().unwrap()).collect();
        assert_eq!(names, ["auth", "db", "total"], "{timing}");
        assert!(timing.ends_with("total;dur=10000.0"), "{timing}");
    }
}
