//! One allowance for all bytes that requests hold together.
//!
//! A byte is counted before memory is taken for it and given back when that memory is, whoever drops it. Without this, ten
//! thousand clients that each hold back the last byte of a body would add up.

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

/// Bytes that are counted in a [`Budget`] as long as they live. Without bytes it takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    bytes: Vec<u8>,
    /// How many bytes were taken of which budget.
    counted: Option<(Arc<Budget>, usize)>,
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
            let (budget, counted) = self.counted.get_or_insert_with(|| (Arc::clone(budget), 0));
            budget.take(wanted - *counted)?;
            *counted = wanted;
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

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((budget, counted)) = self.counted.take() {
            budget.give_back(counted);
        }
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
