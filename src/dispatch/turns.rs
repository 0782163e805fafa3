//! Whose turn it is: how many workers one user's requests may hold, and where the others of theirs wait meanwhile.
//!
//! A turn is the right to a worker, for one request or for several that the worker answers together.
//! A request that has no turn holds no worker. It waits behind those of the same user, and is taken on by the worker that
//! ends one of them; so whatever a user asks for, and however often, they are in nobody's way but their own.
//!
//! Pages of long lists have no turn, for they are read behind the answer. They hold a quarter of the connections at most, whosever
//! they are; what one user's requests hold leaves room for as many, and for somebody else.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long after a request of another user a user counts as not alone.
const COMPANY: Duration = Duration::from_secs(10);

/// See the module.
pub struct Turns<T> {
    /// How many of one user's requests hold a worker beside those of others, and alone.
    half: usize,
    alone: usize,
    max_waiting: usize,
    hasher: RandomState,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Those who have a turn. Nobody else has requests that wait.
    users: Vec<User<T>>,
    last: Option<Key>,
    company_until: Option<Instant>,
}

/// A user, as far as it matters here: two with the same number, which chance alone makes, would share their turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

struct User<T> {
    key: Key,
    working: usize,
    waiting: VecDeque<T>,
}

impl<T> Turns<T> {
    /// Turns at so many workers, of whose connections pages of lists take up to `pages`. Of one user at most `max_waiting` requests
    /// wait.
    ///
    /// A user has half of the workers; one who is alone, all but one and the pages: whoever comes next finds that free.
    pub fn new(workers: usize, pages: usize, max_waiting: usize) -> Self {
        let alone = workers.saturating_sub(1 + pages).max(1);
        let half = workers.div_ceil(2).min(alone);
        let state = State { users: Vec::with_capacity(workers), last: None, company_until: None };
        Self { half, alone, max_waiting, hasher: RandomState::new(), state: Mutex::new(state) }
    }

    /// What stands for this user here.
    pub fn key(&self, user: &str) -> Key {
        Key(self.hasher.hash_one(user))
    }

    /// Lets a request of this user in: the one that may be answered now, if any may, which is not this one where others of
    /// theirs wait already.
    ///
    /// # Errors
    /// The request, when too many wait.
    pub fn begin(&self, key: Key, request: T, now: Instant) -> Result<Option<(Turn<'_, T>, T)>, T> {
        let mut state = self.lock();
        state.meet(key, now);
        let most = self.most(&state, now);
        let index = state.users.iter().position(|user| user.key == key).unwrap_or_else(|| {
            state.users.push(User { key, working: 0, waiting: VecDeque::new() });
            state.users.len() - 1
        });
        let user = &mut state.users[index];
        if user.working < most {
            user.working += 1;
            let first = user.exchange(request);
            Ok(Some((Turn { turns: self, key, is_over: false }, first)))
        } else {
            user.wait(request, self.max_waiting).map(|()| None)
        }
    }

    /// Goes on with a turn that was left.
    pub fn resume(&self, Left(key): Left) -> Turn<'_, T> {
        Turn { turns: self, key, is_over: false }
    }

    /// How many requests wait for their turn.
    pub fn waiting(&self) -> usize {
        self.lock().users.iter().map(|user| user.waiting.len()).sum()
    }

    fn most(&self, state: &State<T>, now: Instant) -> usize {
        let is_alone = state.company_until.is_none_or(|until| until <= now);
        if is_alone { self.alone } else { self.half }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl<T> State<T> {
    fn meet(&mut self, key: Key, now: Instant) {
        if self.last.replace(key).is_some_and(|last| last != key) {
            self.company_until = Some(now + COMPANY);
        }
    }

    /// One request less of this user; what waits when that was their last.
    fn end(&mut self, key: Key) -> Option<User<T>> {
        let index = self.users.iter().position(|user| user.key == key)?;
        let user = &mut self.users[index];
        user.working -= 1;
        (user.working == 0).then(|| self.users.swap_remove(index))
    }
}

/// The right to a worker. It ends when it is dropped, too, as by a panic.
pub struct Turn<'t, T> {
    turns: &'t Turns<T>,
    key: Key,
    is_over: bool,
}

/// A turn that waits for a worker, who goes on with it by [`Turns::resume`].
#[must_use]
pub struct Left(Key);

