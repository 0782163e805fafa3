//! The server of the attack tests as a process of its own, so that its memory, threads and descriptors can be
//! counted.
//!
//! The test binary starts itself again with `SETUP` in the environment. That copy serves until its standard input has
//! a line (then it shuts down gracefully) or closes (then it exits at once, so that no copy outlives a failed test).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The variable that makes a copy of the test binary a server. Its value is the setup.
pub const SETUP: &str = "ATTACKED_SERVER_SETUP";
/// The test that becomes the server in the copy.
pub const SERVER_TEST: &str = "server_when_not_attacked_serves_every_kind_of_request";

/// The limits of a server. Deadlines are seconds.
#[derive(Clone, Debug)]
pub struct Setup {
    pub head_ms: u64,
    pub body_ms: u64,
    pub idle_ms: u64,
    pub write_ms: u64,
    pub write_kib_per_second: u32,
    pub drain_ms: u64,
    pub buffered_bytes: usize,
    pub pending: usize,
    pub descriptors: u64,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            head_ms: 1000,
            body_ms: 1500,
            idle_ms: 1500,
            write_ms: 1500,
            write_kib_per_second: 1024,
            drain_ms: 1500,
            buffered_bytes: 64 << 20,
            pending: 1024,
            descriptors: 20_000,
        }
    }
}

impl Setup {
    /// Formats the setup as one line of numbers, for `parse`.
    fn print(&self) -> String {
        let Setup { head_ms, body_ms, idle_ms, write_ms, write_kib_per_second, drain_ms, .. } = self;
        let Setup { buffered_bytes, pending, descriptors, .. } = self;
        format!(
            "{head_ms} {body_ms} {idle_ms} {write_ms} {write_kib_per_second} {drain_ms} {buffered_bytes} \
             {pending} {descriptors}"
        )
    }

    pub fn parse(line: &str) -> Setup {
        let mut numbers = line.split(' ').map(|n| n.parse::<u64>().expect("a number"));
        let mut next = || numbers.next().expect("as many numbers as fields");
        Setup {
            head_ms: next(),
            body_ms: next(),
            idle_ms: next(),
            write_ms: next(),
            write_kib_per_second: next() as u32,
            drain_ms: next(),
            buffered_bytes: next() as usize,
            pending: next() as usize,
            descriptors: next(),
        }
    }
}

/// What the kernel reports about the process.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub threads: usize,
    pub descriptors: usize,
    pub resident_kib: usize,
    pub peak_kib: usize,
}

pub struct ServerProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub addr: SocketAddr,
}

impl ServerProcess {
    pub fn start(setup: &Setup) -> ServerProcess {
        let exe = std::env::current_exe().expect("a test binary has a path");
        let descriptors = setup.descriptors.min(crate::descriptors_allowed());
        let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(exe)
            .args(["--exact", SERVER_TEST, "--nocapture", "--test-threads=1"])
            .env(SETUP, setup.print())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let addr = line_with(&mut stdout, "listening ").parse().expect("an address");
        ServerProcess { child, stdin, stdout, addr }
    }

    pub fn figures(&self) -> Figures {
        let pid = self.child.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server process lives");
        let number = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} in {status}"));
            line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the server process lives").count();
        Figures { threads: number("Threads:"), descriptors, resident_kib: number("VmRSS:"), peak_kib: number("VmHWM:") }
    }

    /// Waits until the process has at most so many threads and descriptors. The error has the last figures.
    pub fn wait_for(&self, threads: usize, descriptors: usize, max_wait: Duration) -> Result<Figures, Figures> {
        let end = Instant::now() + max_wait;
        loop {
            let now = self.figures();
            if now.threads <= threads && now.descriptors <= descriptors {
                return Ok(now);
            }
            if Instant::now() > end {
                return Err(now);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the application prints a word.
    pub fn wait_for_output(&mut self, word: &str) {
        line_with(&mut self.stdout, word);
    }

    /// Requests a graceful shutdown; `wait_closed` waits for it.
    pub fn begin_shutdown(&mut self) {
        writeln!(self.stdin.as_mut().expect("not ended yet"), "end").expect("the server process lives");
    }

    /// Waits for the end. Returns how many requests the application received.
    pub fn wait_closed(mut self) -> u64 {
        let received = line_with(&mut self.stdout, "ended ").parse().expect("a number");
        let status = self.child.wait().expect("a child can be waited for");
        assert!(status.success(), "the server process ended with {status}");
        received
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.stdin = None;
        // After a graceful shutdown the process has ended already, which is an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines up to one that contains `mark`, and returns the text after it.
fn line_with(stdout: &mut BufReader<ChildStdout>, mark: &str) -> String {
    let mut line = String::new();
    while stdout.read_line(&mut line).expect("readable") > 0 {
        if let Some((_, rest)) = line.split_once(mark) {
            return rest.trim().to_owned();
        }
        line.clear();
    }
    panic!("the server process ended without saying {mark:?}");
}
