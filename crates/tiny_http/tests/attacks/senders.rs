//! Clients that announce too much, send too slowly, or never stop sending.

use std::thread;

use crate::client_group::require_closed;
use crate::process::Setup;
use crate::support::client::MAX_WAIT;
use crate::support::probes;
use crate::{EARLY, HEALTH, LATE, allowed, attack, attack_with, ms, statuses, tally};

// ---- wrong lengths

#[test]
fn bodies_of_30_gb_when_only_announced_get_413() {
    attack("30 GB announced", |target| {
        let mut group = target.group(64);
        group.send_all(b"POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000000\r\n\r\n", MAX_WAIT);
        let ended = group.wait_closed(MAX_WAIT);
        require_closed("30 GB announced", &ended, &[413], ms(0), LATE)
    });
}

#[test]
fn content_lengths_when_invalid_or_too_large_are_rejected() {
    attack("content lengths", |target| {
        let values = [
            "1048577",
            "2147483648",
            "4294967295",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1000000000000000000000000000000",
            "-1",
            "+5",
            "5, 5",
            "5 5",
            "",
            "0x5",
            "5.0",
        ];
        let mut seen = Vec::new();
        for value in values {
            let mut group = target.group(10);
            let head = format!("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: {value}\r\n\r\n");
            group.send_all(head.as_bytes(), MAX_WAIT);
            let ended = group.wait_closed(MAX_WAIT);
            require_closed(&format!("Content-Length {value:?}"), &ended, &[400, 413], ms(0), LATE);
            seen.extend(statuses(&ended));
        }
        tally(seen)
    });
}

// ---- slow senders

#[test]
fn requests_when_sent_byte_by_byte_are_answered() {
    attack("one byte at a time", |target| {
        let requests = [
            HEALTH.to_owned(),
            "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n01234567890123456789".to_owned(),
            "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        ];
        let mut summary = Vec::new();
        for request in requests {
            let mut group = target.group(50);
            group.drip(request.bytes(), ms(2), MAX_WAIT);
            let responses = group.wait_for_responses(50, MAX_WAIT);
            assert!(responses.iter().all(|s| *s == 200), "{:?}…: {}", &request[..12], tally(responses));
            summary.push(format!("{} × {} bytes", responses.len(), request.len()));
        }
        summary.join(", ")
    });
}

#[test]
fn slow_heads_get_408_at_their_deadline() {
    let setup = Setup::default();
    let count = allowed(2000);
    attack_with("2,000 slow heads", &setup, |target| {
        let mut group = target.group(count);
        group.send(b"GET /health HTTP/1.1\r\nHost: h\r\nA: ");
        // Further bytes must not extend the deadline, which counts from the first byte.
        let ended = group.drip(std::iter::repeat_n(b'a', 1000), ms(100), MAX_WAIT);
        require_closed("slow heads", &ended, &[408], ms(setup.head_ms) - EARLY, ms(setup.head_ms) + LATE)
    });
}

#[test]
fn slow_bodies_get_408_at_their_deadline() {
    let setup = Setup::default();
    let count = allowed(2000);
    attack_with("2,000 slow bodies", &setup, |target| {
        let heads = ["Content-Length: 5000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1388\r\n"];
        let mut summary = Vec::new();
        for head in heads {
            let mut group = target.group(count / 2);
            group.send(format!("POST /count HTTP/1.1\r\nHost: h\r\n{head}").as_bytes());
            let ended = group.drip(std::iter::repeat_n(b'b', 1000), ms(100), MAX_WAIT);
            let latest = ms(setup.head_ms + setup.body_ms) + LATE;
            summary.push(require_closed("slow bodies", &ended, &[408], ms(setup.body_ms) - EARLY, latest));
        }
        summary.join("; ")
    });
}

#[test]
fn slow_heads_and_slow_bodies_together_get_408() {
    let setup = Setup::default();
    let count = allowed(4000) / 2;
    attack_with("2,000 slow heads and 2,000 slow bodies at once", &setup, |target| {
        let mut heads = target.group(count);
        heads.send(b"GET /health HTTP/1.1\r\nHost: h\r\nA: ");
        let mut bodies = target.group(count);
        bodies.send(b"POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n");
        let ended = thread::scope(|scope| {
            let heads = scope.spawn(move || heads.drip(std::iter::repeat_n(b'a', 1000), ms(100), MAX_WAIT));
            let bodies = bodies.drip(std::iter::repeat_n(b'b', 1000), ms(100), MAX_WAIT);
            [heads.join().expect("no panic"), bodies]
        });
        // Both began while the others were still connecting, so only the earliest end is exact.
        let summary = ["heads", "bodies"].into_iter().zip(ended).map(|(what, ended)| {
            let earliest = ms(setup.head_ms.min(setup.body_ms)) - EARLY;
            format!("{what}: {}", require_closed(what, &ended, &[408], earliest, MAX_WAIT))
        });
        summary.collect::<Vec<_>>().join("; ")
    });
}

#[test]
fn bodies_when_the_application_ignores_them_do_not_disturb_the_connection() {
    attack("bodies that the application leaves unread", |target| {
        let mut request =
            format!("POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", probes::MAX_BODY_BYTES);
        request.push_str(&"b".repeat(probes::MAX_BODY_BYTES));
        let (clients, rounds) = (8, 4);
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let mut client = target.client();
                    for round in 0..rounds {
                        let response = client.ask("POST", &request).unwrap_or_else(|e| panic!("round {round}: {e}"));
                        assert_eq!(response.text(), "{\"ignored\":true}", "round {round}");
                    }
                });
            }
        });
        format!("{} bodies of {} bytes", clients * rounds, probes::MAX_BODY_BYTES)
    });
}

