//! Between those who log and standard error: lines wait here for the one thread that writes them.
//!
//! A pipe whose reader stalls blocks whoever writes to it, and would so stop the server. Here it stops that thread alone:
//! lines gather up to a limit, further ones are dropped and counted, and the count is logged when the reader reads again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// How much may wait to be written, in bytes.
const MAX_BUFFERED_BYTES: usize = 1024 * 1024;
/// What is kept of the room for them between two writes, in bytes.
const KEPT_BYTES: usize = 32 * 1024;
/// So many bytes are written although they have not gathered for long. With those that come until then they mostly have room in what is kept.
const FULL_BYTES: usize = 24 * 1024;
/// How long lines gather before they are written together: a thread that woke for each would cost more than the lines.
const GATHERING: Duration = Duration::from_millis(20);

const LOCKED: &str = "nothing panics while it holds this lock";

/// See the module.
pub struct Buffer {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
    dropped: AtomicU64,
}

struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// Somebody waits for all of it to be written.
    is_urgent: bool,
}

impl State {
    fn is_full(&self) -> bool {
        self.waiting.len() >= FULL_BYTES
    }
}

impl Buffer {
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(State { waiting: Vec::new(), is_writing: false, is_urgent: false }),
            filled: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Takes a line, or drops it where there is no room.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + line.len() > MAX_BUFFERED_BYTES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let before = state.waiting.len();
        if before == 0 {
            state.waiting.reserve(KEPT_BYTES);
        }
        state.waiting.extend_from_slice(line);
        let becomes_full = before < FULL_BYTES && state.is_full();
        drop(state);
        if before == 0 || becomes_full {
            self.filled.notify_one();
        }
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes what comes, for ever. `tell_of_dropped` logs a number of lines that were dropped; it is called when there is
    /// room for that, and no more while nothing can be written.
    pub fn write_to(&self, out: &mut impl Write, tell_of_dropped: impl Fn(u64)) {
        let mut lines = Vec::new();
        let mut told = 0;
        let mut is_read = true;
        loop {
            self.take(&mut lines);
            let dropped = self.dropped();
            if is_read && dropped > told {
                tell_of_dropped(dropped - told);
                told = dropped;
            }
            is_read = out.write_all(&lines).is_ok();
            if !is_read {
                let lost = lines.iter().filter(|byte| **byte == b'\n').count();
                self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
            }
            lines.clear();
            lines.shrink_to(KEPT_BYTES);
            self.lock().is_writing = false;
            self.written.notify_all();
        }
    }

    /// Waits for lines, and then for those that come shortly after.
    fn take(&self, lines: &mut Vec<u8>) {
        let nothing_waits = |state: &mut State| state.waiting.is_empty();
        let is_not_urgent = |state: &mut State| !state.is_urgent && !state.is_full();
        let state = self.filled.wait_while(self.lock(), nothing_waits).expect(LOCKED);
        let (mut state, _) = self.filled.wait_timeout_while(state, GATHERING, is_not_urgent).expect(LOCKED);
        std::mem::swap(&mut state.waiting, lines);
        state.is_writing = true;
    }

    /// Waits until everything is written, but not longer than `timeout`.
    pub fn wait_until_written(&self, timeout: Duration) {
        let is_unwritten = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let mut state = self.lock();
        state.is_urgent = true;
        self.filled.notify_one();
        let (mut state, _) = self.written.wait_timeout_while(state, timeout, is_unwritten).expect(LOCKED);
        state.is_urgent = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(LOCKED)
    }
}

/// `env_logger` writes a line at once.
impl Write for &Buffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    /// A pipe whose reader must allow each write.
    struct Pipe {
        allowed: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.allowed.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_nobody_s_time() {
        let buffer: &'static Buffer = Box::leak(Box::new(Buffer::new()));
        let (allow, allowed) = channel();
        let (written, pieces) = channel();
        thread::spawn(move || {
            let tell = |dropped| buffer.push(format!("{dropped} dropped\n").as_bytes());
            buffer.write_to(&mut Pipe { allowed, written }, tell);
        });
        buffer.push(b"first\n");
        assert_eq!(pieces.recv().unwrap(), b"first\n");

        let line = [b'x'; 1024];
        for _ in 0..MAX_BUFFERED_BYTES / line.len() + 3 {
            buffer.push(&line);
        }
        assert_eq!(buffer.dropped(), 3);
        buffer.wait_until_written(Duration::from_millis(1));

        allow.send(()).unwrap();
        assert_eq!(pieces.recv().unwrap().len(), MAX_BUFFERED_BYTES);
    }

    #[test]
    fn what_was_dropped_is_told_once_something_is_written() {
        let buffer: &'static Buffer = Box::leak(Box::new(Buffer::new()));
        buffer.dropped.store(7, Ordering::Relaxed);
        let (allow, allowed) = channel();
        let (written, pieces) = channel();
        thread::spawn(move || {
            let tell = |dropped| buffer.push(format!("{dropped} dropped\n").as_bytes());
            buffer.write_to(&mut Pipe { allowed, written }, tell);
        });
        buffer.push(b"a line\n");
        assert_eq!(pieces.recv().unwrap(), b"a line\n");
        allow.send(()).unwrap();
        assert_eq!(pieces.recv().unwrap(), b"7 dropped\n");
        allow.send(()).unwrap();
        buffer.wait_until_written(Duration::from_secs(30));
        assert!(buffer.lock().waiting.is_empty());
    }

    #[test]
    fn lines_that_cannot_be_written_count_as_dropped() {
        let buffer: &'static Buffer = Box::leak(Box::new(Buffer::new()));
        let (_, allowed) = channel();
        let (written, _) = channel();
        thread::spawn(move || {
            buffer.write_to(&mut Pipe { allowed, written }, |_| buffer.push(b"told\n"));
        });
        buffer.push(b"one\ntwo\n");
        buffer.wait_until_written(Duration::from_secs(30));
        assert_eq!(buffer.dropped(), 2);
    }
}
