//! The state of the database as its connections see it: whether it answers, and whether a pooler is in between. Each
//! change of state is logged once, however many requests notice it.

use std::fmt::Display;
use std::mem::replace;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use log::{Level, debug, info, log, warn};

/// How long attempts to connect may fail before requests no longer wait for a connection. A database that wakes or
/// restarts is often back by then.
pub const DOWN_AFTER: Duration = Duration::from_secs(2);
/// The shortest time between the beginnings of two attempts to connect while the database does not answer.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(250);
/// The shortest time between two log lines on cancelled statements.
const CANCELLED_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The state of the database, shared by all its connections.
#[derive(Default)]
pub struct Availability(Mutex<State>);

#[derive(Default)]
struct State {
    last_response_at: Option<Instant>,
    /// When a connection was last found dead. Others that have not answered since are probably dead, too.
    lost_at: Option<Instant>,
    /// When the first failed attempt to connect since the last response began.
    unreachable_since: Option<Instant>,
    /// When the next attempt to connect may begin while the database is unreachable.
    next_attempt_at: Option<Instant>,
    cancelled_logged_at: Option<Instant>,
    /// The log says that the database does not answer, or (`true`) that it refuses connections.
    down_logged: Option<bool>,
    /// The log says that the database refuses further connections.
    is_limit_logged: bool,
    /// The last connection leads to a pooler, which gives each transaction any free backend.
    is_pooled: bool,
    /// How often the table was altered under prepared statements.
    schema_generation: u64,
}

impl State {
    fn record_response(&mut self) {
        let is_first = self.last_response_at.replace(Instant::now()).is_none();
        self.unreachable_since = None;
        let was_down = self.down_logged.take().is_some();
        if is_first {
            info!("connected to the database");
        } else if was_down {
            info!("the database answers again");
        }
    }

    fn log_down(&mut self, is_refusal: bool, problem: &str, why: &dyn Display) {
        let is_new = self.down_logged.replace(is_refusal) != Some(is_refusal);
        log!(if is_new { Level::Warn } else { Level::Debug }, "{problem}: {why}");
    }
}

impl Availability {
    /// The database answered.
    pub fn record_response(&self) {
        self.lock().record_response();
    }

    /// Whether an attempt to connect may begin now; it ends before `deadline`. There may be several at once as long as
    /// the database answers, else one, and a pause between two.
    pub fn begin_attempt(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        let may_begin = state.unreachable_since.is_none() || state.next_attempt_at <= Some(Instant::now());
        if may_begin {
            state.next_attempt_at = Some(deadline);
        }
        may_begin
    }

    /// A connection was opened, to a pooler or to the database itself.
    pub fn connected(&self, is_pooled: bool) {
        let mut state = self.lock();
        (state.is_pooled, state.is_limit_logged) = (is_pooled, false);
        state.record_response();
    }

    /// An attempt to connect that began at `began_at` failed. `is_refusal`: the server answered, and refused.
    pub fn connect_failed(&self, began_at: Instant, why: &dyn Display, is_refusal: bool) {
        let mut state = self.lock();
        state.next_attempt_at = Some(began_at + ATTEMPT_INTERVAL);
        // A refusal says nothing about the open connections.
        if state.last_response_at.is_some_and(|at| at > began_at || is_refusal && at.elapsed() < DOWN_AFTER) {
            if is_refusal && !replace(&mut state.is_limit_logged, true) {
                warn!("the database answers, but refuses another connection: {why}");
            }
            return;
        }
        state.unreachable_since.get_or_insert(began_at);
        let problem = if is_refusal { "the database refused the connection" } else { "the database is unreachable" };
        state.log_down(is_refusal, problem, why);
    }

    /// A connection that last answered at `last_response_at` has ended, or does not answer. `was_in_use`: a statement
    /// was sent on it.
    pub fn connection_lost(&self, last_response_at: Instant, was_in_use: bool, why: &dyn Display) {
        let mut state = self.lock();
        if state.lost_at.is_some_and(|lost_at| last_response_at <= lost_at) {
            return; // another connection has reported this
        }
        state.lost_at = Some(Instant::now());
        if was_in_use {
            state.log_down(false, "the database does not answer", why);
        } else {
            debug!("an idle connection had ended: {why}");
        }
    }

