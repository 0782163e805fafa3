//! The decoder of a chunked body (RFC 9112, section 7.1): bytes in, pieces of content out.
//!
//! Pure: no socket, no clock, no buffer. It accepts only what the grammar allows: a body that two decoders read
//! differently allows request smuggling.

use crate::head::HttpError;

/// Digits of a chunk size. More digits would be leading zeros or a size above every limit.
const MAX_SIZE_DIGITS: u8 = 16;

/// The position of the next byte in the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

/// The result of [`ChunkedDecoder::next`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Content.
    Data(&'a [u8]),
    /// The input is used up, and the body is incomplete.
    More,
    /// The body is complete. The rest of the input belongs to the next request.
    End,
}

/// A decoder for one body.
#[derive(Debug)]
pub(crate) struct ChunkedDecoder {
    position: Position,
    digits: u8,
    /// Bytes of the current chunk that have not arrived yet.
    remaining: u64,
    /// Bytes that extensions and trailers may still use.
    extra: usize,
}

impl ChunkedDecoder {
    /// A decoder that allows `extra` bytes of chunk extensions and trailers in total.
    pub(crate) fn new(extra: usize) -> ChunkedDecoder {
        ChunkedDecoder { position: Position::Size, digits: 0, remaining: 0, extra }
    }

    /// Bytes of the current chunk that have not arrived yet.
    pub(crate) fn remaining_in_chunk(&self) -> u64 {
        if self.position == Position::Data { self.remaining } else { 0 }
    }

    /// Decodes the start of `input` up to the next piece. Returns how many bytes it used.
    pub(crate) fn next<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Piece<'a>), HttpError> {
        let mut taken = 0;
        loop {
            if self.position == Position::End {
                return Ok((taken, Piece::End));
            }
            if self.position == Position::Data {
                let rest = &input[taken..];
                let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest.len());
                if wanted == 0 {
                    return Ok((taken, Piece::More));
                }
                self.remaining -= wanted as u64;
                if self.remaining == 0 {
                    self.position = Position::DataCr;
                }
                return Ok((taken + wanted, Piece::Data(&rest[..wanted])));
            }
            let Some(&byte) = input.get(taken) else {
                return Ok((taken, Piece::More));
            };
            taken += 1;
            self.position = self.after(byte)?;
        }
    }

    /// The position after `byte`, which is not content.
    fn after(&mut self, byte: u8) -> Result<Position, HttpError> {
        match (self.position, byte) {
            (Position::Size, _) => self.after_in_size(byte),
            (Position::Extension, b'\r') => Ok(Position::SizeLf),
            (Position::Extension, b' '..=b'~' | b'\t') => self.extra(Position::Extension),
            (Position::SizeLf, b'\n') => {
                self.digits = 0;
                Ok(if self.remaining == 0 { Position::TrailerStart } else { Position::Data })
            }
            (Position::DataCr, b'\r') => Ok(Position::DataLf),
            (Position::DataLf, b'\n') => Ok(Position::Size),
            (Position::TrailerStart, b'\r') => Ok(Position::EndLf),
            (Position::TrailerStart, byte) if crate::message::is_token(&[byte]) => self.extra(Position::TrailerName),
            (Position::TrailerName, b':') => self.extra(Position::TrailerValue),
            (Position::TrailerName, byte) if crate::message::is_token(&[byte]) => self.extra(Position::TrailerName),
            (Position::TrailerValue, b'\r') => Ok(Position::TrailerLf),
            (Position::TrailerValue, b' '..=b'~' | b'\t' | 128..) => self.extra(Position::TrailerValue),
            (Position::TrailerLf, b'\n') => Ok(Position::TrailerStart),
            (Position::EndLf, b'\n') => Ok(Position::End),
            _ => Err(HttpError::bad("The chunked body is malformed")),
        }
    }

    fn after_in_size(&mut self, byte: u8) -> Result<Position, HttpError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => return Ok(Position::SizeLf),
            b';' if self.digits > 0 => return self.extra(Position::Extension),
            _ => return Err(HttpError::bad("A chunk size is malformed")),
        };
        if self.digits == MAX_SIZE_DIGITS {
            return Err(HttpError::bad("A chunk size is too long"));
        }
        self.digits += 1;
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(Position::Size)
    }

    /// Counts a byte of an extension or a trailer.
    fn extra(&mut self, next: Position) -> Result<Position, HttpError> {
        let left = self.extra.checked_sub(1);
        self.extra = left.ok_or(HttpError::bad("The chunk extensions or trailers are too long"))?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` in pieces of `step` bytes. Returns the content and the length of the body.
    fn decode(input: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, HttpError> {
        let mut decoder = ChunkedDecoder::new(64);
        let mut content = Vec::new();
        let mut taken = 0;
        for piece in input.chunks(step) {
            let mut rest = piece;
            loop {
                let (used, found) = decoder.next(rest)?;
                taken += used;
                rest = &rest[used..];
                match found {
                    Piece::Data(data) => content.extend_from_slice(data),
                    Piece::More => break,
                    Piece::End => return Ok(Some((content, taken))),
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn body_when_split_anywhere_is_decoded_the_same() {
        for (input, content) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
            (b"3\r\nabc\r\n0A\r\n0123456789\r\n000\r\n\r\n", b"abc0123456789"),
            (b"3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\nTrailer: \xe9\r\nB:\r\n\r\n", b"abc"),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        ] {
            let next = [input, b"GET"].concat();
            for step in 1..=next.len() {
                assert_eq!(decode(&next, step), Ok(Some((content.to_vec(), input.len()))), "{input:?} by {step}");
            }
            for end in 0..input.len() {
                assert_eq!(decode(&input[..end], 1), Ok(None));
            }
        }
    }

    #[test]
    fn body_when_malformed_is_rejected() {
        let long_trailers = [b"0\r\n".as_slice(), &b"A: b\r\n".repeat(50)].concat();
        let long_extension = [b"1;".as_slice(), &b"a".repeat(65)].concat();
        let endless_size = b"0".repeat(17);
        for input in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1 \r\n",
            b"1 ;a\r\n",
            b"1\n",
            b"1\r\r\n",
            b"1;a\nb\r\n",
            b"1;\0\r\n",
            b"1;\xe9\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\na0\r\n\r\n",
            b"0\r\n\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\n A: b\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\nAb\r\n\r\n",
            b"0\r\n: b\r\n\r\n",
            b"0\r\nA: \0\r\n\r\n",
            b"0\r\n\r\0",
            &long_trailers,
            &long_extension,
            &endless_size,
        ] {
            for step in [1, input.len()] {
                assert!(decode(input, step).is_err(), "{:?}", String::from_utf8_lossy(input));
            }
        }
    }

    #[test]
    fn chunk_when_its_size_is_read_reports_the_remaining_bytes() {
        let mut decoder = ChunkedDecoder::new(0);
        assert_eq!(decoder.next(b"ffffffffffffffff\r\n"), Ok((18, Piece::More)));
        assert_eq!(decoder.remaining_in_chunk(), u64::MAX);
    }
}
