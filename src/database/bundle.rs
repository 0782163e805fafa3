//! Several statements that PostgreSQL answers in one go.
//!
//! `tokio-postgres` ends each statement by a `Sync`, at which PostgreSQL ends the transaction, sends what it has, and says that it is
//! ready: a third to a half of what a short statement costs it. The protocol needs one `Sync` after any number of them (PostgreSQL's
//! documentation, 55.2.4, "Pipelining"). So where statements are sent together, of these only the last is passed on, and the client
//! hears after each statement that the server is ready, as it would have heard from the server.
//!
//! One that fails ends the bundle: PostgreSQL passes over those behind it. For each of them the client hears nothing but that the server
//! is ready.

use std::io;

/// The length of a message's head: a letter, and the number of bytes that follow the letter.
const HEAD_BYTES: usize = 5;
const SYNC: &[u8] = b"S\0\0\0\x04";
/// Has the server send what it has.
const FLUSH: &[u8] = b"H\0\0\0\x04";
/// `ReadyForQuery`. Nobody looks at the state of the transaction that it tells.
const READY: &[u8] = b"Z\0\0\0\x05I";

/// What is said on a connection after login, as far as bundles depend on it.
#[derive(Debug, Default)]
pub struct Bundle {
    /// How often the server is still to say that it is ready.
    awaited: usize,
    /// How many `Sync`s are still to be left out.
    left_out: usize,
    /// How many that are when half of the bundle is sent. What has been answered then comes at once: slow statements get as much
    /// time together as when each had a `Sync`, which is what a request has.
    half: usize,
    /// How many statements of the bundle the client has not heard the end of.
    open: usize,
    /// One of them has failed.
    is_broken: bool,
    /// What has come of the head of the message that comes next, or is under way.
    head: Vec<u8>,
    /// How much of its content is still to come, in bytes.
    missing: usize,
}

impl Bundle {
    /// This many statements are sent next, and in one go. Where the client has not heard the end of what was sent before, which it
    /// does not always wait for, they are sent as they are.
    pub fn begin(&mut self, statements: usize) {
        if statements > 1 && self.awaited == 0 && self.head.is_empty() {
            (self.open, self.left_out, self.half) = (statements, statements - 1, (statements - 1) / 2);
            self.is_broken = false;
        }
    }

    /// Adds to `sent` what the server is to receive of these messages of the client, which are whole.
    pub fn send(&mut self, mut messages: &[u8], sent: &mut Vec<u8>) {
        while let Some((&[letter, a, b, c, d], _)) = messages.split_first_chunk() {
            let length = 1 + u32::from_be_bytes([a, b, c, d]) as usize;
            let (message, rest) = messages.split_at(length.min(messages.len()));
            if self.left_out > 0 && message == SYNC {
                self.left_out -= 1;
                if self.left_out == self.half {
                    sent.extend_from_slice(FLUSH);
                }
            } else {
                self.awaited += usize::from(matches!(letter, b'S' | b'Q')); // `Sync`, or a simple query
                sent.extend_from_slice(message);
            }
            messages = rest;
        }
        sent.extend_from_slice(messages);
    }

    /// Hears what the server says. In a bundle, which this tells, the client hears what is added to `heard`: the same, and what stands
    /// for what was left out.
    ///
    /// # Errors
    /// When the server is ready without having answered.
    pub fn hear(&mut self, bytes: &[u8], heard: &mut Vec<u8>) -> io::Result<bool> {
        let is_bundle = self.open > 0;
        let (mut at, mut passed_on) = (0, 0);
        while at < bytes.len() {
            let is_head = self.head.len() < HEAD_BYTES;
            let wanted = if is_head { HEAD_BYTES - self.head.len() } else { self.missing };
            let part = &bytes[at..(at + wanted).min(bytes.len())];
            at += part.len();
            if is_head {
                self.head.extend_from_slice(part);
                if let Some(&[a, b, c, d]) = self.head.get(1..HEAD_BYTES) {
                    self.missing = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                }
            } else {
                self.missing -= part.len();
            }
            if self.head.len() == HEAD_BYTES && self.missing == 0 {
                let left_out = self.end_message()?;
                if left_out > 0 {
                    heard.extend_from_slice(&bytes[passed_on..at]);
                    heard.extend_from_slice(&READY.repeat(left_out));
                    passed_on = at;
                }
            }
        }
        if is_bundle {
            heard.extend_from_slice(&bytes[passed_on..]);
        }
        Ok(is_bundle)
    }

