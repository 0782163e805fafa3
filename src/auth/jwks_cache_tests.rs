//! The rules of the cache under a simulated clock. Only the fetch threads are real.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::{Value, json};

use super::*;

type FetchResult = Result<Option<Vec<Value>>, String>;

/// The longest that a test waits for another thread.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Better Auth made it (`tests/vectors.json`).
const PUBLIC_KEY: &str = "zn_0HWaY1uvfYGJvnnO5iilm6aYLgCMHb_0GhmcSIP4";

fn set(kids: &[&str]) -> FetchResult {
    let jwk = |kid: &&str| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": PUBLIC_KEY});
    Ok(Some(kids.iter().map(jwk).collect()))
}

/// What a request gets in the end.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Known,
    Missing,
    Unavailable,
}
use Outcome::{Known, Missing, Unavailable};

/// A cache whose waiting requests are the `kid`s of their tokens.
struct Fixture {
    cache: Arc<JwksCache<String>>,
    /// What the source answers next, if it answers at once.
    result: Arc<Mutex<FetchResult>>,
    fetches: Arc<AtomicUsize>,
    resumed: Receiver<Vec<String>>,
    start: Instant,
}

impl Fixture {
    /// A source that answers at once.
    fn new(result: FetchResult) -> Self {
        let result = Arc::new(Mutex::new(result));
        let current = Arc::clone(&result);
        Self { result, ..Self::with_source(move || current.lock().unwrap().clone()) }
    }

    /// A source that answers what the test sends.
    fn with_slow_source() -> (Sender<FetchResult>, Self) {
        let (result, results) = channel();
        let results = Mutex::new(results);
        (result, Self::with_source(move || results.lock().unwrap().recv_timeout(TIMEOUT).unwrap()))
    }

