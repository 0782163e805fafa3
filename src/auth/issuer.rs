//! The issuer's keys in memory: when they are asked for again, and who waits for that.
//!
//! Nothing happens without a token that needs a key, so that an idle server leaves issuer and database asleep. One fetch runs
//! at a time, in a thread of its own. A request whose key is known never waits for it; others wait for one fetch at most, and
//! only so many of them that the other workers stay free.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::Refusal;
use super::keys::KeySet;
use super::source::{FETCH_TIMEOUT, KeySource};

/// The age from which a set is fetched anew while it still serves.
const REFRESH_AGE: Duration = Duration::from_secs(5 * 60);
/// The age up to which a set serves when no other is to be had.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
/// After asking in vain for one unknown `kid`, how long no other is asked for.
const UNKNOWN_KID_PAUSE: Duration = Duration::from_secs(30);
/// After a failure the next attempt waits one second; the pause doubles with each, up to this.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(30);

/// What is known of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// Where they come from.
    pub source: String,
    /// How many are in use.
    pub keys: usize,
    /// How long ago they were asked for with success; `None` before that.
    pub age: Option<Duration>,
    /// Why asking failed, if it did the last time.
    pub last_error: Option<String>,
}

pub(super) struct Issuer {
    source: KeySource,
    /// How many requests may wait at once.
    max_waiting: usize,
    state: Mutex<State>,
    /// A fetch has ended.
    fetched: Condvar,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// When the fetch that brought them began.
    keys_at: Option<Instant>,
    /// When the last fetch began.
    tried_at: Option<Instant>,
    /// How many have failed since one succeeded, and why.
    failures: u32,
    last_error: Option<String>,
    /// For which `kid` nobody knew the keys were last asked, and when.
    asked_for: Option<(String, Instant)>,
    is_fetching: bool,
    /// How many fetches have ended.
    fetches: u64,
    waiting: usize,
}

impl State {
    /// The keys, unless they are too old.
    fn keys(&self, now: Instant) -> Option<Arc<KeySet>> {
        self.keys.clone().filter(|_| self.age(now).is_some_and(|age| age <= MAX_AGE))
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.keys_at?))
    }

    /// Whether the last failure is long enough ago.
    fn may_retry(&self, now: Instant) -> bool {
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => Duration::from_secs(1 << (failures - 1).min(10)).min(MAX_RETRY_PAUSE),
        };
        self.tried_at.is_none_or(|tried_at| now.saturating_duration_since(tried_at) >= pause)
    }

    /// Whether these keys may be asked for again because they lack a `kid`. What brought the one that was asked for last does
    /// not count: only an issuer can cause that.
    fn may_ask_again(&self, keys: &KeySet, now: Instant) -> bool {
        self.asked_for.as_ref().is_none_or(|(kid, asked_at)| {
            keys.knows(kid) || now.saturating_duration_since(*asked_at) >= UNKNOWN_KID_PAUSE
        })
    }

    /// Whether this `kid` may be among the keys by now, though a fetch that has ended did not bring it: that one had begun
    /// before the token came. Where several servers sign, each makes a key when the last one expires, all at the same time.
    fn is_worth_asking_again(&self, kid: &str, now: Instant) -> bool {
        let keys = self.keys(now).filter(|_| self.failures == 0);
        keys.is_some_and(|keys| !keys.knows(kid) && (self.is_fetching || self.may_ask_again(&keys, now)))
    }

    fn end_fetch(&mut self, begun: Instant, answer: Result<KeySet, String>) {
        self.is_fetching = false;
        self.fetches += 1;
        match answer {
            Ok(keys) => {
                self.keys = Some(Arc::new(keys));
                self.keys_at = Some(begun);
                self.failures = 0;
                self.last_error = None;
            }
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                self.last_error = Some(why);
            }
        }
    }
}

impl Issuer {
    pub(super) fn new(source: KeySource, max_waiting: usize) -> Self {
        Self { source, max_waiting, state: Mutex::default(), fetched: Condvar::new() }
    }

