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

use super::jwks::KeySet;
use super::jwks_source::{FETCH_TIMEOUT, KeySource};
use super::{Patience, Refusal};

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
    /// With when the fetch that brought them began.
    keys: Option<(Arc<KeySet>, Instant)>,
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
        let (keys, _) = self.keys.as_ref().filter(|_| self.age(now) <= Some(MAX_AGE))?;
        Some(Arc::clone(keys))
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        self.keys.as_ref().map(|(_, begun)| now.saturating_duration_since(*begun))
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
                self.keys = Some((Arc::new(keys), begun));
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
    /// [`Refusal::NotNow`] when it cannot be said whether the issuer has such a key, or not without patience.
    pub(super) fn keys_for(
        self: &Arc<Self>,
        kid: &str,
        now: Instant,
        patience: Patience,
    ) -> Result<Arc<KeySet>, Refusal> {
        let mut state = self.lock();
        let keys = state.keys(now);
        if let Some(keys) = keys.as_ref().filter(|keys| keys.knows(kid)) {
            if state.age(now) >= Some(REFRESH_AGE) && !state.is_fetching && state.may_retry(now) {
                self.start_fetch(&mut state, now);
            }
            return Ok(Arc::clone(keys));
        }
        if patience == Patience::None {
            return Err(Refusal::NotNow);
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
            keys: state.keys.as_ref().map_or(0, |(keys, _)| keys.len()),
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
                let before = state.keys.as_ref().map(|(keys, _)| keys).filter(|_| state.failures == 0);
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::signer::Signer;
    use super::*;

    type Answer = Result<Option<Vec<serde_json::Value>>, String>;

    /// An issuer whose source gives the last of these answers, and says how often it was asked.
    struct Fixture {
        issuer: Arc<Issuer>,
        answer: Arc<Mutex<Answer>>,
        start: Instant,
    }

    fn set(kids: &[&str]) -> Answer {
        Ok(Some(kids.iter().map(|kid| Signer::new(kid, "EdDSA").jwk()).collect()))
    }

    impl Fixture {
        fn new(answer: Answer) -> Self {
            let answer = Arc::new(Mutex::new(answer));
            let given = Arc::clone(&answer);
            let source = KeySource::new("the test", move || given.lock().unwrap().clone());
            Self { issuer: Arc::new(Issuer::new(source, 4)), answer, start: Instant::now() }
        }

        fn answer(&self, answer: Answer) {
            *self.answer.lock().unwrap() = answer;
        }

        /// Asks for a key so many seconds after the start, and lets what that starts end: whether it is there.
        fn at(&self, seconds: u64, kid: &str) -> Result<bool, Refusal> {
            let keys = self.issuer.keys_for(kid, self.start + Duration::from_secs(seconds), Patience::Some);
            let state = self.issuer.lock();
            drop(self.issuer.fetched.wait_while(state, |state| state.is_fetching).unwrap());
            keys.map(|keys| keys.knows(kid))
        }

        fn fetches(&self) -> u64 {
            self.issuer.lock().fetches
        }
    }

    #[test]
    fn nobody_is_asked_before_a_token_needs_it() {
        let fixture = Fixture::new(set(&["a"]));
        assert_eq!(fixture.issuer.status(fixture.start).age, None);
        assert_eq!(fixture.fetches(), 0);
        assert_eq!(fixture.at(0, "a"), Ok(true));
        assert_eq!((fixture.at(299, "a"), fixture.fetches()), (Ok(true), 1));
    }

    #[test]
    fn an_old_set_serves_while_it_is_fetched_anew() {
        let fixture = Fixture::new(set(&["a"]));
        assert_eq!(fixture.at(0, "a"), Ok(true));
        fixture.answer(set(&["b"]));
        assert_eq!((fixture.at(300, "a"), fixture.fetches()), (Ok(true), 2));
        assert_eq!((fixture.at(301, "b"), fixture.fetches()), (Ok(true), 2));
        assert_eq!((fixture.at(301, "a"), fixture.fetches()), (Ok(false), 3), "taken back");
    }

    #[test]
    fn a_set_is_fetched_for_an_unknown_key_and_then_not_for_half_a_minute() {
        let fixture = Fixture::new(set(&["a"]));
        assert_eq!(fixture.at(0, "a"), Ok(true));
        fixture.answer(set(&["a", "b"]));
        assert_eq!((fixture.at(1, "b"), fixture.fetches()), (Ok(true), 2));
        fixture.answer(set(&["a", "b", "c"]));
        assert_eq!((fixture.at(2, "c"), fixture.fetches()), (Ok(true), 3), "the last was no stranger's");
        assert_eq!((fixture.at(3, "forged"), fixture.fetches()), (Ok(false), 4));
        assert_eq!((fixture.at(32, "d"), fixture.fetches()), (Ok(false), 4));
        fixture.answer(set(&["d"]));
        assert_eq!((fixture.at(33, "d"), fixture.fetches()), (Ok(true), 5));
    }

    #[test]
    fn a_flood_of_unknown_keys_causes_two_fetches_a_minute() {
        let fixture = Fixture::new(set(&["a"]));
        for seconds in 0..600 {
            for number in 0..3 {
                assert_eq!(fixture.at(seconds, &format!("forged {seconds} {number}")), Ok(false));
            }
        }
        assert_eq!(fixture.fetches(), 20);
    }

    #[test]
    fn the_last_good_set_serves_for_an_hour() {
        let fixture = Fixture::new(set(&["a"]));
        assert_eq!(fixture.at(0, "a"), Ok(true));
        fixture.answer(Err("away".to_owned()));
        for seconds in (300..=3600).step_by(60) {
            assert_eq!(fixture.at(seconds, "a"), Ok(true), "after {seconds} s");
        }
        assert_eq!(fixture.at(3600, "b"), Err(Refusal::NotNow), "it may be a new one");
        assert_eq!(fixture.at(3601, "a"), Err(Refusal::NotNow));
        let status = fixture.issuer.status(fixture.start + Duration::from_secs(3600));
        assert_eq!(status.last_error.as_deref(), Some("away"));
        assert_eq!((status.keys, status.age), (1, Some(Duration::from_secs(3600))));
        fixture.answer(set(&["a"]));
        assert_eq!(fixture.at(3700, "a"), Ok(true));
        assert_eq!(fixture.issuer.status(fixture.start).last_error, None);
    }

    #[test]
    fn a_source_that_is_away_is_asked_ever_less_often() {
        let fixture = Fixture::new(Err("away".to_owned()));
        let mut asked_at = Vec::new();
        for seconds in 0..120 {
            let before = fixture.fetches();
            assert_eq!(fixture.at(seconds, "a"), Err(Refusal::NotNow));
            if fixture.fetches() > before {
                asked_at.push(seconds);
            }
        }
        assert_eq!(asked_at, [0, 1, 3, 7, 15, 31, 61, 91]);
    }

    #[test]
    fn where_there_is_no_set_that_is_certain() {
        let fixture = Fixture::new(Ok(None));
        let keys = fixture.issuer.keys_for("a", fixture.start, Patience::Some).unwrap();
        assert!(keys.is_absent && !keys.knows("a"));
        fixture.answer(set(&["a"]));
        assert_eq!(fixture.at(30, "a"), Ok(true), "the table was made meanwhile");
    }

    #[test]
    fn a_panic_is_a_failure_like_others() {
        let issuer = Arc::new(Issuer::new(KeySource::new("the test", || panic!("a defect")), 1));
        assert!(matches!(issuer.keys_for("a", Instant::now(), Patience::Some), Err(Refusal::NotNow)));
        assert!(issuer.status(Instant::now()).last_error.is_some());
        issuer.refresh(Instant::now());
        assert_eq!(issuer.lock().fetches, 2);
    }

    /// A source that answers when it is told to.
    fn slow() -> (Sender<Answer>, Arc<Issuer>) {
        let (tell, told): (Sender<Answer>, Receiver<Answer>) = channel();
        let told = Mutex::new(told);
        let source = KeySource::new("the test", move || told.lock().unwrap().recv().unwrap());
        (tell, Arc::new(Issuer::new(source, 2)))
    }

    #[test]
    fn a_slow_source_holds_a_few_requests_and_none_whose_key_is_known() {
        let (tell, issuer) = slow();
        tell.send(set(&["a"])).unwrap();
        let now = Instant::now();
        assert!(issuer.keys_for("a", now, Patience::Some).is_ok());
        thread::scope(|scope| {
            let waiting = [(); 2].map(|()| {
                scope.spawn(|| issuer.keys_for("b", now, Patience::Some).map(|keys| keys.knows("b")))
            });
            while issuer.lock().waiting < 2 {
                thread::yield_now();
            }
            for kid in ["b", "c"] {
                assert!(
                    matches!(issuer.keys_for(kid, now, Patience::Some), Err(Refusal::NotNow)),
                    "no room to wait for {kid}"
                );
            }
            assert!(issuer.keys_for("a", now, Patience::Some).is_ok());
            let later = now + MAX_AGE;
            assert!(issuer.keys_for("a", later, Patience::Some).is_ok(), "an old set still serves");
            tell.send(set(&["a", "b"])).unwrap();
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), Ok(true));
            }
        });
        let state = issuer.lock();
        assert_eq!((state.fetches, state.waiting), (2, 0));
    }
}
