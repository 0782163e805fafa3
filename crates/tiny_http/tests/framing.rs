//! Request framing: which bytes become requests, and which are rejected.
//!
//! Every probe of the table in `support/probes` is sent to a server that records the requests it receives. The
//! record, the responses and the end of the connection must match the table. Other tests cover what the table cannot
//! express: splits, `Expect`, responses without body, and headers of responses.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use support::client::{Client, ReceivedResponse, brief};
use support::probes::{self, End, MAX_BODY_BYTES, Probe, Seen};
use tiny_http::{Header, Request, Response, Server, StatusCode};

// ---- the server under test

/// A server that records the requests it receives, and responds with `method url body-length`.
struct Echo {
    addr: SocketAddr,
    server: Arc<Server>,
    seen: Arc<Mutex<Vec<(SocketAddr, Seen)>>>,
    workers: Vec<JoinHandle<()>>,
}

impl Echo {
    fn start() -> Echo {
        let server = Arc::new(Server::http("127.0.0.1:0").expect("a free port on loopback"));
        let addr = server.server_addr().to_ip().expect("an address of the internet");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let workers = (0..2)
            .map(|_| {
                let (server, seen) = (server.clone(), seen.clone());
                thread::spawn(move || {
                    while let Ok(request) = server.recv() {
                        record_and_respond(request, &seen);
                    }
                })
            })
            .collect();
        Echo { addr, server, seen, workers }
    }

    fn connect(&self) -> Client {
        Client::connect(self.addr).expect("the server accepts")
    }

    /// Removes and returns the requests received from one client, in order.
    fn take_seen(&self, from: SocketAddr) -> Vec<Seen> {
        let mut all = self.seen.lock().expect("no worker panicked");
        let (mine, rest) = all.drain(..).partition(|(addr, _)| *addr == from);
        *all = rest;
        mine.into_iter().map(|(_, seen)| seen).collect()
    }

    /// Ends the workers and returns the requests that were not taken.
    fn end(self) -> Vec<Seen> {
        self.workers.iter().for_each(|_| self.server.unblock());
        for worker in self.workers {
            worker.join().expect("no worker panicked");
        }
        let left = std::mem::take(&mut *self.seen.lock().expect("no worker panicked"));
        left.into_iter().map(|(_, seen)| seen).collect()
    }
}

fn record_and_respond(mut request: Request, seen: &Mutex<Vec<(SocketAddr, Seen)>>) {
    let mut body = Vec::new();
    request.as_reader().read_to_end(&mut body).expect("a complete body");
    let this = Seen { method: request.method().to_string(), url: request.url().to_owned(), body };
    let text = echo_of(&this);
    let from = *request.remote_addr().expect("a peer");
    seen.lock().expect("no worker panicked").push((from, this));
    // The client notices a failed response.
    let _ = match request.url() {
        "/204" => request.respond(Response::empty(204)),
        "/304" => request.respond(Response::empty(304)),
        "/stream" => request.respond(Response::new(StatusCode(200), vec![], b"streamed".as_slice(), None, None)),
        "/headers" => {
            let names: Vec<String> = request.headers().iter().map(|h| h.field.to_string()).collect();
            request.respond(Response::from_string(names.join(" ")))
        }
        _ => request.respond(Response::from_string(text)),
    };
}

fn echo_of(seen: &Seen) -> String {
    format!("{} {} {}", seen.method, seen.url, seen.body.len())
}

// ---- checks of a probe

/// Checks the requests and responses of a probe that was sent.
fn check(echo: &Echo, probe: &Probe, client: &mut Client) -> Result<(), String> {
    if probe.end == End::Cut {
        client.end_sending();
    }
    let from = client.addr();
    let responses = check_responses(probe, client);
    let seen = echo.take_seen(from);
    let expected: Vec<Seen> = match probe.end {
        End::Open => probe.seen.iter().cloned().chain([after()]).collect(),
        _ => probe.seen.clone(),
    };
    let shown: Vec<String> = seen.iter().map(|s| brief(echo_of(s).as_bytes())).collect();
    responses.map_err(|e| format!("{e}; the application saw {shown:?}"))?;
    match seen == expected {
        true => Ok(()),
        false => Err(format!("the application saw {shown:?}")),
    }
}

/// The request that shows that the connection is still in sync.
fn after() -> Seen {
    Seen { method: "PUT".into(), url: "/after".into(), body: b"ok".into() }
}

