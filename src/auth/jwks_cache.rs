//! An in-memory cache of the issuer's key set: when it is fetched, and which requests wait for the fetch.
//!
//! A fetch starts only when a token needs it, so that an idle server wakes neither issuer nor database. One thread
//! makes all fetches ([`JwksCache::fetch_when_needed`]). A request whose key is known never waits. Others are parked
//! here as data (`W`), hold no thread, and are handed back when the fetch has ended. `specs/api/auth.md` has the rules.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use log::{Level, log};

use super::error::AuthError;
use super::jwks::KeySet;
use super::jwks_source::KeySource;

/// The age at which a set is refreshed in the background.
const REFRESH_AGE: Duration = Duration::from_secs(5 * 60);
/// The age up to which a set is used when it cannot be refreshed.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// After a fetch for an unknown `kid` that did not bring it, no other unknown `kid` causes a fetch for this long.
const UNKNOWN_KID_PAUSE: Duration = Duration::from_secs(30);
/// The pause after failed fetches starts at one second and doubles up to this.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(30);
/// How many requests may wait for a fetch.
const MAX_WAITING: usize = 256;
/// How long a request may wait for a fetch: a little longer than a fetch over HTTP may take.
const MAX_WAIT: Duration = Duration::from_secs(6);

/// The state of the cache, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksStatus {
    /// How many keys are usable.
    pub keys: usize,
    /// Time since the fetch that brought the set began; `None` if no fetch has succeeded.
    pub age: Option<Duration>,
    /// Whether the last fetch succeeded; `None` before the first.
    pub last_fetch_succeeded: Option<bool>,
    /// How many requests are parked.
    pub waiting: usize,
}

/// Caches the key set of one [`KeySource`] for requests `W`.
pub struct JwksCache<W> {
    source: KeySource,
    state: Mutex<State<W>>,
    fetch_needed: Condvar,
}

struct State<W> {
    /// With the time at which the fetch that brought it began.
    keys: Option<(Arc<KeySet>, Instant)>,
    /// When the fetch that is running was requested.
    fetching_since: Option<Instant>,
    /// The unknown `kid` that caused the last fetch; `None` if that was a refresh.
    fetched_for: Option<String>,
    /// Failed fetches since the last success.
    failures: u32,
    /// No fetch begins before.
    paused_until: Option<Instant>,
    /// Parked requests with their `kid`s, each with the time at which it was parked. Empty unless a fetch is running.
    waiting: Vec<(String, W, Instant)>,
}

impl<W> State<W> {
    /// The set, unless it is too old.
    fn keys(&self, now: Instant) -> Option<Arc<KeySet>> {
        let (keys, _) = self.keys.as_ref().filter(|_| self.age(now) <= Some(MAX_AGE))?;
        Some(Arc::clone(keys))
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        self.keys.as_ref().map(|(_, begun)| now.saturating_duration_since(*begun))
    }

    /// Whether no fetch is running and no pause either.
    fn may_fetch(&self, now: Instant) -> bool {
        self.fetching_since.is_none() && self.paused_until.is_none_or(|paused_until| now >= paused_until)
    }

    /// Whether it is certain that the issuer does not have this `kid`: the last fetch has ended, succeeded, and was for
    /// it.
    fn is_known_missing(&self, kid: &str, keys: &KeySet) -> bool {
        let has_succeeded = self.fetching_since.is_none() && self.failures == 0;
        has_succeeded && (keys.is_absent || self.fetched_for.as_deref() == Some(kid))
    }

