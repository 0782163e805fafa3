//! Shared quotas: limits on what all connections together may use, such as bytes of requests or of responses.
//!
//! A unit is reserved before it is used and released when its [`Reservation`] is dropped. Without a shared quota, ten
//! thousand clients that each withhold the last byte of a body would add up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit, and how much of it is unused.
#[derive(Debug)]
pub(crate) struct Quota {
    available: AtomicUsize,
    limit: usize,
}

/// The quota has too little left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QuotaExceeded;

impl Quota {
    pub(crate) fn new(limit: usize) -> Arc<Quota> {
        Arc::new(Quota { available: AtomicUsize::new(limit), limit })
    }

    /// Units in use.
    pub(crate) fn used(&self) -> usize {
        self.limit.saturating_sub(self.available.load(Ordering::Relaxed))
    }

    fn reserve(&self, amount: usize) -> Result<(), QuotaExceeded> {
        let less = |available: usize| available.checked_sub(amount);
        let reserved = self.available.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        reserved.map(drop).map_err(|_| QuotaExceeded)
    }
}

/// A part of a [`Quota`]. Dropping it releases that part.
#[derive(Debug)]
pub(crate) struct Reservation {
    quota: Arc<Quota>,
    amount: usize,
}

impl Reservation {
    pub(crate) fn new(quota: &Arc<Quota>, amount: usize) -> Result<Reservation, QuotaExceeded> {
        quota.reserve(amount)?;
        Ok(Reservation { quota: Arc::clone(quota), amount })
    }

    fn grow_to(&mut self, amount: usize) -> Result<(), QuotaExceeded> {
        self.quota.reserve(amount.saturating_sub(self.amount))?;
        self.amount = self.amount.max(amount);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.quota.available.fetch_add(self.amount, Ordering::Relaxed);
    }
}

/// A byte buffer whose capacity is reserved from a [`Quota`]. An empty one has no memory and no reservation.
#[derive(Debug, Default)]
pub(crate) struct QuotaBuf {
    bytes: Vec<u8>,
    reservation: Option<Reservation>,
}

impl QuotaBuf {
    /// Appends `more`. The capacity grows by half, up to `max_capacity`, or to what `more` needs.
    pub(crate) fn extend(&mut self, more: &[u8], max_capacity: usize, quota: &Arc<Quota>) -> Result<(), QuotaExceeded> {
        let length = self.bytes.len() + more.len();
        let capacity = self.bytes.capacity();
        if length > capacity {
            let wanted = (capacity + capacity / 2).min(max_capacity).max(length);
            match &mut self.reservation {
                Some(reservation) => reservation.grow_to(wanted)?,
                None => self.reservation = Some(Reservation::new(quota, wanted)?),
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    /// Removes the first `count` bytes. Removing all of them also releases the memory.
    pub(crate) fn consume(&mut self, count: usize) {
        if count == self.bytes.len() {
            *self = QuotaBuf::default();
        } else {
            self.bytes.drain(..count);
        }
    }
}

impl std::ops::Deref for QuotaBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_when_buffers_are_dropped_is_released() {
        let quota = Quota::new(100);
        let mut first = QuotaBuf::default();
        assert_eq!(first.extend(&[1; 60], 100, &quota), Ok(()));
        let mut second = QuotaBuf::default();
        assert_eq!(second.extend(&[2; 60], 100, &quota), Err(QuotaExceeded));
        assert_eq!(quota.used(), 60);
        first.consume(10);
        assert_eq!((first.len(), quota.used()), (50, 60));
        first.consume(50);
        assert_eq!(quota.used(), 0);
        assert_eq!(second.extend(&[2; 60], 60, &quota), Ok(()));
        drop((first, second));
        assert_eq!(quota.used(), 0);
    }
}
