//! The table of connections: who is there, whose deadline is next, and who goes first when it or the memory is full.
//!
//! A [`Token`] names a connection, not its place: once a connection is closed its token finds nothing, whoever has the
//! place since. Every connection has a lock of its own, and no thread may wait for one while it holds another.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use crate::lock;

/// Names one connection for the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    generation: u32,
    index: u32,
}

impl Token {
    pub(crate) fn from_u64(bits: u64) -> Token {
        Token { generation: (bits >> 32) as u32, index: bits as u32 }
    }

    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

/// What a connection waits for, which says who goes first when there is no room: the order of these is that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Waiting {
    /// For the client to close, after its last answer.
    Closing = 0,
    /// For the first byte of all.
    Silent = 1,
    /// For the rest of a head.
    Head = 2,
    /// For the rest of a body.
    Body = 3,
    /// For the next request, after an answer.
    Idle = 4,
    /// For the client to take its answer.
    Sending = 5,
}

const TICK_BITS: u32 = 56;
const TICK_MASK: u64 = (1 << TICK_BITS) - 1;
const NO_DEADLINE: u64 = u64::MAX;

struct Slot<T> {
    /// What the connection waits for, and the tick of its deadline, in one number that orders by both.
    urgency: AtomicU64,
    /// Bytes that it holds of an unfinished request.
    unfinished_bytes: AtomicUsize,
    cell: Mutex<Cell<T>>,
}

struct Cell<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// A fixed number of places.
pub(crate) struct Slots<T> {
    slots: Box<[Slot<T>]>,
    free: Mutex<Vec<u32>>,
    used: AtomicUsize,
}

impl<T> Slots<T> {
    pub(crate) fn new(count: usize) -> Slots<T> {
        let count = count.min(u32::MAX as usize) as u32;
        let slot = |_| Slot {
            urgency: AtomicU64::new(NO_DEADLINE),
            unfinished_bytes: AtomicUsize::new(0),
            cell: Mutex::new(Cell { generation: 0, value: None }),
        };
        Slots {
            slots: (0..count).map(slot).collect(),
            free: Mutex::new((0..count).rev().collect()),
            used: AtomicUsize::new(0),
        }
    }

    /// How many are there.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Puts a value in a free place and gives it locked, or back when there is none.
    pub(crate) fn insert(&self, value: Box<T>) -> Result<(Token, Occupied<'_, T>), Box<T>> {
        let Some(index) = lock(&self.free).pop() else {
            return Err(value);
        };
        self.used.fetch_add(1, Ordering::AcqRel);
        let mut cell = lock(&self.slots[index as usize].cell);
        cell.value = Some(value);
        let token = Token { generation: cell.generation, index };
        Ok((token, Occupied { slots: self, index, cell }))
    }

    /// Locks the connection of this name, if it is still there.
    pub(crate) fn lock(&self, token: Token) -> Option<Occupied<'_, T>> {
        let cell = lock(&self.slots.get(token.index as usize)?.cell);
        self.occupied(token.index, cell).filter(|found| found.cell.generation == token.generation)
    }

    /// Locks whoever is there, one after the other.
    pub(crate) fn lock_each(&self) -> impl Iterator<Item = Occupied<'_, T>> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| self.occupied(index, lock(&slot.cell)))
    }

    /// The same for whoever is in this place, but does not wait for the lock.
    pub(crate) fn try_lock(&self, index: usize) -> Option<(Token, Occupied<'_, T>)> {
        let cell = match self.slots[index].cell.try_lock() {
            Ok(cell) => cell,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let index = index as u32;
        let token = Token { generation: cell.generation, index };
        self.occupied(index, cell).map(|found| (token, found))
    }

    fn occupied<'a>(&'a self, index: u32, cell: MutexGuard<'a, Cell<T>>) -> Option<Occupied<'a, T>> {
        cell.value.is_some().then(|| Occupied { slots: self, index, cell })
    }

    /// The places whose deadline is past at tick `now`, where `deadline` may move it by what is waited for.
    pub(crate) fn expired(
        &self,
        now: u64,
        deadline: impl Fn(Waiting, u64) -> u64,
    ) -> impl Iterator<Item = usize> {
        let urgencies = self.slots.iter().map(|slot| decode(slot.urgency.load(Ordering::Relaxed)));
        urgencies.enumerate().filter_map(move |(index, found)| {
            found.is_some_and(|(waiting, tick)| deadline(waiting, tick) <= now).then_some(index)
        })
    }

    /// Locks the one that goes first of those that `may_go`, by what they wait for and the tick of their deadline: in the
    /// order of [`Waiting`], and of those that wait for the same, the one that has waited the longest. Passes over who is busy.
    pub(crate) fn lock_first(
        &self,
        may_go: impl Fn(Waiting, u64) -> bool,
    ) -> Option<(Token, Occupied<'_, T>)> {
        let (mut first, mut urgency) = (None, NO_DEADLINE);
        for (index, slot) in self.slots.iter().enumerate() {
            let own = slot.urgency.load(Ordering::Relaxed);
            if own < urgency
                && decode(own).is_some_and(|(waiting, tick)| may_go(waiting, tick))
                && let Some(found) = self.try_lock(index)
            {
                (first, urgency) = (Some(found), own);
            }
        }
        first
    }

    /// Locks the largest unfinished request, if it is larger than `bytes`. Passes over who is busy.
    pub(crate) fn lock_largest(&self, bytes: usize) -> Option<(Token, Occupied<'_, T>)> {
        let (mut largest, mut size) = (None, bytes);
        for (index, slot) in self.slots.iter().enumerate() {
            let own = slot.unfinished_bytes.load(Ordering::Relaxed);
            if own > size
                && let Some(found) = self.try_lock(index)
            {
                (largest, size) = (Some(found), own);
            }
        }
        largest
    }
}

