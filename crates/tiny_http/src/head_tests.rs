use super::*;

fn read(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    HeadReader::default().read(bytes, &Limits::default())
}

fn status(head: &str) -> u16 {
    match read(head.as_bytes()) {
        Ok(Some(_)) => 200,
        Ok(None) => 100,
        Err(rejected) => rejected.error.status,
    }
}

#[test]
fn request_line_is_accepted_or_rejected_as_listed() {
    for (line, expected) in [
        ("GET / HTTP/1.1", 200),
        ("GET / HTTP/1.0", 200),
        ("PURGE /a?b=c&d=%20 HTTP/1.1", 200),
        ("OPTIONS * HTTP/1.1", 200),
        ("GET http://h:80/p?q HTTP/1.1", 200),
        ("GET HTTPS://h HTTP/1.1", 200),
        ("GET * HTTP/1.1", 400),
        ("GET h:80 HTTP/1.1", 400),
        ("GET ftp://h/ HTTP/1.1", 400),
        ("GET http:///p HTTP/1.1", 400),
        ("GET http://user@h/ HTTP/1.1", 400),
        ("CONNECT h:443 HTTP/1.1", 501),
        ("GET /a#b HTTP/1.1", 400),
        ("GET /\u{e9} HTTP/1.1", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET\t/ HTTP/1.1", 400),
        (" GET / HTTP/1.1", 400),
        ("GET /a b HTTP/1.1", 400),
        ("G@T / HTTP/1.1", 400),
        ("GET /", 400),
        ("GET", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/1.10", 400),
        ("GET / HTTP/1", 400),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/2.0", 505),
        ("PRI * HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
    ] {
        assert_eq!(status(&format!("{line}\r\nHost: h\r\n\r\n")), expected, "{line}");
    }
}

#[test]
fn header_is_accepted_or_rejected_as_listed() {
    for (lines, expected) in [
        ("Host: h", 200),
        ("Host: ", 200),
        ("Host: [::1]:80", 200),
        ("Host: h.example:8080", 200),
        ("Host: h\r\nX: \u{e9}", 200),
        ("Host: h\r\nContent-Length: 0", 200),
        ("Host: h\r\nContent-Length: \t 007 ", 200),
        ("Host: h\r\nTransfer-Encoding: Chunked", 200),
        ("X: y", 400),
        ("Host: h\r\nhost: h", 400),
        ("Host: a b", 400),
        ("Host: a, b", 400),
        ("Host: u@h", 400),
        ("Host: h/p", 400),
        ("Host: h:x", 400),
        ("Host: [::1", 400),
        ("Host: h\r\nContent-Length: 5\r\nContent-Length: 5", 400),
        ("Host: h\r\nContent-Length: 5, 5", 400),
        ("Host: h\r\nContent-Length: -1", 400),
        ("Host: h\r\nContent-Length: +5", 400),
        ("Host: h\r\nContent-Length: 5 5", 400),
        ("Host: h\r\nContent-Length: 0x5", 400),
        ("Host: h\r\nContent-Length:", 400),
        ("Host: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Host: h\r\nTransfer-Encoding: chunked, chunked", 400),
        ("Host: h\r\nTransfer-Encoding: chunked, gzip", 400),
        ("Host: h\r\nTransfer-Encoding:", 400),
        ("Host: h\r\nTransfer-Encoding: gzip, chunked", 501),
        ("Host: h\r\nTransfer-Encoding: xchunked", 501),
        ("Host: h\r\nTransfer-Encoding: identity", 501),
        ("Host: h\r\nTransfer-Encoding: \u{b}chunked", 400),
        ("Host: h\r\nA : b", 400),
        ("Host: h\r\n A: b", 400),
        ("Host: h\r\nA: b\r\n c", 400),
        ("Host: h\r\nA", 400),
        ("Host: h\r\n: b", 400),
        ("Host: h\r\nA: b\0c", 400),
        ("Host: h\r\nA: b\nC: d", 400),
        ("Host: h\r\nA: b\rC: d", 400),
        ("Host: h\nA: b", 400),
    ] {
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n")), expected, "{lines}");
    }
    assert_eq!(status("GET / HTTP/1.1\nHost: h\n\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: h\r\n\n"), 400);
    assert_eq!(status("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
    assert_eq!(status("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(status("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    assert_eq!(status("GET /\r\n"), 400);
    assert_eq!(status("\u{16}\u{3}\u{1}\u{2}"), 400);
}

#[test]
fn head_when_it_exceeds_a_limit_is_rejected_at_once() {
    let limits = Limits::default();
    let long_url = format!("GET /{}", "a".repeat(limits.max_url_bytes));
    assert_eq!(status(&long_url), 414);
    assert_eq!(status(&format!("{long_url} HTTP/1.1\r\nHost: h\r\n\r\n")), 414);
    let endless_line = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(limits.max_head_bytes));
    assert_eq!(status(&endless_line), 431);
    assert_eq!(status(&format!("{endless_line}\r\n\r\n")), 431);
    let many = |count| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(status(&many(limits.max_headers - 1)), 200);
    assert_eq!(status(&many(limits.max_headers)), 431);
}

#[test]
fn head_when_rejected_for_size_or_version_still_has_its_headers() {
    let long = "a".repeat(9_000);
    let large = format!("GET / HTTP/1.1\r\nA: {long}\r\nB: {long}");
    for (start, expected) in [
        ("GET / HTTP/2.0".to_owned(), 505),
        ("\r\nGET / HTTP/1.2".to_owned(), 505),
        (format!("GET /{long} HTTP/1.1"), 414),
        (format!("GET /{long} HTTP/3.0"), 414),
        (large, 431),
        (format!("GET / HTTP/1.1{}", "\r\nA: b".repeat(150)), 431),
    ] {
        let text = format!("{start}\r\nHost: h\r\nOrigin: http://a\r\n\r\n");
        let limits = Limits::default();
        let mut in_two = HeadReader::default();
        assert!(in_two.read(&text.as_bytes()[..10], &limits).unwrap().is_none());
        for rejected in [read(text.as_bytes()), in_two.read(text.as_bytes(), &limits)] {
            let rejected = rejected.unwrap_err();
            let names = rejected.head.map(|head| head.headers().last().map(Header::to_string));
            assert_eq!(
                (rejected.error.status, names),
                (expected, Some(Some("Origin: http://a".to_owned()))),
                "{start}"
            );
        }
        // An incomplete head has no headers.
        let cut = &text[..text.len() - 2];
        let unfinished = read(cut.as_bytes());
        assert!(
            unfinished.is_ok_and(|head| head.is_none())
                || read(cut.as_bytes()).is_err_and(|rejected| rejected.head.is_none())
        );
    }
    // Neither has a malformed one.
    let rejected = read(b"GET / HTTP/1.1\r\nHost: h\r\nOrigin: http://a\nX: y\r\n\r\n").unwrap_err();
    assert!(rejected.error.status == 400 && rejected.head.is_none());
}

#[test]
fn head_determines_whether_the_connection_is_kept() {
    for (line, connection, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: foo, Close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
    ] {
        let text = format!("GET / HTTP/{line}\r\nHost: h\r\n{connection}\r\n");
        let (head, length) = read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(head.keep_alive, keep_alive, "{text}");
        assert_eq!(length, text.len());
    }
}

#[test]
fn headers_when_not_ascii_have_bytes_replaced() {
    let (head, _) = read(b"GET /x HTTP/1.1\r\nHost: h\r\nX:  a\xe9b \r\n\r\nrest").unwrap().unwrap();
    assert_eq!(head.target(), "/x");
    let headers = head.headers();
    assert_eq!(headers.len(), 2);
    assert_eq!(headers[1].to_string(), "X: a?b");
}
