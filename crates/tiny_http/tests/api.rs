//! The API that this crate and the published `tiny_http` 0.12 have in common.
//!
//! `compat/` compiles this file against the published crate. It tests only behaviour that both share.

use std::io::{Cursor, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tiny_http::{HTTPVersion, Header, HeaderField, Method, Request, Response, ResponseBox, Server, StatusCode};

fn server() -> (Server, SocketAddr) {
    let server = Server::http("127.0.0.1:0").expect("a free port");
    let address = server.server_addr().to_ip().expect("a TCP address");
    (server, address)
}

/// Sends one request and closes the sending side. Returns everything received.
fn send_and_read(address: SocketAddr, request: &str) -> String {
    let mut client = TcpStream::connect(address).expect("the server listens");
    client.write_all(request.as_bytes()).expect("the server reads");
    client.shutdown(Shutdown::Write).expect("the connection is open");
    let mut response = String::new();
    client.read_to_string(&mut response).expect("the response is text");
    response
}

/// Serves one request with `serve`. Returns what the client receives.
fn serve_one(request: &str, serve: impl FnOnce(Request) + Send + 'static) -> String {
    let (server, address) = server();
    let request = request.to_owned();
    let client = thread::spawn(move || send_and_read(address, &request));
    serve(server.recv().expect("the client sends a request"));
    client.join().expect("the client thread does not panic")
}

fn respond<R: Read + Send + 'static>(response: Response<R>) -> impl FnOnce(Request) + Send {
    move |request| request.respond(response).expect("the client is connected")
}

const GET: &str = "GET /path?query HTTP/1.1\r\nHost: h\r\nX-Name: value\r\nConnection: close\r\n\r\n";

#[test]
fn request_reports_what_was_sent() {
    serve_one(GET, |request| {
        assert_eq!(*request.method(), Method::Get);
        assert_eq!(request.url(), "/path?query");
        assert_eq!(*request.http_version(), HTTPVersion(1, 1));
        assert_eq!(request.body_length(), None);
        assert!(request.remote_addr().expect("a TCP peer").ip().is_loopback());
        let names: Vec<_> = request.headers().iter().map(|header| header.field.as_str().as_str()).collect();
        assert_eq!(names, ["Host", "X-Name", "Connection"]);
        let header = request.headers().iter().find(|header| header.field.equiv("x-name")).expect("it was sent");
        assert_eq!(header.value.as_str(), "value");
        assert_eq!(header.to_string(), "X-Name: value");
    });
}

#[test]
fn body_is_read_completely() {
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{rest}");
    for (rest, length) in [
        ("Content-Length: 5\r\n\r\nhello", Some(5)),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", None),
    ] {
        serve_one(&post(rest), move |mut request| {
            assert_eq!(request.body_length(), length);
            let mut body = String::new();
            request.as_reader().read_to_string(&mut body).expect("the body is whole");
            assert_eq!(body, "hello");
        });
    }
}

#[test]
fn response_has_status_headers_and_body() {
    let header = Header::from_bytes("X-ReceivedResponse", "yes").expect("a proper header");
    let response = Response::from_string("hello").with_status_code(404).with_header(header);
    let response = serve_one(GET, respond(response));
    assert!(response.starts_with("HTTP/1.1 404 Not Found\r\n"), "{response}");
    assert!(response.contains("\r\nX-ReceivedResponse: yes\r\n"));
    assert!(response.contains("\r\nContent-Type: text/plain; charset=UTF-8\r\n"));
    assert!(response.contains("\r\nContent-Length: 5\r\n"));
    assert!(response.contains("\r\nDate: "));
    assert!(response.ends_with("\r\n\r\nhello"));
}

#[test]
fn body_of_unknown_length_is_sent_in_chunks() {
    let response = Response::new(StatusCode(200), vec![], Cursor::new(b"hello".to_vec()), None, None);
    let response = serve_one(GET, respond(response.boxed()));
    assert!(response.contains("\r\nTransfer-Encoding: chunked\r\n"));
    assert!(response.ends_with("\r\nhello\r\n0\r\n\r\n"), "{response}");
}