fn check_responses(probe: &Probe, client: &mut Client) -> Result<(), String> {
    for (i, seen) in probe.seen.iter().enumerate() {
        let response = client.read_response(&seen.method)?.ok_or_else(|| format!("closed before response {i}"))?;
        let last = i + 1 == probe.seen.len() && probe.rejection.is_empty();
        let closes = match probe.end {
            // After a half-close the header is optional.
            End::Cut if last => response.says_close(),
            End::Closed => last,
            _ => false,
        };
        check_echo(seen, &response, closes).map_err(|e| format!("response {i}: {e}"))?;
    }
    match probe.end {
        End::Open => {
            let request = "PUT /after HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok";
            let response = client.ask("PUT", request).map_err(|e| format!("the request after it: {e}"))?;
            check_echo(&after(), &response, false).map_err(|e| format!("the request after it: {e}"))?;
            client.end_sending();
        }
        End::Closed if !probe.rejection.is_empty() => {
            let response = client.read_response("GET")?.ok_or("closed without a rejection")?;
            check_rejection(probe.rejection, &response)?;
        }
        End::Cut if !probe.rejection.is_empty() => match client.read_response("GET")? {
            Some(response) => {
                return check_rejection(probe.rejection, &response).and_then(|()| client.at_end());
            }
            None => return Ok(()),
        },
        End::Closed | End::Cut => {}
    }
    // After a large rejected body the server may close with unread bytes, which resets the connection. The response
    // has arrived by then.
    let may_reset = probe.end == End::Closed && probe.bytes.len() > 64 * 1024;
    client.at_end().or_else(|e| if may_reset && e.contains("reset") { Ok(()) } else { Err(e) })
}

fn check_echo(seen: &Seen, response: &ReceivedResponse, closes: bool) -> Result<(), String> {
    let text = echo_of(seen);
    let body_fits = match seen.method.as_str() {
        "HEAD" => response.header("content-length") == Some(text.len().to_string().as_str()),
        _ => response.text() == text,
    };
    match response.status {
        200 if body_fits && response.says_close() == closes => Ok(()),
        _ => Err(format!(
            "{} {:?}, Connection {:?}",
            response.status,
            brief(&response.body),
            response.header("connection")
        )),
    }
}

/// A rejection has one of the statuses, `Connection: close`, and a JSON error object.
fn check_rejection(statuses: &[u16], response: &ReceivedResponse) -> Result<(), String> {
    let text = response.text();
    if !statuses.contains(&response.status) {
        return Err(format!("{} instead of {statuses:?}: {}", response.status, brief(text.as_bytes())));
    }
    let json = response.header("content-type").is_some_and(|t| t.starts_with("application/json"));
    let fields = ["\"detail\":", "\"error_code\":", "\"message\":"].iter().all(|f| text.contains(f));
    match json && fields && response.says_close() {
        true => Ok(()),
        false => Err(format!("a rejection out of shape, Connection {:?}: {text}", response.header("connection"))),
    }
}

/// Prints the failures and fails if there are any.
fn require_none(what: &str, checked: usize, failures: &[String]) {
    println!("{what}: {checked} checked, {} failed", failures.len());
    assert!(failures.is_empty(), "{what}: {} of {checked} failed\n{}", failures.len(), failures.join("\n"));
}

fn named(probe: &Probe, error: &str) -> String {
    format!("  [{}] {}: {error}", probe.group, probe.name)
}

// ---- the table

#[test]
fn probes_when_sent_at_once_match_the_table() {
    let echo = Echo::start();
    let probes = probes::all();
    let mut groups = BTreeMap::new();
    let mut failures = Vec::new();
    for probe in &probes {
        let mut client = echo.connect();
        // A server that rejects early may close before it has read everything.
        let _ = client.send(&probe.bytes);
        let result = check(&echo, probe, &mut client);
        let (checked, failed): &mut (usize, usize) = groups.entry(probe.group).or_default();
        *checked += 1;
        *failed += usize::from(result.is_err());
        failures.extend(result.err().map(|e| named(probe, &e)));
    }
    for (group, (checked, failed)) in groups {
        println!("{group}: {checked} probes, {failed} failed");
    }
    failures.extend(echo.end().iter().map(|s| format!("  seen late: {}", echo_of(s))));
    require_none("probes sent at once", probes.len(), &failures);
}