impl<T> Turn<'_, T> {
    /// Leaves the turn to another worker.
    pub fn leave(mut self) -> Left {
        self.is_over = true;
        Left(self.key)
    }

    /// Whether it is this user's.
    pub fn is_of(&self, key: Key) -> bool {
        self.key == key
    }

    /// Lets another request of the same user share the turn: the one that waits the longest, which may be this one, if it
    /// `goes_along`; else this one waits, too.
    ///
    /// # Errors
    /// The request, when too many wait.
    pub fn share(&self, request: T, goes_along: impl Fn(&T) -> bool) -> Result<Option<T>, T> {
        let mut state = self.turns.lock();
        let Some(user) = state.users.iter_mut().find(|user| user.key == self.key) else {
            return Ok(Some(request));
        };
        if goes_along(user.waiting.front().unwrap_or(&request)) {
            Ok(Some(user.exchange(request)))
        } else {
            user.wait(request, self.turns.max_waiting).map(|()| None)
        }
    }

    /// Leaves the turn to the next request of the same user, and to those right behind it that `may_share` it with that one, up to
    /// `most` in all; unless none waits or the user's turns have become too many.
    pub fn pass_on(
        mut self,
        now: Instant,
        most: usize,
        may_share: impl Fn(&T, &T) -> bool,
    ) -> Option<(Self, Vec<T>)> {
        let mut state = self.turns.lock();
        let turns = self.turns.most(&state, now);
        let user = state.users.iter_mut().find(|user| user.key == self.key);
        let next: Vec<T> = user
            .filter(|user| user.working <= turns)
            .map(|user| user.take(most, may_share))
            .unwrap_or_default();
        if next.is_empty() {
            state.end(self.key);
            drop(state);
            self.is_over = true;
            return None;
        }
        drop(state);
        Some((self, next))
    }
}

impl<T> User<T> {
    /// The first that waits when this one waits, too.
    fn exchange(&mut self, request: T) -> T {
        match self.waiting.pop_front() {
            Some(first) => {
                self.waiting.push_back(request);
                first
            }
            None => request,
        }
    }

    /// Lets a request wait; gives it back when too many do.
    fn wait(&mut self, request: T, max_waiting: usize) -> Result<(), T> {
        if self.waiting.len() >= max_waiting {
            return Err(request);
        }
        self.waiting.push_back(request);
        Ok(())
    }

