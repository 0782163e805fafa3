//! The body of a response: read piece by piece, and framed for its client.

use std::io::{self, Read};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes of a body that are read at a time. Four hexadecimal digits suffice for them.
pub(crate) const PIECE_BYTES: usize = 16 * 1024;
/// The framing of a chunk and the end of the last one: `4000\r\n`, `\r\n` and `0\r\n\r\n`.
pub(crate) const CHUNK_FRAMING_BYTES: usize = 13;

/// How the end of the body is marked (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseFraming {
    /// Bytes left to send.
    Length(usize),
    Chunked,
    UntilClose,
}

/// A body that is read piece by piece.
pub(crate) struct ResponseBody {
    reader: Box<dyn Read + Send>,
    framing: ResponseFraming,
    /// See [`crate::Response::with_retained_bytes`].
    pub(crate) retained_bytes: usize,
}

impl Drop for ResponseBody {
    /// The reader is application code: a panic in its drop must not end a thread of the engine.
    fn drop(&mut self) {
        let reader = mem::replace(&mut self.reader, Box::new(io::empty()));
        // The panic hook has reported the panic.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(reader)));
    }
}

impl ResponseBody {
    pub(crate) fn new(
        reader: impl Read + Send + 'static,
        framing: ResponseFraming,
        retained_bytes: usize,
    ) -> ResponseBody {
        ResponseBody { reader: Box::new(reader), framing, retained_bytes }
    }

    /// Appends the next piece to `buffer`. Returns whether it was the last.
    pub(crate) fn read_piece(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        match &mut self.framing {
            ResponseFraming::Length(left) => {
                let count = read_up_to(&mut self.reader, buffer, PIECE_BYTES.min(*left))?;
                *left -= count;
                if count == 0 && *left > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(*left == 0)
            }
            ResponseFraming::UntilClose => Ok(read_up_to(&mut self.reader, buffer, PIECE_BYTES)? < PIECE_BYTES),
            ResponseFraming::Chunked => {
                let start = buffer.len();
                buffer.extend_from_slice(b"0000\r\n");
                let count = read_up_to(&mut self.reader, buffer, PIECE_BYTES)?;
                if count == 0 {
                    buffer.truncate(start);
                } else {
                    write_hexadecimal(&mut buffer[start..start + 4], count);
                    buffer.extend_from_slice(b"\r\n");
                }
                let is_last = count < PIECE_BYTES;
                if is_last {
                    buffer.extend_from_slice(b"0\r\n\r\n");
                }
                Ok(is_last)
            }
        }
    }
}

/// Reads `max_bytes`, or fewer at the end. Returns how many it read.
fn read_up_to(reader: &mut impl Read, buffer: &mut Vec<u8>, max_bytes: usize) -> io::Result<usize> {
    reader.take(max_bytes as u64).read_to_end(buffer)
}

fn write_hexadecimal(place: &mut [u8], mut number: usize) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[number % 16];
        number /= 16;
    }
}
