//! What a head may look like: line ends, control bytes, headers, `Host`, request lines.

use super::{
    BAD, BAD_OR_CODING, BAD_OR_VERSION, GET_A, HEADERS_TOO_LARGE, HELLO, MAX_HEADERS, Probe, VERSION, closes,
    get, line, post, refused, served,
};

pub(super) fn line_ends() -> Vec<Probe> {
    vec![
        served("one empty line before the request", format!("\r\n{}", get("A: b")), &[GET_A]),
        served(
            "one empty line between requests",
            format!("{}\r\n{}", post("Content-Length: 5", "hello"), get("A: b")),
            &[HELLO, GET_A],
        ),
        refused("LF for every CRLF", "GET /a HTTP/1.1\nHost: h\n\n", BAD),
        refused("LF behind the request line", "GET /a HTTP/1.1\nHost: h\r\n\r\n", BAD),
        refused("LF behind a header", "GET /a HTTP/1.1\r\nHost: h\n\r\n", BAD),
        refused("LF behind the first of two headers", "GET /a HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", BAD),
        refused("LF at the end of the head", "GET /a HTTP/1.1\r\nHost: h\r\n\n", BAD),
        refused("LF LF at the end of the head", "GET /a HTTP/1.1\r\nHost: h\n\n", BAD),
        refused("LF before the request line", "\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
        refused("CR before the request line", "\rGET /a HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
        refused("CR for every CRLF", "GET /a HTTP/1.1\rHost: h\r\r", BAD),
        refused("CR CR LF", "GET /a HTTP/1.1\r\nHost: h\r\r\n\r\n", BAD),
        refused("CR CR LF at the end", "GET /a HTTP/1.1\r\nHost: h\r\n\r\r\n", BAD),
        refused("LF CR", "GET /a HTTP/1.1\n\rHost: h\n\r\n\r", BAD),
        refused("CR in a value", get("A: b\rc"), BAD),
        refused("CR at the start of a value", get("A: \rb"), BAD),
        refused("CR in a name", get("A\rB: c"), BAD),
        refused("CR before the colon", get("A\r: c"), BAD),
        refused("CR in the target", line("GET /a\rb HTTP/1.1"), BAD),
        refused("CR behind the version", line("GET /a HTTP/1.1\r"), BAD),
        refused("obs-fold with a blank", get("A: b\r\n c"), BAD),
        refused("obs-fold with a tab", get("A: b\r\n\tc"), BAD),
        refused("obs-fold of nothing", get("A: b\r\n "), BAD),
        refused("obs-fold of Host", "GET /a HTTP/1.1\r\nHost:\r\n h\r\n\r\n", BAD),
        refused("obs-fold of a length", post("Content-Length: 1\r\n 0", "0123456789"), BAD),
        refused("obs-fold before any header", "GET /a HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n", BAD),
    ]
}

pub(super) fn control_bytes() -> Vec<Probe> {
    vec![
        refused("NUL in a value", get("A: b\0c"), BAD),
        refused("NUL in a name", get("A\0: b"), BAD),
        refused("NUL in the target", line("GET /a\0b HTTP/1.1"), BAD),
        refused("NUL in the method", line("G\0T /a HTTP/1.1"), BAD),
        refused("NUL behind the version", line("GET /a HTTP/1.1\0"), BAD),
        refused("NUL first", format!("\0{}", get("A: b")), BAD),
        refused("SOH in a value", get("A: b\x01"), BAD),
        refused("BS in a value", get("A: b\x08"), BAD),
        refused("VT in a value", get("A: b\x0bc"), BAD),
        refused("FF in a value", get("A: b\x0cc"), BAD),
        refused("ESC in a value", get("A: \x1b[31m"), BAD),
        refused("DEL in a value", get("A: b\x7f"), BAD),
        refused("ESC in the target", line("GET /\x1b HTTP/1.1"), BAD),
        refused("DEL in the target", line("GET /\x7f HTTP/1.1"), BAD),
        refused("letters beyond ASCII in the target", line("GET /\u{e9} HTTP/1.1"), BAD),
        refused("letters beyond ASCII in a name", get("\u{e9}: b"), BAD),
        refused("letters beyond ASCII in the method", line("G\u{e9}T /a HTTP/1.1"), BAD),
        refused("VT between words", line("GET\x0b/a\x0bHTTP/1.1"), BAD),
        served("letters beyond ASCII in a value", get("A: \u{e9}"), &[GET_A]),
        served("a tab in a value", get("A: b\tc"), &[GET_A]),
        refused("a TLS hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\x52\x36\x2c\x10".to_vec(), BAD),
        refused("an SSH greeting", "SSH-2.0-OpenSSH_9.6\r\n", BAD),
        refused(
            "frames of HTTP/2 without a preface",
            b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03".to_vec(),
            BAD,
        ),
    ]
}

pub(super) fn headers() -> Vec<Probe> {
    let of_count = |n: usize| get(&(1..n).map(|i| format!("N{i}: x")).collect::<Vec<_>>().join("\r\n"));
    vec![
        served("an empty value", get("A:"), &[GET_A]),
        served("no blank behind the colon", get("A:b"), &[GET_A]),
        served("blanks around a value", get("A: \t b \t "), &[GET_A]),
        served("colons in a value", get("A: b: c:"), &[GET_A]),
        served("every character of a token", get("!#$%&'*+-.^_`|~09azAZ: b"), &[GET_A]),
        served("the same header twice", get("A: b\r\nA: c"), &[GET_A]),
        served("a hundred headers", of_count(MAX_HEADERS), &[GET_A]),
        refused("a hundred and one headers", of_count(MAX_HEADERS + 1), HEADERS_TOO_LARGE),
        refused("a thousand headers", of_count(1000), HEADERS_TOO_LARGE),
        refused("a blank before the colon", get("A : b"), BAD),
        refused("a tab before the colon", get("A\t: b"), BAD),
        refused("a blank in a name", get("A B: c"), BAD),
        refused("no name", get(": b"), BAD),
        refused("no colon", get("A"), BAD),
        refused("a name in quotes", get("\"A\": b"), BAD),
        refused("a name in brackets", get("(A): b"), BAD),
        refused("an at sign in a name", get("A@B: c"), BAD),
        refused("a slash in a name", get("A/B: c"), BAD),
        refused("a request line as header", get("GET /smuggled HTTP/1.1"), BAD),
    ]
}

pub(super) fn hosts() -> Vec<Probe> {
    let host = |value: &str| format!("GET /a HTTP/1.1\r\nHost:{value}\r\n\r\n");
    vec![
        refused("none on HTTP/1.1", "GET /a HTTP/1.1\r\n\r\n", BAD),
        refused("none on HTTP/1.1, but others", "GET /a HTTP/1.1\r\nA: b\r\nHosts: h\r\n\r\n", BAD),
        refused("none on HTTP/1.1 with an absolute target", "GET http://h/a HTTP/1.1\r\n\r\n", BAD),
        closes("none on HTTP/1.0", "GET /a HTTP/1.0\r\n\r\n", &[GET_A]),
        refused("two, different", host(" h\r\nHost: i"), BAD),
        refused("two, the same", host(" h\r\nHost: h"), BAD),
        refused("two, in another case", host(" h\r\nhost: h"), BAD),
        refused("two on HTTP/1.0", "GET /a HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n", BAD),
        served("empty", host(""), &[GET_A]),
        served("with a port", host(" h:80"), &[GET_A]),
        served("an address of version 4", host(" 127.0.0.1:8000"), &[GET_A]),
        served("an address of version 6", host(" [::1]:8000"), &[GET_A]),
        refused("with a blank", host(" h i"), BAD),
        refused("a list", host(" h, i"), BAD),
        refused("with a path", host(" h/a"), BAD),
        refused("with a user", host(" u@h"), BAD),
        refused("with a port of letters", host(" h:http"), BAD),
        refused("an open bracket", host(" [::1"), BAD),
    ]
}

pub(super) fn request_lines() -> Vec<Probe> {
    vec![
        served("absolute-form", line("GET http://h/a?b=c HTTP/1.1"), &[("GET", "http://h/a?b=c", "")]),
        served("asterisk-form", line("OPTIONS * HTTP/1.1"), &[("OPTIONS", "*", "")]),
        served(
            "a query and escapes",
            line("GET /a%20b?c=%C3%A9&d HTTP/1.1"),
            &[("GET", "/a%20b?c=%C3%A9&d", "")],
        ),
        served("a method of its own", line("BREW /a HTTP/1.1"), &[("BREW", "/a", "")]),
        served("a method in small letters is another", line("get /a HTTP/1.1"), &[("get", "/a", "")]),
        served("two slashes first", line("GET //a HTTP/1.1"), &[("GET", "//a", "")]),
        refused("authority-form but not CONNECT", line("GET h:80 HTTP/1.1"), BAD),
        refused("asterisk-form but not OPTIONS", line("GET * HTTP/1.1"), BAD),
        refused("CONNECT", line("CONNECT h:80 HTTP/1.1"), BAD_OR_CODING),
        refused("a target without slash", line("GET a HTTP/1.1"), BAD),
        refused("an extra word", line("GET /a b HTTP/1.1"), BAD),
        refused("an extra word at the end", line("GET /a HTTP/1.1 b"), BAD),
        refused("two blanks before the target", line("GET  /a HTTP/1.1"), BAD),
        refused("two blanks before the version", line("GET /a  HTTP/1.1"), BAD),
        refused("a blank first", line(" GET /a HTTP/1.1"), BAD),
        refused("a blank last", line("GET /a HTTP/1.1 "), BAD),
        refused("tabs between words", line("GET\t/a\tHTTP/1.1"), BAD),
        refused("no target", line("GET HTTP/1.1"), BAD),
        refused("an empty target", line("GET  HTTP/1.1"), BAD),
        refused("no version", line("GET /a"), BAD),
        refused("no version, blank", line("GET /a "), BAD),
        refused("HTTP/0.9", "GET /a\r\n", BAD),
        refused("only a method", line("GET"), BAD),
        refused("a method with a separator", line("G(T /a HTTP/1.1"), BAD),
        refused("a method in quotes", line("\"GET\" /a HTTP/1.1"), BAD),
        refused("a header line first", "Host: h\r\nGET /a HTTP/1.1\r\n\r\n", BAD),
        refused("version in small letters", line("GET /a http/1.1"), BAD),
        refused("version of another protocol", line("GET /a HTCPCP/1.1"), BAD),
        refused("version without minor", line("GET /a HTTP/1"), BAD),
        refused("version with a point only", line("GET /a HTTP/1."), BAD),
        refused("version 1.10", line("GET /a HTTP/1.10"), BAD_OR_VERSION),
        refused("version 01.1", line("GET /a HTTP/01.1"), BAD_OR_VERSION),
        refused("version 1,1", line("GET /a HTTP/1,1"), BAD),
        refused("version 0.9", line("GET /a HTTP/0.9"), BAD_OR_VERSION),
        refused("version 1.2", line("GET /a HTTP/1.2"), VERSION),
        refused("version 2.0", line("GET /a HTTP/2.0"), VERSION),
        refused("version 2", line("GET /a HTTP/2"), BAD_OR_VERSION),
        refused("version 3.0", line("GET /a HTTP/3.0"), VERSION),
        refused("version 9.9", line("GET /a HTTP/9.9"), VERSION),
        refused("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_OR_VERSION),
        refused("a line of an answer", line("HTTP/1.1 200 OK"), BAD),
    ]
}
