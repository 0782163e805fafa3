//! Decodes a chunked body (RFC 9112, section 7.1): bytes in, pieces of content out.
//!
//! Pure: no socket, no clock. It holds no content, and it must never take a byte that the grammar does not name: what two
//! decoders read differently is how requests are smuggled.

use crate::head::Fault;

/// Digits of a chunk size. More of them would only be zeros or a size that no limit allows.
const MAX_SIZE_DIGITS: u8 = 16;

/// Where in the grammar the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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

/// What [`ChunkedDecoder::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Content.
    Data(&'a [u8]),
    /// All input is taken, and the body goes on.
    More,
    /// The body has ended; the rest of the input belongs to the next request.
    End,
}

/// A decoder for one body.
#[derive(Debug)]
pub(crate) struct ChunkedDecoder {
    state: State,
    digits: u8,
    /// Bytes of the current chunk that have not come yet.
    remaining: u64,
    /// Bytes that extensions and trailers may still take.
    extra: usize,
}

impl ChunkedDecoder {
    /// A decoder that allows `extra` bytes of chunk extensions and trailers in all.
    pub(crate) fn new(extra: usize) -> ChunkedDecoder {
        ChunkedDecoder { state: State::Size, digits: 0, remaining: 0, extra }
    }

    /// Bytes that the current chunk has promised and not brought yet.
    pub(crate) fn promised(&self) -> u64 {
        if self.state == State::Data { self.remaining } else { 0 }
    }

    /// Takes bytes from the start of `input` up to the next piece. Gives how many it took.
    pub(crate) fn next<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Piece<'a>), Fault> {
        let mut taken = 0;
        loop {
            if self.state == State::End {
                return Ok((taken, Piece::End));
            }
            if self.state == State::Data {
                let rest = &input[taken..];
                let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(rest.len());
                if wanted == 0 {
                    return Ok((taken, Piece::More));
                }
                self.remaining -= wanted as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
                return Ok((taken + wanted, Piece::Data(&rest[..wanted])));
            }
            let Some(&byte) = input.get(taken) else {
                return Ok((taken, Piece::More));
            };
            taken += 1;
            self.state = self.after(byte)?;
        }
    }

    /// The state after `byte`, which is none of content.
    fn after(&mut self, byte: u8) -> Result<State, Fault> {
        match (self.state, byte) {
            (State::Size, _) => self.after_in_size(byte),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, b' '..=b'~' | b'\t') => self.extra(State::Extension),
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                Ok(if self.remaining == 0 { State::TrailerStart } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart, byte) if crate::message::is_token(&[byte]) => {
                self.extra(State::TrailerName)
            }
            (State::TrailerName, b':') => self.extra(State::TrailerValue),
            (State::TrailerName, byte) if crate::message::is_token(&[byte]) => self.extra(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b' '..=b'~' | b'\t' | 128..) => self.extra(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::EndLf, b'\n') => Ok(State::End),
            _ => Err(Fault::bad("The chunked body is malformed")),
        }
    }

    fn after_in_size(&mut self, byte: u8) -> Result<State, Fault> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => return Ok(State::SizeLf),
            b';' if self.digits > 0 => return self.extra(State::Extension),
            _ => return Err(Fault::bad("A chunk size is malformed")),
        };
        if self.digits == MAX_SIZE_DIGITS {
            return Err(Fault::bad("A chunk size is too long"));
        }
        self.digits += 1;
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(State::Size)
    }

    /// Counts a byte of an extension or a trailer.
    fn extra(&mut self, next: State) -> Result<State, Fault> {
        let left = self.extra.checked_sub(1);
        self.extra = left.ok_or(Fault::bad("The chunk extensions or trailers are too long"))?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` in pieces of `step` bytes; gives the content and how many bytes the body took.
    fn decode(input: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, Fault> {
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
    fn a_body_is_decoded_whatever_its_pieces() {
        for (input, content) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
            (b"3\r\nabc\r\n0A\r\n0123456789\r\n000\r\n\r\n", b"abc0123456789"),
            (b"3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\nTrailer: \xe9\r\nB:\r\n\r\n", b"abc"),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        ] {
            let next = [input, b"GET"].concat();
            for step in 1..=next.len() {
                assert_eq!(
                    decode(&next, step),
                    Ok(Some((content.to_vec(), input.len()))),
                    "{input:?} by {step}"
                );
            }
            for end in 0..input.len() {
                assert_eq!(decode(&input[..end], 1), Ok(None));
            }
        }
    }

    #[test]
    fn what_the_grammar_does_not_name_is_refused() {
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
    fn a_chunk_says_how_much_it_promises() {
        let mut decoder = ChunkedDecoder::new(0);
        assert_eq!(decoder.next(b"ffffffffffffffff\r\n"), Ok((18, Piece::More)));
        assert_eq!(decoder.promised(), u64::MAX);
    }
}
