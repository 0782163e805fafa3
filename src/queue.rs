//! A bounded queue between the accept loop and the workers, whose items can be taken back when they waited too long.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const LOCKED: &str = "nothing panics while it holds this lock";

/// See the module.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    capacity: usize,
}

struct State<T> {
    /// Those that go before all others.
    first: VecDeque<T>,
    items: VecDeque<(Instant, T)>,
    /// How many wait for an item.
    waiting: usize,
    /// One of them was woken and is on its way. It wakes the next if there is more to do than it takes, for to wake one costs a
    /// system call, and much of what comes at once is done before a second one is up.
    is_waking: bool,
}

impl<T> Queue<T> {
    /// A queue of at most `capacity` items.
    pub fn new(capacity: usize) -> Self {
        let state = State { first: VecDeque::new(), items: VecDeque::new(), waiting: 0, is_waking: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), capacity }
    }

    /// Puts an item at the end.
    ///
    /// # Errors
    /// The item, when the queue is full.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.items.len() >= self.capacity {
            return Err(item);
        }
        state.items.push_back((Instant::now(), item));
        self.wake_one(state);
        Ok(())
    }

    /// Puts an item before those that [`Queue::push`] put there, also where these fill the queue. Nothing takes it back.
    pub fn push_first(&self, item: T) {
        let mut state = self.lock();
        state.first.push_back(item);
        self.wake_one(state);
    }

    /// Takes the first item; waits for one. If it may be joined, those right behind it come along that may join, but no more than
    /// `most` in all, and no more than half of what waits, so that another taker finds some, too. Nothing joins what was pushed before
    /// others.
    pub fn pop(&self, most: usize, may_join: impl Fn(&T) -> bool) -> Vec<T> {
        let mut state = self.lock();
        loop {
            let taken = state.take(most, &may_join);
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
    fn wake_one(&self, mut state: MutexGuard<'_, State<T>>) {
        if state.waiting > 0 && !std::mem::replace(&mut state.is_waking, true) {
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Takes the first item if it has waited longer than `age`. Never waits.
    pub fn pop_older_than(&self, age: Duration) -> Option<T> {
        let items = &mut self.lock().items;
        let is_old = items.front().is_some_and(|(since, _)| since.elapsed() > age);
        if is_old { items.pop_front().map(|(_, item)| item) } else { None }
    }

    /// Whether nothing waits that can be taken back.
    pub fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect(LOCKED)
    }
}

/// Takes the first of these, and if it may be joined those right behind it that may join, up to `most` in all.
pub fn take_joining<T>(items: &mut VecDeque<T>, most: usize, may_join: impl Fn(&T) -> bool) -> Drain<'_, T> {
    let joining = items.iter().take(most).take_while(|item| may_join(item)).count();
    items.drain(..joining.max(1).min(items.len()))
}

impl<T> State<T> {
    fn take(&mut self, most: usize, may_join: &impl Fn(&T) -> bool) -> Vec<T> {
        if let Some(item) = self.first.pop_front() {
            return vec![item];
        }
        let most = most.min(self.items.len().div_ceil(2));
        take_joining(&mut self.items, most, |(_, item)| may_join(item)).map(|(_, item)| item).collect()
    }

    fn len(&self) -> usize {
        self.first.len() + self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn it_is_bounded_and_first_in_is_first_out() {
        let queue = Queue::new(2);
        let pop = || queue.pop(1, |_| true);
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!((pop(), queue.push(4), pop(), pop()), (vec![1], Ok(()), vec![2], vec![4]));
        assert!(queue.is_empty());
    }

    #[test]
    fn those_that_may_join_come_along_and_nobody_takes_more_than_half() {
        let queue = Queue::new(20);
        let pop = |most| queue.pop(most, |item| *item < 10);
        (1..=7).chain([10, 8, 11, 12, 9]).for_each(|item| queue.push(item).unwrap());
        assert_eq!(pop(3), [1, 2, 3], "no more than the most");
        assert_eq!(pop(16), [4, 5, 6, 7], "nobody overtakes who may not join");
        assert_eq!(pop(16), [10], "who goes alone");
        assert_eq!(pop(16), [8]);
        assert_eq!([pop(16), pop(16), pop(16)], [[11], [12], [9]]);
        (1..=5).for_each(|item| queue.push(item).unwrap());
        assert_eq!([pop(16), pop(16), pop(16)], [vec![1, 2, 3], vec![4], vec![5]], "half of what waits");
    }

    #[test]
    fn nobody_sleeps_while_there_is_something_to_do() {
        const ITEMS: usize = 20_000;
        let (queue, taken, is_over) = (Queue::new(ITEMS), AtomicUsize::new(0), AtomicBool::new(false));
        let all_are_taken = || taken.load(Ordering::SeqCst) == ITEMS;
        let in_time = thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        let items = queue.pop(3, |item| *item > 0).into_iter().filter(|item| *item > 0);
                        taken.fetch_add(items.count(), Ordering::SeqCst);
                    }
                });
            }
            for item in 1..=ITEMS {
                queue.push(item).unwrap();
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
                let _ = queue.push(0); // so that they see it: each of them takes one
            }
            in_time
        });
        assert!(in_time, "something waits, and nobody comes");
    }

    #[test]
    fn what_goes_first_goes_alone_and_finds_room() {
        let queue = Queue::new(2);
        assert_eq!((queue.push(1), queue.push(2), queue.push_first(3), queue.len()), (Ok(()), Ok(()), (), 3));
        assert_eq!(queue.pop_older_than(Duration::ZERO), Some(1));
        let pop = || queue.pop(16, |_| true);
        assert_eq!([pop(), pop()], [[3], [2]]);
    }

    #[test]
    fn what_waited_too_long_can_be_taken_back() {
        let queue = Queue::new(2);
        queue.push(1).unwrap();
        assert_eq!(queue.pop_older_than(Duration::from_secs(60)), None);
        assert_eq!(queue.pop_older_than(Duration::ZERO), Some(1));
        assert_eq!(queue.pop_older_than(Duration::ZERO), None);
    }
}
