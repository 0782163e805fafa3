//! The reader of a request body, within the limit of one body and the quota of all requests.
//!
//! It never takes a byte past the end of the body: that byte belongs to the next request.

use std::sync::Arc;

use crate::chunked::{ChunkedDecoder, Piece};
use crate::connection::OUT_OF_REQUEST_MEMORY;
use crate::engine::Engine;
use crate::head::{Framing, Head, HttpError};
use crate::quota::{QuotaBuf, QuotaExceeded};

pub(crate) const BODY_TOO_LARGE: HttpError = HttpError::new(413, "The request body is too large");

/// A request whose body is incomplete.
pub(crate) struct BodyReader {
    pub(crate) head: Head,
    pub(crate) body: QuotaBuf,
    /// `None` for a body with `Content-Length`.
    pub(crate) chunked: Option<ChunkedDecoder>,
}

impl BodyReader {
    /// Takes the bytes of the body from the start of `bytes`. Returns how many it took, and whether the body is
    /// complete.
    pub(crate) fn read(&mut self, bytes: &[u8], engine: &Arc<Engine>) -> Result<(usize, bool), HttpError> {
        let Some(decoder) = &mut self.chunked else {
            let Framing::Length(length) = self.head.framing else {
                return Ok((0, true));
            };
            // At most `max_body_bytes`, which was checked before this reader was created.
            let length = length as usize;
            let count = (length - self.body.len()).min(bytes.len());
            append(&mut self.body, &bytes[..count], length, engine)?;
            return Ok((count, self.body.len() == length));
        };
        let max_bytes = engine.limits.max_body_bytes;
        let mut used = 0;
        loop {
            let (taken, piece) = decoder.next(&bytes[used..])?;
            used += taken;
            let data = match piece {
                Piece::Data(data) => data,
                Piece::More => &[],
                Piece::End => return Ok((used, true)),
            };
            let length = (self.body.len() as u64).saturating_add(data.len() as u64);
            if length.saturating_add(decoder.remaining_in_chunk()) > max_bytes as u64 {
                return Err(BODY_TOO_LARGE);
            }
            if data.is_empty() {
                return Ok((used, false));
            }
            append(&mut self.body, data, max_bytes, engine)?;
        }
    }
}

/// Appends request bytes to `buffer`. If the quota is exceeded, the largest unfinished request is rejected, which may
/// be this one.
pub(crate) fn append(
    buffer: &mut QuotaBuf,
    bytes: &[u8],
    max_capacity: usize,
    engine: &Arc<Engine>,
) -> Result<(), HttpError> {
    while buffer.extend(bytes, max_capacity, &engine.request_quota) == Err(QuotaExceeded) {
        if !engine.reject_larger_request(buffer.len()) {
            return Err(OUT_OF_REQUEST_MEMORY);
        }
    }
    Ok(())
}
