//! Where a body ends: `Content-Length`, `Transfer-Encoding`, chunks, and what hides them.

use super::{
    BAD, BAD_OR_CODING, BAD_OR_TOO_LARGE, CODING, ENDLESS_CHUNKS, HELLO, MAX_HEAD_BYTES, POST_A, Probe,
    SMUGGLED, TOO_LARGE, chunked, get, post, refused, served, served_then_refused,
};

pub(super) fn smuggling() -> Vec<Probe> {
    let chunks_then_request = format!("0\r\n\r\n{SMUGGLED}");
    let request_as_body = format!("Content-Length: {}", SMUGGLED.len());
    let request_as_chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    vec![
        refused("CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked", &chunks_then_request), BAD),
        refused(
            "TE.CL",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4", "5c\r\nGPOST / HTTP/1.1\r\n"),
            BAD,
        ),
        refused(
            "CL.TE, the length of the whole",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            BAD,
        ),
        refused("CL 0 with TE", post("Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), BAD),
        refused(
            "CL.TE, the coding unknown",
            post("Content-Length: 5\r\nTransfer-Encoding: x", "hello"),
            BAD_OR_CODING,
        ),
        refused(
            "CL.TE, the coding empty",
            post("Content-Length: 5\r\nTransfer-Encoding:", "hello"),
            BAD_OR_CODING,
        ),
        refused("CL.TE on a GET", get("Content-Length: 5\r\nTransfer-Encoding: chunked"), BAD),
        refused("CL.CL, different", post("Content-Length: 0\r\nContent-Length: 5", "hello"), BAD),
        refused(
            "CL.CL, different, the larger first",
            post("Content-Length: 5\r\nContent-Length: 0", "hello"),
            BAD,
        ),
        refused("CL.CL, the same", post("Content-Length: 5\r\nContent-Length: 5", "hello"), BAD),
        refused("CL.CL, in another case", post("Content-Length: 5\r\ncontent-length: 6", "hello!"), BAD),
        refused(
            "CL.CL, far apart",
            post("Content-Length: 5\r\nA: 1\r\nB: 2\r\nContent-Length: 6", "hello"),
            BAD,
        ),
        refused("CL hidden by a blank before the colon", post("Content-Length : 5", "hello"), BAD),
        refused(
            "TE hidden by a blank before the colon",
            post("Transfer-Encoding : chunked", "0\r\n\r\n"),
            BAD,
        ),
        refused(
            "TE hidden by a tab before the colon",
            post("Transfer-Encoding\t: chunked", "0\r\n\r\n"),
            BAD,
        ),
        refused("TE hidden behind a fold", post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"), BAD),
        refused(
            "TE hidden in a fold of another header",
            post("X: y\r\n Transfer-Encoding: chunked", "0\r\n\r\n"),
            BAD,
        ),
        refused("TE hidden behind a bare LF", post("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n"), BAD),
        refused("TE hidden behind a bare CR", post("X: y\rTransfer-Encoding: chunked", "0\r\n\r\n"), BAD),
        refused("CL hidden behind NUL", post("X: y\0Content-Length: 5", "hello"), BAD),
        served("a request as body", post(&request_as_body, SMUGGLED), &[("POST", "/a", SMUGGLED)]),
        served("a request as chunk", chunked(&request_as_chunk), &[("POST", "/a", SMUGGLED)]),
        served("a request as body of a GET", get(&request_as_body) + SMUGGLED, &[("GET", "/a", SMUGGLED)]),
        served(
            "other names are no framing",
            post("Content_Length: 99\r\nTransfer_Encoding: chunked", ""),
            &[POST_A],
        ),
        served_then_refused(
            "a length too short",
            post("Content-Length: 3", "abc{\"d\":1}\r\n"),
            &[("POST", "/a", "abc")],
            BAD,
        ),
        served(
            "no length is no body",
            post("A: b", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n"),
            &[POST_A, ("GET", "/b", "")],
        ),
        served(
            "an answer to an answer",
            chunked("0\r\n\r\nDELETE /b HTTP/1.1\r\nHost: h\r\n\r\n"),
            &[POST_A, ("DELETE", "/b", "")],
        ),
    ]
}

pub(super) fn transfer_codings() -> Vec<Probe> {
    let coded = |value: &str| post(&format!("Transfer-Encoding:{value}"), "5\r\nhello\r\n0\r\n\r\n");
    vec![
        served("chunked", coded(" chunked"), &[HELLO]),
        served("chunked, no blank before it", coded("chunked"), &[HELLO]),
        served("chunked between blanks and tabs", coded(" \t chunked \t "), &[HELLO]),
        served("chunked in capitals", coded(" Chunked"), &[HELLO]),
        served(
            "the name in small letters",
            post("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
            &[HELLO],
        ),
        refused("TE.TE, the same", coded(" chunked\r\nTransfer-Encoding: chunked"), BAD),
        refused("TE.TE, identity second", coded(" chunked\r\nTransfer-Encoding: identity"), BAD_OR_CODING),
        refused("TE.TE, identity first", coded(" identity\r\nTransfer-Encoding: chunked"), BAD_OR_CODING),
        refused("TE.TE, an unknown one second", coded(" chunked\r\nTransfer-Encoding: cow"), BAD_OR_CODING),
        refused("TE.TE, another case", coded(" chunked\r\ntransfer-encoding: gzip"), BAD_OR_CODING),
        refused("chunked twice in a list", coded(" chunked, chunked"), BAD_OR_CODING),
        refused("gzip, chunked", coded(" gzip, chunked"), CODING),
        refused("chunked, gzip", coded(" chunked, gzip"), BAD_OR_CODING),
        refused("identity", coded(" identity"), BAD_OR_CODING),
        refused("gzip alone", coded(" gzip"), BAD_OR_CODING),
        refused("xchunked", coded(" xchunked"), BAD_OR_CODING),
        refused("chunked with a letter more", coded(" chunkedx"), BAD_OR_CODING),
        refused("chunked with a parameter", coded(" chunked;q=1"), BAD_OR_CODING),
        refused("chunked in quotes", coded(" \"chunked\""), BAD_OR_CODING),
        refused("chunked with a comma", coded(" chunked,"), BAD_OR_CODING),
        refused("a comma before chunked", coded(" ,chunked"), BAD_OR_CODING),
        refused("empty", coded(""), BAD_OR_CODING),
        refused("blank", coded("  \t "), BAD_OR_CODING),
        refused("a vertical tab before chunked", coded(" \x0bchunked"), BAD),
        refused("a form feed behind chunked", coded(" chunked\x0c"), BAD),
        refused("on HTTP/1.0", "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
        refused(
            "on HTTP/1.0, kept alive",
            "POST /a HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            BAD,
        ),
    ]
}

pub(super) fn content_lengths() -> Vec<Probe> {
    let length = |value: &str| post(&format!("Content-Length:{value}"), "hello");
    vec![
        served("5", length(" 5"), &[HELLO]),
        served("5, no blank before it", length("5"), &[HELLO]),
        served("5 between blanks and tabs", length(" \t 5 \t"), &[HELLO]),
        served("0", post("Content-Length: 0", ""), &[POST_A]),
        served("leading zeros", length(" 0005"), &[HELLO]),
        served("5 on a GET", get("Content-Length: 5") + "hello", &[("GET", "/a", "hello")]),
        served(
            "5 on a DELETE",
            "DELETE /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
            &[("DELETE", "/a", "hello")],
        ),
        refused("-1", length(" -1"), BAD),
        refused("-0", length(" -0"), BAD),
        refused("+5", length(" +5"), BAD),
        refused("a list of the same", length(" 5, 5"), BAD),
        refused("a list of others", length(" 5, 6"), BAD),
        refused("a list without blank", length(" 5,5"), BAD),
        refused("two numbers", length(" 5 5"), BAD),
        refused("empty", length(""), BAD),
        refused("blank", length("  "), BAD),
        refused("hexadecimal", length(" 0x5"), BAD),
        refused("hexadecimal digits", length(" a"), BAD),
        refused("a letter behind", length(" 5a"), BAD),
        refused("a semicolon behind", length(" 5;"), BAD),
        refused("a fraction", length(" 5.0"), BAD),
        refused("an exponent", length(" 5e0"), BAD),
        refused("an underscore", length(" 0_5"), BAD),
        refused("in quotes", length(" \"5\""), BAD),
        refused("a digit of another script", length(" \u{0665}"), BAD),
        refused("NUL behind", length(" 5\0"), BAD),
        refused("a vertical tab before", length(" \x0b5"), BAD),
        refused("2^31", length(" 2147483648"), TOO_LARGE),
        refused("2^32 + 5", length(" 4294967301"), TOO_LARGE),
        refused("30 GB", length(" 30000000000"), TOO_LARGE),
        refused("2^63", length(" 9223372036854775808"), BAD_OR_TOO_LARGE),
        refused("2^64", length(" 18446744073709551616"), BAD_OR_TOO_LARGE),
        refused("2^64 + 5", length(" 18446744073709551621"), BAD_OR_TOO_LARGE),
        refused("2^128 + 5", length(" 340282366920938463463374607431768211461"), BAD_OR_TOO_LARGE),
        refused("10^30", length(" 1000000000000000000000000000000"), BAD_OR_TOO_LARGE),
        refused("a thousand digits", length(&format!(" {}", "9".repeat(1000))), BAD_OR_TOO_LARGE),
    ]
}

pub(super) fn chunks() -> Vec<Probe> {
    let many_small = "1\r\nx\r\n".repeat(2000) + "0\r\n\r\n";
    let trailers = |count: usize| format!("5\r\nhello\r\n0\r\n{}\r\n", "T: x\r\n".repeat(count));
    vec![
        served("one", chunked("5\r\nhello\r\n0\r\n\r\n"), &[HELLO]),
        served("none", chunked("0\r\n\r\n"), &[POST_A]),
        served("two", chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), &[HELLO]),
        served("two thousand", chunked(&many_small), &[("POST", "/a", &"x".repeat(2000))]),
        served(
            "small and large hexadecimal letters",
            chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
            &[("POST", "/a", "01234567890123456789")],
        ),
        served("leading zeros", chunked("0005\r\nhello\r\n000\r\n\r\n"), &[HELLO]),
        served(
            "line ends inside",
            chunked("7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"),
            &[("POST", "/a", "\r\n0\r\n\r\n")],
        ),
        served(
            "on a GET",
            get("Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n",
            &[("GET", "/a", "hello")],
        ),
        served("a trailer, discarded", chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), &[HELLO]),
        served(
            "framing in a trailer, discarded",
            chunked("5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n"),
            &[HELLO],
        ),
        served(
            "Connection in a trailer, discarded",
            chunked("5\r\nhello\r\n0\r\nConnection: close\r\n\r\n"),
            &[HELLO],
        ),
        served("an extension", chunked("5;a=b\r\nhello\r\n0\r\n\r\n"), &[HELLO]),
        served("an extension in quotes", chunked("5;a=\"b;c\"\r\nhello\r\n0;z\r\n\r\n"), &[HELLO]),
        refused("an extension with a bare LF", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("an extension with NUL", chunked("5;a\0\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("an extension with a bare CR", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("no size", chunked("\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("no size but an extension", chunked(";a\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("no hexadecimal digit", chunked("g\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("-5", chunked("-5\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("+5", chunked("+5\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("an underscore", chunked("0_5\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("a blank before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("a blank behind the size", chunked("5 \r\nhello\r\n0\r\n\r\n"), BAD),
        refused("a tab behind the size", chunked("5\t\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("two sizes", chunked("5 5\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("2^32 + 5", chunked("100000005\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
        refused("2^63", chunked("8000000000000000\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
        refused("2^64 - 1", chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
        refused("2^64 + 5", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
        refused(
            "2^128 + 5",
            chunked("100000000000000000000000000000005\r\nhello\r\n0\r\n\r\n"),
            BAD_OR_TOO_LARGE,
        ),
        refused("size line ends in LF", chunked("5\nhello\r\n0\r\n\r\n"), BAD),
        refused("size line ends in CR", chunked("5\rhello\r\n0\r\n\r\n"), BAD),
        refused("data end in LF", chunked("5\r\nhello\n0\r\n\r\n"), BAD),
        refused("data end in nothing", chunked("5\r\nhello0\r\n\r\n"), BAD),
        refused("data end in two other bytes", chunked("5\r\nhelloXX0\r\n\r\n"), BAD),
        refused("data end in LF CR", chunked("5\r\nhello\n\r0\r\n\r\n"), BAD),
        refused("data longer than said", chunked("5\r\nhello!\r\n0\r\n\r\n"), BAD),
        refused("data shorter than said", chunked("6\r\nhello\r\n0\r\n\r\n"), BAD),
        refused("last chunk ends in LF", chunked("5\r\nhello\r\n0\n\r\n"), BAD),
        refused("body ends in LF", chunked("5\r\nhello\r\n0\r\n\n"), BAD),
        refused("body ends in CR and a letter", chunked("5\r\nhello\r\n0\r\n\rx"), BAD),
        refused("a trailer without colon", chunked("5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n"), BAD),
        refused("a trailer folded", chunked("5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n"), BAD),
        refused("a trailer ended by LF", chunked("5\r\nhello\r\n0\r\nA: b\n\r\n"), BAD),
        refused("a trailer with NUL", chunked("5\r\nhello\r\n0\r\nA: \0\r\n\r\n"), BAD),
        refused("a trailer with a blank before the colon", chunked("5\r\nhello\r\n0\r\nA : b\r\n\r\n"), BAD),
        refused("an endless size line", chunked(&"0".repeat(3 * MAX_HEAD_BYTES)), ENDLESS_CHUNKS),
        refused(
            "an endless extension",
            chunked(&format!("5;{}", "a".repeat(3 * MAX_HEAD_BYTES))),
            ENDLESS_CHUNKS,
        ),
        refused("endless trailers", chunked(&trailers(10_000)), ENDLESS_CHUNKS),
        refused(
            "an endless trailer",
            chunked(&format!("0\r\nA: {}", "a".repeat(3 * MAX_HEAD_BYTES))),
            ENDLESS_CHUNKS,
        ),
    ]
}