/// The same table, one byte at a time. The connections take turns, so that each byte arrives alone without a pause.
#[test]
fn probes_when_sent_byte_by_byte_match_the_table() {
    const LONGEST: usize = 700;
    let echo = Echo::start();
    let probes: Vec<Probe> = probes::all().into_iter().filter(|p| p.bytes.len() <= LONGEST).collect();
    let mut clients: Vec<Client> = probes.iter().map(|_| echo.connect()).collect();
    for at in 0..LONGEST {
        for (probe, client) in probes.iter().zip(&mut clients) {
            if let Some(byte) = probe.bytes.get(at) {
                let _ = client.send([*byte]);
            }
        }
    }
    let mut failures = Vec::new();
    for (probe, client) in probes.iter().zip(&mut clients) {
        failures.extend(check(&echo, probe, client).err().map(|e| named(probe, &e)));
    }
    failures.extend(echo.end().iter().map(|s| format!("  seen late: {}", echo_of(s))));
    require_none("probes sent byte by byte", probes.len(), &failures);
}

#[test]
fn probe_names_are_unique() {
    let probes = probes::all();
    let mut names: Vec<String> = probes.iter().map(|p| format!("{}: {}", p.group, p.name)).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), probes.len(), "two probes share a name");
    assert!(probes.len() >= 120, "only {} probes", probes.len());
}

// ---- splits

