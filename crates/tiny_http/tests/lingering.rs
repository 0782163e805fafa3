//! The lingering close: a response reaches a client that is still sending, within limits on bytes, time and
//! connections.

#[path = "support/wait.rs"]
mod wait;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Limits, Rejection, Server};
use wait::{MAX_WAIT, wait_until};

const LINGER_TIMEOUT: Duration = Duration::from_millis(300);
const BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// How late a deadline may be on a busy machine.
const LATE: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(20);

/// A server that receives no requests: all of these are rejected.
fn serve(limits: Limits) -> (Server, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = Server::with_limits(listener, limits, Rejection::to_response).expect("a listener");
    let address = server.server_addr().to_ip().expect("a TCP address");
    (server, address)
}

fn short_limits() -> Limits {
    Limits { linger_timeout: LINGER_TIMEOUT, body_timeout: BODY_TIMEOUT, ..Limits::default() }
}

/// Sends the head of an upload with this framing.
fn begin_upload(address: SocketAddr, framing: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).expect("the server listens");
    client.set_read_timeout(Some(MAX_WAIT)).expect("a socket");
    write!(client, "POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n").expect("the server reads");
    client
}

fn require_413(mut client: TcpStream, what: &str) {
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(response.starts_with("HTTP/1.1 413 "), "{what}: {response}");
    assert!(response.ends_with(r#""message":"The request body is too large"}"#), "{what}: {response}");
}

/// Sends a byte now and then until the server has closed the connection. Returns when that was.
fn drip(mut client: TcpStream) -> Duration {
    let began = Instant::now();
    while client.write_all(b"x").is_ok() {
        assert!(began.elapsed() < MAX_WAIT, "the connection stays open");
        thread::sleep(PAUSE);
    }
    began.elapsed()
}

#[test]
fn body_too_large_when_sent_before_the_response_is_read_gets_413() {
    let (server, address) = serve(Limits::default());
    for length in [1_100_000, 5_000_000, 30_000_000] {
        for round in 0..5 {
            let mut client = begin_upload(address, &format!("Content-Length: {length}"));
            client.write_all(&vec![b'x'; length]).expect("the server reads the body");
            require_413(client, &format!("{length} bytes, round {round}"));

            let mut client = begin_upload(address, "Transfer-Encoding: chunked");
            let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
            for _ in 0..length.div_ceil(0x10000) {
                client.write_all(&chunk).expect("the server reads the body");
            }
            client.write_all(b"0\r\n\r\n").expect("the server reads the body");
            require_413(client, &format!("{length} bytes in chunks, round {round}"));
        }
    }
    wait_until("all connections are closed", || server.stats().connections == 0);
}

#[test]
fn body_too_large_when_it_arrives_slowly_gets_413() {
    let (_server, address) = serve(short_limits());
    let mut client = begin_upload(address, "Content-Length: 1500000");
    let began = Instant::now();
    while began.elapsed() < 3 * LINGER_TIMEOUT {
        client.write_all(&[b'x'; 1000]).expect("the server reads the body");
        thread::sleep(PAUSE);
    }
    require_413(client, "a slow upload");
}

#[test]
fn body_too_large_when_it_never_ends_is_closed_at_the_body_timeout() {
    let (_server, address) = serve(short_limits());
    let after = drip(begin_upload(address, "Content-Length: 1500000"));
    assert!(after > BODY_TIMEOUT - LINGER_TIMEOUT && after < BODY_TIMEOUT + LATE, "closed after {after:?}");
}

#[test]
fn body_too_large_when_the_client_pauses_is_closed_at_the_linger_timeout() {
    let (server, address) = serve(Limits { body_timeout: MAX_WAIT, ..short_limits() });
    let _client = begin_upload(address, "Content-Length: 1500000");
    wait_until("the request is rejected", || server.stats().rejected == 1);
    let began = Instant::now();
    wait_until("the connection is closed", || server.stats().connections == 0);
    assert!(began.elapsed() < LINGER_TIMEOUT + LATE, "closed after {:?}", began.elapsed());
}

#[test]
fn body_too_large_when_longer_than_the_discard_limit_is_closed_at_the_linger_timeout() {
    let limits = Limits { max_discard_bytes: 2_000_000, body_timeout: MAX_WAIT, ..short_limits() };
    let (_server, address) = serve(limits);
    let after = drip(begin_upload(address, "Content-Length: 2000001"));
    assert!(after < LINGER_TIMEOUT + LATE, "closed after {after:?}");
}

#[test]
fn body_too_large_when_more_than_the_discard_limit_arrives_is_closed() {
    let limits = Limits { max_discard_bytes: 2_000_000, body_timeout: MAX_WAIT, ..short_limits() };
    let (_server, address) = serve(limits);
    let mut client = begin_upload(address, "Transfer-Encoding: chunked");
    client.write_all(b"fffffff\r\n").expect("the server reads");
    // Much more than the buffers of the sockets hold.
    let sent = io::copy(&mut io::repeat(b'x').take(200_000_000), &mut client);
    assert!(sent.is_err(), "{sent:?} bytes were read");
}

#[test]
fn bodies_too_large_when_too_many_arrive_use_the_linger_timeout() {
    const MAX: usize = 2;
    let limits = Limits { max_discarding_connections: MAX, body_timeout: MAX_WAIT, ..short_limits() };
    let (server, address) = serve(limits);
    let drip_until_closed = |count: usize| -> Vec<thread::JoinHandle<Duration>> {
        let clients = (0..count).map(|_| begin_upload(address, "Content-Length: 1500000"));
        clients.map(|client| thread::spawn(move || drip(client))).collect()
    };
    let clients = drip_until_closed(3 * MAX);
    wait_until("the others are closed", || clients.iter().filter(|client| client.is_finished()).count() == 2 * MAX);
    thread::sleep(2 * LINGER_TIMEOUT);
    assert_eq!(server.stats().connections, MAX);

    // A shutdown does not wait for them, and they leave no reservation.
    let began = Instant::now();
    assert!(server.shutdown(MAX_WAIT), "connections are still open");
    assert!(began.elapsed() < LINGER_TIMEOUT + LATE, "the shutdown took {:?}", began.elapsed());
    for client in clients {
        client.join().expect("no panic");
    }
}

#[test]
fn discarding_connection_when_closed_makes_room_for_another() {
    let limits = Limits { max_discarding_connections: 1, ..short_limits() };
    let (server, address) = serve(limits);
    for round in 0..5 {
        let mut client = begin_upload(address, "Content-Length: 5000000");
        client.write_all(&[b'x'; 5_000_000]).expect("the server reads the body");
        require_413(client, &format!("round {round}"));
        wait_until("the connection is closed", || server.stats().connections == 0);
    }
}