    /// What differs from the last fetch, for the log.
    fn changes(&self, source: &str, outcome: &Result<KeySet, String>) -> Vec<(Level, String)> {
        let has_failed = self.failures > 0;
        let before = self.keys.as_ref().map(|(keys, _)| keys).filter(|_| !has_failed);
        let is_new = |keys: &KeySet| {
            before.is_none_or(|before| (before.count(), &before.rejected) != (keys.count(), &keys.rejected))
        };
        match outcome {
            Err(why) if !has_failed => vec![(Level::Warn, format!("cannot fetch the key set from {source}: {why}"))],
            Ok(keys) if is_new(keys) => {
                let usable = (Level::Info, format!("{} usable keys from {source}", keys.count()));
                let rejected = keys.rejected.iter().map(|key| (Level::Warn, format!("rejected from {source}: {key}")));
                std::iter::once(usable).chain(rejected).collect()
            }
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// A fetch that failed, or did not bring the `kid` that caused it, is followed by a pause.
    fn record_fetch(&mut self, begun: Instant, outcome: Result<KeySet, String>) {
        self.fetching_since = None;
        let pause = match outcome {
            Ok(keys) => {
                let was_in_vain = self.fetched_for.as_ref().is_some_and(|kid| !keys.contains(kid));
                self.keys = Some((Arc::new(keys), begun));
                self.failures = 0;
                if was_in_vain { UNKNOWN_KID_PAUSE } else { Duration::ZERO }
            }
            Err(_) => {
                let pause = Duration::from_secs(1 << self.failures.min(5)).min(MAX_RETRY_PAUSE);
                self.failures += 1;
                pause
            }
        };
        self.paused_until = Some(begun + pause);
    }
}

impl<W> JwksCache<W> {
    /// An empty cache.
    pub fn new(source: KeySource) -> Self {
        let state = State {
            keys: None,
            fetching_since: None,
            fetched_for: None,
            failures: 0,
            paused_until: None,
            waiting: Vec::new(),
        };
        Self { source, state: Mutex::new(state), fetch_needed: Condvar::new() }
    }

    /// Finds the key set for a request whose token names this `kid`. Never blocks.
    ///
    /// Returns the request, and the set to verify its token with. If that lacks the `kid`, the response is a 401. The
    /// error is [`AuthError::KeysUnavailable`]: it is not known now whether the key exists. `None` if the request is
    /// parked: it comes back from [`JwksCache::fetch_when_needed`] or [`JwksCache::take_expired`]. A request that
    /// `has_waited` is not parked again.
    pub fn find(
        &self,
        kid: String,
        waiter: W,
        has_waited: bool,
        now: Instant,
    ) -> Option<(W, Result<Arc<KeySet>, AuthError>)> {
        let mut state = self.lock();
        let keys = state.keys(now);
        if let Some(keys) = keys.as_ref().filter(|keys| keys.contains(&kid)) {
            if state.age(now) >= Some(REFRESH_AGE) && state.may_fetch(now) {
                self.start_fetch(&mut state, None, now);
            }
            return Some((waiter, Ok(Arc::clone(keys))));
        }
        // A request that has waited may cause one more fetch, unless the last one failed: its key may have been made
        // during that.
        let may_retry = !has_waited || state.failures == 0;
        if may_retry && state.may_fetch(now) {
            self.start_fetch(&mut state, Some(&kid), now);
        } else if let Some(keys) = keys.filter(|keys| state.is_known_missing(&kid, keys)) {
            return Some((waiter, Ok(keys)));
        }
        if has_waited || state.fetching_since.is_none() || state.waiting.len() >= MAX_WAITING {
            return Some((waiter, Err(AuthError::KeysUnavailable)));
        }
        state.waiting.push((kid, waiter, now));
        None
    }

    /// Removes the requests that have waited for too long. Each must be answered 503.
    pub fn take_expired(&self, now: Instant) -> Vec<W> {
        let is_expired = |(_, _, since): &mut (String, W, Instant)| now.saturating_duration_since(*since) >= MAX_WAIT;
        self.lock().waiting.extract_if(.., is_expired).map(|(_, waiter, _)| waiter).collect()
    }

    /// The current state. Starts no fetch.
    pub fn status(&self, now: Instant) -> JwksStatus {
        let state = self.lock();
        JwksStatus {
            keys: state.keys.as_ref().map_or(0, |(keys, _)| keys.count()),
            age: state.age(now),
            last_fetch_succeeded: if state.failures > 0 { Some(false) } else { state.keys.as_ref().map(|_| true) },
            waiting: state.waiting.len(),
        }
    }

    /// Starts a fetch, for an unknown `kid` or as a refresh. None may be running.
    fn start_fetch(&self, state: &mut State<W>, kid: Option<&str>, now: Instant) {
        state.fetching_since = Some(now);
        state.fetched_for = kid.map(str::to_owned);
        self.fetch_needed.notify_one();
    }

    /// Waits until a fetch is needed, makes it, and returns the parked requests with their `kid`s. For one thread only,
    /// again and again.
    pub fn fetch_when_needed(&self) -> Vec<(String, W)> {
        let mut state = self.lock();
        let begun = loop {
            match state.fetching_since {
                Some(begun) => break begun,
                None => state = self.fetch_needed.wait(state).expect(LOCKED),
            }
        };
        drop(state);
        let outcome = self.source.fetch();
        let mut state = self.lock();
        for (level, message) in state.changes(self.source.name(), &outcome) {
            log!(level, "{message}");
        }
        state.record_fetch(begun, outcome);
        mem::take(&mut state.waiting).into_iter().map(|(kid, waiter, _)| (kid, waiter)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().expect(LOCKED)
    }
}

const LOCKED: &str = "nothing panics while it holds this lock";

#[cfg(test)]
#[path = "jwks_cache_tests.rs"]
mod tests;
