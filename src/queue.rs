//! A bounded queue between the accept loop and the workers, whose items can be taken back when they waited too long.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// See the module.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<(Instant, T)>,
    closed: bool,
}

impl<T> Queue<T> {
    /// A queue of at most `capacity` items.
    pub fn new(capacity: usize) -> Self {
        let state = State { items: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), capacity }
    }

    /// Puts an item at the end.
    ///
    /// # Errors
    /// The item, when the queue is full or closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed || state.items.len() >= self.capacity {
            return Err(item);
        }
        state.items.push_back((Instant::now(), item));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes the first item; waits for one. `None` when the queue is closed and empty.
    pub fn pop(&self) -> Option<T> {
        let wait = |state: &mut State<T>| state.items.is_empty() && !state.closed;
        let mut state =
            self.filled.wait_while(self.lock(), wait).expect("nothing panics while it holds this lock");
        state.items.pop_front().map(|(_, item)| item)
    }

    /// Takes the first item if it has waited longer than `age`. Never waits.
    pub fn pop_older_than(&self, age: Duration) -> Option<T> {
        let mut state = self.lock();
        let is_old = state.items.front().is_some_and(|(since, _)| since.elapsed() > age);
        if is_old { state.items.pop_front().map(|(_, item)| item) } else { None }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// Takes no more items; those that are in it can still be taken out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_first_in_is_first_out() {
        let queue = Queue::new(2);
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(
            (queue.pop(), queue.push(4), queue.pop(), queue.pop()),
            (Some(1), Ok(()), Some(2), Some(4))
        );
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

    #[test]
    fn a_closed_queue_is_emptied_and_then_ends_whoever_waits() {
        let queue = Queue::new(2);
        queue.push(1).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (queue.pop(), queue.pop()));
            queue.close();
            assert_eq!(waiting.join().unwrap(), (Some(1), None));
        });
        assert_eq!(queue.push(2), Err(2));
    }
}
