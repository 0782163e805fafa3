//! Line buffer between the logging threads and standard error, which one thread writes.
//!
//! A pipe that is not read blocks its writer. Here it blocks that one thread only: lines are buffered up to a limit,
//! further ones are dropped and counted, and the count is logged when the pipe is read again.

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Size of the buffer, in bytes.
const MAX_BUFFERED_BYTES: usize = 1024 * 1024;
/// Capacity that is kept between two writes, in bytes.
const RETAINED_BYTES: usize = 32 * 1024;
/// How long lines are gathered before they are written. Waking the writer for each line would cost more than the lines.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);
/// How often [`LineBuffer::wait_until_written`] looks.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

const LOCKED: &str = "nothing panics while it holds this lock";

/// Lines that are to be written.
pub struct LineBuffer {
    state: Mutex<State>,
    filled: Condvar,
}

struct State {
    pending: Vec<u8>,
    is_writing: bool,
    /// How many lines were dropped so far.
    dropped: u64,
}

impl LineBuffer {
    pub const fn new() -> Self {
        let state = State { pending: Vec::new(), is_writing: false, dropped: 0 };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Appends a line, or drops it when the buffer is full.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.pending.len() + line.len() > MAX_BUFFERED_BYTES {
            state.dropped += 1;
            return;
        }
        if state.pending.is_empty() {
            self.filled.notify_one();
        }
        state.pending.extend_from_slice(line);
    }

    /// Number of lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Writes lines to `out`, for ever. Calls `log_dropped` with the number of dropped lines once `out` accepts lines
    /// again.
    pub fn run_writer(&self, out: &mut impl Write, log_dropped: impl Fn(u64)) {
        let mut lines = Vec::new();
        let mut reported = 0;
        let mut is_writable = true;
        loop {
            drop(self.filled.wait_while(self.lock(), |state| state.pending.is_empty()).expect(LOCKED));
            sleep(FLUSH_INTERVAL);
            let mut state = self.lock();
            std::mem::swap(&mut state.pending, &mut lines);
            state.is_writing = true;
            let dropped = state.dropped;
            drop(state);
            if is_writable && dropped > reported {
                log_dropped(dropped - reported);
                reported = dropped;
            }
            is_writable = out.write_all(&lines).is_ok();
            let lost = if is_writable { 0 } else { lines.iter().filter(|byte| **byte == b'\n').count() };
            lines.clear();
            lines.shrink_to(RETAINED_BYTES);
            let mut state = self.lock();
            state.is_writing = false;
            state.dropped += lost as u64;
        }
    }

    /// Waits until everything is written, but not longer than `timeout`.
    pub fn wait_until_written(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.has_unwritten() && Instant::now() < deadline {
            sleep(POLL_INTERVAL);
        }
    }

    fn has_unwritten(&self) -> bool {
        let state = self.lock();
        state.is_writing || !state.pending.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(LOCKED)
    }
}

/// `env_logger` writes each line with one call.
impl Write for &LineBuffer {
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

    /// A pipe whose reader allows each write.
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
    fn lines_when_the_reader_stalls_are_dropped_without_blocking() {
        let buffer: &'static LineBuffer = Box::leak(Box::new(LineBuffer::new()));
        let (allow, allowed) = channel();
        let (written, pieces) = channel();
        thread::spawn(move || {
            let log_dropped = |dropped| buffer.push(format!("{dropped} dropped\n").as_bytes());
            buffer.run_writer(&mut Pipe { allowed, written }, log_dropped);
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
    fn dropped_lines_when_something_is_written_are_logged_once() {
        let buffer: &'static LineBuffer = Box::leak(Box::new(LineBuffer::new()));
        buffer.lock().dropped = 7;
        let (allow, allowed) = channel();
        let (written, pieces) = channel();
        thread::spawn(move || {
            let log_dropped = |dropped| buffer.push(format!("{dropped} dropped\n").as_bytes());
            buffer.run_writer(&mut Pipe { allowed, written }, log_dropped);
        });
        buffer.push(b"a line\n");
        assert_eq!(pieces.recv().unwrap(), b"a line\n");
        allow.send(()).unwrap();
        assert_eq!(pieces.recv().unwrap(), b"7 dropped\n");
        allow.send(()).unwrap();
        buffer.wait_until_written(Duration::from_secs(30));
        assert!(buffer.lock().pending.is_empty());
    }

    #[test]
    fn lines_when_writing_fails_count_as_dropped() {
        let buffer: &'static LineBuffer = Box::leak(Box::new(LineBuffer::new()));
        let (_, allowed) = channel();
        let (written, _) = channel();
        thread::spawn(move || {
            buffer.run_writer(&mut Pipe { allowed, written }, |_| buffer.push(b"dropped\n"));
        });
        buffer.push(b"one\ntwo\n");
        buffer.wait_until_written(Duration::from_secs(30));
        assert_eq!(buffer.dropped(), 2);
    }
}
