//! The connection table: a fixed number of slots, with what is needed to find the next deadline or eviction.
//!
//! A [`ConnectionId`] has a generation, so it finds nothing once its connection is closed, even if the slot is
//! reused. Every connection has its own lock. No thread may wait for one of these locks while it holds another.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use crate::lock;

/// The name of one connection, unique for the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    generation: u32,
    index: u32,
}

impl ConnectionId {
    pub(crate) fn from_u64(bits: u64) -> ConnectionId {
        ConnectionId { generation: (bits >> 32) as u32, index: bits as u32 }
    }

    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

/// What a connection waits for, in the order of eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Waiting {
    /// For the client to close, after the last response.
    Closing = 0,
    /// For the first byte of the connection.
    Silent = 1,
    /// For the rest of a head.
    Head = 2,
    /// For the rest of a body.
    Body = 3,
    /// For the next request, after a response.
    Idle = 4,
    /// For the client to read its response.
    Sending = 5,
}

const TICK_BITS: u32 = 56;
const TICK_MASK: u64 = (1 << TICK_BITS) - 1;
const NO_DEADLINE: u64 = u64::MAX;

struct Slot<T> {
    /// What the connection waits for, then the tick of its deadline, in one number that sorts by both.
    eviction_key: AtomicU64,
    /// Bytes of an unfinished request in memory.
    unfinished_bytes: AtomicUsize,
    cell: Mutex<Cell<T>>,
}

struct Cell<T> {
    generation: u32,
    value: Option<Box<T>>,
}

pub(crate) struct ConnectionTable<T> {
    slots: Box<[Slot<T>]>,
    free: Mutex<Vec<u32>>,
    len: AtomicUsize,
}

impl<T> ConnectionTable<T> {
    pub(crate) fn new(capacity: usize) -> ConnectionTable<T> {
        let capacity = capacity.min(u32::MAX as usize) as u32;
        let slot = |_| Slot {
            eviction_key: AtomicU64::new(NO_DEADLINE),
            unfinished_bytes: AtomicUsize::new(0),
            cell: Mutex::new(Cell { generation: 0, value: None }),
        };
        ConnectionTable {
            slots: (0..capacity).map(slot).collect(),
            free: Mutex::new((0..capacity).rev().collect()),
            len: AtomicUsize::new(0),
        }
    }

    /// The number of connections.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Inserts a connection and returns it locked, or returns the value if the table is full.
    pub(crate) fn insert(&self, value: Box<T>) -> Result<(ConnectionId, ConnectionGuard<'_, T>), Box<T>> {
        let Some(index) = lock(&self.free).pop() else {
            return Err(value);
        };
        self.len.fetch_add(1, Ordering::AcqRel);
        let mut cell = lock(&self.slots[index as usize].cell);
        cell.value = Some(value);
        let id = ConnectionId { generation: cell.generation, index };
        Ok((id, ConnectionGuard { table: self, index, cell }))
    }

    /// Locks the connection with this id, if it is still open.
    pub(crate) fn lock(&self, id: ConnectionId) -> Option<ConnectionGuard<'_, T>> {
        let cell = lock(&self.slots.get(id.index as usize)?.cell);
        self.guard(id.index, cell).filter(|found| found.cell.generation == id.generation)
    }

    /// Locks every connection, one after the other.
    pub(crate) fn lock_each(&self) -> impl Iterator<Item = ConnectionGuard<'_, T>> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| self.guard(index, lock(&slot.cell)))
    }

    /// Locks the connection in this slot, unless it is locked already.
    pub(crate) fn try_lock(&self, index: usize) -> Option<(ConnectionId, ConnectionGuard<'_, T>)> {
        let cell = match self.slots[index].cell.try_lock() {
            Ok(cell) => cell,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let index = index as u32;
        let id = ConnectionId { generation: cell.generation, index };
        self.guard(index, cell).map(|found| (id, found))
    }

    fn guard<'a>(&'a self, index: u32, cell: MutexGuard<'a, Cell<T>>) -> Option<ConnectionGuard<'a, T>> {
        cell.value.is_some().then(|| ConnectionGuard { table: self, index, cell })
    }

    /// The slots whose deadline, as adjusted by `deadline`, is not after tick `now`.
    pub(crate) fn expired(&self, now: u64, deadline: impl Fn(Waiting, u64) -> u64) -> impl Iterator<Item = usize> {
        let keys = self.slots.iter().map(|slot| decode(slot.eviction_key.load(Ordering::Relaxed)));
        keys.enumerate().filter_map(move |(index, found)| {
            found.is_some_and(|(waiting, tick)| deadline(waiting, tick) <= now).then_some(index)
        })
    }

    /// Locks the connection with the lowest eviction key among those that `may_evict`: in the order of [`Waiting`],
    /// then the one that has waited the longest. Skips connections that are locked.
    pub(crate) fn lock_first(
        &self,
        may_evict: impl Fn(Waiting, u64) -> bool,
    ) -> Option<(ConnectionId, ConnectionGuard<'_, T>)> {
        let (mut first, mut lowest) = (None, NO_DEADLINE);
        for (index, slot) in self.slots.iter().enumerate() {
            let key = slot.eviction_key.load(Ordering::Relaxed);
            if key < lowest
                && decode(key).is_some_and(|(waiting, tick)| may_evict(waiting, tick))
                && let Some(found) = self.try_lock(index)
            {
                (first, lowest) = (Some(found), key);
            }
        }
        first
    }

    /// Locks the connection with the largest unfinished request above `bytes`. Skips connections that are locked.
    pub(crate) fn lock_largest(&self, bytes: usize) -> Option<(ConnectionId, ConnectionGuard<'_, T>)> {
        let (mut largest, mut size) = (None, bytes);
        for (index, slot) in self.slots.iter().enumerate() {
            let unfinished = slot.unfinished_bytes.load(Ordering::Relaxed);
            if unfinished > size
                && let Some(found) = self.try_lock(index)
            {
                (largest, size) = (Some(found), unfinished);
            }
        }
        largest
    }
}

