//! Probes of the end of a body: `Content-Length`, `Transfer-Encoding`, chunks, and attempts to hide them.

use super::{
    BAD, BAD_OR_CODING, BAD_OR_TOO_LARGE, CODING, ENDLESS_CHUNKS, HELLO, MAX_HEAD_BYTES, POST_A, Probe,
    SMUGGLED, TOO_LARGE, chunked, get, post, rejected, served, served_then_rejected,
};

pub(super) fn smuggling() -> Vec<Probe> {
    let chunks_then_request = format!("0\r\n\r\n{SMUGGLED}");
    let request_as_body = format!("Content-Length: {}", SMUGGLED.len());
    let request_as_chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    vec![
        rejected("CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked", &chunks_then_request), BAD),
        rejected(
            "TE.CL",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4", "5c\r\nGPOST / HTTP/1.1\r\n"),
            BAD,
        ),
        rejected(
            "CL.TE, the length of the whole",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            BAD,
        ),
        rejected("CL 0 with TE", post("Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), BAD),
        rejected(
            "CL.TE, the coding unknown",
            post("Content-Length: 5\r\nTransfer-Encoding: x", "hello"),
            BAD_OR_CODING,
        ),
        rejected(
            "CL.TE, the coding empty",
            post("Content-Length: 5\r\nTransfer-Encoding:", "hello"),
            BAD_OR_CODING,
        ),
        rejected("CL.TE on a GET", get("Content-Length: 5\r\nTransfer-Encoding: chunked"), BAD),
        rejected("CL.CL, different", post("Content-Length: 0\r\nContent-Length: 5", "hello"), BAD),
        rejected(
            "CL.CL, different, the larger first",
            post("Content-Length: 5\r\nContent-Length: 0", "hello"),
            BAD,
        ),
        rejected("CL.CL, the same", post("Content-Length: 5\r\nContent-Length: 5", "hello"), BAD),
        rejected("CL.CL, in another case", post("Content-Length: 5\r\ncontent-length: 6", "hello!"), BAD),
        rejected(
            "CL.CL, far apart",
            post("Content-Length: 5\r\nA: 1\r\nB: 2\r\nContent-Length: 6", "hello"),
            BAD,
        ),
        rejected("CL hidden by a blank before the colon", post("Content-Length : 5", "hello"), BAD),
        rejected(
            "TE hidden by a blank before the colon",
            post("Transfer-Encoding : chunked", "0\r\n\r\n"),
            BAD,
        ),
        rejected(
            "TE hidden by a tab before the colon",
            post("Transfer-Encoding\t: chunked", "0\r\n\r\n"),
            BAD,
        ),
        rejected("TE hidden behind a fold", post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"), BAD),
        rejected(
            "TE hidden in a fold of another header",
            post("X: y\r\n Transfer-Encoding: chunked", "0\r\n\r\n"),
            BAD,
        ),
        rejected("TE hidden behind a bare LF", post("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n"), BAD),
        rejected("TE hidden behind a bare CR", post("X: y\rTransfer-Encoding: chunked", "0\r\n\r\n"), BAD),
        rejected("CL hidden behind NUL", post("X: y\0Content-Length: 5", "hello"), BAD),
        served("a request as body", post(&request_as_body, SMUGGLED), &[("POST", "/a", SMUGGLED)]),
        served("a request as chunk", chunked(&request_as_chunk), &[("POST", "/a", SMUGGLED)]),
        served("a request as body of a GET", get(&request_as_body) + SMUGGLED, &[("GET", "/a", SMUGGLED)]),
        served(
            "other names are no framing",
            post("Content_Length: 99\r\nTransfer_Encoding: chunked", ""),
            &[POST_A],
        ),
        served_then_rejected(
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
            "a response to a response",
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
        rejected("TE.TE, the same", coded(" chunked\r\nTransfer-Encoding: chunked"), BAD),
        rejected("TE.TE, identity second", coded(" chunked\r\nTransfer-Encoding: identity"), BAD_OR_CODING),
        rejected("TE.TE, identity first", coded(" identity\r\nTransfer-Encoding: chunked"), BAD_OR_CODING),
        rejected("TE.TE, an unknown one second", coded(" chunked\r\nTransfer-Encoding: cow"), BAD_OR_CODING),
        rejected("TE.TE, another case", coded(" chunked\r\ntransfer-encoding: gzip"), BAD_OR_CODING),
        rejected("chunked twice in a list", coded(" chunked, chunked"), BAD_OR_CODING),
        rejected("gzip, chunked", coded(" gzip, chunked"), CODING),
        rejected("chunked, gzip", coded(" chunked, gzip"), BAD_OR_CODING),
        rejected("identity", coded(" identity"), BAD_OR_CODING),
        rejected("gzip alone", coded(" gzip"), BAD_OR_CODING),
        rejected("xchunked", coded(" xchunked"), BAD_OR_CODING),
        rejected("chunked with a letter more", coded(" chunkedx"), BAD_OR_CODING),
        rejected("chunked with a parameter", coded(" chunked;q=1"), BAD_OR_CODING),
        rejected("chunked in quotes", coded(" \"chunked\""), BAD_OR_CODING),
        rejected("chunked with a comma", coded(" chunked,"), BAD_OR_CODING),
        rejected("a comma before chunked", coded(" ,chunked"), BAD_OR_CODING),
        rejected("empty", coded(""), BAD_OR_CODING),
        rejected("blank", coded("  \t "), BAD_OR_CODING),
        rejected("a vertical tab before chunked", coded(" \x0bchunked"), BAD),
        rejected("a form feed behind chunked", coded(" chunked\x0c"), BAD),
        rejected("on HTTP/1.0", "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD),
        rejected(
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
        rejected("-1", length(" -1"), BAD),
        rejected("-0", length(" -0"), BAD),
        rejected("+5", length(" +5"), BAD),
        rejected("a list of the same", length(" 5, 5"), BAD),
        rejected("a list of others", length(" 5, 6"), BAD),
        rejected("a list without blank", length(" 5,5"), BAD),
        rejected("two numbers", length(" 5 5"), BAD),
        rejected("empty", length(""), BAD),
        rejected("blank", length("  "), BAD),
        rejected("hexadecimal", length(" 0x5"), BAD),
        rejected("hexadecimal digits", length(" a"), BAD),
        rejected("a letter behind", length(" 5a"), BAD),
        rejected("a semicolon behind", length(" 5;"), BAD),
        rejected("a fraction", length(" 5.0"), BAD),
        rejected("an exponent", length(" 5e0"), BAD),
        rejected("an underscore", length(" 0_5"), BAD),
        rejected("in quotes", length(" \"5\""), BAD),
        rejected("a digit of another script", length(" \u{0665}"), BAD),
        rejected("NUL behind", length(" 5\0"), BAD),
        rejected("a vertical tab before", length(" \x0b5"), BAD),
        rejected("2^31", length(" 2147483648"), TOO_LARGE),
        rejected("2^32 + 5", length(" 4294967301"), TOO_LARGE),
        rejected("30 GB", length(" 30000000000"), TOO_LARGE),
        rejected("2^63", length(" 9223372036854775808"), BAD_OR_TOO_LARGE),
        rejected("2^64", length(" 18446744073709551616"), BAD_OR_TOO_LARGE),
        rejected("2^64 + 5", length(" 18446744073709551621"), BAD_OR_TOO_LARGE),
        rejected("2^128 + 5", length(" 340282366920938463463374607431768211461"), BAD_OR_TOO_LARGE),
        rejected("10^30", length(" 1000000000000000000000000000000"), BAD_OR_TOO_LARGE),
        rejected("a thousand digits", length(&format!(" {}", "9".repeat(1000))), BAD_OR_TOO_LARGE),
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
        rejected("an extension with a bare LF", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("an extension with NUL", chunked("5;a\0\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("an extension with a bare CR", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("no size", chunked("\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("no size but an extension", chunked(";a\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("no hexadecimal digit", chunked("g\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("-5", chunked("-5\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("+5", chunked("+5\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("an underscore", chunked("0_5\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("a blank before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("a blank behind the size", chunked("5 \r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("a tab behind the size", chunked("5\t\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("two sizes", chunked("5 5\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("2^32 + 5", chunked("100000005\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
        rejected("2^63", chunked("8000000000000000\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
        rejected("2^64 - 1", chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
        rejected("2^64 + 5", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), BAD_OR_TOO_LARGE),
        rejected(
            "2^128 + 5",
            chunked("100000000000000000000000000000005\r\nhello\r\n0\r\n\r\n"),
            BAD_OR_TOO_LARGE,
        ),
        rejected("size line ends in LF", chunked("5\nhello\r\n0\r\n\r\n"), BAD),
        rejected("size line ends in CR", chunked("5\rhello\r\n0\r\n\r\n"), BAD),
        rejected("data end in LF", chunked("5\r\nhello\n0\r\n\r\n"), BAD),
        rejected("data end in nothing", chunked("5\r\nhello0\r\n\r\n"), BAD),
        rejected("data end in two other bytes", chunked("5\r\nhelloXX0\r\n\r\n"), BAD),
        rejected("data end in LF CR", chunked("5\r\nhello\n\r0\r\n\r\n"), BAD),
        rejected("data longer than said", chunked("5\r\nhello!\r\n0\r\n\r\n"), BAD),
        rejected("data shorter than said", chunked("6\r\nhello\r\n0\r\n\r\n"), BAD),
        rejected("last chunk ends in LF", chunked("5\r\nhello\r\n0\n\r\n"), BAD),
        rejected("body ends in LF", chunked("5\r\nhello\r\n0\r\n\n"), BAD),
        rejected("body ends in CR and a letter", chunked("5\r\nhello\r\n0\r\n\rx"), BAD),
        rejected(
            "a trailer without colon",
            chunked("5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
            BAD,
        ),
        rejected("a trailer folded", chunked("5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n"), BAD),
        rejected("a trailer ended by LF", chunked("5\r\nhello\r\n0\r\nA: b\n\r\n"), BAD),
        rejected("a trailer with NUL", chunked("5\r\nhello\r\n0\r\nA: \0\r\n\r\n"), BAD),
        rejected("a trailer with a blank before the colon", chunked("5\r\nhello\r\n0\r\nA : b\r\n\r\n"), BAD),
        rejected("an endless size line", chunked(&"0".repeat(3 * MAX_HEAD_BYTES)), ENDLESS_CHUNKS),
        rejected(
            "an endless extension",
            chunked(&format!("5;{}", "a".repeat(3 * MAX_HEAD_BYTES))),
            ENDLESS_CHUNKS,
        ),
        rejected("endless trailers", chunked(&trailers(10_000)), ENDLESS_CHUNKS),
        rejected(
            "an endless trailer",
            chunked(&format!("0\r\nA: {}", "a".repeat(3 * MAX_HEAD_BYTES))),
            ENDLESS_CHUNKS,
        ),
    ]
}