    /// How often the server would have said behind this message that it is ready, had nothing been left out.
    fn end_message(&mut self) -> io::Result<usize> {
        let letter = self.head[0];
        self.head.clear();
        match letter {
            // `CommandComplete`, `ErrorResponse`; behind the last statement the server says it itself
            b'C' | b'E' if self.open > 0 => {
                self.is_broken |= letter == b'E';
                let is_left_out = self.open > 1;
                self.open -= usize::from(is_left_out);
                Ok(usize::from(is_left_out))
            }
            b'Z' => {
                self.awaited = self.awaited.saturating_sub(1);
                let unanswered = std::mem::take(&mut self.open).saturating_sub(1);
                if unanswered > 0 && !self.is_broken {
                    let message = "the database is ready without having answered";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                Ok(unanswered)
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATEMENT: &[u8] = b"B\0\0\0\x07abcE\0\0\0\x09\0\0\0\0\0";
    const BOUND: &[u8] = b"2\0\0\0\x04";
    const ROW: &[u8] = b"D\0\0\0\x0bZCESZCE";
    const COMPLETE: &[u8] = b"C\0\0\0\x0dSELECT 1\0";
    const REFUSED: &[u8] = b"E\0\0\0\x05\0";
    const NOTICE: &[u8] = b"N\0\0\0\x05\0";

    fn one() -> Vec<u8> {
        [STATEMENT, SYNC].concat()
    }

    /// A bundle of so many statements, and what the server has received of it.
    fn sent(statements: usize) -> (Bundle, Vec<u8>) {
        let (mut bundle, mut sent) = (Bundle::default(), Vec::new());
        bundle.begin(statements);
        bundle.send(&one().repeat(statements), &mut sent);
        (bundle, sent)
    }

    /// What the client hears of a bundle of three, in whatever two pieces this comes.
    fn heard(messages: &[&[u8]]) -> Vec<u8> {
        let bytes = messages.concat();
        let mut all: Vec<_> = (0..=bytes.len())
            .map(|cut| {
                let ((mut bundle, _), mut heard) = (sent(3), Vec::new());
                for piece in [&bytes[..cut], &bytes[cut..]] {
                    let before = heard.len();
                    bundle.hear(piece, &mut heard).unwrap();
                    assert!(heard.len() - before >= piece.len(), "what is withheld would look like the end");
                }
                assert!(
                    !bundle.hear(NOTICE, &mut heard).unwrap(),
                    "{messages:?} cut at {cut}: it is not over"
                );
                heard
            })
            .collect();
        all.dedup();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn of_the_syncs_the_last_is_sent_and_in_the_middle_a_flush() {
        assert_eq!(sent(1).1, one());
        assert_eq!(sent(3).1, [STATEMENT, FLUSH, STATEMENT, STATEMENT, SYNC].concat());
        let eight = STATEMENT.repeat(8);
        assert_eq!(sent(16).1, [&eight, FLUSH, &eight, SYNC].concat());

        let (mut bundle, mut sent) = (Bundle::default(), Vec::new());
        bundle.begin(2);
        for _ in 0..3 {
            bundle.send(&one(), &mut sent);
        }
        bundle.send(b"Q\0\0\0", &mut sent);
        let as_it_is = b"Q\0\0\0".as_slice();
        assert_eq!(sent, [STATEMENT, FLUSH, STATEMENT, SYNC, STATEMENT, SYNC, as_it_is].concat());
    }

    #[test]
    fn after_each_statement_the_client_hears_that_the_server_is_ready() {
        let one = [BOUND, ROW, NOTICE, COMPLETE].concat();
        assert_eq!(heard(&[&one, &one, &one, READY]), [&one, READY, &one, READY, &one, READY].concat());
    }

    #[test]
    fn those_behind_one_that_failed_are_told_nothing_else() {
        let one = [BOUND, ROW, COMPLETE].concat();
        assert_eq!(
            heard(&[&one, BOUND, REFUSED, READY]),
            [&one, READY, BOUND, REFUSED, READY, READY].concat()
        );
        assert_eq!(heard(&[REFUSED, READY]), [REFUSED, READY, READY, READY].concat());
        assert_eq!(heard(&[&one, &one, REFUSED, READY]), [&one, READY, &one, READY, REFUSED, READY].concat());
    }

    #[test]
    fn nothing_is_bundled_before_the_end_of_what_was() {
        let simple = b"Q\0\0\0\x05\0".as_slice();
        for (before, heard) in
            [(&*one(), [].as_slice()), (&one(), REFUSED), (simple, COMPLETE), (b"", &NOTICE[..2])]
        {
            let (mut bundle, mut sent) = (Bundle::default(), Vec::new());
            bundle.send(before, &mut sent);
            assert!(!bundle.hear(heard, &mut Vec::new()).unwrap());
            bundle.begin(2);
            bundle.send(&one().repeat(2), &mut sent);
            assert_eq!(sent, [before, &one(), &one()].concat());
            // And so the end of what was is none of theirs.
            assert!(!bundle.hear(READY, &mut Vec::new()).unwrap());
        }
        let (mut bundle, _) = sent(2);
        bundle.begin(3);
        bundle.hear(&[COMPLETE, COMPLETE, READY].concat(), &mut Vec::new()).unwrap();
        assert!(!bundle.hear(COMPLETE, &mut Vec::new()).unwrap());
    }

    #[test]
    fn a_server_that_is_ready_too_early_is_not_trusted() {
        let (mut bundle, _) = sent(3);
        assert!(bundle.hear(&[COMPLETE, READY].concat(), &mut Vec::new()).is_err());
    }
}
