//! What bytes on a socket become: requests, refusals, or nothing.
//!
//! The table in `support/probes` holds the probes. Each is sent to a server that records every request it is
//! handed; the record, the answers and the end of the connection must be exactly those of the table. The
//! tests behind it look at what a table of bytes cannot say: splits, `Expect`, answers without body, and
//! headers of answers.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use support::client::{Answer, Client, brief};
use support::probes::{self, End, MAX_BODY_BYTES, Probe, Seen};
use tiny_http::{Header, Request, Response, Server, StatusCode};

// ---- the server under test

/// A server that records what it is handed, and answers with `method url body-length`.
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
                        record_and_answer(request, &seen);
                    }
                })
            })
            .collect();
        Echo { addr, server, seen, workers }
    }

    fn connect(&self) -> Client {
        Client::connect(self.addr).expect("the server accepts")
    }

    /// Takes the requests seen so far from one client, in order.
    fn take_seen(&self, from: SocketAddr) -> Vec<Seen> {
        let mut all = self.seen.lock().expect("no worker panicked");
        let (mine, rest) = all.drain(..).partition(|(addr, _)| *addr == from);
        *all = rest;
        mine.into_iter().map(|(_, seen)| seen).collect()
    }

    /// Ends the workers and returns what was seen and never asked for.
    fn end(self) -> Vec<Seen> {
        self.workers.iter().for_each(|_| self.server.unblock());
        for worker in self.workers {
            worker.join().expect("no worker panicked");
        }
        let left = std::mem::take(&mut *self.seen.lock().expect("no worker panicked"));
        left.into_iter().map(|(_, seen)| seen).collect()
    }
}

