//! What is known of the database, by all its connections together. Says each change of it once, however many requests
//! learn of it.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use log::{debug, info, warn};

/// How long the database may be unreachable before requests no longer wait for it. One that wakes or restarts is often back
/// by then.
pub const AWAY_AFTER: Duration = Duration::from_secs(2);

/// How long the log is spared another line on statements that the database gives up.
const SAME_NEWS_AFTER: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default)]
pub struct Health {
    known: Mutex<Known>,
    /// The last connection leads to a pooler, which lends each transaction whatever backend is free.
    is_pooled: AtomicBool,
    /// How often the table was altered under prepared statements.
    alterations: AtomicU64,
}

#[derive(Default)]
struct Known {
    /// When it last answered anything.
    heard_at: Option<Instant>,
    /// When a connection was last found dead. Others that nobody has heard from since are likely to be dead as well.
    lost_at: Option<Instant>,
    /// When the first of the attempts to connect began that have failed since it last answered.
    unreachable_since: Option<Instant>,
    /// When the log last said that it gives statements up.
    gave_up_at: Option<Instant>,
    /// The log says that it does not answer.
    is_failing: bool,
    /// The log says that it lets no more connections in.
    is_crowded: bool,
}

impl Health {
    /// It answered.
    pub fn heard(&self) {
        let mut known = self.lock();
        let is_first = known.heard_at.replace(Instant::now()).is_none();
        known.unreachable_since = None;
        let was_failing = std::mem::take(&mut known.is_failing);
        drop(known);
        if is_first {
            info!("connected to the database");
        } else if was_failing {
            info!("the database answers again");
        }
    }

    /// Whether there is a pooler in between, as far as is known.
    pub fn is_pooled(&self) -> bool {
        self.is_pooled.load(Ordering::Relaxed)
    }

    /// How often the table was altered, so that what was prepared before no longer holds on any connection.
    pub fn alterations(&self) -> u64 {
        self.alterations.load(Ordering::Relaxed)
    }

    /// A statement no longer holds that was prepared when it had been altered so often. Several may notice the same.
    pub fn altered(&self, before: u64) {
        let _ = self.alterations.compare_exchange(before, before + 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A new connection was made, to a pooler or to the database itself.
    pub fn connected(&self, is_pooled: bool) {
        self.is_pooled.store(is_pooled, Ordering::Relaxed);
        self.lock().is_crowded = false;
        self.heard();
    }

    /// An attempt to connect failed that began then. `is_refusal` where the server said no.
    pub fn not_connected(&self, began: Instant, why: &dyn Display, is_refusal: bool) {
        let mut known = self.lock();
        if known.heard_at.is_some_and(|heard_at| heard_at > began) {
            let is_news = is_refusal && !std::mem::replace(&mut known.is_crowded, true);
            drop(known);
            if is_news {
                warn!("the database answers, but lets no more connections in: {why}");
            }
            return;
        }
        known.unreachable_since.get_or_insert(began);
        Self::failing(known, why);
    }

    /// A connection that last answered then broke, or fell silent: `in_use`, or so that nobody noticed.
    pub fn lost(&self, heard_at: Instant, in_use: bool, why: &dyn Display) {
        let mut known = self.lock();
        if !known.trusts(heard_at) {
            return; // no news
        }
        known.lost_at = Some(Instant::now());
        if in_use {
            Self::failing(known, why);
        } else {
            drop(known);
            debug!("an unused connection had ended: {why}");
        }
    }

    /// The server answered that it cannot do a statement just now: it took too long, or no writes are taken.
    pub fn gave_up(&self, why: &dyn Display) {
        let mut known = self.lock();
        let is_news = known.gave_up_at.is_none_or(|last| last.elapsed() >= SAME_NEWS_AFTER);
        if is_news {
            known.gave_up_at = Some(Instant::now());
        }
        drop(known);
        if is_news {
            warn!("the database gives statements up: {why}");
        } else {
            debug!("the database gave a statement up: {why}");
        }
    }

    fn failing(mut known: MutexGuard<'_, Known>, why: &dyn Display) {
        let is_news = !std::mem::replace(&mut known.is_failing, true);
        drop(known);
        if is_news {
            warn!("the database does not answer: {why}");
        } else {
            debug!("the database still does not answer: {why}");
        }
    }

    /// Whether to use a connection that last answered then.
    pub fn trusts(&self, heard_at: Instant) -> bool {
        self.lock().trusts(heard_at)
    }

    /// Whether it answered last; `None` before the first try.
    pub fn is_there(&self) -> Option<bool> {
        let known = self.lock();
        if known.is_failing { Some(false) } else { known.heard_at.map(|_| true) }
    }

    /// Whether it is known to be away, so that there is nothing to wait for.
    pub fn is_away(&self) -> bool {
        self.lock().unreachable_since.is_some_and(|since| since.elapsed() >= AWAY_AFTER)
    }

    /// Whether the last attempt to connect failed.
    pub fn is_unreachable(&self) -> bool {
        self.lock().unreachable_since.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }
}

impl Known {
    fn trusts(&self, heard_at: Instant) -> bool {
        self.lost_at.is_none_or(|lost_at| heard_at > lost_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_was_heard_from_before_a_loss_is_not_trusted() {
        let (health, before) = (Health::default(), Instant::now());
        assert!(health.trusts(before));
        health.lost(before, true, &"ended");
        assert!(!health.trusts(before));
        assert!(health.trusts(Instant::now()));
    }

    #[test]
    fn what_several_notice_is_one_alteration() {
        let health = Health::default();
        for expected in 1..3 {
            let before = health.alterations();
            (0..3).for_each(|_| health.altered(before));
            assert_eq!(health.alterations(), expected);
        }
    }

    #[test]
    fn it_is_away_when_no_connection_could_be_made_for_long_and_none_answers() {
        let health = Health::default();
        let long_ago = Instant::now().checked_sub(AWAY_AFTER).expect("the clock is older than that");
        health.lost(long_ago, true, &"ended");
        assert!(!health.is_unreachable() && !health.is_away());
        health.not_connected(Instant::now(), &"refused", false);
        assert!(health.is_unreachable() && !health.is_away());
        health.heard();
        assert!(!health.is_unreachable());
        health.not_connected(long_ago, &"too many clients, while others are answered", true);
        assert!(!health.is_unreachable());
        let health = Health::default();
        health.not_connected(long_ago, &"no answer", false);
        assert!(health.is_away());
    }
}
