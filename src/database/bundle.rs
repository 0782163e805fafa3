//! Several statements that PostgreSQL answers in one go.
//!
//! `tokio-postgres` ends each statement by a `Sync`, at which PostgreSQL ends the transaction, sends what it has, and says that it is
//! ready: half of what a short statement costs it. The protocol needs one `Sync` after any number of them (PostgreSQL's
//! documentation, 55.2.4, "Pipelining"). So where statements are sent together, of these only the last is passed on, and the client
//! hears after each statement that the server is ready, as it would have heard from the server.
//!
//! One that fails ends the bundle: PostgreSQL passes over those behind it. For each of them the client hears nothing but that the server
//! is ready.

/// The length of a message's head: a letter, and the number of bytes that follow the letter.
const HEAD_BYTES: usize = 5;
const SYNC: &[u8] = b"S\0\0\0\x04";
/// `ReadyForQuery`. Nobody looks at the state of the transaction that it tells.
const READY: &[u8] = b"Z\0\0\0\x05I";

/// The statements that are under way together. None, unless there are more than one.
#[derive(Debug, Default)]
pub struct Bundle {
    /// How many `Sync`s are still to be left out.
    left_out: usize,
    /// How many statements the client has not heard the end of.
    open: usize,
    /// What has come of the head of the message that comes next, or is under way.
    head: Vec<u8>,
    /// How much of its content is still to come, in bytes.
    missing: usize,
}

impl Bundle {
    /// This many statements are sent next, and in one go. While there is an end of others to be heard they are sent as they are.
    pub fn begin(&mut self, statements: usize) {
        if statements > 1 && !self.is_open() {
            *self = Self { left_out: statements - 1, open: statements, ..Self::default() };
        }
    }

    /// Whether there is anything to leave out or to add.
    pub fn is_open(&self) -> bool {
        self.open > 0
    }

    /// Adds to `sent` what the server is to receive of these messages of the client, which are whole.
    pub fn send(&mut self, mut messages: &[u8], sent: &mut Vec<u8>) {
        while let Some((&[_, a, b, c, d], _)) = messages.split_first_chunk() {
            let length = 1 + u32::from_be_bytes([a, b, c, d]) as usize;
            let (message, rest) = messages.split_at(length.min(messages.len()));
            if self.left_out > 0 && message == SYNC {
                self.left_out -= 1;
            } else {
                sent.extend_from_slice(message);
            }
            messages = rest;
        }
        sent.extend_from_slice(messages);
    }

    /// Adds to `heard` what the client is to hear of these bytes of the server: all of them, and what stands for what was
    /// left out.
    pub fn hear(&mut self, mut bytes: &[u8], heard: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let is_head = self.head.len() < HEAD_BYTES;
            let wanted = if is_head { HEAD_BYTES - self.head.len() } else { self.missing };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            heard.extend_from_slice(part);
            if is_head {
                self.head.extend_from_slice(part);
                if let Some(&[a, b, c, d]) = self.head.get(1..HEAD_BYTES) {
                    self.missing = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                }
            } else {
                self.missing -= part.len();
            }
            if self.head.len() == HEAD_BYTES && self.missing == 0 {
                self.end_message(heard);
            }
            bytes = rest;
        }
    }

    fn end_message(&mut self, heard: &mut Vec<u8>) {
        match self.head[0] {
            // `CommandComplete`, `ErrorResponse`; behind the last statement the server says itself that it is ready
            b'C' | b'E' if self.open > 1 => {
                heard.extend_from_slice(READY);
                self.open -= 1;
            }
            b'Z' => {
                (1..self.open).for_each(|_| heard.extend_from_slice(READY));
                self.open = 0;
            }
            _ => {}
        }
        self.head.clear();
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

    fn begun(statements: usize) -> Bundle {
        let mut bundle = Bundle::default();
        bundle.begin(statements);
        bundle
    }

    /// What the client hears of a bundle of three, in whatever two pieces this comes.
    fn heard(messages: &[&[u8]]) -> Vec<u8> {
        let bytes = messages.concat();
        let mut all: Vec<_> = (0..=bytes.len())
            .map(|cut| {
                let (mut bundle, mut heard) = (begun(3), Vec::new());
                for piece in [&bytes[..cut], &bytes[cut..]] {
                    let before = heard.len();
                    bundle.hear(piece, &mut heard);
                    assert!(heard.len() - before >= piece.len(), "what is withheld would look like the end");
                }
                assert!(!bundle.is_open(), "{messages:?} cut at {cut}");
                heard
            })
            .collect();
        all.dedup();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn of_the_syncs_only_the_last_is_sent() {
        let sent = |statements, messages: &[&[u8]]| {
            let (mut bundle, mut sent) = (begun(statements), Vec::new());
            messages.iter().for_each(|messages| bundle.send(messages, &mut sent));
            sent
        };
        let one = [STATEMENT, SYNC].concat();
        assert_eq!(sent(3, &[&one, &one, &one]), [STATEMENT, STATEMENT, STATEMENT, SYNC].concat());
        assert_eq!(sent(3, &[&one.repeat(3)]), [STATEMENT, STATEMENT, STATEMENT, SYNC].concat());
        assert_eq!(sent(2, &[&one.repeat(3)]), [STATEMENT, STATEMENT, SYNC, &one].concat());
        assert_eq!(sent(1, &[&one.repeat(2)]), one.repeat(2));
        assert_eq!(sent(2, &[SYNC, b"Q\0\0\0"]), b"Q\0\0\0", "what is no message is sent as it is");
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
        let mut bundle = begun(2);
        bundle.begin(3);
        let mut heard = Vec::new();
        bundle.hear(&[COMPLETE, COMPLETE, READY, COMPLETE, READY].concat(), &mut heard);
        assert_eq!(heard, [COMPLETE, READY, COMPLETE, READY, COMPLETE, READY].concat());
        assert!(!bundle.is_open() && !begun(1).is_open() && !begun(0).is_open());
    }
}
