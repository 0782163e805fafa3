//! Log backpressure: a reader of standard error that stalls or disappears costs log lines, and blocks no request.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use support::{SECRET, free_port, request_on, signal, wait_for, wait_until};

/// Enough to fill a pipe (64 KiB on Linux) and the server's buffer (1 MiB) with lines of 250 bytes and more.
const REQUESTS: usize = 8_000;
/// Longest response time of `/health`, on a noisy machine.
const MAX_RESPONSE_TIME: Duration = Duration::from_secs(1);
/// Longest shutdown. It waits one second for the last lines to be read.
const MAX_SHUTDOWN_TIME: Duration = Duration::from_secs(5);

struct Server {
    process: Child,
    port: u16,
    admin_port: u16,
}

impl Server {
    /// Without a database: it does not matter here.
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

    /// Sends enough requests to fill the pipe and the buffer with log lines, and reads every response.
    fn fill_the_log(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let id = "x".repeat(128);
        let request = format!("GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {id}\r\n\r\n");
        let mut responses = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        for _ in 0..REQUESTS {
            stream.write_all(request.as_bytes()).unwrap();
            let mut length = 0;
            loop {
                line.clear();
                assert_ne!(responses.read_line(&mut line).unwrap(), 0, "the server closed the connection");
                match line.trim_end().split_once(": ") {
                    Some(("Content-Length", value)) => length = value.parse().unwrap(),
                    _ if line == "\r\n" => break,
                    _ => {}
                }
            }
            responses.read_exact(&mut vec![0; length]).unwrap();
        }
    }

    fn dropped_lines(&self) -> u64 {
        let metrics = request_on(self.admin_port, "GET", "/metrics", None, None).body;
        let dropped = metrics.lines().find_map(|line| line.strip_prefix("log_lines_dropped_total "));
        dropped.unwrap().parse().unwrap()
    }

    fn assert_alive(&self) {
        let start = Instant::now();
        assert_eq!(request_on(self.port, "GET", "/health", None, None).status, 200);
        assert!(start.elapsed() < MAX_RESPONSE_TIME, "/health took {:?}", start.elapsed());
    }

    fn assert_stops(&mut self) {
        signal(self.process.id(), "TERM");
        let start = Instant::now();
        assert_eq!(wait_for("the server to stop", || self.process.try_wait().unwrap()).code(), Some(0));
        assert!(start.elapsed() < MAX_SHUTDOWN_TIME, "shutdown took {:?}", start.elapsed());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn requests_when_the_log_reader_stalls_are_answered_and_dropped_lines_are_counted() {
    let mut server = Server::start();
    let log = server.log();
    server.fill_the_log();
    server.assert_alive();
    let dropped = server.dropped_lines();
    assert!(dropped > 0, "no line of {REQUESTS} was dropped");

    // It reads again: every line is either there or counted, and the count is logged.
    let mut answered = 0;
    let mut logged = None;
    for line in BufReader::new(log).lines().map(Result::unwrap) {
        assert!(line.starts_with('[') && !line[1..].contains('['), "not a whole line: {line}");
        if line.contains("route=unknown") {
            answered += 1;
        }
        if line.contains("log lines were dropped") {
            logged = line.split("] ").nth(1).and_then(|text| text.split(' ').next()?.parse().ok());
            break;
        }
    }
    assert_eq!(logged, Some(dropped));
    assert_eq!(answered + dropped, REQUESTS as u64);
    server.assert_stops();
}

#[test]
fn shutdown_when_the_log_reader_stalls_is_not_delayed() {
    let mut server = Server::start();
    let log = server.log();
    server.fill_the_log();
    server.assert_stops();
    drop(log);
}

#[test]
fn requests_when_the_log_reader_is_gone_are_answered() {
    let mut server = Server::start();
    drop(server.log());
    server.fill_the_log();
    server.assert_alive();
    wait_until("lines to be counted as dropped", || server.dropped_lines() > 0);
    server.assert_stops();
}