#[test]
fn head_request_gets_the_length_without_the_body() {
    let response = serve_one(&GET.replace("GET", "HEAD"), respond(Response::from_string("hello")));
    assert!(response.contains("\r\nContent-Length: 5\r\n"));
    assert!(response.ends_with("\r\n\r\n"), "{response}");
}

#[test]
fn request_when_dropped_gets_500() {
    let response = serve_one(GET, drop);
    assert!(response.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{response}");
}

#[test]
fn response_is_built_from_parts() {
    let mut response = Response::from_data("abc");
    assert_eq!(response.data_length(), Some(3));
    assert_eq!(response.status_code(), StatusCode(200));
    assert!(response.headers().is_empty());
    for line in ["Connection: close", "Transfer-Encoding: chunked", "Upgrade: h2c", "Trailer: X"] {
        response.add_header(Header::from_str(line).expect("a proper header"));
    }
    assert!(response.headers().is_empty());
    for line in ["Content-Type: a/b", "Content-Type: c/d", "Content-Length: 2"] {
        response.add_header(Header::from_str(line).expect("a proper header"));
    }
    assert_eq!(response.headers().len(), 1);
    assert_eq!(response.headers()[0].value.as_str(), "c/d");
    assert_eq!(response.data_length(), Some(2));
    let boxed: ResponseBox = response.with_data(Cursor::new(b"other".to_vec()), Some(5)).boxed();
    assert_eq!((boxed.data_length(), boxed.headers().len()), (Some(5), 1));
    assert_eq!(Response::empty(204).status_code(), 204);
}

#[test]
fn headers_methods_and_status_codes_parse_and_format() {
    assert!(HeaderField::from_str("content-TYPE") == HeaderField::from_str("Content-Type"));
    assert!(Header::from_str("No-Colon").is_err());
    assert!(Header::from_str("Blank : b").is_err());
    assert!(Header::from_bytes("X", "\u{e9}").is_err());
    assert_eq!(Header::from_str("A:  b: c ").expect("a proper header").value.as_str(), "b: c");
    assert_eq!("PATCH".parse(), Ok(Method::Patch));
    assert_eq!("get".parse::<Method>().map(|method| method.to_string()), Ok("get".to_owned()));
    assert_ne!("get".parse(), Ok(Method::Get));
    assert_eq!(StatusCode::from(422).default_reason_phrase(), "Unprocessable Entity");
    assert_eq!(StatusCode(599).default_reason_phrase(), "Unknown");
    assert!(HTTPVersion(1, 0) < (1, 1));
    assert_eq!(HTTPVersion(1, 1).to_string(), "1.1");
}

#[test]
fn recv_timeout_returns_after_its_timeout() {
    let (server, address) = server();
    assert!(server.try_recv().expect("the server has not ended").is_none());
    assert!(server.recv_timeout(Duration::from_millis(10)).expect("the server has not ended").is_none());
    let client = thread::spawn(move || send_and_read(address, GET));
    let request =
        server.recv_timeout(Duration::from_secs(10)).expect("the server has not ended").expect("a request arrives");
    request.respond(Response::empty(200)).expect("the client is connected");
    assert!(client.join().expect("the client thread does not panic").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn unblock_ends_one_recv() {
    let (server, _) = server();
    let server = Arc::new(server);
    let receiving: Vec<_> = (0..2)
        .map(|_| {
            let server = Arc::clone(&server);
            thread::spawn(move || server.incoming_requests().count())
        })
        .collect();
    server.unblock();
    server.unblock();
    for thread in receiving {
        assert_eq!(thread.join().expect("no panic"), 0);
    }
    server.unblock();
    assert!(server.recv().is_err());
}

#[test]
fn kept_connection_is_served_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = Server::from_listener(listener, None).expect("a listener");
    let address = server.server_addr().to_ip().expect("a TCP address");
    let client = thread::spawn(move || {
        send_and_read(address, &format!("{}{GET}", "GET /first HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2)))
    });
    for request in server.incoming_requests().take(3) {
        let url = request.url().to_owned();
        request.respond(Response::from_string(url)).expect("the client is connected");
    }
    let responses = client.join().expect("the client thread does not panic");
    assert_eq!(responses.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{responses}");
    assert!(responses.ends_with("/path?query"));
}
