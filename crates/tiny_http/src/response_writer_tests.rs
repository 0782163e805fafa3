use std::io::Cursor;

use ascii::AsciiString;

use super::*;
use crate::header::{Header, HeaderField};
use crate::message::StatusCode;

const DATE: &HttpDate = b"Sun, 06 Nov 1994 08:49:37 GMT";
const HTTP_1_1: RequestContext = RequestContext { version: HTTPVersion(1, 1), is_head: false, keep_alive: true };

/// The complete response as text, without the `Date` header.
fn text<R: Read + Send + 'static>(response: Response<R>, exchange: &RequestContext) -> String {
    let mut response = ResponseWriter::new(response, exchange, DATE).unwrap();
    let mut bytes = response.buffer.clone();
    while let Some(body) = &mut response.body {
        if body.read_piece(&mut bytes).unwrap() {
            response.body = None;
        }
    }
    String::from_utf8(bytes).unwrap().replace("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "")
}

#[test]
fn response_framing_depends_on_the_request() {
    let known = || Response::from_data("abc");
    let unknown = || known().with_data(Cursor::new(b"abc"), None);
    let head = RequestContext { is_head: true, ..HTTP_1_1 };
    let http_1_0 = RequestContext { version: HTTPVersion(1, 0), is_head: false, keep_alive: true };
    let last = RequestContext { keep_alive: false, ..HTTP_1_1 };
    assert_eq!(text(known(), &HTTP_1_1), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(text(known(), &head), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(text(known(), &last), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    assert_eq!(text(known(), &http_1_0), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc");
    assert_eq!(
        text(unknown(), &HTTP_1_1),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n0\r\n\r\n"
    );
    assert_eq!(text(unknown(), &http_1_0), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
    assert_eq!(text(unknown(), &head), "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(
        text(known().with_chunked_threshold(3), &HTTP_1_1),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n0\r\n\r\n"
    );
}

#[test]
fn response_when_its_status_forbids_a_body_has_no_body_headers() {
    for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified")] {
        let response = Response::from_string("abc").with_status_code(status);
        assert_eq!(text(response, &HTTP_1_1), format!("HTTP/1.1 {line}\r\n\r\n"));
    }
}

#[test]
fn long_body_is_read_in_pieces() {
    let long = vec![b'x'; 3 * INLINE_BYTES + 1];
    let response = ResponseWriter::new(Response::from_data(long.clone()), &HTTP_1_1, DATE).unwrap();
    assert!(response.body.is_some() && response.buffer.len() < 2 * PIECE_BYTES);
    assert!(text(Response::from_data(long.clone()), &HTTP_1_1).ends_with(&"x".repeat(long.len())));
    let chunked = text(Response::new(StatusCode(200), vec![], Cursor::new(long), None, None), &HTTP_1_1);
    assert_eq!(chunked.matches("4000\r\n").count(), 3 * INLINE_BYTES / PIECE_BYTES);
    assert!(chunked.ends_with("0001\r\nx\r\n0\r\n\r\n"));
}

#[test]
fn response_when_invalid_or_incomplete_is_an_error() {
    let short = Response::from_data("abc").with_data(Cursor::new(b"abc"), Some(4));
    assert!(ResponseWriter::new(short, &HTTP_1_1, DATE).is_err());
    assert!(ResponseWriter::new(Response::empty(101), &HTTP_1_1, DATE).is_err());
    assert!(ResponseWriter::new(Response::empty(1000), &HTTP_1_1, DATE).is_err());
    for (name, value) in [("X\r\nY", "a"), ("X", "a\r\nb")] {
        let header =
            Header { field: HeaderField::from_bytes(name).unwrap(), value: AsciiString::from_ascii(value).unwrap() };
        assert!(ResponseWriter::new(Response::empty(200).with_header(header), &HTTP_1_1, DATE).is_err());
    }
}

#[test]
fn decimal_numbers_are_written_completely() {
    let mut buffer = Vec::new();
    for number in [0, 7, 10, u64::MAX] {
        write_decimal(&mut buffer, number);
        buffer.push(b' ');
    }
    assert_eq!(buffer, b"0 7 10 18446744073709551615 ");
}