    /// The key set in which to look for this `kid`.
    ///
    /// # Errors
    /// [`Refusal::NotNow`] when it cannot be said whether the issuer has such a key.
    pub(super) fn keys_for(self: &Arc<Self>, kid: &str, now: Instant) -> Result<Arc<KeySet>, Refusal> {
        let mut state = self.lock();
        let keys = state.keys(now);
        if let Some(keys) = keys.as_ref().filter(|keys| keys.knows(kid)) {
            let is_due = state.age(now).is_some_and(|age| age >= REFRESH_AGE);
            if is_due && !state.is_fetching && state.may_retry(now) {
                self.start_fetch(&mut state, now);
            }
            return Ok(Arc::clone(keys));
        }
        let may_ask = keys.map_or_else(|| state.may_retry(now), |keys| state.may_ask_again(&keys, now));
        let joins = state.is_fetching;
        if may_ask && !joins {
            self.ask_for(kid, &mut state, now);
        }
        if state.is_fetching {
            state = self.wait(state).ok_or(Refusal::NotNow)?;
        }
        if joins && state.is_worth_asking_again(kid, now) {
            if !state.is_fetching {
                self.ask_for(kid, &mut state, now);
            }
            return Err(Refusal::NotNow);
        }
        let is_certain = |keys: &Arc<KeySet>| keys.knows(kid) || state.failures == 0;
        state.keys(now).filter(is_certain).ok_or(Refusal::NotNow)
    }

    /// What is known just now.
    pub(super) fn status(&self, now: Instant) -> KeyStatus {
        let state = self.lock();
        KeyStatus {
            source: self.source.name.clone(),
            keys: state.keys.as_ref().map_or(0, |keys| keys.len()),
            age: state.age(now),
            last_error: state.last_error.clone(),
        }
    }

    /// Asks for the keys now, and waits for the answer as long as a request would.
    pub(super) fn refresh(self: &Arc<Self>, now: Instant) {
        let mut state = self.lock();
        if !state.is_fetching {
            self.start_fetch(&mut state, now);
        }
        if state.is_fetching {
            drop(self.wait(state));
        }
    }

    /// How many requests wait for a fetch.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Waits until the running fetch has ended. `None` when too many wait already, or it takes too long.
    fn wait<'s>(&'s self, mut state: MutexGuard<'s, State>) -> Option<MutexGuard<'s, State>> {
        if state.waiting >= self.max_waiting {
            return None;
        }
        state.waiting += 1;
        let before = state.fetches;
        let (mut state, timeout) = self
            .fetched
            .wait_timeout_while(state, FETCH_TIMEOUT, |state| state.fetches == before)
            .expect("nothing panics while it holds this lock");
        state.waiting -= 1;
        (!timeout.timed_out()).then_some(state)
    }

    /// Starts a fetch because of this `kid`.
    fn ask_for(self: &Arc<Self>, kid: &str, state: &mut State, now: Instant) {
        state.asked_for = Some((kid.to_owned(), now));
        self.start_fetch(state, now);
    }

    fn start_fetch(self: &Arc<Self>, state: &mut State, now: Instant) {
        state.tried_at = Some(now);
        state.is_fetching = true;
        let issuer = Arc::clone(self);
        let started = thread::Builder::new().name("key set".to_owned()).spawn(move || issuer.fetch(now));
        if let Err(error) = started {
            state.end_fetch(now, Err(format!("no thread to ask it: {error}")));
        }
    }

    /// Asks the source. A panic in it is a failure like others, or nobody would ever ask again.
    fn fetch(&self, begun: Instant) {
        let answer = catch_unwind(AssertUnwindSafe(|| (self.source.ask)()))
            .unwrap_or_else(|_| Err("asking ended by a panic".to_owned()))
            .and_then(|jwks| jwks.map_or_else(|| Ok(KeySet::absent()), |jwks| KeySet::read(&jwks)));
        let mut state = self.lock();
        self.log_change(&state, &answer);
        state.end_fetch(begun, answer);
        drop(state);
        self.fetched.notify_all();
    }

    /// Says what is new to an operator.
    fn log_change(&self, state: &State, answer: &Result<KeySet, String>) {
        let source = &self.source.name;
        match answer {
            Err(why) if state.failures == 0 => warn!("no keys from {source}: {why}"),
            Err(_) => {}
            Ok(keys) => {
                let before = state.keys.as_ref().filter(|_| state.failures == 0);
                if before.is_none_or(|before| before.len() != keys.len()) {
                    info!("{} keys from {source}", keys.len());
                }
                if before.is_none_or(|before| before.unused != keys.unused) {
                    keys.unused.iter().for_each(|unused| warn!("not used, from {source}: {unused}"));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}