fn decode(eviction_key: u64) -> Option<(Waiting, u64)> {
    let waiting = match eviction_key >> TICK_BITS {
        0 => Waiting::Closing,
        1 => Waiting::Silent,
        2 => Waiting::Head,
        3 => Waiting::Body,
        4 => Waiting::Idle,
        5 => Waiting::Sending,
        _ => return None,
    };
    Some((waiting, eviction_key & TICK_MASK))
}

/// A locked connection.
pub(crate) struct ConnectionGuard<'a, T> {
    table: &'a ConnectionTable<T>,
    index: u32,
    cell: MutexGuard<'a, Cell<T>>,
}

impl<T> ConnectionGuard<'_, T> {
    /// Publishes what searches through all connections need without locking: the deadline, and the size of the
    /// unfinished request in bytes.
    pub(crate) fn publish(&self, deadline: Option<(Waiting, u64)>, unfinished_bytes: usize) {
        let key = match deadline {
            Some((waiting, tick)) => (waiting as u64) << TICK_BITS | tick & TICK_MASK,
            None => NO_DEADLINE,
        };
        let slot = &self.table.slots[self.index as usize];
        slot.eviction_key.store(key, Ordering::Relaxed);
        slot.unfinished_bytes.store(unfinished_bytes, Ordering::Relaxed);
    }

    /// The published deadline.
    pub(crate) fn deadline(&self) -> Option<(Waiting, u64)> {
        decode(self.table.slots[self.index as usize].eviction_key.load(Ordering::Relaxed))
    }

    /// Removes the connection. Its id is invalid from now on.
    pub(crate) fn remove(mut self) -> Box<T> {
        self.publish(None, 0);
        self.cell.generation = self.cell.generation.wrapping_add(1);
        let value = self.cell.value.take().expect("only an occupied cell has a guard");
        drop(self.cell);
        lock(&self.table.free).push(self.index);
        self.table.len.fetch_sub(1, Ordering::AcqRel);
        value
    }
}

impl<T> Deref for ConnectionGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.cell.value.as_ref().expect("only an occupied cell has a guard")
    }
}

impl<T> DerefMut for ConnectionGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.cell.value.as_mut().expect("only an occupied cell has a guard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_when_its_slot_is_reused_finds_nothing() {
        let table = ConnectionTable::new(1);
        let (id, guard) = table.insert(Box::new('a')).ok().unwrap();
        drop(guard);
        assert!(table.insert(Box::new('b')).is_err());
        assert_eq!(*table.lock(ConnectionId::from_u64(id.to_u64())).unwrap(), 'a');
        assert_eq!((*table.lock(id).unwrap().remove(), table.len()), ('a', 0));
        let (next, guard) = table.insert(Box::new('c')).ok().unwrap();
        drop(guard);
        assert!(table.lock(id).is_none());
        assert_eq!(*table.lock(next).unwrap(), 'c');
    }

    #[test]
    fn lock_first_prefers_connections_never_served_then_the_longest_waiting() {
        let table = ConnectionTable::new(6);
        let insert = |deadline| {
            let (id, guard) = table.insert(Box::new(())).ok().unwrap();
            guard.publish(deadline, 0);
            id
        };
        let [idle, head, silent, older, _serving] = [
            Some((Waiting::Idle, 1)),
            Some((Waiting::Head, 5)),
            Some((Waiting::Silent, 9)),
            Some((Waiting::Silent, 7)),
            None,
        ]
        .map(insert);
        assert_eq!(table.expired(7, |_, tick| tick).collect::<Vec<_>>(), [0, 1, 3]);
        let any = |_, _| true;
        for next in [older, silent, head, idle] {
            assert_eq!(table.lock_first(any).map(|(id, _)| id), Some(next));
            assert!(table.lock_first(|_, _| false).is_none());
            table.lock(next).unwrap().remove();
        }
        assert!(table.lock_first(any).is_none());
        insert(Some((Waiting::Sending, 1)));
        assert!(table.lock_first(|waiting, _| waiting != Waiting::Sending).is_none());
    }

    #[test]
    fn lock_largest_when_one_is_locked_finds_the_next_largest() {
        let table = ConnectionTable::new(3);
        let insert = |bytes| {
            let (id, guard) = table.insert(Box::new(())).ok().unwrap();
            guard.publish(None, bytes);
            id
        };
        let [_small, large, middle] = [1, 7, 5].map(insert);
        let find = |bytes| table.lock_largest(bytes).map(|(id, _)| id);
        assert_eq!((find(0), find(6), find(7)), (Some(large), Some(large), None));
        let locked = table.lock(large).unwrap();
        assert_eq!((find(4), find(5)), (Some(middle), None));
        locked.remove();
        assert_eq!(find(4), Some(middle));
    }
}
