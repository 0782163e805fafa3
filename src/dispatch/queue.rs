//! A bounded queue between the accept loop and the workers, whose items can be taken back when they waited too long.
//!
//! It has lanes. What has waited for the longest goes first, whatever its lane, and others of the same lane go along.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const LOCKED: &str = "nothing panics while it holds this lock";

/// See the module.
pub struct Queue<T, const LANES: usize> {
    state: Mutex<State<T, LANES>>,
    filled: Condvar,
    capacity: usize,
    shares: [Share; LANES],
}

/// How many items of a lane are taken at once.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// So many at most.
    pub most: usize,
    /// One in so many of those that wait, rounded up: another taker finds the rest.
    pub one_in: usize,
}

struct State<T, const LANES: usize> {
    /// Those that go before all others.
    first: VecDeque<T>,
    lanes: [VecDeque<(Instant, T)>; LANES],
    /// How many wait for an item.
    waiting: usize,
    /// One of them was woken and is on its way. It wakes the next if there is more to do than it takes, for to wake one costs a
    /// system call, and much of what comes at once is done before a second one is up.
    is_waking: bool,
}

impl<T, const LANES: usize> Queue<T, LANES> {
    /// A queue of at most `capacity` items.
    pub fn new(capacity: usize, shares: [Share; LANES]) -> Self {
        let lanes = std::array::from_fn(|_| VecDeque::new());
        let state = State { first: VecDeque::new(), lanes, waiting: 0, is_waking: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), capacity, shares }
    }

    /// Puts an item at the end of a lane.
    ///
    /// # Errors
    /// The item, when the queue is full.
    pub fn push(&self, lane: usize, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.in_lanes() >= self.capacity {
            return Err(item);
        }
        state.lanes[lane].push_back((Instant::now(), item));
        self.wake_one(state);
        Ok(())
    }

    /// Puts an item before those that [`Queue::push`] put there, also where these fill the queue. Nothing takes it back.
    pub fn push_first(&self, item: T) {
        let mut state = self.lock();
        state.first.push_back(item);
        self.wake_one(state);
    }

    /// Takes the first item; waits for one. Those behind it in its lane come along, as many as are that lane's share. What was
    /// pushed before others comes alone.
    pub fn pop(&self) -> Vec<T> {
        let mut state = self.lock();
        loop {
            let taken = state.take(&self.shares);
            if !taken.is_empty() {
                if state.len() > 0 {
                    self.wake_one(state);
                }
                return taken;
            }
            state.waiting += 1;
            state = self.filled.wait(state).expect(LOCKED);
            state.waiting -= 1;
            state.is_waking = false;
        }
    }

    /// Wakes one that waits, unless one is on its way or none waits.
    fn wake_one(&self, mut state: MutexGuard<'_, State<T, LANES>>) {
        if state.waiting > 0 && !std::mem::replace(&mut state.is_waking, true) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Takes the first item if it has waited longer than `age`. Never waits.
    pub fn pop_older_than(&self, age: Duration) -> Option<T> {
        let mut state = self.lock();
        let lane = state.longest()?;
        let is_old = state.lanes[lane].front().is_some_and(|(since, _)| since.elapsed() > age);
        if is_old { state.lanes[lane].pop_front().map(|(_, item)| item) } else { None }
    }

    /// Whether nothing waits that can be taken back.
    pub fn is_empty(&self) -> bool {
        self.lock().in_lanes() == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T, LANES>> {
        self.state.lock().expect(LOCKED)
    }
}

impl<T, const LANES: usize> State<T, LANES> {
    fn take(&mut self, shares: &[Share; LANES]) -> Vec<T> {
        if let Some(item) = self.first.pop_front() {
            return vec![item];
        }
        let Some(lane) = self.longest() else { return Vec::new() };
        let (items, Share { most, one_in }) = (&mut self.lanes[lane], shares[lane]);
        items.drain(..items.len().div_ceil(one_in).min(most)).map(|(_, item)| item).collect()
    }

    /// The lane whose first item has waited for the longest.
    fn longest(&self) -> Option<usize> {
        let since = |lane: usize| Some((self.lanes[lane].front()?.0, lane));
        (0..LANES).filter_map(since).min().map(|(_, lane)| lane)
    }

    fn in_lanes(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    fn len(&self) -> usize {
        self.first.len() + self.in_lanes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    const ONE: Share = Share { most: 1, one_in: 1 };

    #[test]
    fn it_is_bounded_and_first_in_is_first_out() {
        let queue = Queue::new(2, [ONE; 2]);
        assert_eq!((queue.push(0, 1), queue.push(1, 2), queue.push(0, 3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!((queue.pop(), queue.push(0, 4)), (vec![1], Ok(())));
        assert_eq!((queue.pop(), queue.pop()), (vec![2], vec![4]));
        assert!(queue.is_empty());
    }

    #[test]
    fn who_comes_along_is_of_the_same_lane_and_no_more_than_its_share() {
        let queue = Queue::new(20, [ONE, Share { most: 3, one_in: 2 }, Share { most: 16, one_in: 2 }]);
        let pop = || queue.pop();
        for (lane, item) in [(2, 20), (1, 10), (0, 1), (2, 21), (1, 11), (0, 2), (2, 22), (2, 23), (2, 24)] {
            queue.push(lane, item).unwrap();
        }
        assert_eq!([pop(), pop()], [vec![20, 21, 22], vec![10]], "half of those in the lane");
        assert_eq!([pop(), pop()], [[1], [11]], "one at a time");
        assert_eq!([pop(), pop(), pop()], [[2], [23], [24]]);
        (1..=9).for_each(|item| queue.push(1, item).unwrap());
        assert_eq!(
            [pop(), pop(), pop()],
            [[1, 2, 3].as_slice(), &[4, 5, 6], &[7, 8]],
            "no more than the most"
        );
    }

    #[test]
    fn nobody_sleeps_while_there_is_something_to_do() {
        const ITEMS: usize = 20_000;
        let (queue, taken, is_over) =
            (Queue::new(ITEMS, [Share { most: 3, one_in: 2 }]), AtomicUsize::new(0), AtomicBool::new(false));
        let all_are_taken = || taken.load(Ordering::SeqCst) == ITEMS;
        let in_time = thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        let items = queue.pop().into_iter().filter(|item| *item > 0);
                        taken.fetch_add(items.count(), Ordering::SeqCst);
                    }
                });
            }
            for item in 1..=ITEMS {
                queue.push(0, item).unwrap();
                if item % 7 == 0 {
                    thread::sleep(Duration::from_micros(20)); // so that they fall asleep now and then
                }
            }
            let begun = Instant::now();
            while !all_are_taken() && begun.elapsed() < Duration::from_secs(10) {
                thread::yield_now();
            }
            let in_time = all_are_taken();
            is_over.store(true, Ordering::SeqCst);
            for _ in 0..4 {
                queue.push_first(0); // so that they see it: each of them takes one
            }
            in_time
        });
        assert!(in_time, "something waits, and nobody comes");
    }

    #[test]
    fn what_goes_first_goes_alone_and_finds_room() {
        let queue = Queue::new(2, [Share { most: 16, one_in: 1 }]);
        assert_eq!(
            (queue.push(0, 1), queue.push(0, 2), queue.push_first(3), queue.len()),
            (Ok(()), Ok(()), (), 3)
        );
        assert_eq!(queue.pop_older_than(Duration::ZERO), Some(1));
        assert_eq!([queue.pop(), queue.pop()], [[3], [2]]);
    }

    #[test]
    fn what_waited_too_long_can_be_taken_back() {
        let queue = Queue::new(2, [ONE]);
        queue.push(0, 1).unwrap();
        assert_eq!(queue.pop_older_than(Duration::from_secs(60)), None);
        assert_eq!(queue.pop_older_than(Duration::ZERO), Some(1));
        assert_eq!(queue.pop_older_than(Duration::ZERO), None);
    }
}
