//! A request whose body is arriving: what has come of it, within the limits of one body and of all bodies together.
//!
//! It never takes a byte past the end of its body; that byte is the next request's.

use std::sync::Arc;

use crate::body::{ChunkedDecoder, Piece};
use crate::budget::{Counted, OverBudget};
use crate::connection::NO_MEMORY_FOR_IT;
use crate::engine::Engine;
use crate::head::{Fault, Framing, Head};

pub(crate) const BODY_TOO_LARGE: Fault = Fault::new(413, "The request body is too large");

/// A request whose body is arriving.
pub(crate) struct Receiving {
    pub(crate) head: Head,
    pub(crate) body: Counted,
    /// `None` for a body of a known length.
    pub(crate) chunked: Option<ChunkedDecoder>,
}

impl Receiving {
    /// Takes what belongs to the body from the start of `bytes`; gives how much that was, and whether the body is whole.
    pub(crate) fn take(&mut self, bytes: &[u8], engine: &Arc<Engine>) -> Result<(usize, bool), Fault> {
        let Some(decoder) = &mut self.chunked else {
            let Framing::Length(length) = self.head.framing else {
                return Ok((0, true));
            };
            // It is at most `max_body_bytes`, or the body would not have been begun.
            let length = length as usize;
            let count = (length - self.body.len()).min(bytes.len());
            hold(&mut self.body, &bytes[..count], length, engine)?;
            return Ok((count, self.body.len() == length));
        };
        let most = engine.limits.max_body_bytes;
        let mut used = 0;
        loop {
            let (taken, piece) = decoder.next(&bytes[used..])?;
            used += taken;
            let data = match piece {
                Piece::Data(data) => data,
                Piece::More => &[],
                Piece::End => return Ok((used, true)),
            };
            let promised = (self.body.len() as u64).saturating_add(data.len() as u64);
            if promised.saturating_add(decoder.promised()) > most as u64 {
                return Err(BODY_TOO_LARGE);
            }
            if data.is_empty() {
                return Ok((used, false));
            }
            hold(&mut self.body, data, most, engine)?;
        }
    }
}

/// Appends to what is held of a request. When all of them together are too large, the largest unfinished one goes first, be it
/// this one.
pub(crate) fn hold(held: &mut Counted, bytes: &[u8], most: usize, engine: &Arc<Engine>) -> Result<(), Fault> {
    while held.extend(bytes, most, &engine.budget) == Err(OverBudget) {
        if !engine.drop_larger_request(held.len()) {
            return Err(NO_MEMORY_FOR_IT);
        }
    }
    Ok(())
}
