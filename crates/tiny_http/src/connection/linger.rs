//! The lingering close: after the last response, input is read and discarded for a while. A close with unread input
//! would reset the connection, and the client could lose the response (RFC 9112, section 9.6).
//!
//! Many clients and proxies send a whole body before they read the response. So after a 413 the rest of the body is
//! discarded within larger limits, which [`Limits::max_discarding_connections`] connections may use at the same time.

use std::mem::{self, MaybeUninit};
use std::sync::Arc;

use super::receive::ReadBuffer;
use super::{Action, Connection, Disconnected, Phase, READ_BYTES, READS_PER_TURN};
use crate::body_reader::BODY_TOO_LARGE;
use crate::connection_table::Waiting;
use crate::engine::Engine;
use crate::head::{Framing, Head, HttpError};
use crate::lifecycle::Stage;
use crate::limits::Limits;
use crate::quota::Reservation;

pub(super) struct Linger {
    /// Bytes that may still be discarded.
    bytes_left: usize,
    /// Set if the input is the rest of a body that is too large.
    rejected_body: Option<RejectedBody>,
}

struct RejectedBody {
    /// The tick by which it must be complete.
    deadline: u64,
    /// Counts this connection against [`Limits::max_discarding_connections`].
    _reservation: Reservation,
}

/// Whether this error rejects a body whose rest is not too long to be discarded.
pub(super) fn discards_body(error: HttpError, head: Option<&Head>, limits: &Limits) -> bool {
    error == BODY_TOO_LARGE
        && head.is_some_and(|head| match head.framing {
            Framing::Length(length) => length <= limits.max_discard_bytes as u64,
            Framing::Chunked => true,
            Framing::Absent => false,
        })
}

impl Connection {
    pub(super) fn begin_linger(&mut self, engine: &Arc<Engine>) {
        let limits = &engine.limits;
        let mut linger = Linger { bytes_left: limits.max_linger_bytes, rejected_body: None };
        if mem::take(&mut self.discards_body)
            && let Ok(_reservation) = Reservation::new(&engine.discard_quota, 1)
        {
            let deadline = engine.clock.after(limits.body_timeout);
            linger = Linger {
                bytes_left: limits.max_discard_bytes,
                rejected_body: Some(RejectedBody { deadline, _reservation }),
            };
        }
        self.phase = Phase::Lingering(linger);
        self.deadline = Some(engine.deadline(Waiting::Closing));
    }

    /// Discards what has arrived.
    pub(super) fn linger(&mut self, mut linger: Linger, engine: &Arc<Engine>) -> Action {
        let mut buffer: ReadBuffer = [const { MaybeUninit::uninit() }; READ_BYTES];
        for _ in 0..READS_PER_TURN {
            if !self.readable {
                break;
            }
            let count = match self.read(&mut buffer) {
                Ok(bytes) => bytes.map_or(0, <[u8]>::len),
                Err(Disconnected) => return Action::Close,
            };
            if linger.bytes_left < count {
                return Action::Close;
            }
            linger.bytes_left -= count;
            // While a rejected body arrives, the pause begins anew. A shutdown does not wait for that.
            if let Some(body) = &linger.rejected_body
                && count > 0
                && engine.stage() == Stage::Open
            {
                let (waiting, tick) = engine.deadline(Waiting::Closing);
                self.deadline = Some((waiting, tick.min(body.deadline)));
            }
        }
        self.phase = Phase::Lingering(linger);
        if self.readable { Action::Requeue } else { Action::Wait }
    }
}
