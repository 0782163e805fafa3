//! Limits shared by all connections: which connections are closed when one is reached.

#[path = "support/wait.rs"]
mod wait;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tiny_http::{Limits, Rejection, Response, Server, StatusCode};
use wait::{MAX_WAIT, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// The memory that the body of `/retains` declares.
const RETAINED_BYTES: usize = 250_000;

/// Bytes read from all endless bodies.
static READ: AtomicUsize = AtomicUsize::new(0);

struct Endless;

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        READ.fetch_add(buffer.len(), Ordering::SeqCst);
        Ok(buffer.len())
    }
}

/// A server that responds 204, or with an endless body to `/endless` and `/retains`.
fn serve(limits: Limits) -> (Arc<Server>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = Arc::new(Server::with_limits(listener, limits, Rejection::to_response).expect("a listener"));
    let address = server.server_addr().to_ip().expect("a TCP address");
    let receiving = Arc::clone(&server);
    thread::spawn(move || {
        for request in receiving.incoming_requests() {
            // Fails if the client has disconnected.
            let _ = match request.url() {
                "/endless" => request.respond(Response::new(StatusCode(200), vec![], Endless, None, None)),
                "/retains" => request.respond(
                    Response::new(StatusCode(200), vec![], Endless, None, None).with_retained_bytes(RETAINED_BYTES),
                ),
                _ => request.respond(Response::empty(204)),
            };
        }
    });
    (server, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("the server listens");
    client.set_read_timeout(Some(MAX_WAIT)).expect("a socket");
    client
}

fn send(mut client: &TcpStream, bytes: impl AsRef<[u8]>) {
    client.write_all(bytes.as_ref()).expect("the server reads");
}

/// The status of the next response, 0 at the end of the stream.
fn status(mut client: &TcpStream) -> u16 {
    let mut response = [0; 1024];
    let count = client.read(&mut response).unwrap_or(0);
    let text = String::from_utf8_lossy(&response[..count]).into_owned();
    text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).map_or(0, |code| code.parse().expect("a status"))
}

fn ask(client: &TcpStream) -> u16 {
    send(client, GET);
    status(client)
}

#[test]
fn new_connection_at_the_limit_evicts_never_served_connections_first() {
    let evictable_after = Duration::from_millis(100);
    let (_server, address) = serve(Limits { max_connections: 4, evictable_after, ..Limits::default() });
    let served = connect(address);
    assert_eq!(ask(&served), 204);
    let [silent, slow_head, slow_body] =
        ["", "GET /", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"].map(|beginning| {
            let client = connect(address);
            send(&client, beginning);
            client
        });
    // Only time makes a connection evictable.
    thread::sleep(4 * evictable_after);
    let mut new_clients = Vec::new();
    for (gone, says) in [(silent, 0), (slow_head, 503), (slow_body, 503)] {
        let new_client = connect(address);
        assert_eq!(ask(&new_client), 204);
        assert_eq!(status(&gone), says);
        assert_eq!(ask(&served), 204, "a served connection is kept");
        new_clients.push(new_client);
    }
    thread::sleep(4 * evictable_after);
    assert_eq!(ask(&served), 204);
    let last = connect(address);
    assert_eq!(ask(&last), 204);
    assert_eq!(status(&new_clients[0]), 0, "the longest-idle one is evicted");
    assert_eq!((ask(&served), ask(&new_clients[1]), ask(&new_clients[2])), (204, 204, 204));
}

#[test]
fn new_connection_at_the_limit_when_none_is_evictable_gets_503() {
    let limits = Limits { max_connections: 2, evictable_after: MAX_WAIT, ..Limits::default() };
    let (server, address) = serve(limits);
    let (served, _silent) = (connect(address), connect(address));
    assert_eq!(ask(&served), 204);
    for _ in 0..20 {
        assert_eq!(status(&connect(address)), 503);
    }
    assert_eq!(ask(&served), 204);
    assert_eq!((server.stats().shed, server.stats().connections), (20, 2));
}

#[test]
fn slow_heads_when_they_exhaust_the_request_quota_yield_to_smaller_requests() {
    const HEAD_BYTES: usize = 12_000;
    let (server, address) = serve(Limits { max_buffered_bytes: 100_000, ..Limits::default() });
    let beginning = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(HEAD_BYTES));
    let slow_clients: Vec<TcpStream> = (0..20)
        .map(|_| {
            let client = connect(address);
            send(&client, &beginning);
            client
        })
        .collect();
    wait_until("the quota is exhausted", || server.stats().shed > 0 && server.stats().buffered_bytes > 85_000);
    // Each of these is buffered until its rest arrives.
    for (first, rest) in [
        ("GET / HTTP/1.1\r\nHo", "st: h\r\n\r\n"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n01234", &*"5".repeat(4995)),
    ] {
        for _ in 0..5 {
            let client = connect(address);
            let before = server.stats().buffered_bytes;
            send(&client, first);
            wait_until("it is buffered", || server.stats().buffered_bytes != before);
            send(&client, rest);
            assert_eq!(status(&client), 204, "{first:?}");
        }
    }
    drop(slow_clients);
    wait_until("all memory is released", || server.stats().buffered_bytes == 0);
}

#[test]
fn unread_responses_when_they_exceed_the_quota_close_the_longest_stalled() {
    const MAX_UNSENT_BYTES: usize = 100_000;
    const MUCH: u64 = 64 << 20;
    let (server, address) = serve(Limits { max_unsent_bytes: MAX_UNSENT_BYTES, ..Limits::default() });
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let client = connect(address);
        let before = READ.load(Ordering::SeqCst);
        send(&client, "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n");
        wait_until("the response begins", || READ.load(Ordering::SeqCst) > before);
        wait_until("it stalls", || {
            let read = READ.load(Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            READ.load(Ordering::SeqCst) == read
        });
        assert!(server.stats().unsent_bytes <= MAX_UNSENT_BYTES);
        stalled.push(client);
    }
    assert!((3..10).contains(&server.stats().connections), "{:?}", server.stats());
    assert_eq!(ask(&connect(address)), 204);
    // The newest can read on; the oldest gets no more than the socket buffers held.
    let taken = |client: TcpStream| io::copy(&mut client.take(MUCH), &mut io::sink()).expect("a clean end");
    assert_eq!(stalled.pop().map(taken), Some(MUCH));
    assert!(taken(stalled.swap_remove(0)) < MUCH);
    drop(stalled);
    wait_until("all memory is released", || server.stats().unsent_bytes == 0);
}

#[test]
fn retained_bytes_count_against_the_quota_and_a_truncated_response_is_reset() {
    let (server, address) = serve(Limits { max_unsent_bytes: 3 * RETAINED_BYTES, ..Limits::default() });
    let ask = |version| {
        let client = connect(address);
        send(&client, format!("GET /retains HTTP/{version}\r\nHost: h\r\n\r\n"));
        client.peek(&mut [0]).expect("the response begins");
        wait_until("it stalls", || {
            let read = READ.load(Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            READ.load(Ordering::SeqCst) == read
        });
        client
    };
    // Two fit. To HTTP/1.0 a body without length ends with the connection, so the connection must be reset.
    let clients = [ask("1.0"), ask("1.1"), ask("1.1")];
    assert_eq!(server.stats().connections, 2);
    let read = |client: &TcpStream| io::copy(&mut client.take(1 << 26), &mut io::sink());
    assert_eq!(read(&clients[0]).map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
    assert_eq!(read(&clients[1]).ok(), Some(1 << 26));
    drop(clients);
    wait_until("all memory is released", || server.stats().unsent_bytes == 0);
}