    /// PostgreSQL answered that it cannot run a statement now: it took too long, or the server is read-only.
    pub fn statement_cancelled(&self, why: &dyn Display) {
        let mut state = self.lock();
        let is_due = state.cancelled_logged_at.is_none_or(|at| at.elapsed() >= CANCELLED_LOG_INTERVAL);
        if is_due {
            state.cancelled_logged_at = Some(Instant::now());
        }
        log!(if is_due { Level::Warn } else { Level::Debug }, "PostgreSQL is cancelling statements: {why}");
    }

    /// Whether there is a pooler in between, as far as is known.
    pub fn is_pooled(&self) -> bool {
        self.lock().is_pooled
    }

    /// How often the table was altered. What was prepared in an earlier generation no longer holds on any connection.
    pub fn schema_generation(&self) -> u64 {
        self.lock().schema_generation
    }

    /// A statement that was prepared in this generation no longer holds. Several may notice the same alteration.
    pub fn schema_changed(&self, before: u64) {
        let mut state = self.lock();
        state.schema_generation = state.schema_generation.max(before + 1);
    }

    /// Whether to use a connection that last answered at this time.
    pub fn trusts(&self, last_response_at: Instant) -> bool {
        self.lock().lost_at.is_none_or(|lost_at| last_response_at > lost_at)
    }

    /// Whether the database answered when it was last used; `None` before the first attempt.
    pub fn is_up(&self) -> Option<bool> {
        let state = self.lock();
        if state.down_logged.is_some() { Some(false) } else { state.last_response_at.map(|_| true) }
    }

    /// Whether attempts to connect have failed for so long that requests must not wait for one.
    pub fn is_down(&self) -> bool {
        self.lock().unreachable_since.is_some_and(|since| since.elapsed() >= DOWN_AFTER)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_when_another_was_lost_since_it_answered_is_not_trusted() {
        let (availability, before) = (Availability::default(), Instant::now());
        assert!(availability.trusts(before));
        availability.connection_lost(before, true, &"ended");
        assert!(!availability.trusts(before));
        assert!(availability.trusts(Instant::now()));
    }

    #[test]
    fn schema_change_when_noticed_several_times_counts_once() {
        let availability = Availability::default();
        for expected in 1..3 {
            let before = availability.schema_generation();
            (0..3).for_each(|_| availability.schema_changed(before));
            assert_eq!(availability.schema_generation(), expected);
        }
    }

    #[test]
    fn database_when_no_attempt_succeeds_for_long_is_down() {
        let availability = Availability::default();
        let long_ago = Instant::now().checked_sub(DOWN_AFTER).expect("the clock is older than that");
        availability.connection_lost(long_ago, true, &"ended");
        let is_unreachable = || availability.lock().unreachable_since.is_some();
        assert!(!is_unreachable() && !availability.is_down());
        availability.connect_failed(Instant::now(), &"refused", false);
        assert!(is_unreachable() && !availability.is_down());
        availability.record_response();
        assert!(!is_unreachable());
        availability.connect_failed(long_ago, &"too many clients, while others are answered", true);
        assert!(!is_unreachable());
        let availability = Availability::default();
        availability.connect_failed(long_ago, &"no response", false);
        assert!(availability.is_down());
    }

    #[test]
    fn attempt_when_the_database_is_unreachable_waits_for_the_one_before() {
        let (availability, now) = (Availability::default(), Instant::now());
        let deadline = now + DOWN_AFTER;
        assert!(availability.begin_attempt(deadline) && availability.begin_attempt(deadline), "several at once");
        availability.connect_failed(now, &"no response", false);
        assert!(!availability.begin_attempt(deadline), "a pause");
        availability.connect_failed(now.checked_sub(ATTEMPT_INTERVAL).unwrap(), &"no response", false);
        assert!(availability.begin_attempt(deadline));
        assert!(!availability.begin_attempt(deadline), "one at once");
        availability.record_response();
        assert!(availability.begin_attempt(deadline));
    }
}