    fn take(&mut self, most: usize, may_share: impl Fn(&T, &T) -> bool) -> Vec<T> {
        let Some(first) = self.waiting.pop_front() else { return Vec::new() };
        let sharing = self.waiting.iter().take(most - 1).take_while(|next| may_share(&first, next)).count();
        std::iter::once(first).chain(self.waiting.drain(..sharing)).collect()
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        if !self.is_over {
            // Requests that nobody would take on go with it, but not while the lock is held.
            let last = self.turns.lock().end(self.key);
            drop(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The turns that a user gets by asking so often.
    fn ask<'t>(turns: &'t Turns<u32>, user: &str, times: u32, now: Instant) -> Vec<(Turn<'t, u32>, u32)> {
        (0..times)
            .filter_map(|number| turns.begin(turns.key(user), number, now).expect("there is room"))
            .collect()
    }

    /// Passes a turn on to one request.
    fn pass_on(turn: Turn<'_, u32>, now: Instant) -> Option<(Turn<'_, u32>, u32)> {
        turn.pass_on(now, 1, |_, _| true).map(|(turn, mut next)| (turn, next.remove(0)))
    }

    #[test]
    fn a_user_has_half_of_the_workers_and_alone_all_but_one_and_the_pages() {
        for (workers, pages, half, alone) in [
            (1, 1, 1, 1),
            (2, 1, 1, 1),
            (3, 1, 1, 1),
            (4, 1, 2, 2),
            (5, 1, 3, 3),
            (8, 2, 4, 5),
            (16, 4, 8, 11),
            (128, 8, 64, 119),
        ] {
            assert!(workers <= 2 || alone + pages < workers, "somebody else finds nothing free");
            let (turns, now) = (Turns::new(workers, pages, 200), Instant::now());
            assert_eq!(ask(&turns, "ada", 200, now).len(), alone, "alone at {workers}");
            drop(ask(&turns, "eve", 1, now));
            assert_eq!(ask(&turns, "ada", 200, now + COMPANY / 2).len(), half, "of {workers}");
            assert_eq!(ask(&turns, "ada", 200, now + COMPANY * 2).len(), alone, "alone again at {workers}");
        }
    }

    #[test]
    fn who_waits_is_taken_on_in_order_by_whoever_ends() {
        let (turns, now) = (Turns::new(4, 0, 10), Instant::now());
        drop(ask(&turns, "eve", 1, now));
        let mut held = ask(&turns, "ada", 5, now);
        assert_eq!((held.len(), turns.waiting()), (2, 3));
        let (turn, number) = held.pop().and_then(|(turn, _)| pass_on(turn, now)).unwrap();
        assert_eq!((number, turns.waiting()), (2, 2));
        // Alone, she may have three: the next goes first, not the one that comes just now.
        let (another, number) = turns.begin(turns.key("ada"), 5, now + COMPANY).unwrap().unwrap();
        assert_eq!((number, turns.waiting()), (3, 2));
        // And when she is not any more, her turns become fewer.
        let others = ask(&turns, "eve", 1, now + COMPANY);
        assert!(pass_on(turn, now + COMPANY).is_none());
        let (another, number) = pass_on(another, now + COMPANY).unwrap();
        assert_eq!((number, turns.waiting()), (4, 1));
        drop((another, others));
        let (last, number) = held.pop().and_then(|(turn, _)| pass_on(turn, now)).unwrap();
        assert_eq!((number, turns.waiting()), (5, 0));
        assert!(pass_on(last, now).is_none());
        assert!(turns.lock().users.is_empty());
    }

    #[test]
    fn a_turn_is_shared_by_those_that_may_and_in_order() {
        let (turns, now) = (Turns::new(2, 0, 10), Instant::now());
        let mut held = ask(&turns, "ada", 1, now);
        let (turn, _) = held.pop().unwrap();
        assert!(turn.is_of(turns.key("ada")) && !turn.is_of(turns.key("eve")));
        let may_share = |request: &u32| *request >= 10;
        assert_eq!(turn.share(19, may_share), Ok(Some(19)), "nobody waits");
        assert_eq!(turn.share(9, may_share), Ok(None), "it waits until it can go alone");
        assert_eq!(turn.share(18, may_share), Ok(None), "nobody overtakes");
        let (mut turn, next) = turn.pass_on(now, 1, |_, _| true).expect("one waits");
        assert_eq!(next, [9]);
        for request in [10, 11, 12, 1, 2, 13] {
            assert!(turns.begin(turns.key("ada"), request, now).unwrap().is_none());
        }
        assert_eq!(turn.share(14, may_share), Ok(Some(18)), "who came first goes first");
        assert_eq!(turns.waiting(), 7);
        for (most, expected) in
            [(16, vec![10, 11, 12]), (16, vec![1]), (16, vec![2]), (1, vec![13]), (16, vec![14])]
        {
            let next;
            (turn, next) = turn.pass_on(now, most, |first, next| first.min(next) >= &10).expect("some wait");
            assert_eq!(next, expected, "1 and 2 go alone");
        }
        assert!(turn.pass_on(now, 16, |_, _| true).is_none());
    }

    #[test]
    fn a_turn_that_is_left_lasts_until_somebody_goes_on_with_it() {
        let (turns, now) = (Turns::new(1, 1, 10), Instant::now());
        let (turn, _) = ask(&turns, "ada", 2, now).pop().unwrap();
        let left = turn.leave();
        assert!(ask(&turns, "ada", 1, now).is_empty(), "it is still hers");
        let (turn, number) = pass_on(turns.resume(left), now).unwrap();
        assert_eq!((number, turns.waiting()), (1, 1));
        drop(turn);
        assert!(turns.lock().users.is_empty());
    }

    #[test]
    fn a_line_is_bounded_and_ends_with_its_last_turn() {
        let (turns, now) = (Turns::new(1, 1, 2), Instant::now());
        let held = ask(&turns, "ada", 3, now);
        assert_eq!((held.len(), turns.waiting()), (1, 2));
        assert_eq!(turns.begin(turns.key("ada"), 3, now).map(|_| ()), Err(3));
        drop(held); // as a panic would
        assert_eq!((turns.waiting(), turns.lock().users.len()), (0, 0));
        assert_eq!(ask(&turns, "ada", 1, now).len(), 1);
    }
}
