//! Probes of limits, and of several requests on one connection.

use super::{
    BAD, GET_A, HEADERS_TOO_LARGE, HELLO, LINE_TOO_LONG, MAX_BODY_BYTES, MAX_HEAD_BYTES, MAX_URL_BYTES, Probe, Request,
    TOO_LARGE, URL_TOO_LONG, VERSION, chunked, closes, cut, ended, get, line, post, rejected, served,
    served_then_rejected,
};

pub(super) fn limits() -> Vec<Probe> {
    let url = |len: usize| format!("/{}", "u".repeat(len - 1));
    let with_url = |len: usize| line(&format!("GET {} HTTP/1.1", url(len)));
    let head_of = |len: usize| {
        let bare = get("A: ").len();
        get(&format!("A: {}", "a".repeat(len - bare)))
    };
    let body = "b".repeat(MAX_BODY_BYTES);
    let chunk = |len: usize| format!("{len:x}\r\n{}\r\n", "b".repeat(len));
    let full = format!("Content-Length: {MAX_BODY_BYTES}");
    let over = format!("Content-Length: {}", MAX_BODY_BYTES + 1);
    vec![
        served("the longest target", with_url(MAX_URL_BYTES), &[("GET", &url(MAX_URL_BYTES), "")]),
        rejected("a target one byte too long", with_url(MAX_URL_BYTES + 1), URL_TOO_LONG),
        rejected("a target of the size of a head", with_url(MAX_HEAD_BYTES + 1), URL_TOO_LONG),
        rejected("an endless target", format!("GET /{}", "u".repeat(4 * MAX_HEAD_BYTES)), URL_TOO_LONG),
        rejected("an endless method", "G".repeat(4 * MAX_HEAD_BYTES), LINE_TOO_LONG),
        served("the largest head", head_of(MAX_HEAD_BYTES), &[GET_A]),
        rejected("a head one byte too large", head_of(MAX_HEAD_BYTES + 1), HEADERS_TOO_LARGE),
        rejected("a head far too large", head_of(4 * MAX_HEAD_BYTES), HEADERS_TOO_LARGE),
        rejected(
            "an endless header name",
            format!("GET /a HTTP/1.1\r\n{}", "N".repeat(4 * MAX_HEAD_BYTES)),
            HEADERS_TOO_LARGE,
        ),
        rejected(
            "a header that never ends",
            format!("GET /a HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(4 * MAX_HEAD_BYTES)),
            HEADERS_TOO_LARGE,
        ),
        served("the largest body by length", post(&full, &body), &[("POST", "/a", &body)]),
        rejected("a body one byte too large by length", post(&over, ""), TOO_LARGE),
        rejected("a body one byte too large by length, sent", post(&over, &(body.clone() + "b")), TOO_LARGE),
        served(
            "the largest body in one chunk",
            chunked(&(chunk(MAX_BODY_BYTES) + "0\r\n\r\n")),
            &[("POST", "/a", &body)],
        ),
        served(
            "the largest body in two chunks",
            chunked(&(chunk(MAX_BODY_BYTES / 2).repeat(2) + "0\r\n\r\n")),
            &[("POST", "/a", &body)],
        ),
        rejected("a chunk too large", chunked(&format!("{:x}\r\n", MAX_BODY_BYTES + 1)), TOO_LARGE),
        rejected(
            "chunks too large together",
            chunked(&format!("{}1\r\nb\r\n0\r\n\r\n", chunk(MAX_BODY_BYTES))),
            TOO_LARGE,
        ),
        rejected("chunks far too large together", chunked(&chunk(64 * 1024).repeat(40)), TOO_LARGE),
        rejected("Expect with a body too large", post(&format!("{over}\r\nExpect: 100-continue"), ""), TOO_LARGE),
        served("an unknown expectation, passed over", post("Content-Length: 5\r\nExpect: tea", "hello"), &[HELLO]),
    ]
}

pub(super) fn persistence() -> Vec<Probe> {
    let connection = |value: &str| get(&format!("Connection: {value}"));
    let old = |headers: &str| format!("GET /a HTTP/1.0\r\nHost: h\r\n{headers}\r\n");
    vec![
        served("HTTP/1.1 stays", get("A: b"), &[GET_A]),
        served("keep-alive stays", connection("keep-alive"), &[GET_A]),
        served("an unknown word stays", connection("closed"), &[GET_A]),
        served("a part of a word stays", connection("not-close"), &[GET_A]),
        served("close elsewhere stays", get("X-Connection: close"), &[GET_A]),
        closes("close", connection("close"), &[GET_A]),
        closes("Close", connection("Close"), &[GET_A]),
        closes("CLOSE", connection("CLOSE"), &[GET_A]),
        closes("close first in a list", connection("close, te"), &[GET_A]),
        closes("close last in a list", connection("te, close"), &[GET_A]),
        closes("close in the middle of a list", connection("a,close,b"), &[GET_A]),
        closes("close between blanks and empty words", connection(" , \tclose\t ,,"), &[GET_A]),
        closes("close beside keep-alive", connection("keep-alive, close"), &[GET_A]),
        closes("close in a second header", connection("te\r\nConnection: close"), &[GET_A]),
        closes("close in a first header", connection("close\r\nConnection: keep-alive"), &[GET_A]),
        closes("close behind a body", post("Content-Length: 5\r\nConnection: close", "hello"), &[HELLO]),
        closes(
            "close behind chunks",
            post("Transfer-Encoding: chunked\r\nConnection: close", "5\r\nhello\r\n0\r\n\r\n"),
            &[HELLO],
        ),
        closes("HTTP/1.0 closes", old(""), &[GET_A]),
        closes("HTTP/1.0 with another word closes", old("Connection: te\r\n"), &[GET_A]),
        closes("HTTP/1.0 with both closes", old("Connection: keep-alive, close\r\n"), &[GET_A]),
        served("HTTP/1.0 with keep-alive stays", old("Connection: keep-alive\r\n"), &[GET_A]),
        served("HTTP/1.0 with Keep-Alive stays", old("Connection: Keep-Alive\r\n"), &[GET_A]),
        served("HTTP/1.0 with keep-alive in a list stays", old("Connection: te, keep-alive\r\n"), &[GET_A]),
        closes("HTTP/1.0 with a body closes", "POST /a HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", &[HELLO]),
        closes(
            "close in the second of three",
            [get("A: b"), connection("close"), get("A: c")].concat(),
            &[GET_A, GET_A],
        ),
        served(
            "a body on a HEAD",
            "HEAD /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
            &[("HEAD", "/a", "hello")],
        ),
        served(
            "HEAD, then GET",
            format!("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n{}", get("A: b")),
            &[("HEAD", "/a", ""), GET_A],
        ),
    ]
}

pub(super) fn pipelines() -> Vec<Probe> {
    let number = |i: usize| format!("GET /{i} HTTP/1.1\r\nHost: h\r\n\r\n");
    let hundred: Vec<String> = (0..100).map(|i| format!("/{i}")).collect();
    let hundred: Vec<Request> = hundred.iter().map(|url| ("GET", url.as_str(), "")).collect();
    let mixed = [
        post("Content-Length: 5", "hello"),
        chunked("5\r\nhello\r\n0\r\n\r\n"),
        get("A: b"),
        "HEAD /b HTTP/1.1\r\nHost: h\r\n\r\n".into(),
        get("Content-Length: 0"),
    ];
    vec![
        served(
            "three",
            number(1) + &number(2) + &number(3),
            &[("GET", "/1", ""), ("GET", "/2", ""), ("GET", "/3", "")],
        ),
        served("a hundred", (0..100).map(number).collect::<String>(), &hundred),
        served("a body, then a request", post("Content-Length: 5", "hello") + &number(1), &[HELLO, ("GET", "/1", "")]),
        served("chunks, then a request", chunked("5\r\nhello\r\n0\r\n\r\n") + &number(1), &[HELLO, ("GET", "/1", "")]),
        served(
            "chunks and a trailer, then a request",
            chunked("5\r\nhello\r\n0\r\nA: b\r\n\r\n") + &number(1),
            &[HELLO, ("GET", "/1", "")],
        ),
        served("all kinds", mixed.concat(), &[HELLO, HELLO, GET_A, ("HEAD", "/b", ""), GET_A]),
        served_then_rejected(
            "a good one, then a bad length",
            number(1) + &post("Content-Length: -1", ""),
            &[("GET", "/1", "")],
            BAD,
        ),
        served_then_rejected(
            "a good one, then LF",
            number(1) + "GET /a HTTP/1.1\nHost: h\n\n",
            &[("GET", "/1", "")],
            BAD,
        ),
        served_then_rejected(
            "a good one, then no host",
            number(1) + "GET /a HTTP/1.1\r\n\r\n",
            &[("GET", "/1", "")],
            BAD,
        ),
        served_then_rejected(
            "two good ones, then a version",
            number(1) + &number(2) + &line("GET /a HTTP/2.0"),
            &[("GET", "/1", ""), ("GET", "/2", "")],
            VERSION,
        ),
        served_then_rejected(
            "a body, then rubbish",
            post("Content-Length: 5", "hello") + "\x01\x02\x03\r\n\r\n",
            &[HELLO],
            BAD,
        ),
    ]
}

pub(super) fn half_closes() -> Vec<Probe> {
    vec![
        ended("nothing", "", &[]),
        ended("an empty line", "\r\n", &[]),
        cut("inside the request line", "GET /a HT", &[]),
        cut("inside a header", "GET /a HTTP/1.1\r\nHost", &[]),
        cut("before the end of the head", "GET /a HTTP/1.1\r\nHost: h\r\n", &[]),
        cut("inside the end of the head", "GET /a HTTP/1.1\r\nHost: h\r\n\r", &[]),
        cut("before a body", post("Content-Length: 5", ""), &[]),
        cut("inside a body", post("Content-Length: 5", "hell"), &[]),
        cut("before the first chunk", chunked(""), &[]),
        cut("inside a chunk size", chunked("5"), &[]),
        cut("inside a chunk", chunked("5\r\nhel"), &[]),
        cut("behind a chunk", chunked("5\r\nhello\r\n"), &[]),
        cut("behind the last chunk", chunked("5\r\nhello\r\n0\r\n"), &[]),
        cut("inside a trailer", chunked("5\r\nhello\r\n0\r\nA: b"), &[]),
        cut("behind a trailer", chunked("5\r\nhello\r\n0\r\nA: b\r\n"), &[]),
        cut("behind a request, inside the next", get("A: b") + "GET /b HTT", &[GET_A]),
        cut(
            "behind a body, inside the next",
            post("Content-Length: 5", "hello") + "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nx",
            &[HELLO],
        ),
        ended("behind a whole request", get("A: b"), &[GET_A]),
        ended("behind a whole body", post("Content-Length: 5", "hello"), &[HELLO]),
        ended("behind whole chunks", chunked("5\r\nhello\r\n0\r\n\r\n"), &[HELLO]),
        ended("behind two whole requests", get("A: b") + &get("A: c"), &[GET_A, GET_A]),
        ended("behind a request that closes", get("Connection: close"), &[GET_A]),
    ]
}