fn decode(urgency: u64) -> Option<(Waiting, u64)> {
    let waiting = match urgency >> TICK_BITS {
        0 => Waiting::Closing,
        1 => Waiting::Silent,
        2 => Waiting::Head,
        3 => Waiting::Body,
        4 => Waiting::Idle,
        5 => Waiting::Sending,
        _ => return None,
    };
    Some((waiting, urgency & TICK_MASK))
}

/// A connection, locked.
pub(crate) struct Occupied<'a, T> {
    slots: &'a Slots<T>,
    index: u32,
    cell: MutexGuard<'a, Cell<T>>,
}

impl<T> Occupied<'_, T> {
    /// Tells what whoever looks at all connections must know of this one: its deadline, and how many bytes it holds of an
    /// unfinished request.
    pub(crate) fn publish(&self, deadline: Option<(Waiting, u64)>, unfinished_bytes: usize) {
        let urgency = match deadline {
            Some((waiting, tick)) => (waiting as u64) << TICK_BITS | tick & TICK_MASK,
            None => NO_DEADLINE,
        };
        let slot = &self.slots.slots[self.index as usize];
        slot.urgency.store(urgency, Ordering::Relaxed);
        slot.unfinished_bytes.store(unfinished_bytes, Ordering::Relaxed);
    }

    /// What is waited for, and until when.
    pub(crate) fn deadline(&self) -> Option<(Waiting, u64)> {
        decode(self.slots.slots[self.index as usize].urgency.load(Ordering::Relaxed))
    }

    /// Takes the connection out. Its token finds nothing from now on.
    pub(crate) fn remove(mut self) -> Box<T> {
        self.publish(None, 0);
        self.cell.generation = self.cell.generation.wrapping_add(1);
        let value = self.cell.value.take().expect("only occupied cells become `Occupied`");
        drop(self.cell);
        lock(&self.slots.free).push(self.index);
        self.slots.used.fetch_sub(1, Ordering::AcqRel);
        value
    }
}

impl<T> Deref for Occupied<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.cell.value.as_ref().expect("only occupied cells become `Occupied`")
    }
}

impl<T> DerefMut for Occupied<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.cell.value.as_mut().expect("only occupied cells become `Occupied`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_outlives_its_connection_and_finds_nothing() {
        let slots = Slots::new(1);
        let (token, occupied) = slots.insert(Box::new('a')).ok().unwrap();
        drop(occupied);
        assert!(slots.insert(Box::new('b')).is_err());
        assert_eq!(*slots.lock(Token::from_u64(token.to_u64())).unwrap(), 'a');
        assert_eq!((*slots.lock(token).unwrap().remove(), slots.used()), ('a', 0));
        let (next, occupied) = slots.insert(Box::new('c')).ok().unwrap();
        drop(occupied);
        assert!(slots.lock(token).is_none());
        assert_eq!(*slots.lock(next).unwrap(), 'c');
    }

    #[test]
    fn who_was_never_served_goes_first_and_of_the_same_kind_who_waits_the_longest() {
        let slots = Slots::new(6);
        let insert = |deadline| {
            let (token, occupied) = slots.insert(Box::new(())).ok().unwrap();
            occupied.publish(deadline, 0);
            token
        };
        let [idle, head, silent, older, _busy] = [
            Some((Waiting::Idle, 1)),
            Some((Waiting::Head, 5)),
            Some((Waiting::Silent, 9)),
            Some((Waiting::Silent, 7)),
            None,
        ]
        .map(insert);
        assert_eq!(slots.expired(7, |_, tick| tick).collect::<Vec<_>>(), [0, 1, 3]);
        let anybody = |_, _| true;
        for next in [older, silent, head, idle] {
            assert_eq!(slots.lock_first(anybody).map(|(token, _)| token), Some(next));
            assert!(slots.lock_first(|_, _| false).is_none());
            slots.lock(next).unwrap().remove();
        }
        assert!(slots.lock_first(anybody).is_none());
        insert(Some((Waiting::Sending, 1)));
        assert!(slots.lock_first(|waiting, _| waiting != Waiting::Sending).is_none());
    }

    #[test]
    fn the_largest_unfinished_request_that_is_not_busy_is_found() {
        let slots = Slots::new(3);
        let insert = |bytes| {
            let (token, occupied) = slots.insert(Box::new(())).ok().unwrap();
            occupied.publish(None, bytes);
            token
        };
        let [_small, large, middle] = [1, 7, 5].map(insert);
        let find = |bytes| slots.lock_largest(bytes).map(|(token, _)| token);
        assert_eq!((find(0), find(6), find(7)), (Some(large), Some(large), None));
        let busy = slots.lock(large).unwrap();
        assert_eq!((find(4), find(5)), (Some(middle), None));
        busy.remove();
        assert_eq!(find(4), Some(middle));
    }
}
