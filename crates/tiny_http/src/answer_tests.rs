use std::io::Cursor;

use ascii::AsciiString;

use super::*;
use crate::header::{Header, HeaderField};
use crate::message::StatusCode;

const DATE: &HttpDate = b"Sun, 06 Nov 1994 08:49:37 GMT";
const HTTP_1_1: Exchange = Exchange { version: HTTPVersion(1, 1), is_head: false, keep_alive: true };

/// The whole answer as text, without the lines that are always the same.
fn text<R: Read + Send + 'static>(response: Response<R>, exchange: &Exchange) -> String {
    let mut answer = Answer::new(response, exchange, DATE).unwrap();
    let mut bytes = answer.buffer.clone();
    while let Some(body) = &mut answer.body {
        if body.fill(&mut bytes).unwrap() {
            answer.body = None;
        }
    }
    String::from_utf8(bytes).unwrap().replace("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "")
}

#[test]
fn each_answer_is_framed_as_its_request_needs() {
    let known = || Response::from_data("abc");
    let unknown = || known().with_data(Cursor::new(b"abc"), None);
    let head = Exchange { is_head: true, ..HTTP_1_1 };
    let http_1_0 = Exchange { version: HTTPVersion(1, 0), is_head: false, keep_alive: true };
    let last = Exchange { keep_alive: false, ..HTTP_1_1 };
    assert_eq!(text(known(), &HTTP_1_1), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(text(known(), &head), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(text(known(), &last), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    assert_eq!(
        text(known(), &http_1_0),
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc"
    );
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
fn an_answer_that_may_have_no_body_has_no_word_about_one() {
    for (status, line) in [(204, "204 No Content"), (304, "304 Not Modified")] {
        let response = Response::from_string("abc").with_status_code(status);
        assert_eq!(text(response, &HTTP_1_1), format!("HTTP/1.1 {line}\r\n\r\n"));
    }
}

#[test]
fn a_long_body_is_pulled_in_pieces() {
    let long = vec![b'x'; 3 * INLINE_BYTES + 1];
    let answer = Answer::new(Response::from_data(long.clone()), &HTTP_1_1, DATE).unwrap();
    assert!(answer.body.is_some() && answer.buffer.len() < 2 * FILL_BYTES);
    assert!(text(Response::from_data(long.clone()), &HTTP_1_1).ends_with(&"x".repeat(long.len())));
    let chunked = text(Response::new(StatusCode(200), vec![], Cursor::new(long), None, None), &HTTP_1_1);
    assert_eq!(chunked.matches("4000\r\n").count(), 3 * INLINE_BYTES / FILL_BYTES);
    assert!(chunked.ends_with("0001\r\nx\r\n0\r\n\r\n"));
}

#[test]
fn what_cannot_be_sent_whole_and_safely_is_an_error() {
    let short = Response::from_data("abc").with_data(Cursor::new(b"abc"), Some(4));
    assert!(Answer::new(short, &HTTP_1_1, DATE).is_err());
    assert!(Answer::new(Response::empty(101), &HTTP_1_1, DATE).is_err());
    assert!(Answer::new(Response::empty(1000), &HTTP_1_1, DATE).is_err());
    for (name, value) in [("X\r\nY", "a"), ("X", "a\r\nb")] {
        let header = Header {
            field: HeaderField::from_bytes(name).unwrap(),
            value: AsciiString::from_ascii(value).unwrap(),
        };
        assert!(Answer::new(Response::empty(200).with_header(header), &HTTP_1_1, DATE).is_err());
    }
}

#[test]
fn numbers_are_written_whole() {
    let mut buffer = Vec::new();
    for number in [0, 7, 10, u64::MAX] {
        write_decimal(&mut buffer, number);
        buffer.push(b' ');
    }
    assert_eq!(buffer, b"0 7 10 18446744073709551615 ");
}
