//! The additions to the published API: limits, the rejection hook, streaming, graceful shutdown and statistics.

#[path = "support/wait.rs"]
mod wait;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Field, Header, Limits, Rejection, Response, ResponseBox, Server, StatusCode};
use wait::{MAX_WAIT, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn start<F>(limits: Limits, on_reject: F) -> (Arc<Server>, SocketAddr)
where
    F: Fn(&Rejection) -> ResponseBox + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = Server::with_limits(listener, limits, on_reject).expect("a listener");
    let address = server.server_addr().to_ip().expect("a TCP address");
    (Arc::new(server), address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("the server listens");
    client.set_read_timeout(Some(MAX_WAIT)).expect("a socket");
    client
}

fn send_and_read(address: SocketAddr, request: &str) -> String {
    let mut client = connect(address);
    client.write_all(request.as_bytes()).expect("the server reads");
    client.shutdown(Shutdown::Write).expect("the connection is open");
    let mut response = String::new();
    client.read_to_string(&mut response).expect("the response is text");
    response
}

#[test]
fn hook_when_a_request_is_rejected_makes_the_response_and_sees_the_headers() {
    let limits = Limits { max_body_bytes: 10, ..Limits::default() };
    let (_server, address) = start(limits, |rejection| {
        let origin = rejection.header_values("origin").next().unwrap_or(b"-");
        let words = format!("{} {}", rejection.error_code(), String::from_utf8_lossy(origin));
        Response::from_string(words).with_status_code(rejection.status_code()).boxed()
    });
    let too_large = "POST / HTTP/1.1\r\nHost: h\r\nOrigin: http://é\r\nContent-Length: 11\r\n\r\n";
    let response = send_and_read(address, too_large);
    assert!(response.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{response}");
    assert!(response.contains("\r\nConnection: close\r\n"));
    assert!(response.ends_with("\r\n\r\nPAYLOAD_TOO_LARGE http://é"));
    assert!(send_and_read(address, "nonsense\r\n\r\n").ends_with("\r\n\r\nBAD_REQUEST -"));
    let head = send_and_read(address, &too_large.replace("POST", "HEAD"));
    assert!(head.contains("\r\nContent-Length: 27\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn header_values_are_returned_as_received() {
    let (server, address) = start(Limits::default(), Rejection::to_response);
    let mut client = connect(address);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nX-Name: \t a b \r\nX: 1\r\nx-name:\r\nX-NAME: \xe9\xff\r\n\r\n")
        .expect("the server reads");
    let request = server.recv().expect("a request arrives");
    let values = |name| request.header_values(name).collect::<Vec<_>>();
    assert_eq!(values("X-Name"), [b"a b".as_slice(), b"", b"\xe9\xff"]);
    assert_eq!((values("host"), values("Y").len()), (vec![b"h".as_slice()], 0));
}

#[test]
fn fields_are_sent_before_other_headers_except_engine_headers() {
    let (server, address) = start(Limits::default(), Rejection::to_response);
    let respond_with = |fields: &[Field]| {
        let mut client = connect(address);
        client.write_all(GET.as_bytes()).expect("the server reads");
        client.shutdown(Shutdown::Write).expect("the connection is open");
        let response = Response::from_string("ok").with_fields(fields.to_vec());
        let sent = server.recv().expect("a request arrives").respond(response);
        let mut response = String::new();
        client.read_to_string(&mut response).expect("the response is text");
        (sent.is_ok(), response)
    };
    let (_, plain) = respond_with(&[]);
    let engines = ["date", "Connection", "content-length", "Trailer", "transfer-encoding", "UPGRADE"];
    let (is_sent, response) = respond_with(&engines.map(|name| (name, "7".into())));
    let after_date = |response: &str| response.split_once("GMT\r\n").map(|(_, rest)| rest.to_owned());
    assert_eq!((is_sent, after_date(&response)), (true, after_date(&plain)));
    let (is_sent, response) = respond_with(&[("ETag", "\"1\"".into()), ("X-Own", "2".to_owned().into())]);
    assert!(is_sent && response.contains("\r\nETag: \"1\"\r\nX-Own: 2\r\nContent-Type: "), "{response}");
    for split in [("X", "a\r\nSet-Cookie: b".into()), ("X: a\r\nY", "b".into()), ("X", "é".into())] {
        let (is_sent, response) = respond_with(&[split]);
        assert!(!is_sent && !response.contains("Set-Cookie") && !response.contains("200"), "{response}");
    }
}

#[test]
fn hook_when_it_fails_is_replaced_by_the_default() {
    let (_server, address) = start(Limits::default(), |rejection| match rejection.status_code().0 {
        400 => panic!("a defect of the hook"),
        _ => Response::empty(0).boxed(),
    });
    for (request, code) in [("nonsense\r\n\r\n", "BAD_REQUEST"), ("GET / HTTP/3.0\r\n\r\n", "VERSION_NOT_SUPPORTED")] {
        let response = send_and_read(address, request);
        assert!(response.contains(&format!(r#""error_code":"{code}""#)), "{response}");
    }
}

/// An endless body that counts how much of it was read.
struct Endless(Arc<AtomicUsize>);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        self.0.fetch_add(buffer.len(), Ordering::SeqCst);
        Ok(buffer.len())
    }
}

#[test]
fn streamed_body_when_the_client_stalls_is_not_read_further_and_holds_no_thread() {
    let (server, address) = start(Limits::default(), Rejection::to_response);
    let pulled = Arc::new(AtomicUsize::new(0));
    let mut reader = connect(address);
    reader.write_all(GET.as_bytes()).expect("the server reads");
    let request = server.recv().expect("a request arrives");
    let body = Endless(Arc::clone(&pulled));
    request.respond(Response::new(StatusCode(200), vec![], body, None, None)).expect("the client is connected");

    // The only receiving thread is free again, and the body is read only as far as the socket buffers hold.
    let others = thread::spawn(move || (0..50).map(|_| send_and_read(address, GET)).collect::<Vec<_>>());
    for _ in 0..50 {
        let request = server.recv_timeout(MAX_WAIT).expect("the server has not ended").expect("a request arrives");
        request.respond(Response::empty(204)).expect("the client is connected");
    }
    let responses = others.join().expect("the client thread does not panic");
    assert!(responses.iter().all(|response| response.starts_with("HTTP/1.1 204 No Content\r\n")), "{responses:?}");
    let before = pulled.load(Ordering::SeqCst);
    assert!(before < 32 << 20, "{before} bytes pulled for a client that reads none");

    // No thread receives any more, and the client still gets what it reads.
    io::copy(&mut (&reader).take(2 * before as u64), &mut io::sink()).expect("the body goes on");
    assert!(pulled.load(Ordering::SeqCst) > before);
    drop(reader);
    wait_until("all connections are closed", || server.stats().connections == 0);
}

#[test]
fn shutdown_answers_open_requests_and_ends_every_wait() {
    let (server, address) = start(Limits::default(), Rejection::to_response);
    let idle = connect(address);
    let mut half_sent = connect(address);
    half_sent.write_all(&GET.as_bytes()[..10]).expect("the server reads");
    wait_until("both are connected", || server.stats().connections == 2 && server.stats().buffered_bytes > 0);
    let in_flight = thread::spawn(move || send_and_read(address, GET));
    let request = server.recv().expect("a request arrives");

    let ending = Arc::clone(&server);
    let ending = thread::spawn(move || ending.shutdown(MAX_WAIT));
    wait_until("the listener is closed", || TcpStream::connect(address).is_err());
    let receiving: Vec<_> = (0..3)
        .map(|_| {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                for request in server.incoming_requests() {
                    request.respond(Response::from_string("late")).expect("the client is connected");
                }
            })
        })
        .collect();
    request.respond(Response::from_string("in flight")).expect("the client is connected");
    half_sent.write_all(&GET.as_bytes()[10..]).expect("the server reads");
    let mut late = String::new();
    half_sent.read_to_string(&mut late).expect("the response is text");

    assert!(late.ends_with("late") && late.contains("\r\nConnection: close\r\n"), "{late}");
    let in_flight = in_flight.join().expect("the client thread does not panic");
    assert!(in_flight.ends_with("in flight") && in_flight.contains("\r\nConnection: close\r\n"));
    assert_eq!((&idle).read(&mut [0; 1]).expect("a clean end"), 0);
    assert!(ending.join().expect("no panic"), "everything has ended");
    for thread in receiving {
        thread.join().expect("no panic");
    }
    assert!(server.recv().is_err() && server.try_recv().is_err());
    assert_eq!(server.stats().connections, 0);
}

/// The timer thread polls after a while without a poll, also while a thread begins to receive. Then both wait for the
/// event of the shutdown, and it wakes only one of them.
#[test]
fn shutdown_when_it_comes_early_ends_recv() {
    for round in 0..200 {
        let (server, address) = start(Limits::default(), Rejection::to_response);
        let (tell, ended) = mpsc::channel();
        let receiver = Arc::clone(&server);
        thread::spawn(move || {
            for request in receiver.incoming_requests() {
                request.respond(Response::from_string("there")).expect("the client is connected");
            }
            tell.send(()).expect("the test waits");
        });
        assert!(send_and_read(address, GET).ends_with("there"));
        assert!(server.shutdown(MAX_WAIT));
        assert_eq!(ended.recv_timeout(MAX_WAIT), Ok(()), "round {round}");
    }
}

#[test]
fn stats_count_accepted_shed_and_pending_requests() {
    let limits = Limits { max_pending_requests: 1, ..Limits::default() };
    let (server, address) = start(limits, Rejection::to_response);
    let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    for client in &mut clients {
        client.write_all(GET.as_bytes()).expect("the server reads");
    }
    // No thread receives: one request waits, two are rejected.
    wait_until("two are rejected", || server.stats().shed == 2);
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.pending_requests, stats.rejected), (3, 1, 0));
    server.recv().expect("one waits").respond(Response::empty(200)).expect("the client is connected");
    let mut responses: Vec<String> = clients
        .into_iter()
        .map(|mut client| {
            let mut response = [0; 12];
            client.read_exact(&mut response).expect("a response");
            String::from_utf8_lossy(&response).into_owned()
        })
        .collect();
    responses.sort();
    assert_eq!(responses, ["HTTP/1.1 200", "HTTP/1.1 503", "HTTP/1.1 503"]);
}

#[test]
fn header_when_it_could_split_a_response_is_not_sent() {
    let (server, address) = start(Limits::default(), Rejection::to_response);
    let client = thread::spawn(move || send_and_read(address, GET));
    let mut header = Header::from_bytes("X", "y").expect("a proper header");
    header.value.push(ascii::AsciiChar::CarriageReturn);
    header.value.push(ascii::AsciiChar::LineFeed);
    let request = server.recv().expect("a request arrives");
    assert!(request.respond(Response::empty(200).with_header(header)).is_err());
    assert!(
        client.join().expect("the client thread does not panic").starts_with("HTTP/1.1 500 Internal Server Error\r\n")
    );
}

#[test]
fn slow_request_after_many_fast_ones_delays_no_other() {
    let (server, address) = start(Limits::default(), Rejection::to_response);
    let release = Arc::new((Mutex::new(false), Condvar::new()));
    for _ in 0..2 {
        let (server, release) = (Arc::clone(&server), Arc::clone(&release));
        thread::spawn(move || {
            for request in server.incoming_requests() {
                if request.url() == "/slow" {
                    let released = release.0.lock().expect("no thread panics while holding it");
                    drop(
                        release
                            .1
                            .wait_while(released, |released| !*released)
                            .expect("no thread panics while holding it"),
                    );
                }
                let _ = request.respond(Response::empty(204));
            }
        });
    }
    let mut client = connect(address);
    let mut ask = |request: &str| {
        client.write_all(request.as_bytes()).expect("the server reads");
        let mut response = [0; 1024];
        let count = client.read(&mut response).expect("a response in time");
        assert!(response[..count].starts_with(b"HTTP/1.1 204 "));
    };
    (0..1000).for_each(|_| ask(GET));
    let slow = thread::spawn(move || send_and_read(address, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"));
    wait_until("both are connected", || server.stats().connections == 2);
    (0..1000).for_each(|_| ask(GET));
    *release.0.lock().expect("no thread panics while holding it") = true;
    release.1.notify_all();
    assert!(slow.join().expect("the client thread does not panic").starts_with("HTTP/1.1 204 "));
}

#[test]
fn write_deadline_when_the_client_sends_instead_of_reading_is_not_extended() {
    let limits =
        Limits { write_timeout: Duration::from_millis(300), min_write_bytes_per_second: 1, ..Limits::default() };
    let (server, address) = start(limits, Rejection::to_response);
    let mut client = connect(address);
    client.write_all(GET.as_bytes()).expect("the server reads");
    let request = server.recv().expect("a request arrives");
    let body = Endless(Arc::default());
    request.respond(Response::new(StatusCode(200), vec![], body, None, None)).expect("the client is connected");
    let began = Instant::now();
    while server.stats().connections > 0 {
        assert!(began.elapsed() < MAX_WAIT, "it is still there");
        // Fails once the server has closed the connection.
        let _ = client.write(b"x");
        thread::sleep(Duration::from_millis(20));
    }
}
