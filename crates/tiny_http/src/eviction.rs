//! Eviction: which connection is closed, or which request rejected, when a limit shared by all connections is
//! reached.
//!
//! No method here waits for a connection that is locked.

use std::sync::Arc;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::clock::ticks_in;
use crate::connection::Connection;
use crate::connection_table::Waiting;
use crate::engine::Engine;
use crate::response_writer::ResponseWriter;

impl Engine {
    /// Adds a new connection to the table and to the epoll set. Returns it if the table is full.
    pub(crate) fn insert(&self, connection: Box<Connection>) -> Result<(), Box<Connection>> {
        let (id, connection) = self.connections.insert(connection)?;
        connection.publish(connection.deadline, 0);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if epoll::add(&self.epoll, connection.socket(), EventData::new_u64(id.to_u64()), flags).is_err() {
            self.close(connection);
        }
        Ok(())
    }

    /// Closes a connection that has waited for its client for at least `evictable_after`, if there is one.
    pub(crate) fn evict_one(self: &Arc<Self>) {
        let now = self.clock.now();
        let min_wait = ticks_in(self.limits.evictable_after);
        let may_evict = |waiting, deadline: u64| {
            let since = deadline.saturating_sub(ticks_in(self.timeout(waiting)));
            waiting != Waiting::Sending && now >= since + min_wait
        };
        self.close_first(may_evict, |connection| connection.evict(self));
    }

    /// Reserves the memory of a response that has to wait for its client. While the quota is exceeded, closes the
    /// connection whose client has read nothing for the longest time. Returns whether the memory is reserved.
    pub(crate) fn reserve_unsent(&self, response: &mut ResponseWriter) -> bool {
        while response.reserve_memory(&self.response_quota).is_err() {
            if !self.close_first(|waiting, _| waiting == Waiting::Sending, |_| {}) {
                return false;
            }
        }
        true
    }

    /// Rejects the largest unfinished request above `own_bytes`. Returns whether there was one.
    pub(crate) fn reject_larger_request(self: &Arc<Self>, own_bytes: usize) -> bool {
        let largest = self.connections.lock_largest(own_bytes);
        // It may have advanced before it was locked.
        let Some((id, mut connection)) = largest.filter(|(_, found)| found.unfinished_bytes() > own_bytes) else {
            return false;
        };
        let action = connection.drop_unfinished(self);
        self.apply(id, connection, action);
        true
    }

    /// Closes the first connection in eviction order that `may_evict`, after `before_close`. Returns whether there
    /// was one.
    fn close_first(&self, may_evict: impl Fn(Waiting, u64) -> bool, before_close: impl Fn(&mut Connection)) -> bool {
        let first = self.connections.lock_first(&may_evict);
        // It may have advanced before it was locked.
        let first = first.filter(|(_, found)| found.deadline().is_some_and(|(what, tick)| may_evict(what, tick)));
        let Some((_, mut connection)) = first else {
            return false;
        };
        before_close(&mut connection);
        self.close(connection);
        true
    }
}
