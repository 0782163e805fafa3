//! What is ready and waits for a thread: complete requests, and connections whose turn was cut short.
//!
//! Requests are bounded; who comes past the bound gets its request back to refuse it. Connections know whether they are in
//! here and are so at most once each. Nothing here blocks or wakes.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::lock;

/// Something for a thread to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ready<R, T> {
    /// Hand this to the program.
    Request(R),
    /// Go on with this connection.
    Resume(T),
    /// Return from `recv` without a request.
    Unblock,
}

struct Inner<R, T> {
    requests: VecDeque<R>,
    resumes: VecDeque<T>,
    unblocks: usize,
    resume_next: bool,
}

pub(crate) struct Queue<R, T> {
    inner: Mutex<Inner<R, T>>,
    max_requests: usize,
}

impl<R, T> Queue<R, T> {
    pub(crate) fn new(max_requests: usize) -> Queue<R, T> {
        let inner =
            Inner { requests: VecDeque::new(), resumes: VecDeque::new(), unblocks: 0, resume_next: false };
        Queue { inner: Mutex::new(inner), max_requests }
    }

    /// Appends a request, or gives it back when too many wait already.
    pub(crate) fn push_request(&self, request: R) -> Result<(), R> {
        let mut inner = lock(&self.inner);
        if inner.requests.len() >= self.max_requests {
            return Err(request);
        }
        inner.requests.push_back(request);
        Ok(())
    }

    pub(crate) fn push_resume(&self, connection: T) {
        lock(&self.inner).resumes.push_back(connection);
    }

    pub(crate) fn push_unblock(&self) {
        lock(&self.inner).unblocks += 1;
    }

    /// The next thing to do, requests and connections in turns; and how much there is after it.
    pub(crate) fn pop(&self) -> Option<(Ready<R, T>, usize)> {
        let mut inner = lock(&self.inner);
        inner.resume_next = !inner.resume_next;
        let ready = if inner.unblocks > 0 {
            inner.unblocks -= 1;
            Ready::Unblock
        } else if inner.resume_next && !inner.resumes.is_empty() || inner.requests.is_empty() {
            Ready::Resume(inner.resumes.pop_front()?)
        } else {
            Ready::Request(inner.requests.pop_front()?)
        };
        Some((ready, inner.len()))
    }

    /// The next connection to go on with.
    pub(crate) fn pop_resume(&self) -> Option<T> {
        lock(&self.inner).resumes.pop_front()
    }

    /// All requests, for nobody will ask for them any more.
    pub(crate) fn take_requests(&self) -> VecDeque<R> {
        std::mem::take(&mut lock(&self.inner).requests)
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.inner).len() == 0
    }

    /// Requests that wait.
    pub(crate) fn requests(&self) -> usize {
        lock(&self.inner).requests.len()
    }
}

impl<R, T> Inner<R, T> {
    fn len(&self) -> usize {
        self.requests.len() + self.resumes.len() + self.unblocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_and_take_turns_with_connections() {
        let queue = Queue::new(2);
        assert_eq!([1, 2, 3].map(|request| queue.push_request(request)), [Ok(()), Ok(()), Err(3)]);
        queue.push_resume('a');
        queue.push_resume('b');
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(
            order,
            [
                (Ready::Resume('a'), 3),
                (Ready::Request(1), 2),
                (Ready::Resume('b'), 1),
                (Ready::Request(2), 0),
            ]
        );
    }
}