fn record_and_answer(mut request: Request, seen: &Mutex<Vec<(SocketAddr, Seen)>>) {
    let mut body = Vec::new();
    request.as_reader().read_to_end(&mut body).expect("a complete body");
    let this = Seen { method: request.method().to_string(), url: request.url().to_owned(), body };
    let text = echo_of(&this);
    let from = *request.remote_addr().expect("a peer");
    seen.lock().expect("no worker panicked").push((from, this));
    // A failed answer shows at the client, which is the one to judge.
    let _ = match request.url() {
        "/204" => request.respond(Response::empty(204)),
        "/304" => request.respond(Response::empty(304)),
        "/stream" => {
            request.respond(Response::new(StatusCode(200), vec![], b"streamed".as_slice(), None, None))
        }
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

// ---- how a probe is judged

/// Checks everything that comes of a probe whose bytes have been sent.
fn judge(echo: &Echo, probe: &Probe, client: &mut Client) -> Result<(), String> {
    if probe.end == End::Cut {
        client.end_sending();
    }
    let from = client.addr();
    let answers = judge_answers(probe, client);
    let seen = echo.take_seen(from);
    let expected: Vec<Seen> = match probe.end {
        End::Open => probe.seen.iter().cloned().chain([after()]).collect(),
        _ => probe.seen.clone(),
    };
    let shown: Vec<String> = seen.iter().map(|s| brief(echo_of(s).as_bytes())).collect();
    answers.map_err(|e| format!("{e}; the program saw {shown:?}"))?;
    match seen == expected {
        true => Ok(()),
        false => Err(format!("the program saw {shown:?}")),
    }
}

/// The request that shows that a connection is still in step.
fn after() -> Seen {
    Seen { method: "PUT".into(), url: "/after".into(), body: b"ok".into() }
}

fn judge_answers(probe: &Probe, client: &mut Client) -> Result<(), String> {
    for (i, seen) in probe.seen.iter().enumerate() {
        let answer = client.answer(&seen.method)?.ok_or_else(|| format!("closed before answer {i}"))?;
        let last = i + 1 == probe.seen.len() && probe.refusal.is_empty();
        let closes = match probe.end {
            // Whoever has ended his side may be told so or not.
            End::Cut if last => answer.says_close(),
            End::Closed => last,
            _ => false,
        };
        judge_echo(seen, &answer, closes).map_err(|e| format!("answer {i}: {e}"))?;
    }
    match probe.end {
        End::Open => {
            let request = "PUT /after HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok";
            let answer = client.ask("PUT", request).map_err(|e| format!("the request after it: {e}"))?;
            judge_echo(&after(), &answer, false).map_err(|e| format!("the request after it: {e}"))?;
            client.end_sending();
        }
        End::Closed if !probe.refusal.is_empty() => {
            let answer = client.answer("GET")?.ok_or("closed without a refusal")?;
            judge_refusal(probe.refusal, &answer)?;
        }
        End::Cut if !probe.refusal.is_empty() => match client.answer("GET")? {
            Some(answer) => {
                return judge_refusal(probe.refusal, &answer).and_then(|()| client.at_end());
            }
            None => return Ok(()),
        },
        End::Closed | End::Cut => {}
    }
    // Behind a large refused body the server may close with bytes unread, which resets; the answer has come
    // by then.
    let may_reset = probe.end == End::Closed && probe.bytes.len() > 64 * 1024;
    client.at_end().or_else(|e| if may_reset && e.contains("reset") { Ok(()) } else { Err(e) })
}

fn judge_echo(seen: &Seen, answer: &Answer, closes: bool) -> Result<(), String> {
    let text = echo_of(seen);
    let body_fits = match seen.method.as_str() {
        "HEAD" => answer.header("content-length") == Some(text.len().to_string().as_str()),
        _ => answer.text() == text,
    };
    match answer.status {
        200 if body_fits && answer.says_close() == closes => Ok(()),
        _ => Err(format!(
            "{} {:?}, Connection {:?}",
            answer.status,
            brief(&answer.body),
            answer.header("connection")
        )),
    }
}

/// A refusal has the status, says that it closes, and is the JSON object that every error is.
fn judge_refusal(statuses: &[u16], answer: &Answer) -> Result<(), String> {
    let text = answer.text();
    if !statuses.contains(&answer.status) {
        return Err(format!("{} instead of {statuses:?}: {}", answer.status, brief(text.as_bytes())));
    }
    let json = answer.header("content-type").is_some_and(|t| t.starts_with("application/json"));
    let fields = ["\"detail\":", "\"error_code\":", "\"message\":"].iter().all(|f| text.contains(f));
    match json && fields && answer.says_close() {
        true => Ok(()),
        false => Err(format!("a refusal out of shape, Connection {:?}: {text}", answer.header("connection"))),
    }
}

/// Prints the failures by name and fails if there are any.
fn require_none(what: &str, checked: usize, failures: &[String]) {
    println!("{what}: {checked} checked, {} failed", failures.len());
    assert!(failures.is_empty(), "{what}: {} of {checked} failed\n{}", failures.len(), failures.join("\n"));
}

fn named(probe: &Probe, error: &str) -> String {
    format!("  [{}] {}: {error}", probe.group, probe.name)
}

// ---- the table

#[test]
fn every_probe_gives_what_the_table_says() {
    let echo = Echo::start();
    let probes = probes::all();
    let mut groups = BTreeMap::new();
    let mut failures = Vec::new();
    for probe in &probes {
        let mut client = echo.connect();
        // A server that refuses early may close before it has read all.
        let _ = client.send(&probe.bytes);
        let result = judge(&echo, probe, &mut client);
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

/// The same table, one byte at a time: where the bytes are cut must not matter. All connections take turns,
/// so that each byte has arrived alone, without a pause, before its successor is sent.
#[test]
fn every_probe_gives_the_same_one_byte_at_a_time() {
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
        failures.extend(judge(&echo, probe, client).err().map(|e| named(probe, &e)));
    }
    failures.extend(echo.end().iter().map(|s| format!("  seen late: {}", echo_of(s))));
    require_none("probes sent byte by byte", probes.len(), &failures);
}

#[test]
fn the_table_is_large_and_names_are_unique() {
    let probes = probes::all();
    let mut names: Vec<String> = probes.iter().map(|p| format!("{}: {}", p.group, p.name)).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), probes.len(), "two probes share a name");
    assert!(probes.len() >= 120, "only {} probes", probes.len());
}

// ---- splits

/// Six requests of all kinds as one stream, cut in two at every position.
#[test]
fn a_pipelined_stream_may_be_cut_anywhere() {
    let stream = concat!(
        "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "\r\nPOST /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nT: u\r\n\r\n",
        "HEAD /4 HTTP/1.1\r\nHost: h\r\n\r\n",
        "DELETE /5 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "GET /6 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    let seen = |method: &str, url: &str, body: &str| Seen {
        method: method.into(),
        url: url.into(),
        body: body.into(),
    };
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
        refusal: &[],
        end: End::Closed,
    };
    let echo = Echo::start();
    // First every connection sends its first part, then each its second: the time in between is the pause.
    let mut clients: Vec<Client> = (0..=stream.len()).map(|_| echo.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(&stream[..at]).unwrap_or_else(|e| panic!("first part up to {at}: {e}"));
    }
    let mut failures = Vec::new();
    for (at, client) in clients.iter_mut().enumerate() {
        let sent = client.send(&stream[at..]).map_err(|e| e.to_string());
        let result = sent.and_then(|()| judge(&echo, &whole, client));
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
fn expect_is_answered_before_the_body_and_the_body_is_read() {
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
            let answer = client.ask("POST", body).unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!((answer.status, answer.text().as_str()), (200, "POST /a 5"), "{case}");
            client.end_sending();
            client.at_end().unwrap_or_else(|e| panic!("{case}: {e}"));
        }
    }
}

/// (name, request, statuses that come before the client ends). No 100 where no body will be read.
#[test]
fn expect_is_not_answered_where_no_body_is_read() {
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
        let answer = client.ask("POST", request).unwrap_or_else(|e| panic!("Expect with {name}: {e}"));
        assert_eq!(answer.status, status, "Expect with {name}");
        client.end_sending();
        client.at_end().unwrap_or_else(|e| panic!("Expect with {name}: {e}"));
    }
}

