//! Limits that all connections share: who goes when there is no room, and who must not.

#[path = "support/wait.rs"]
mod wait;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tiny_http::{Limits, Rejection, Response, Server, StatusCode};
use wait::{PATIENCE, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// What the body of `/holds` says that it holds.
const HELD_BYTES: usize = 250_000;

/// Bytes read of all endless bodies.
static READ: AtomicUsize = AtomicUsize::new(0);

struct Endless;

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        READ.fetch_add(buffer.len(), Ordering::SeqCst);
        Ok(buffer.len())
    }
}

/// A server that answers 204, or without end where `/endless` or `/holds` is asked for.
fn serve(limits: Limits) -> (Arc<Server>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = Arc::new(Server::with_limits(listener, limits, Rejection::to_response).expect("a listener"));
    let address = server.server_addr().to_ip().expect("a TCP address");
    let receiving = Arc::clone(&server);
    thread::spawn(move || {
        for request in receiving.incoming_requests() {
            // Some clients here are gone before their answer.
            let _ = match request.url() {
                "/endless" => request.respond(Response::new(StatusCode(200), vec![], Endless, None, None)),
                "/holds" => request.respond(
                    Response::new(StatusCode(200), vec![], Endless, None, None).with_held_bytes(HELD_BYTES),
                ),
                _ => request.respond(Response::empty(204)),
            };
        }
    });
    (server, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("the server listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client
}

fn send(mut client: &TcpStream, bytes: impl AsRef<[u8]>) {
    client.write_all(bytes.as_ref()).expect("the server reads");
}

/// The status of the next answer, 0 when there is none but the end.
fn status(mut client: &TcpStream) -> u16 {
    let mut answer = [0; 1024];
    let count = client.read(&mut answer).unwrap_or(0);
    let text = String::from_utf8_lossy(&answer[..count]).into_owned();
    text.strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .map_or(0, |code| code.parse().expect("a status"))
}

fn ask(client: &TcpStream) -> u16 {
    send(client, GET);
    status(client)
}

#[test]
fn at_the_cap_who_was_never_served_goes_before_who_was() {
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
    // Time has to pass, that is all.
    thread::sleep(4 * evictable_after);
    let mut newcomers = Vec::new();
    for (gone, says) in [(silent, 0), (slow_head, 503), (slow_body, 503)] {
        let newcomer = connect(address);
        assert_eq!(ask(&newcomer), 204);
        assert_eq!(status(&gone), says);
        assert_eq!(ask(&served), 204, "who is served stays");
        newcomers.push(newcomer);
    }
    thread::sleep(4 * evictable_after);
    assert_eq!(ask(&served), 204);
    let last = connect(address);
    assert_eq!(ask(&last), 204);
    assert_eq!(status(&newcomers[0]), 0, "the longest-idle one goes");
    assert_eq!((ask(&served), ask(&newcomers[1]), ask(&newcomers[2])), (204, 204, 204));
}

#[test]
fn at_the_cap_a_newcomer_is_refused_where_nobody_has_waited_long_enough() {
    let limits = Limits { max_connections: 2, evictable_after: PATIENCE, ..Limits::default() };
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
fn slow_heads_that_fill_the_memory_for_requests_give_way_to_smaller_requests() {
    const HEAD_BYTES: usize = 12_000;
    let (server, address) = serve(Limits { max_buffered_bytes: 100_000, ..Limits::default() });
    let beginning = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(HEAD_BYTES));
    let hoarders: Vec<TcpStream> = (0..20)
        .map(|_| {
            let client = connect(address);
            send(&client, &beginning);
            client
        })
        .collect();
    wait_until("no more fit in", || server.stats().shed > 0 && server.stats().buffered_bytes > 85_000);
    // Each of these is held for a moment, until its rest comes.
    for (first, rest) in [
        ("GET / HTTP/1.1\r\nHo", "st: h\r\n\r\n"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n01234", &*"5".repeat(4995)),
    ] {
        for _ in 0..5 {
            let client = connect(address);
            let before = server.stats().buffered_bytes;
            send(&client, first);
            wait_until("it is held", || server.stats().buffered_bytes != before);
            send(&client, rest);
            assert_eq!(status(&client), 204, "{first:?}");
        }
    }
    drop(hoarders);
    wait_until("all is given back", || server.stats().buffered_bytes == 0);
}

#[test]
fn answers_that_nobody_takes_are_bounded_together_and_the_longest_stalled_goes() {
    const MAX_UNSENT_BYTES: usize = 100_000;
    const MUCH: u64 = 64 << 20;
    let (server, address) = serve(Limits { max_unsent_bytes: MAX_UNSENT_BYTES, ..Limits::default() });
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let client = connect(address);
        let before = READ.load(Ordering::SeqCst);
        send(&client, "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n");
        wait_until("the answer begins", || READ.load(Ordering::SeqCst) > before);
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
    // The newest still has its answer, as much as it likes; the oldest no more than the sockets held.
    let taken = |client: TcpStream| io::copy(&mut client.take(MUCH), &mut io::sink()).expect("a clean end");
    assert_eq!(stalled.pop().map(taken), Some(MUCH));
    assert!(taken(stalled.swap_remove(0)) < MUCH);
    drop(stalled);
    wait_until("all is given back", || server.stats().unsent_bytes == 0);
}

#[test]
fn what_a_body_holds_is_counted_and_an_answer_that_is_closed_early_does_not_look_whole() {
    let (server, address) = serve(Limits { max_unsent_bytes: 3 * HELD_BYTES, ..Limits::default() });
    let ask = |version| {
        let client = connect(address);
        send(&client, format!("GET /holds HTTP/{version}\r\nHost: h\r\n\r\n"));
        client.peek(&mut [0]).expect("the answer begins");
        wait_until("it stalls", || {
            let read = READ.load(Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            READ.load(Ordering::SeqCst) == read
        });
        client
    };
    // Two have room. To HTTP/1.0 a body without length ends with the connection, so it must not end properly.
    let clients = [ask("1.0"), ask("1.1"), ask("1.1")];
    assert_eq!(server.stats().connections, 2);
    let read = |client: &TcpStream| io::copy(&mut client.take(1 << 26), &mut io::sink());
    assert_eq!(read(&clients[0]).map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
    assert_eq!(read(&clients[1]).ok(), Some(1 << 26));
    drop(clients);
    wait_until("all is given back", || server.stats().unsent_bytes == 0);
}
