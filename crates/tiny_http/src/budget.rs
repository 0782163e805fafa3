//! Allowances for bytes that all connections hold together: one for requests, one for answers.
//!
//! A byte is counted before memory is taken for it and given back when that memory is, whoever drops it. Without this, ten
//! thousand clients that each hold back the last byte of a body, or take none of an answer, would add up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is left of the allowance, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
    all: usize,
}

/// The allowance is spent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OverBudget;

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget { left: AtomicUsize::new(bytes), all: bytes })
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.all.saturating_sub(self.left.load(Ordering::Relaxed))
    }

    fn take(&self, bytes: usize) -> Result<(), OverBudget> {
        let less = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map(drop).map_err(|_| OverBudget)
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(crate) fn take(budget: &Arc<Budget>, bytes: usize) -> Result<Share, OverBudget> {
        budget.take(bytes)?;
        Ok(Share { budget: Arc::clone(budget), bytes })
    }

    fn grow_to(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.budget.take(bytes.saturating_sub(self.bytes))?;
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Bytes that are counted in a [`Budget`] as long as they live. Without bytes it takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    bytes: Vec<u8>,
    share: Option<Share>,
}

impl Counted {
    /// Appends `more`; grows by halves, but not past `most` bytes as long as that suffices.
    pub(crate) fn extend(
        &mut self,
        more: &[u8],
        most: usize,
        budget: &Arc<Budget>,
    ) -> Result<(), OverBudget> {
        let length = self.bytes.len() + more.len();
        let capacity = self.bytes.capacity();
        if length > capacity {
            let wanted = (capacity + capacity / 2).min(most).max(length);
            match &mut self.share {
                Some(share) => share.grow_to(wanted)?,
                None => self.share = Some(Share::take(budget, wanted)?),
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// Forgets the first `count` bytes, and all memory with the last of them.
    pub(crate) fn consume(&mut self, count: usize) {
        if count == self.bytes.len() {
            *self = Counted::default();
        } else {
            self.bytes.drain(..count);
        }
    }
}

impl std::ops::Deref for Counted {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let budget = Budget::new(100);
        let mut first = Counted::default();
        assert_eq!(first.extend(&[1; 60], 100, &budget), Ok(()));
        let mut second = Counted::default();
        assert_eq!(second.extend(&[2; 60], 100, &budget), Err(OverBudget));
        assert_eq!(budget.used(), 60);
        first.consume(10);
        assert_eq!((first.len(), budget.used()), (50, 60));
        first.consume(50);
        assert_eq!(budget.used(), 0);
        assert_eq!(second.extend(&[2; 60], 60, &budget), Ok(()));
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}