/// Six different requests as one stream, split in two at every position.
#[test]
fn pipelined_requests_when_split_anywhere_are_parsed_the_same() {
    let stream = concat!(
        "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "\r\nPOST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nT: u\r\n\r\n",
        "HEAD /4 HTTP/1.1\r\nHost: h\r\n\r\n",
        "DELETE /5 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "GET /6 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    let seen = |method: &str, url: &str, body: &str| Seen { method: method.into(), url: url.into(), body: body.into() };
    let whole = Probe {
        group: "splits",
        name: String::new(),
        bytes: stream.into(),
        seen: vec![
            seen("GET", "/1", ""),
            seen("POST", "/2", "hello"),
            seen("POST", "/3", "hello"),
            seen("HEAD", "/4", ""),
            seen("DELETE", "/5", ""),
            seen("GET", "/6", ""),
        ],
        rejection: &[],
        end: End::Closed,
    };
    let echo = Echo::start();
    // Every connection sends its first part before any sends its second, which separates the two.
    let mut clients: Vec<Client> = (0..=stream.len()).map(|_| echo.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(&stream[..at]).unwrap_or_else(|e| panic!("first part up to {at}: {e}"));
    }
    let mut failures = Vec::new();
    for (at, client) in clients.iter_mut().enumerate() {
        let sent = client.send(&stream[at..]).map_err(|e| e.to_string());
        let result = sent.and_then(|()| check(&echo, &whole, client));
        failures.extend(result.err().map(|e| format!("  cut at {at}: {e}")));
    }
    failures.extend(echo.end().iter().map(|s| format!("  seen late: {}", echo_of(s))));
    require_none("positions of a cut", stream.len() + 1, &failures);
}

// ---- Expect: 100-continue

fn expecting(headers: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{headers}\r\n\r\n")
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let echo = Echo::start();
    for expect in ["100-continue", "100-Continue"] {
        for (framing, body) in
            [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
        {
            let case = format!("Expect: {expect} with {framing}");
            let mut client = echo.connect();
            let head = format!("POST /a HTTP/1.1\r\nHost: h\r\nExpect: {expect}\r\n{framing}\r\n\r\n");
            let interim = client.ask("POST", head).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(interim.status, 100, "{case}");
            assert!(echo.take_seen(client.addr()).is_empty(), "{case}: seen before its body");
            let response = client.ask("POST", body).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!((response.status, response.text().as_str()), (200, "POST /a 5"), "{case}");
            client.end_sending();
            client.at_end().unwrap_or_else(|e| panic!("{case}: {e}"));
        }
    }
}

/// The cases are (name, request, status).
#[test]
fn expect_continue_when_no_body_is_read_gets_no_100() {
    let too_large = format!("Content-Length: {}", MAX_BODY_BYTES + 1);
    let cases = [
        ("a body too large", expecting(&too_large), 413),
        ("an impossible length", expecting("Content-Length: 30000000000"), 413),
        ("two lengths", expecting("Content-Length: 5\r\nContent-Length: 6"), 400),
        ("length and chunks", expecting("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400),
        ("no body", expecting("A: b"), 200),
        ("an empty body", expecting("Content-Length: 0"), 200),
        ("no host", "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n".into(), 400),
    ];
    let echo = Echo::start();
    for (name, request, status) in cases {
        let mut client = echo.connect();
        let response = client.ask("POST", request).unwrap_or_else(|e| panic!("Expect with {name}: {e}"));
        assert_eq!(response.status, status, "Expect with {name}");
        client.end_sending();
        client.at_end().unwrap_or_else(|e| panic!("Expect with {name}: {e}"));
    }
}

/// HTTP/1.0 has no 100: a client would take it for the final response.
#[test]
fn expect_continue_on_http_1_0_gets_no_100() {
    let echo = Echo::start();
    let mut client = echo.connect();
    client.send("POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").expect("the head is sent");
    // Gives the server time to send a wrong 100.
    for _ in 0..20 {
        echo.connect().ask("GET", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request of another client");
    }
    let response = client.ask("POST", "hello").expect("the response to HTTP/1.0");
    assert_eq!((response.status, response.text().as_str()), (200, "POST /a 5"));
}

/// The body may arrive with the head, and then a 100 is optional.
#[test]
fn expect_continue_with_the_body_at_once_stays_in_sync() {
    let echo = Echo::start();
    let mut client = echo.connect();
    let request = expecting("Content-Length: 5") + "hello" + "GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut response = client.ask("POST", request).expect("Expect with its body at once");
    if response.status == 100 {
        response = client.read_response("POST").expect("the response behind a 100").expect("a response behind a 100");
    }
    assert_eq!((response.status, response.text().as_str()), (200, "POST /a 5"));
    let response = client.read_response("GET").expect("the next response").expect("a next response");
    assert_eq!((response.status, response.text().as_str()), (200, "GET /b 0"));
}

// ---- responses

/// Each request is followed by another in the same write: a body that is not allowed would be taken for the next
/// response.
#[test]
fn responses_without_body_keep_the_connection_in_sync() {
    let echo = Echo::start();
    let cases = [
        ("HEAD", "/a", 200, Some("9")),
        ("HEAD", "/204", 204, None),
        ("HEAD", "/stream", 200, None),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, None),
        ("POST", "/204", 204, None),
    ];
    for (method, url, status, length) in cases {
        let mut client = echo.connect();
        let request = format!("{method} {url} HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.ask(method, request).unwrap_or_else(|e| panic!("{method} {url}: {e}"));
        assert_eq!(response.status, status, "{method} {url}");
        assert_eq!(response.header("content-length"), length, "{method} {url}: Content-Length");
        let next = client.read_response("GET").unwrap_or_else(|e| panic!("behind {method} {url}: {e}"));
        let next = next.unwrap_or_else(|| panic!("behind {method} {url}: closed"));
        assert_eq!(next.text(), "GET /b 0", "behind {method} {url}");
        client.end_sending();
        client.at_end().unwrap_or_else(|e| panic!("{method} {url}: {e}"));
    }
}

/// A body of unknown length is sent in chunks to HTTP/1.1, and up to the end of the connection to HTTP/1.0.
#[test]
fn response_of_unknown_length_is_framed_for_its_http_version() {
    let echo = Echo::start();
    let mut client = echo.connect();
    let response = client.ask("GET", "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n").expect("a stream on HTTP/1.1");
    assert_eq!((response.header("transfer-encoding"), response.text().as_str()), (Some("chunked"), "streamed"));
    let next = client.ask("GET", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request behind a stream");
    assert_eq!(next.text(), "GET /b 0");

    for connection in ["close", "keep-alive"] {
        let mut client = echo.connect();
        let request = format!("GET /stream HTTP/1.0\r\nConnection: {connection}\r\n\r\n");
        let response = client.ask("GET", request).expect("a stream on HTTP/1.0");
        assert_eq!(response.header("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
        assert_eq!((response.text().as_str(), response.says_close()), ("streamed", true), "Connection: {connection}");
    }
}

#[test]
fn http_1_0_when_kept_alive_gets_the_header() {
    let echo = Echo::start();
    let mut client = echo.connect();
    let request = "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    for round in 0..3 {
        let response = client.ask("GET", request).unwrap_or_else(|e| panic!("round {round}: {e}"));
        let summary = response.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("keep-alive"));
        assert!(summary, "round {round}: Connection {:?}", response.header("connection"));
    }
}

#[test]
fn responses_and_rejections_have_one_date() {
    let echo = Echo::start();
    for (name, request) in
        [("response", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), ("rejection", "GET /a HTTP/1.1\r\n\r\n")]
    {
        let response = echo.connect().ask("GET", request).unwrap_or_else(|e| panic!("{name}: {e}"));
        let dates = response.all("date");
        let [date] = dates.as_slice() else { panic!("{name}: Date {dates:?}") };
        // IMF-fixdate, RFC 9110 section 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT".
        let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert!(shape.len() == 29 && shape.ends_with(" 00:00:00 GMT") && &shape[3..8] == ", 00 ", "{name}: {date:?}");
    }
}

/// Trailer fields never become headers of this request or the next.
#[test]
fn trailers_are_discarded() {
    let echo = Echo::start();
    let mut client = echo.connect();
    let request = "POST /headers HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let next = "GET /headers HTTP/1.1\r\nHost: h\r\n\r\n";
    for (name, request) in [("with a trailer", request), ("behind a trailer", next)] {
        let names = client.ask("POST", request).unwrap_or_else(|e| panic!("{name}: {e}")).text().to_lowercase();
        assert!(names.contains("host") && !names.contains("x-trailer"), "{name}: headers are {names:?}");
    }
}

/// An application that ignores a body does not put the connection out of sync.
#[test]
fn body_when_the_application_ignores_it_is_skipped() {
    let server = Server::http("127.0.0.1:0").expect("a free port on loopback");
    let addr = server.server_addr().to_ip().expect("an address of the internet");
    let worker = thread::spawn(move || {
        let mut urls = Vec::new();
        while urls.len() < 4 {
            let request = server.recv().expect("a request");
            urls.push(request.url().to_owned());
            let _ = request.respond(Response::from_string("x"));
        }
        urls
    });
    let smuggled = probes::SMUGGLED;
    let mut client = Client::connect(addr).expect("the server accepts");
    let bodies = [
        format!("POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
        format!(
            "POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
            smuggled.len()
        ),
        format!(
            "POST /3 HTTP/1.1\r\nHost: h\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n{}",
            "b".repeat(MAX_BODY_BYTES)
        ),
        "GET /4 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
    ];
    for (i, request) in bodies.iter().enumerate() {
        let response = client.ask("POST", request).unwrap_or_else(|e| panic!("unread body {}: {e}", i + 1));
        assert_eq!(response.status, 200, "unread body {}", i + 1);
    }
    assert_eq!(worker.join().expect("the worker ends"), ["/1", "/2", "/3", "/4"]);
}

/// The last response reaches a client that continues to send: the close must not become a reset.
#[test]
fn last_response_when_the_client_still_sends_is_not_lost() {
    const BEHIND_KIB: usize = 32;
    let echo = Echo::start();
    let heads = [
        ("no host", "POST /a HTTP/1.1\r\nContent-Length: 40000\r\n\r\n", 400),
        ("a body too large", "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n", 413),
        ("Connection: close", "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200),
    ];
    for (name, head, status) in heads {
        for round in 0..20 {
            let mut client = echo.connect();
            client.send(head).unwrap_or_else(|e| panic!("{name}, round {round}: {e}"));
            for _ in 0..BEHIND_KIB {
                let _ = client.send([b'b'; 1024]);
            }
            let response = client.ask("POST", "").unwrap_or_else(|e| panic!("{name}, round {round}: {e}"));
            assert_eq!(response.status, status, "{name}, round {round}");
            client.end_sending();
            client.at_end().unwrap_or_else(|e| panic!("{name}, round {round}: {e}"));
        }
    }
}

/// A header value cannot inject another header or response.
#[test]
fn header_when_it_could_split_a_response_cannot_be_created() {
    for value in ["a\r\nX: y", "a\nX: y", "a\rX: y", "a\0b", "\r\n\r\nHTTP/1.1 200 OK"] {
        assert!(Header::from_bytes("A", value).is_err(), "value {value:?}");
    }
    for name in ["A\r\nX", "A B", "A:", "", "A\0", "A\n"] {
        assert!(Header::from_bytes(name, "b").is_err(), "name {name:?}");
    }
}