/// HTTP/1.0 knows no 100: a client of that age would take it for the answer.
#[test]
fn expect_is_not_answered_on_http_1_0() {
    let echo = Echo::start();
    let mut client = echo.connect();
    client
        .send("POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .expect("the head is sent");
    // While others are answered, the server has had the time for a wrong 100.
    for _ in 0..20 {
        echo.connect().ask("GET", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request of another client");
    }
    let answer = client.ask("POST", "hello").expect("the answer to HTTP/1.0");
    assert_eq!((answer.status, answer.text().as_str()), (200, "POST /a 5"));
}

/// A client need not wait: the body may come with the head, and then a 100 may be left out.
#[test]
fn expect_with_the_body_at_once_stays_in_step() {
    let echo = Echo::start();
    let mut client = echo.connect();
    let request = expecting("Content-Length: 5") + "hello" + "GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut answer = client.ask("POST", request).expect("Expect with its body at once");
    if answer.status == 100 {
        answer = client.answer("POST").expect("the answer behind a 100").expect("an answer behind a 100");
    }
    assert_eq!((answer.status, answer.text().as_str()), (200, "POST /a 5"));
    let answer = client.answer("GET").expect("the next answer").expect("a next answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /b 0"));
}

// ---- answers

/// Answers without body, each with another request behind it in the same write: a body where none may be
/// would be taken for the next answer.
#[test]
fn answers_without_body_keep_the_connection_in_step() {
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
        let answer = client.ask(method, request).unwrap_or_else(|e| panic!("{method} {url}: {e}"));
        assert_eq!(answer.status, status, "{method} {url}");
        assert_eq!(answer.header("content-length"), length, "{method} {url}: Content-Length");
        let next = client.answer("GET").unwrap_or_else(|e| panic!("behind {method} {url}: {e}"));
        let next = next.unwrap_or_else(|| panic!("behind {method} {url}: closed"));
        assert_eq!(next.text(), "GET /b 0", "behind {method} {url}");
        client.end_sending();
        client.at_end().unwrap_or_else(|e| panic!("{method} {url}: {e}"));
    }
}

