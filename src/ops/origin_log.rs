//! Log of refused origins: at most one line per origin and minute, so that a missing entry of `ALLOWED_ORIGINS` is
//! found.
//!
//! The header is the client's: it is quoted, escaped and cut, and neither memory nor the log grows with its values.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;

/// How long an origin that was logged is not logged again.
const WINDOW: Duration = Duration::from_secs(60);
/// How many origins are named within a window.
const MAX_ORIGINS: usize = 16;
/// How much of an origin is kept and shown, in characters. A host name has at most 253.
const MAX_ORIGIN_CHARS: usize = 280;

/// The origins that were logged a short while ago.
#[derive(Default)]
pub struct RefusedOrigins(Mutex<Window>);

/// The origins that were logged since a time; that is `None` before the first.
type Window = (Option<Instant>, HashSet<String>);

/// Whether a request comes from a page of this server itself: browsers send `Origin` then, too, and CORS does not
/// apply. The scheme is not compared, for a proxy may have ended TLS.
pub fn is_same_origin(origin: &str, host: Option<&str>) -> bool {
    let origin_host = origin.split_once("://").map(|(_, host)| host);
    origin_host.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

impl RefusedOrigins {
    /// Logs that a request's `Origin` is not among `ALLOWED_ORIGINS`, unless it was logged within the last minute.
    pub fn note(&self, origin: &str, now: Instant) {
        let origin: String = origin.chars().take(MAX_ORIGIN_CHARS).collect();
        match self.number_if_new(&origin, now) {
            Some(..=MAX_ORIGINS) => warn!(
                "origin {origin:?} is not in ALLOWED_ORIGINS: browsers hide this server's responses from its pages"
            ),
            Some(_) => warn!(
                "more than {MAX_ORIGINS} origins that are not in ALLOWED_ORIGINS in a minute: the others are not named"
            ),
            None => {}
        }
    }

    /// Which one of this minute's origins it is, from 1 to `MAX_ORIGINS + 1`; `None` if it is to be ignored.
    fn number_if_new(&self, origin: &str, now: Instant) -> Option<usize> {
        // The set stays usable whatever panicked.
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, logged) = &mut *window;
        if start.is_none_or(|start| now.saturating_duration_since(start) >= WINDOW) {
            *start = Some(now);
            logged.clear();
        }
        let is_new = logged.len() <= MAX_ORIGINS && logged.insert(origin.to_owned());
        is_new.then_some(logged.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_origin_when_repeated_is_logged_once_a_minute() {
        let (origins, start) = (RefusedOrigins::default(), Instant::now());
        assert_eq!(origins.number_if_new("https://a.example", start), Some(1));
        assert_eq!(origins.number_if_new("https://a.example", start + WINDOW / 2), None);
        assert_eq!(origins.number_if_new("https://b.example", start + WINDOW / 2), Some(2));
        assert_eq!(origins.number_if_new("https://a.example", start + WINDOW), Some(1));
    }

    #[test]
    fn same_origin_is_recognised_by_its_host_and_port() {
        assert!(is_same_origin("http://localhost:8000", Some("localhost:8000")));
        assert!(is_same_origin("https://todo.example.com", Some("Todo.example.com")));
        for (origin, host) in [
            ("http://localhost:3000", Some("localhost:8000")),
            ("http://localhost", Some("localhost:8000")),
            ("null", Some("null")),
            ("https://todo.example.com", None),
        ] {
            assert!(!is_same_origin(origin, host), "{origin} {host:?}");
        }
    }

    #[test]
    fn refused_origins_when_there_are_many_are_bounded_in_number_and_length() {
        let (origins, start) = (RefusedOrigins::default(), Instant::now());
        let long = "x".repeat(100_000);
        (0..1_000).for_each(|number| origins.note(&format!("{number}{long}"), start));
        let logged = origins.0.lock().unwrap().1.clone();
        assert_eq!(logged.len(), MAX_ORIGINS + 1, "the last one stands for all others");
        assert!(logged.iter().all(|origin| origin.chars().count() == MAX_ORIGIN_CHARS));
        assert_eq!(origins.number_if_new("https://a.example", start), None);
    }
}