    fn with_source(fetch: impl Fn() -> FetchResult + Send + Sync + 'static) -> Self {
        let fetches = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&fetches);
        let source = KeySource::new("the test", move || {
            counter.fetch_add(1, Ordering::SeqCst);
            fetch()
        });
        let (resume, resumed) = channel();
        let cache = Arc::new(JwksCache::new(source));
        let fetching = Arc::clone(&cache);
        // It ends with the first fetch after the test.
        thread::spawn(move || {
            loop {
                let waiting: Vec<_> = fetching.fetch_when_needed().into_iter().map(|(kid, _)| kid).collect();
                if !waiting.is_empty() && resume.send(waiting).is_err() {
                    break;
                }
            }
        });
        let result = Arc::new(Mutex::new(Ok(None)));
        Self { cache, result, fetches, resumed, start: Instant::now() }
    }

    fn respond(&self, result: FetchResult) {
        *self.result.lock().unwrap() = result;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn time(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// The first or, after having waited, the second call of a request. `None` if it was parked.
    fn find(&self, seconds: u64, kid: &str, has_waited: bool) -> Option<Outcome> {
        let (waiter, found) = self.cache.find(kid.to_owned(), kid.to_owned(), has_waited, self.time(seconds))?;
        assert_eq!(waiter, kid);
        Some(match found {
            Ok(keys) if keys.contains(kid) => Known,
            Ok(_) => Missing,
            Err(error) => {
                assert_eq!(error, AuthError::KeysUnavailable);
                Unavailable
            }
        })
    }

    /// A whole request this many seconds after the start. A fetch that it causes ends before this returns.
    fn at(&self, seconds: u64, kid: &str) -> Outcome {
        let outcome = self.find(seconds, kid, false).unwrap_or_else(|| {
            assert_eq!(self.resumed(), [kid]);
            self.find(seconds, kid, true).expect("a request is parked once")
        });
        self.wait_for_fetch();
        outcome
    }

    fn resumed(&self) -> Vec<String> {
        self.resumed.recv_timeout(TIMEOUT).unwrap()
    }

    fn wait_for_fetch(&self) {
        let deadline = Instant::now() + TIMEOUT;
        while self.cache.lock().fetching_since.is_some() {
            assert!(Instant::now() < deadline, "the fetch should end");
            thread::yield_now();
        }
    }
}

#[test]
fn fetch_starts_only_when_a_token_needs_a_key() {
    let fixture = Fixture::new(set(&["a"]));
    let status = fixture.cache.status(fixture.start);
    assert_eq!((status.age, status.last_fetch_succeeded), (None, None));
    assert_eq!(fixture.fetches(), 0);
    assert_eq!(fixture.at(0, "a"), Known);
    assert_eq!((fixture.at(299, "a"), fixture.fetches()), (Known, 1));
}

#[test]
fn set_of_five_minutes_is_served_while_it_is_refreshed() {
    let fixture = Fixture::new(set(&["a"]));
    assert_eq!(fixture.at(0, "a"), Known);
    fixture.respond(set(&["b"]));
    assert_eq!((fixture.at(300, "a"), fixture.fetches()), (Known, 2));
    assert_eq!((fixture.at(301, "b"), fixture.fetches()), (Known, 2));
    assert_eq!((fixture.at(301, "a"), fixture.fetches()), (Missing, 3), "revoked");
}

#[test]
fn unknown_kid_causes_a_fetch_and_a_pause_unless_it_is_brought() {
    let fixture = Fixture::new(set(&["a"]));
    assert_eq!(fixture.at(0, "a"), Known);
    fixture.respond(set(&["a", "b"]));
    assert_eq!((fixture.at(1, "b"), fixture.fetches()), (Known, 2));
    fixture.respond(set(&["a", "b", "c"]));
    assert_eq!((fixture.at(2, "c"), fixture.fetches()), (Known, 3), "the last one was brought");
    assert_eq!((fixture.at(3, "forged"), fixture.fetches()), (Missing, 4));
    fixture.respond(set(&["d"]));
    assert_eq!((fixture.at(32, "d"), fixture.fetches()), (Unavailable, 4));
    assert_eq!((fixture.at(33, "d"), fixture.fetches()), (Known, 5));
}

#[test]
fn other_kid_during_the_pause_is_unavailable_and_the_asked_one_missing() {
    let fixture = Fixture::new(set(&["a"]));
    assert_eq!(fixture.at(0, "forged"), Missing);
    for seconds in 1..30 {
        assert_eq!(fixture.at(seconds, "rotated"), Unavailable, "after {seconds} s");
        assert_eq!(fixture.at(seconds, "forged"), Missing, "after {seconds} s");
        assert_eq!(fixture.at(seconds, "a"), Known, "after {seconds} s");
    }
    assert_eq!(fixture.fetches(), 1);
}

#[test]
fn flood_of_forged_kids_delays_a_rotated_key_but_never_rejects_it() {
    let fixture = Fixture::new(set(&["a"]));
    assert_eq!(fixture.at(0, "a"), Known);
    assert_eq!(fixture.at(1, "forged 0"), Missing);
    fixture.respond(set(&["a", "rotated"]));
    let outcomes: Vec<Outcome> = (2..40)
        .map(|seconds| {
            assert_ne!(fixture.at(seconds, &format!("forged {seconds}")), Known);
            fixture.at(seconds, "rotated")
        })
        .collect();
    let unavailable = outcomes.iter().take_while(|outcome| **outcome == Unavailable).count();
    assert!(unavailable <= 29, "{outcomes:?}");
    assert!(outcomes[unavailable..].iter().all(|outcome| *outcome == Known), "{outcomes:?}");
}

#[test]
fn flood_of_unknown_kids_causes_two_fetches_a_minute() {
    let fixture = Fixture::new(set(&["a"]));
    for seconds in 0..600 {
        for number in 0..3 {
            assert_ne!(fixture.at(seconds, &format!("forged {seconds} {number}")), Known);
        }
    }
    assert_eq!(fixture.fetches(), 20);
}

#[test]
fn last_good_set_is_served_for_an_hour_while_fetches_fail() {
    let fixture = Fixture::new(set(&["a"]));
    assert_eq!(fixture.at(0, "a"), Known);
    fixture.respond(Err("down".to_owned()));
    for seconds in (300..=3600).step_by(60) {
        assert_eq!(fixture.at(seconds, "a"), Known, "after {seconds} s");
    }
    assert_eq!(fixture.at(3600, "b"), Unavailable, "it may be new");
    assert_eq!(fixture.at(3601, "a"), Unavailable);
    let status = fixture.cache.status(fixture.time(3600));
    assert_eq!(status.last_fetch_succeeded, Some(false));
    assert_eq!((status.keys, status.age), (1, Some(Duration::from_secs(3600))));
    fixture.respond(set(&["a"]));
    assert_eq!(fixture.at(3700, "a"), Known);
    assert_eq!(fixture.cache.status(fixture.start).last_fetch_succeeded, Some(true));
}

#[test]
fn failing_source_is_asked_with_exponential_pauses() {
    let fixture = Fixture::new(Err("down".to_owned()));
    let mut asked_at = Vec::new();
    for seconds in 0..120 {
        let before = fixture.fetches();
        assert_eq!(fixture.at(seconds, "a"), Unavailable);
        if fixture.fetches() > before {
            asked_at.push(seconds);
        }
    }
    assert_eq!(asked_at, [0, 1, 3, 7, 15, 31, 61, 91]);
}

#[test]
fn source_without_a_key_set_makes_every_kid_missing() {
    let fixture = Fixture::new(Ok(None));
    assert_eq!((fixture.at(0, "a"), fixture.at(1, "b"), fixture.fetches()), (Missing, Missing, 1));
    fixture.respond(set(&["a"]));
    assert_eq!(fixture.at(30, "a"), Known, "the table was created meanwhile");
}

#[test]
fn panic_in_the_source_is_a_failed_fetch() {
    let fixture = Fixture::with_source(|| panic!("a bug"));
    assert_eq!(fixture.at(0, "a"), Unavailable);
    assert_eq!(fixture.cache.status(fixture.start).last_fetch_succeeded, Some(false));
    assert_eq!((fixture.at(1, "a"), fixture.fetches()), (Unavailable, 2));
}

#[test]
fn fetch_when_it_differs_from_the_last_one_is_logged() {
    let cache = JwksCache::<()>::new(KeySource::new("the test", || Ok(None)));
    let mut state = cache.lock();
    let keys = |kids: &[&str]| KeySet::read(&set(kids).unwrap().unwrap());
    let with_rejected = || KeySet::read(&[set(&["a"]).unwrap().unwrap(), vec![json!({"kid": "old"})]].concat());
    let [one, two] = [1, 2].map(|count| (Level::Info, format!("{count} usable keys from x")));
    let failed = (Level::Warn, "cannot fetch the key set from x: down".to_owned());
    let rejected = "rejected from x: key \"old\": ";
    for (outcome, expected) in [
        (Err("down".to_owned()), vec![failed.clone()]),
        (Err("down".to_owned()), vec![]),
        (keys(&["a"]), vec![one.clone()]),
        (keys(&["b"]), vec![]),
        (keys(&["a", "b"]), vec![two]),
        (Err("down".to_owned()), vec![failed]),
        (keys(&["a"]), vec![one.clone()]),
        (with_rejected(), vec![one, (Level::Warn, rejected.to_owned())]),
        (with_rejected(), vec![]),
    ] {
        let changes = state.changes("x", &outcome);
        assert_eq!(changes.len(), expected.len(), "{changes:?}");
        for ((level, message), (expected_level, start)) in changes.iter().zip(&expected) {
            assert!(level == expected_level && message.starts_with(start), "{changes:?}");
        }
        state.record_fetch(Instant::now(), outcome);
    }
}

#[test]
fn source_when_fetched_directly_reports_rejected_keys() {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": PUBLIC_KEY, "use": "enc"});
    let source = KeySource::new("the test", move || Ok(Some(vec![jwk.clone()])));
    let keys = source.fetch().unwrap();
    assert_eq!((keys.count(), source.name()), (0, "the test"));
    assert_eq!(keys.rejected, ["key \"a\": its `use` is not `sig`"]);
}

#[test]
fn requests_are_parked_for_a_slow_source_except_those_whose_key_is_known() {
    let (source, fixture) = Fixture::with_slow_source();
    source.send(set(&["a"])).unwrap();
    assert_eq!(fixture.at(0, "a"), Known);
    for kid in ["b", "c", "b"] {
        assert_eq!(fixture.find(1, kid, false), None);
    }
    assert_eq!(fixture.cache.status(fixture.start).waiting, 3);
    assert_eq!(fixture.find(1, "a", false), Some(Known));
    assert_eq!(fixture.find(301, "a", false), Some(Known), "an old set is still served");
    source.send(set(&["a", "b"])).unwrap();
    assert_eq!(fixture.resumed(), ["b", "c", "b"]);
    assert_eq!(fixture.cache.status(fixture.start).waiting, 0);
    assert_eq!(fixture.find(2, "b", true), Some(Known));
    assert_eq!(fixture.fetches(), 2);
}

#[test]
fn request_beyond_the_maximum_is_not_parked() {
    let (source, fixture) = Fixture::with_slow_source();
    for _ in 0..MAX_WAITING {
        assert_eq!(fixture.find(0, "a", false), None);
    }
    assert_eq!(fixture.find(0, "a", false), Some(Unavailable));
    source.send(set(&["a"])).unwrap();
    assert_eq!(fixture.resumed().len(), MAX_WAITING);
    assert_eq!(fixture.find(0, "a", false), Some(Known));
}

#[test]
fn request_that_waits_too_long_expires_though_the_fetch_goes_on() {
    let (source, fixture) = Fixture::with_slow_source();
    assert_eq!(fixture.find(0, "early", false), None);
    assert_eq!(fixture.find(1, "late", false), None);
    assert!(fixture.cache.take_expired(fixture.time(5)).is_empty());
    assert_eq!(fixture.cache.take_expired(fixture.time(6)), ["early"]);
    assert!(fixture.cache.take_expired(fixture.time(6)).is_empty());
    source.send(set(&["early", "late"])).unwrap();
    assert_eq!(fixture.resumed(), ["late"]);
    assert_eq!(fixture.find(7, "early", false), Some(Known));
}

#[test]
fn request_that_waited_for_a_failed_fetch_starts_no_other() {
    let (source, fixture) = Fixture::with_slow_source();
    assert_eq!(fixture.find(0, "a", false), None);
    source.send(Err("timed out".to_owned())).unwrap();
    assert_eq!(fixture.resumed(), ["a"]);
    assert_eq!(fixture.find(5, "a", true), Some(Unavailable));
    assert!(fixture.cache.lock().fetching_since.is_none());
    assert_eq!(fixture.find(5, "a", false), None, "a new request tries again");
    source.send(set(&["a"])).unwrap();
    assert_eq!(fixture.resumed(), ["a"]);
    assert_eq!(fixture.fetches(), 2);
}

#[test]
fn request_that_has_waited_is_not_parked_again() {
    let (source, fixture) = Fixture::with_slow_source();
    assert_eq!(fixture.find(0, "a", true), Some(Unavailable));
    assert_eq!(fixture.cache.status(fixture.start).waiting, 0);
    source.send(set(&["a"])).unwrap();
    fixture.wait_for_fetch();
    assert_eq!(fixture.find(0, "a", true), Some(Known));
}

#[test]
fn key_made_during_a_fetch_is_fetched_anew_and_not_missing() {
    let (source, fixture) = Fixture::with_slow_source();
    for kid in ["first", "second", "third"] {
        assert_eq!(fixture.find(0, kid, false), None);
    }
    source.send(set(&["first"])).unwrap();
    assert_eq!(fixture.resumed(), ["first", "second", "third"]);
    assert_eq!(fixture.find(1, "first", true), Some(Known));
    assert_eq!(fixture.find(1, "second", true), Some(Unavailable), "it starts a fetch");
    assert_eq!(fixture.find(1, "second", true), Some(Unavailable), "that fetch has not ended");
    assert_eq!(fixture.find(1, "third", true), Some(Unavailable));
    source.send(set(&["first", "second", "third"])).unwrap();
    fixture.wait_for_fetch();
    assert_eq!((fixture.at(2, "second"), fixture.at(2, "third"), fixture.fetches()), (Known, Known, 2));
}

#[test]
fn forged_kid_that_joined_the_fetch_for_another_causes_no_second_fetch() {
    let (source, fixture) = Fixture::with_slow_source();
    assert_eq!(fixture.find(0, "forged", false), None);
    assert_eq!(fixture.find(0, "forged, too", false), None);
    source.send(set(&["first"])).unwrap();
    assert_eq!(fixture.resumed().len(), 2);
    assert_eq!(fixture.find(1, "forged", true), Some(Missing));
    assert_eq!(fixture.find(1, "forged, too", true), Some(Unavailable));
    assert_eq!(fixture.fetches(), 1);
}
