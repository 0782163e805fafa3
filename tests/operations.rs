//! Whoever reads the log may stall or go: the server serves on, and tells what was lost.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use support::{SECRET, free_port, request_on, signal, wait_for, wait_until};

/// Enough to fill a pipe (64 KiB on Linux) and the server's buffer (1 MiB) with lines of 250 bytes and more.
const REQUESTS: usize = 8_000;
/// What is instant, on a noisy machine.
const INSTANT: Duration = Duration::from_secs(1);
/// The longest end: the last lines are waited for, for a second.
const LONGEST_END: Duration = Duration::from_secs(5);

struct Server {
    process: Child,
    port: u16,
    admin_port: u16,
}

impl Server {
    /// Without a database: that one is away does not matter here.
    fn start() -> Self {
        let (port, admin_port) = (free_port(), free_port());
        let process = Command::new(env!("CARGO_BIN_EXE_todo-backend"))
            .env("NEON_DATABASE_URL", format!("postgresql://todo@127.0.0.1:{}/none", free_port()))
            .env("BETTER_AUTH_SECRET", SECRET)
            .env("HOST", "127.0.0.1")
            .env("PORT", port.to_string())
            .env("ADMIN_ADDR", format!("127.0.0.1:{admin_port}"))
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let server = Self { process, port, admin_port };
        wait_for("the server", || TcpStream::connect(("127.0.0.1", port)).ok());
        server
    }

    fn log(&mut self) -> ChildStderr {
        self.process.stderr.take().unwrap()
    }

    /// Asks so much that the log is longer than what it may wait in, and reads every answer.
    fn fill_the_log(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let id = "x".repeat(128);
        let request = format!("GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {id}\r\n\r\n");
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        for _ in 0..REQUESTS {
            stream.write_all(request.as_bytes()).unwrap();
            let mut length = 0;
            loop {
                line.clear();
                assert_ne!(answers.read_line(&mut line).unwrap(), 0, "the server closed the connection");
                match line.trim_end().split_once(": ") {
                    Some(("Content-Length", value)) => length = value.parse().unwrap(),
                    _ if line == "\r\n" => break,
                    _ => {}
                }
            }
            answers.read_exact(&mut vec![0; length]).unwrap();
        }
    }

    fn dropped_lines(&self) -> u64 {
        let metrics = request_on(self.admin_port, "GET", "/metrics", None, None).body;
        let dropped = metrics.lines().find_map(|line| line.strip_prefix("log_lines_dropped_total "));
        dropped.unwrap().parse().unwrap()
    }

    fn assert_alive(&self) {
        let begun = Instant::now();
        assert_eq!(request_on(self.port, "GET", "/health", None, None).status, 200);
        assert!(begun.elapsed() < INSTANT, "/health took {:?}", begun.elapsed());
    }

    fn assert_ends(&mut self) {
        signal(self.process.id(), "TERM");
        let begun = Instant::now();
        assert_eq!(wait_for("the end", || self.process.try_wait().unwrap()).code(), Some(0));
        assert!(begun.elapsed() < LONGEST_END, "the end took {:?}", begun.elapsed());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_reader_of_the_log_that_stalls_stops_nobody() {
    let mut server = Server::start();
    let log = server.log();
    server.fill_the_log();
    server.assert_alive();
    let dropped = server.dropped_lines();
    assert!(dropped > 0, "the log had room for {REQUESTS} lines");

    // It reads again: every line is either there or counted, and the count is told.
    let mut answered = 0;
    let mut told = None;
    for line in BufReader::new(log).lines().map(Result::unwrap) {
        assert!(line.starts_with('[') && !line[1..].contains('['), "no whole line: {line}");
        if line.contains("route=unknown") {
            answered += 1;
        }
        if line.contains("lines of this log were dropped") {
            told = line.split("] ").nth(1).and_then(|text| text.split(' ').next()?.parse().ok());
            break;
        }
    }
    assert_eq!(told, Some(dropped));
    assert_eq!(answered + dropped, REQUESTS as u64);
    server.assert_ends();
}

#[test]
fn a_reader_of_the_log_that_stalls_does_not_hold_up_the_end() {
    let mut server = Server::start();
    let log = server.log();
    server.fill_the_log();
    server.assert_ends();
    drop(log);
}

#[test]
fn a_reader_of_the_log_that_is_gone_stops_nobody() {
    let mut server = Server::start();
    drop(server.log());
    server.fill_the_log();
    server.assert_alive();
    wait_until("lines to be counted as dropped", || server.dropped_lines() > 0);
    server.assert_ends();
}
