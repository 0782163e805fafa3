//! The lingering close: after the last response, input is read and discarded for a while. A close with unread input
//! would reset the connection, and the client could lose the response (RFC 9112, section 9.6).

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::receive::ReadBuffer;
use super::{Action, Connection, Disconnected, Phase, READ_BYTES};
use crate::connection_table::Waiting;
use crate::engine::Engine;

pub(super) struct Linger {
    /// Bytes that may still be discarded.
    bytes_left: usize,
}

impl Connection {
    pub(super) fn begin_linger(&mut self, engine: &Arc<Engine>) {
        self.phase = Phase::Lingering(Linger { bytes_left: engine.limits.max_linger_bytes });
        self.deadline = Some(engine.deadline(Waiting::Closing));
    }

    /// Discards what has arrived.
    pub(super) fn linger(&mut self, mut linger: Linger, _engine: &Arc<Engine>) -> Action {
        let mut buffer: ReadBuffer = [const { MaybeUninit::uninit() }; READ_BYTES];
        while self.readable {
            let count = match self.read(&mut buffer) {
                Ok(Some(bytes)) => bytes.len(),
                Ok(None) => break,
                Err(Disconnected) => return Action::Close,
            };
            if linger.bytes_left <= count {
                return Action::Close;
            }
            linger.bytes_left -= count;
        }
        self.phase = Phase::Lingering(linger);
        Action::Wait
    }
}
