//! A bounded queue between the accept loop and the workers, whose items can be taken back when they waited too long.

use std::collections::VecDeque;
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
    items: VecDeque<(Instant, T)>,
    /// How many wait for an item. To wake one costs a system call, also where nobody waits, and under load nobody does.
    waiting: usize,
}

impl<T> Queue<T> {
    /// A queue of at most `capacity` items.
    pub fn new(capacity: usize) -> Self {
        let state = State { items: VecDeque::new(), waiting: 0 };
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
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes the first item; waits for one.
    pub fn pop(&self) -> T {
        let mut state = self.lock();
        loop {
            if let Some((_, item)) = state.items.pop_front() {
                return item;
            }
            state.waiting += 1;
            state = self.filled.wait(state).expect(LOCKED);
            state.waiting -= 1;
        }
    }

    /// Takes the first item if it has waited longer than `age`. Never waits.
    pub fn pop_older_than(&self, age: Duration) -> Option<T> {
        let items = &mut self.lock().items;
        let is_old = items.front().is_some_and(|(since, _)| since.elapsed() > age);
        if is_old { items.pop_front().map(|(_, item)| item) } else { None }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().items.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect(LOCKED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_first_in_is_first_out() {
        let queue = Queue::new(2);
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!((queue.pop(), queue.push(4), queue.pop(), queue.pop()), (1, Ok(()), 2, 4));
        assert!(queue.is_empty());
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
