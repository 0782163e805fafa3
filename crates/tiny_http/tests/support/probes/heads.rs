//! Probes of the head: line ends, control bytes, headers, `Host`, request lines.

use super::{
    BAD, BAD_OR_CODING, BAD_OR_VERSION, GET_A, HEADERS_TOO_LARGE, HELLO, MAX_HEADERS, Probe, VERSION, closes, get,
    line, post, rejected, served,
};

pub(super) fn line_ends() -> Vec<Probe> {
    vec![
        served("one empty line before the request", format!("\r\n{}", get("A: b")), &[GET_A]),
        served(
            "one empty line between requests",
            format!("{}\r\n{}", post("Content-Length: 5", "hello"), get("A: b")),
            &[HELLO, GET_A],
        ),
        rejected("LF for every CRLF", "GET /a HTTP/1.1\nHost: h\n\n", BAD),
        rejected("LF behind the request line", "GET /a HTTP/1.1\nHost: h\r\n\r\n", BAD),
        rejected("LF behind a header", "GET /a HTTP/1.1\r\nHost: h\n\r\n", BAD),
        rejected("LF behind the first of two headers", "GET /a HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", BAD),
        rejected("LF at the end of the head", "GET /a HTTP/1.1\r\nHost: h\r\n\n", BAD),
        rejected("LF LF at the end of the head", "GET /a HTTP/1.1\r\nHost: h\n\n", BAD),
        rejected("LF before the request line", "\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
        rejected("CR before the request line", "\rGET /a HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
        rejected("CR for every CRLF", "GET /a HTTP/1.1\rHost: h\r\r", BAD),
        rejected("CR CR LF", "GET /a HTTP/1.1\r\nHost: h\r\r\n\r\n", BAD),
        rejected("CR CR LF at the end", "GET /a HTTP/1.1\r\nHost: h\r\n\r\r\n", BAD),
        rejected("LF CR", "GET /a HTTP/1.1\n\rHost: h\n\r\n\r", BAD),
        rejected("CR in a value", get("A: b\rc"), BAD),
        rejected("CR at the start of a value", get("A: \rb"), BAD),
        rejected("CR in a name", get("A\rB: c"), BAD),
        rejected("CR before the colon", get("A\r: c"), BAD),
        rejected("CR in the target", line("GET /a\rb HTTP/1.1"), BAD),
        rejected("CR behind the version", line("GET /a HTTP/1.1\r"), BAD),
        rejected("obs-fold with a blank", get("A: b\r\n c"), BAD),
        rejected("obs-fold with a tab", get("A: b\r\n\tc"), BAD),
        rejected("obs-fold of nothing", get("A: b\r\n "), BAD),
        rejected("obs-fold of Host", "GET /a HTTP/1.1\r\nHost:\r\n h\r\n\r\n", BAD),
        rejected("obs-fold of a length", post("Content-Length: 1\r\n 0", "0123456789"), BAD),
        rejected("obs-fold before any header", "GET /a HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n", BAD),
    ]
}

pub(super) fn control_bytes() -> Vec<Probe> {
    vec![
        rejected("NUL in a value", get("A: b\0c"), BAD),
        rejected("NUL in a name", get("A\0: b"), BAD),
        rejected("NUL in the target", line("GET /a\0b HTTP/1.1"), BAD),
        rejected("NUL in the method", line("G\0T /a HTTP/1.1"), BAD),
        rejected("NUL behind the version", line("GET /a HTTP/1.1\0"), BAD),
        rejected("NUL first", format!("\0{}", get("A: b")), BAD),
        rejected("SOH in a value", get("A: b\x01"), BAD),
        rejected("BS in a value", get("A: b\x08"), BAD),
        rejected("VT in a value", get("A: b\x0bc"), BAD),
        rejected("FF in a value", get("A: b\x0cc"), BAD),
        rejected("ESC in a value", get("A: \x1b[31m"), BAD),
        rejected("DEL in a value", get("A: b\x7f"), BAD),
        rejected("ESC in the target", line("GET /\x1b HTTP/1.1"), BAD),
        rejected("DEL in the target", line("GET /\x7f HTTP/1.1"), BAD),
        rejected("letters beyond ASCII in the target", line("GET /\u{e9} HTTP/1.1"), BAD),
        rejected("letters beyond ASCII in a name", get("\u{e9}: b"), BAD),
        rejected("letters beyond ASCII in the method", line("G\u{e9}T /a HTTP/1.1"), BAD),
        rejected("VT between words", line("GET\x0b/a\x0bHTTP/1.1"), BAD),
        served("letters beyond ASCII in a value", get("A: \u{e9}"), &[GET_A]),
        served("a tab in a value", get("A: b\tc"), &[GET_A]),
        rejected("a TLS hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\x52\x36\x2c\x10".to_vec(), BAD),
        rejected("an SSH greeting", "SSH-2.0-OpenSSH_9.6\r\n", BAD),
        rejected("frames of HTTP/2 without a preface", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03".to_vec(), BAD),
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
        rejected("a hundred and one headers", of_count(MAX_HEADERS + 1), HEADERS_TOO_LARGE),
        rejected("a thousand headers", of_count(1000), HEADERS_TOO_LARGE),
        rejected("a blank before the colon", get("A : b"), BAD),
        rejected("a tab before the colon", get("A\t: b"), BAD),
        rejected("a blank in a name", get("A B: c"), BAD),
        rejected("no name", get(": b"), BAD),
        rejected("no colon", get("A"), BAD),
        rejected("a name in quotes", get("\"A\": b"), BAD),
        rejected("a name in brackets", get("(A): b"), BAD),
        rejected("an at sign in a name", get("A@B: c"), BAD),
        rejected("a slash in a name", get("A/B: c"), BAD),
        rejected("a request line as header", get("GET /smuggled HTTP/1.1"), BAD),
    ]
}

pub(super) fn hosts() -> Vec<Probe> {
    let host = |value: &str| format!("GET /a HTTP/1.1\r\nHost:{value}\r\n\r\n");
    vec![
        rejected("none on HTTP/1.1", "GET /a HTTP/1.1\r\n\r\n", BAD),
        rejected("none on HTTP/1.1, but others", "GET /a HTTP/1.1\r\nA: b\r\nHosts: h\r\n\r\n", BAD),
        rejected("none on HTTP/1.1 with an absolute target", "GET http://h/a HTTP/1.1\r\n\r\n", BAD),
        closes("none on HTTP/1.0", "GET /a HTTP/1.0\r\n\r\n", &[GET_A]),
        rejected("two, different", host(" h\r\nHost: i"), BAD),
        rejected("two, the same", host(" h\r\nHost: h"), BAD),
        rejected("two, in another case", host(" h\r\nhost: h"), BAD),
        rejected("two on HTTP/1.0", "GET /a HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n", BAD),
        served("empty", host(""), &[GET_A]),
        served("with a port", host(" h:80"), &[GET_A]),
        served("an address of version 4", host(" 127.0.0.1:8000"), &[GET_A]),
        served("an address of version 6", host(" [::1]:8000"), &[GET_A]),
        rejected("with a blank", host(" h i"), BAD),
        rejected("a list", host(" h, i"), BAD),
        rejected("with a path", host(" h/a"), BAD),
        rejected("with a user", host(" u@h"), BAD),
        rejected("with a port of letters", host(" h:http"), BAD),
        rejected("an open bracket", host(" [::1"), BAD),
    ]
}

pub(super) fn request_lines() -> Vec<Probe> {
    vec![
        served("absolute-form", line("GET http://h/a?b=c HTTP/1.1"), &[("GET", "http://h/a?b=c", "")]),
        served("asterisk-form", line("OPTIONS * HTTP/1.1"), &[("OPTIONS", "*", "")]),
        served("a query and escapes", line("GET /a%20b?c=%C3%A9&d HTTP/1.1"), &[("GET", "/a%20b?c=%C3%A9&d", "")]),
        served("a method of its own", line("BREW /a HTTP/1.1"), &[("BREW", "/a", "")]),
        served("a method in small letters is another", line("get /a HTTP/1.1"), &[("get", "/a", "")]),
        served("two slashes first", line("GET //a HTTP/1.1"), &[("GET", "//a", "")]),
        rejected("authority-form but not CONNECT", line("GET h:80 HTTP/1.1"), BAD),
        rejected("asterisk-form but not OPTIONS", line("GET * HTTP/1.1"), BAD),
        rejected("CONNECT", line("CONNECT h:80 HTTP/1.1"), BAD_OR_CODING),
        rejected("a target without slash", line("GET a HTTP/1.1"), BAD),
        rejected("an extra word", line("GET /a b HTTP/1.1"), BAD),
        rejected("an extra word at the end", line("GET /a HTTP/1.1 b"), BAD),
        rejected("two blanks before the target", line("GET  /a HTTP/1.1"), BAD),
        rejected("two blanks before the version", line("GET /a  HTTP/1.1"), BAD),
        rejected("a blank first", line(" GET /a HTTP/1.1"), BAD),
        rejected("a blank last", line("GET /a HTTP/1.1 "), BAD),
        rejected("tabs between words", line("GET\t/a\tHTTP/1.1"), BAD),
        rejected("no target", line("GET HTTP/1.1"), BAD),
        rejected("an empty target", line("GET  HTTP/1.1"), BAD),
        rejected("no version", line("GET /a"), BAD),
        rejected("no version, blank", line("GET /a "), BAD),
        rejected("HTTP/0.9", "GET /a\r\n", BAD),
        rejected("only a method", line("GET"), BAD),
        rejected("a method with a separator", line("G(T /a HTTP/1.1"), BAD),
        rejected("a method in quotes", line("\"GET\" /a HTTP/1.1"), BAD),
        rejected("a header line first", "Host: h\r\nGET /a HTTP/1.1\r\n\r\n", BAD),
        rejected("version in small letters", line("GET /a http/1.1"), BAD),
        rejected("version of another protocol", line("GET /a HTCPCP/1.1"), BAD),
        rejected("version without minor", line("GET /a HTTP/1"), BAD),
        rejected("version with a point only", line("GET /a HTTP/1."), BAD),
        rejected("version 1.10", line("GET /a HTTP/1.10"), BAD_OR_VERSION),
        rejected("version 01.1", line("GET /a HTTP/01.1"), BAD_OR_VERSION),
        rejected("version 1,1", line("GET /a HTTP/1,1"), BAD),
        rejected("version 0.9", line("GET /a HTTP/0.9"), BAD_OR_VERSION),
        rejected("version 1.2", line("GET /a HTTP/1.2"), VERSION),
        rejected("version 2.0", line("GET /a HTTP/2.0"), VERSION),
        rejected("version 2", line("GET /a HTTP/2"), BAD_OR_VERSION),
        rejected("version 3.0", line("GET /a HTTP/3.0"), VERSION),
        rejected("version 9.9", line("GET /a HTTP/9.9"), VERSION),
        rejected("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_OR_VERSION),
        rejected("a line of a response", line("HTTP/1.1 200 OK"), BAD),
    ]
}
