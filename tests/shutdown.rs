//! Shutdown on a signal. The database is not needed, and is down here.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Server, free_port, signal, wait_until};

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";
const MAX_WAIT: Duration = Duration::from_secs(10);
/// So many requests are answered before the signal is sent.
const ENOUGH: usize = 2_000;

fn start(variables: &[(&str, &str)]) -> Server {
    Server::start_with(&format!("postgresql://nobody@127.0.0.1:{}/none", free_port()), variables)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
    stream.set_read_timeout(Some(MAX_WAIT)).expect("a socket");
    stream
}

/// Sends requests on one connection until the server closes it, and counts the responses. A incomplete response is a
/// failure; a request that finds its connection closed was never accepted.
fn ask_until_closed(mut stream: TcpStream, answered: &AtomicUsize) {
    let mut response = Vec::new();
    while stream.write_all(HEALTH.as_bytes()).is_ok() {
        response.clear();
        while !response.ends_with(b"}") {
            let mut piece = [0; 4096];
            match stream.read(&mut piece) {
                Ok(0) => {
                    return assert!(response.is_empty(), "cut short: {:?}", String::from_utf8_lossy(&response));
                }
                Ok(count) => response.extend_from_slice(&piece[..count]),
                Err(error) => {
                    assert!(error.kind() == ErrorKind::ConnectionReset && response.is_empty(), "{error}");
                    return;
                }
            }
        }
        let text = String::from_utf8_lossy(&response);
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        answered.fetch_add(1, Ordering::Relaxed);
        if text.contains("\r\nConnection: close\r\n") {
            return;
        }
    }
}

#[test]
fn shutdown_under_load_answers_every_accepted_request() {
    for name in ["TERM", "INT"] {
        let mut server = start(&[]);
        let _idle = connect(&server);
        let answered = AtomicUsize::new(0);
        let took = thread::scope(|scope| {
            for _ in 0..16 {
                let stream = connect(&server);
                scope.spawn(|| ask_until_closed(stream, &answered));
            }
            wait_until("the load", || answered.load(Ordering::Relaxed) > ENOUGH);
            let began = Instant::now();
            signal(server.id(), name);
            assert_eq!(server.wait(), Some(0), "SIG{name}");
            began.elapsed()
        });
        assert!(took < Duration::from_secs(5), "SIG{name}: ended after {took:?}");
        assert!(TcpStream::connect(("127.0.0.1", server.port)).is_err(), "SIG{name}");
        println!("SIG{name}: {} answered, ended after {took:.1?}", answered.into_inner());
    }
}

#[test]
fn shutdown_when_a_request_never_ends_takes_the_drain_time_or_a_second_signal() {
    let head = "POST /api/tasks HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n";
    for (drain_ms, second, code, range) in
        [("1000", None, 0, 900..4_000), ("60000", Some("TERM"), 1, 300..4_000), ("60000", Some("INT"), 1, 300..4_000)]
    {
        let mut server = start(&[("DRAIN_TIMEOUT_MS", drain_ms), ("REQUEST_TIMEOUT_MS", "60000")]);
        let mut unfinished = connect(&server);
        unfinished.write_all(head.as_bytes()).expect("the server reads");
        let began = Instant::now();
        signal(server.id(), "TERM");
        // It has received the signal once it accepts no connection.
        wait_until("the end of accepting", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
        if let Some(second) = second {
            thread::sleep(Duration::from_millis(300));
            unfinished.write_all(b"1").expect("it is still there");
            signal(server.id(), second);
        }
        assert_eq!(server.wait(), Some(code), "{drain_ms} ms, then {second:?}");
        let took = began.elapsed().as_millis();
        assert!(range.contains(&took), "{drain_ms} ms, then {second:?}: ended after {took} ms");
    }
}

/// The limit of threads may be reached. Meanwhile the server still tries to reach the database.
#[test]
fn shutdown_starts_no_thread() {
    let mut server = start(&[("REQUEST_TIMEOUT_MS", "60000"), ("DRAIN_TIMEOUT_MS", "60000")]);
    let folder = format!("/proc/{}/task", server.id());
    let threads = || {
        let tasks = fs::read_dir(&folder).expect("it runs").flatten();
        let name = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm"));
        let others = tasks.filter(|task| name(task).is_ok_and(|name| name.trim() != "connect"));
        others.map(|task| task.file_name()).collect::<Vec<_>>()
    };
    // Once it answers, all of its threads are there.
    assert_eq!(server.request("GET", "/health", None, None).status, 200);
    let mut unfinished = connect(&server);
    unfinished.write_all(b"GET / HTTP/1.1\r\n").expect("the server reads");
    let before = threads();
    signal(server.id(), "TERM");
    wait_until("the end to begin", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
    // One that is being started has not got its name yet.
    let is_known = |thread| before.contains(&thread);
    wait_until("no further thread", || threads().into_iter().all(is_known));
    unfinished.write_all(b"Host: h\r\n\r\n").expect("the server reads");
    assert_eq!(server.wait(), Some(0));
}