/// A body of unknown length goes in chunks to HTTP/1.1, and up to the end of the connection to HTTP/1.0.
#[test]
fn an_answer_of_unknown_length_is_framed_for_its_reader() {
    let echo = Echo::start();
    let mut client = echo.connect();
    let answer = client.ask("GET", "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n").expect("a stream on HTTP/1.1");
    assert_eq!((answer.header("transfer-encoding"), answer.text().as_str()), (Some("chunked"), "streamed"));
    let next = client.ask("GET", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request behind a stream");
    assert_eq!(next.text(), "GET /b 0");

    for connection in ["close", "keep-alive"] {
        let mut client = echo.connect();
        let request = format!("GET /stream HTTP/1.0\r\nConnection: {connection}\r\n\r\n");
        let answer = client.ask("GET", request).expect("a stream on HTTP/1.0");
        assert_eq!(answer.header("transfer-encoding"), None, "HTTP/1.0 knows no chunks");
        assert_eq!(
            (answer.text().as_str(), answer.says_close()),
            ("streamed", true),
            "Connection: {connection}"
        );
    }
}

#[test]
fn http_1_0_is_told_when_it_is_kept_alive() {
    let echo = Echo::start();
    let mut client = echo.connect();
    let request = "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    for round in 0..3 {
        let answer = client.ask("GET", request).unwrap_or_else(|e| panic!("round {round}: {e}"));
        let told = answer.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("keep-alive"));
        assert!(told, "round {round}: Connection {:?}", answer.header("connection"));
    }
}

#[test]
fn every_answer_and_refusal_has_one_date() {
    let echo = Echo::start();
    for (name, request) in
        [("answer", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), ("refusal", "GET /a HTTP/1.1\r\n\r\n")]
    {
        let answer = echo.connect().ask("GET", request).unwrap_or_else(|e| panic!("{name}: {e}"));
        let dates = answer.all("date");
        let [date] = dates.as_slice() else { panic!("{name}: Date {dates:?}") };
        // IMF-fixdate, RFC 9110 section 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT".
        let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert!(
            shape.len() == 29 && shape.ends_with(" 00:00:00 GMT") && &shape[3..8] == ", 00 ",
            "{name}: {date:?}"
        );
    }
}

/// The fields of a trailer never become headers of this request or of the next.
#[test]
fn trailers_are_discarded() {
    let echo = Echo::start();
    let mut client = echo.connect();
    let request =
        "POST /headers HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let next = "GET /headers HTTP/1.1\r\nHost: h\r\n\r\n";
    for (name, request) in [("with a trailer", request), ("behind a trailer", next)] {
        let names =
            client.ask("POST", request).unwrap_or_else(|e| panic!("{name}: {e}")).text().to_lowercase();
        assert!(names.contains("host") && !names.contains("x-trailer"), "{name}: headers are {names:?}");
    }
}

/// A program that leaves a body unread does not put the connection out of step.
#[test]
fn an_unread_body_is_skipped() {
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
        let answer = client.ask("POST", request).unwrap_or_else(|e| panic!("unread body {}: {e}", i + 1));
        assert_eq!(answer.status, 200, "unread body {}", i + 1);
    }
    assert_eq!(worker.join().expect("the worker ends"), ["/1", "/2", "/3", "/4"]);
}

/// The last answer reaches a client that goes on sending for a while: the close must not turn into a reset
/// that takes the answer with it.
#[test]
fn a_last_answer_is_not_lost_while_the_client_still_sends() {
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
            let answer = client.ask("POST", "").unwrap_or_else(|e| panic!("{name}, round {round}: {e}"));
            assert_eq!(answer.status, status, "{name}, round {round}");
            client.end_sending();
            client.at_end().unwrap_or_else(|e| panic!("{name}, round {round}: {e}"));
        }
    }
}

/// What a program puts into a header cannot become a header or an answer of its own.
#[test]
fn a_header_that_would_split_an_answer_cannot_be_made() {
    for value in ["a\r\nX: y", "a\nX: y", "a\rX: y", "a\0b", "\r\n\r\nHTTP/1.1 200 OK"] {
        assert!(Header::from_bytes("A", value).is_err(), "value {value:?}");
    }
    for name in ["A\r\nX", "A B", "A:", "", "A\0", "A\n"] {
        assert!(Header::from_bytes(name, "b").is_err(), "name {name:?}");
    }
}
