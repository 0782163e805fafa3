//! The ready queue: complete requests, and connections whose turn was cut short, waiting for a thread.
//!
//! The number of requests is bounded. A connection is in the queue at most once; [`crate::connection`] keeps track of
//! that. Nothing here blocks or wakes a thread.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::lock;

/// A piece of work for a thread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ready<R, C> {
    /// Return this request from `recv`.
    Request(R),
    /// Continue with this connection.
    Resume(C),
    /// Return from `recv` without a request.
    Unblock,
}

struct Items<R, C> {
    requests: VecDeque<R>,
    resumes: VecDeque<C>,
    unblocks: usize,
    resume_next: bool,
}

pub(crate) struct ReadyQueue<R, C> {
    items: Mutex<Items<R, C>>,
    max_requests: usize,
}

impl<R, C> ReadyQueue<R, C> {
    pub(crate) fn new(max_requests: usize) -> ReadyQueue<R, C> {
        let items = Items { requests: VecDeque::new(), resumes: VecDeque::new(), unblocks: 0, resume_next: false };
        ReadyQueue { items: Mutex::new(items), max_requests }
    }

    /// Appends a request, or returns it if the queue is full.
    pub(crate) fn push_request(&self, request: R) -> Result<(), R> {
        let mut items = lock(&self.items);
        if items.requests.len() >= self.max_requests {
            return Err(request);
        }
        items.requests.push_back(request);
        Ok(())
    }

    pub(crate) fn push_resume(&self, connection: C) {
        lock(&self.items).resumes.push_back(connection);
    }

    pub(crate) fn push_unblock(&self) {
        lock(&self.items).unblocks += 1;
    }

    /// The next item, alternating between requests and connections, and the number of items left.
    pub(crate) fn pop(&self) -> Option<(Ready<R, C>, usize)> {
        let mut items = lock(&self.items);
        items.resume_next = !items.resume_next;
        let ready = if items.unblocks > 0 {
            items.unblocks -= 1;
            Ready::Unblock
        } else if items.resume_next && !items.resumes.is_empty() || items.requests.is_empty() {
            Ready::Resume(items.resumes.pop_front()?)
        } else {
            Ready::Request(items.requests.pop_front()?)
        };
        Some((ready, items.len()))
    }

    /// The next connection to continue with.
    pub(crate) fn pop_resume(&self) -> Option<C> {
        lock(&self.items).resumes.pop_front()
    }

    /// Removes all requests.
    pub(crate) fn take_requests(&self) -> VecDeque<R> {
        std::mem::take(&mut lock(&self.items).requests)
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.items).len() == 0
    }

    /// The number of requests.
    pub(crate) fn requests(&self) -> usize {
        lock(&self.items).requests.len()
    }
}

impl<R, C> Items<R, C> {
    fn len(&self) -> usize {
        self.requests.len() + self.resumes.len() + self.unblocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_when_full_returns_the_request_and_pop_alternates_with_connections() {
        let queue = ReadyQueue::new(2);
        assert_eq!([1, 2, 3].map(|request| queue.push_request(request)), [Ok(()), Ok(()), Err(3)]);
        queue.push_resume('a');
        queue.push_resume('b');
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(
            order,
            [(Ready::Resume('a'), 3), (Ready::Request(1), 2), (Ready::Resume('b'), 1), (Ready::Request(2), 0),]
        );
    }
}