#[test]
fn bodies_when_their_last_byte_is_withheld_are_bounded_by_the_quota() {
    // Eight bodies exhaust the quota; a hundred clients send one each.
    let setup = Setup { buffered_bytes: 8 << 20, ..Setup::default() };
    attack_with("bodies without their last byte", &setup, |target| {
        let mut group = target.group(100);
        let mut request =
            format!("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", probes::MAX_BODY_BYTES);
        request.push_str(&"b".repeat(probes::MAX_BODY_BYTES - 1));
        let taken = group.send_all(request.as_bytes(), ms(setup.body_ms));
        let ended = group.wait_closed(MAX_WAIT);
        // A connection that is reset while it sends loses its response: status 0.
        let summary = require_closed("held back", &ended, &[0, 408, 503], ms(0), MAX_WAIT);
        let full = statuses(&ended).iter().filter(|s| **s == 503).count();
        assert!(full > 0, "nobody was summary 503: {}", tally(statuses(&ended)));
        format!("{taken} sent all but the last byte; {}; {summary}", tally(statuses(&ended)))
    });
}

// ---- bodies that are too large

#[test]
fn bodies_too_large_when_many_arrive_at_full_speed_delay_no_other() {
    attack("40 uploads of 20 MB", |target| {
        const CLIENTS: usize = 40;
        const LENGTH: usize = 20_000_000;
        let mut request = format!("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: {LENGTH}\r\n\r\n");
        request.push_str(&"b".repeat(LENGTH));
        let mut group = target.group(CLIENTS);
        let sent = group.send_all(request.as_bytes(), MAX_WAIT);
        let closed = group.wait_closed(MAX_WAIT);
        // Without one of the limited places, a connection may be reset before its response is read: status 0.
        let summary = require_closed("too large", &closed, &[0, 413], ms(0), MAX_WAIT);
        format!("{sent} sent everything; {}; {summary}", tally(statuses(&closed)))
    });
}

// ---- endless requests

/// Sends a beginning and then a filling until the server closes the connection, which must be soon.
fn endless(name: &'static str, beginning: &'static str, filling: &'static str) {
    attack(name, |target| {
        const MOST_BYTES: usize = 64 << 20;
        let filling = filling.repeat(65_536 / filling.len());
        let mut sent = 0;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let mut client = target.client();
            let mut this = 0;
            let mut taken = client.send(beginning);
            while taken.is_ok() && this < MOST_BYTES {
                taken = client.send(&filling);
                this += filling.len();
            }
            assert!(taken.is_err(), "{name}: the server takes {MOST_BYTES} bytes and more");
            sent += this;
            // A client that continues to send may lose the response to a reset.
            statuses.push(client.read_response("POST").ok().flatten().map_or(0, |a| a.status));
        }
        assert!(statuses.iter().all(|s| [0, 400, 413, 414, 431].contains(s)), "{name}: {}", tally(statuses));
        format!("{} KiB taken from 4 clients, {}", sent / 1024, tally(statuses))
    });
}

#[test]
fn endless_header_line_is_stopped() {
    endless("an endless header line", "GET /health HTTP/1.1\r\nHost: h\r\nA: ", "a");
}

#[test]
fn endless_headers_are_stopped() {
    endless("endless headers", "GET /health HTTP/1.1\r\nHost: h\r\n", "Aa: bbbbbbbbbb\r\n");
}

#[test]
fn endless_request_line_is_stopped() {
    endless("an endless request line", "GET /", "a");
}

#[test]
fn endless_empty_lines_are_stopped() {
    endless("endless empty lines", "", "\r\n");
}

#[test]
fn endless_chunk_size_is_stopped() {
    endless("an endless chunk size", "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "0");
}

#[test]
fn endless_chunk_extension_is_stopped() {
    endless(
        "an endless chunk extension",
        "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;",
        "a",
    );
}

#[test]
fn endless_chunks_are_stopped() {
    endless("endless chunks", "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nb\r\n");
}

#[test]
fn endless_trailers_are_stopped() {
    endless(
        "endless trailers",
        "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "T: aaaaaaaaaaa\r\n",
    );
}
