//! Fuzz tests of the two parsers: they must not panic, and must give the same result in one piece and byte by byte.
//!
//! `tests/fuzz` calls the `check_` functions with the input of libFuzzer. The tests here call them with mutated seeds,
//! the same in every run. `FUZZ_SECONDS` is the duration (default: 1).

use crate::chunked::{ChunkedDecoder, Piece};
use crate::head::HeadReader;
use crate::limits::Limits;

/// Parses a head in steps. Returns its length and content, or the status of the rejection.
fn read_head(bytes: &[u8], step: usize, limits: &Limits) -> Result<Option<(usize, String)>, u16> {
    let mut reader = HeadReader::default();
    for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
        match reader.read(&bytes[..end], limits) {
            Ok(Some((head, length))) => {
                assert!(head.target().bytes().all(|byte| byte.is_ascii_graphic()));
                return Ok(Some((length, format!("{head:?} {:?}", head.headers()))));
            }
            Ok(None) => {}
            Err(rejected) => {
                return Err(rejected.error.status);
            }
        }
    }
    Ok(None)
}

/// Parses it as a head.
pub fn check_head(bytes: &[u8]) {
    let small = Limits { max_head_bytes: 150, max_headers: 4, max_url_bytes: 40, ..Limits::default() };
    let whole = read_head(bytes, bytes.len().max(1), &small);
    let by_bytes = read_head(bytes, 1, &small);
    // In an incomplete head, `httparse` may find an error before the line has ended.
    let is_found_early = whole.is_err() && by_bytes == Ok(None);
    // If no head begins with the first byte, it is rejected before the second, which could cause a different
    // error.
    let is_hopeless = whole.is_err() && read_head(&bytes[..bytes.len().min(1)], 1, &small) == Err(400);
    if whole != by_bytes && !is_found_early && !is_hopeless {
        panic!("{:?}: {whole:?}, byte by byte {by_bytes:?}", String::from_utf8_lossy(bytes));
    }
}

/// Decodes a chunked body in steps. Returns its content and length.
fn decode(bytes: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let mut decoder = ChunkedDecoder::new(32);
    let (mut content, mut used) = (Vec::new(), 0);
    for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
        loop {
            let (taken, piece) = decoder.next(&bytes[used..end]).map_err(drop)?;
            used += taken;
            match piece {
                Piece::Data(data) => content.extend_from_slice(data),
                Piece::More => break,
                Piece::End => return Ok(Some((content, used))),
            }
        }
    }
    Ok(None)
}

/// Decodes it as a chunked body.
pub fn check_chunked_body(bytes: &[u8]) {
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, 1), "{:?}", String::from_utf8_lossy(bytes));
    if let Ok(Some((content, used))) = whole {
        assert!(content.len() < used && used <= bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Marsaglia's xorshift with 64 bits.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }
    }

    /// Pieces with a meaning in one of the two grammars.
    const WORDS: [&[u8]; 22] = [
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"0",
        b"\0",
        b"\x80",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"Host: h\r\n",
        b"Content-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"X: y\r\n",
        b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"0\r\n\r\n",
        b"1\r\na\r\n",
    ];

    fn mutate(random: &mut Random, corpus: &[&[u8]]) -> Vec<u8> {
        let mut bytes = corpus[random.below(corpus.len())].to_vec();
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len() + 1);
            let end = at + random.below(bytes.len() - at + 1).min(8);
            match random.below(4) {
                0 => drop(bytes.drain(at..end)),
                1 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
                2 if at < bytes.len() => bytes[at] = random.below(256) as u8,
                _ => {
                    let copied = bytes[at..end].to_vec();
                    bytes.splice(at..at, copied);
                }
            }
        }
        bytes
    }

    /// Calls `check` with mutated inputs until the time is over, but at least 5,000 times.
    fn fuzz(corpus: &[&[u8]], check: impl Fn(&[u8])) {
        let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut rounds = 0_u64;
        while rounds < 5_000 || Instant::now() < end {
            check(&mutate(&mut random, corpus));
            rounds += 1;
        }
    }

    #[test]
    fn head_when_split_into_bytes_parses_the_same() {
        let corpus: [&[u8]; 7] = [
            include_bytes!("../../../tests/fuzz/seeds/head/get"),
            include_bytes!("../../../tests/fuzz/seeds/head/post"),
            include_bytes!("../../../tests/fuzz/seeds/head/chunked"),
            include_bytes!("../../../tests/fuzz/seeds/head/old"),
            include_bytes!("../../../tests/fuzz/seeds/head/absolute"),
            include_bytes!("../../../tests/fuzz/seeds/head/preface"),
            include_bytes!("../../../tests/fuzz/seeds/head/fold"),
        ];
        fuzz(&corpus, check_head);
    }

    #[test]
    fn chunked_body_when_split_into_bytes_decodes_the_same() {
        let corpus: [&[u8]; 4] = [
            include_bytes!("../../../tests/fuzz/seeds/chunked_body/plain"),
            include_bytes!("../../../tests/fuzz/seeds/chunked_body/extension"),
            include_bytes!("../../../tests/fuzz/seeds/chunked_body/huge"),
            include_bytes!("../../../tests/fuzz/seeds/chunked_body/zeros"),
        ];
        fuzz(&corpus, check_chunked_body);
    }
}
