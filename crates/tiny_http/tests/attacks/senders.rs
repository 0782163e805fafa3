//! Clients that announce too much, send too slowly, or never end.

use std::thread;

use crate::crowd::require_ended;
use crate::process::Setup;
use crate::support::client::PATIENCE;
use crate::support::probes;
use crate::{EARLY, HEALTH, LATE, allowed, attack, attack_with, ms, statuses, tally};

// ---- lengths that lie

#[test]
fn thirty_gigabytes_announced_and_never_sent() {
    attack("30 GB announced", |target| {
        let mut crowd = target.crowd(64);
        crowd.send_all(b"POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000000\r\n\r\n", PATIENCE);
        let ended = crowd.wait_ended(PATIENCE);
        require_ended("30 GB announced", &ended, &[413], ms(0), LATE)
    });
}

#[test]
fn lengths_of_every_kind() {
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
            let mut crowd = target.crowd(10);
            let head = format!("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: {value}\r\n\r\n");
            crowd.send_all(head.as_bytes(), PATIENCE);
            let ended = crowd.wait_ended(PATIENCE);
            require_ended(&format!("Content-Length {value:?}"), &ended, &[400, 413], ms(0), LATE);
            seen.extend(statuses(&ended));
        }
        tally(seen)
    });
}

// ---- slow senders

#[test]
fn requests_one_byte_at_a_time_are_answered_in_time() {
    attack("one byte at a time", |target| {
        let requests = [
            HEALTH.to_owned(),
            "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n01234567890123456789".to_owned(),
            "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                .to_owned(),
        ];
        let mut told = Vec::new();
        for request in requests {
            let mut crowd = target.crowd(50);
            crowd.drip(request.bytes(), ms(2), PATIENCE);
            let answers = crowd.wait_answered(50, PATIENCE);
            assert!(answers.iter().all(|s| *s == 200), "{:?}…: {}", &request[..12], tally(answers));
            told.push(format!("{} × {} bytes", answers.len(), request.len()));
        }
        told.join(", ")
    });
}

#[test]
fn two_thousand_slow_heads() {
    let setup = Setup::default();
    let count = allowed(2000);
    attack_with("2,000 slow heads", &setup, |target| {
        let mut crowd = target.crowd(count);
        crowd.send(b"GET /health HTTP/1.1\r\nHost: h\r\nA: ");
        // A byte now and then must not move the deadline, which counts from the first.
        let ended = crowd.drip(std::iter::repeat_n(b'a', 1000), ms(100), PATIENCE);
        require_ended("slow heads", &ended, &[408], ms(setup.head_ms) - EARLY, ms(setup.head_ms) + LATE)
    });
}

#[test]
fn two_thousand_slow_bodies() {
    let setup = Setup::default();
    let count = allowed(2000);
    attack_with("2,000 slow bodies", &setup, |target| {
        let heads = ["Content-Length: 5000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1388\r\n"];
        let mut told = Vec::new();
        for head in heads {
            let mut crowd = target.crowd(count / 2);
            crowd.send(format!("POST /count HTTP/1.1\r\nHost: h\r\n{head}").as_bytes());
            let ended = crowd.drip(std::iter::repeat_n(b'b', 1000), ms(100), PATIENCE);
            let latest = ms(setup.head_ms + setup.body_ms) + LATE;
            told.push(require_ended("slow bodies", &ended, &[408], ms(setup.body_ms) - EARLY, latest));
        }
        told.join("; ")
    });
}

#[test]
fn two_thousand_slow_heads_and_two_thousand_slow_bodies_at_once() {
    let setup = Setup::default();
    let count = allowed(4000) / 2;
    attack_with("2,000 slow heads and 2,000 slow bodies at once", &setup, |target| {
        let mut heads = target.crowd(count);
        heads.send(b"GET /health HTTP/1.1\r\nHost: h\r\nA: ");
        let mut bodies = target.crowd(count);
        bodies.send(b"POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n");
        let ended = thread::scope(|scope| {
            let heads = scope.spawn(move || heads.drip(std::iter::repeat_n(b'a', 1000), ms(100), PATIENCE));
            let bodies = bodies.drip(std::iter::repeat_n(b'b', 1000), ms(100), PATIENCE);
            [heads.join().expect("no panic"), bodies]
        });
        // Both began while the others were still connecting, so that only the earliest end says something.
        let told = ["heads", "bodies"].into_iter().zip(ended).map(|(what, ended)| {
            let earliest = ms(setup.head_ms.min(setup.body_ms)) - EARLY;
            format!("{what}: {}", require_ended(what, &ended, &[408], earliest, PATIENCE))
        });
        told.collect::<Vec<_>>().join("; ")
    });
}

#[test]
fn bodies_sent_and_not_read_by_the_program() {
    attack("bodies that the program leaves unread", |target| {
        let mut request =
            format!("POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", probes::MAX_BODY_BYTES);
        request.push_str(&"b".repeat(probes::MAX_BODY_BYTES));
        let (clients, rounds) = (8, 4);
        thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let mut client = target.client();
                    for round in 0..rounds {
                        let answer =
                            client.ask("POST", &request).unwrap_or_else(|e| panic!("round {round}: {e}"));
                        assert_eq!(answer.text(), "{\"ignored\":true}", "round {round}");
                    }
                });
            }
        });
        format!("{} bodies of {} bytes", clients * rounds, probes::MAX_BODY_BYTES)
    });
}

#[test]
fn bodies_held_back_at_their_last_byte() {
    // Eight bodies fill the budget; a hundred clients hold one each.
    let setup = Setup { buffered_bytes: 8 << 20, ..Setup::default() };
    attack_with("bodies without their last byte", &setup, |target| {
        let mut crowd = target.crowd(100);
        let mut request =
            format!("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", probes::MAX_BODY_BYTES);
        request.push_str(&"b".repeat(probes::MAX_BODY_BYTES - 1));
        let taken = crowd.send_all(request.as_bytes(), ms(setup.body_ms));
        let ended = crowd.wait_ended(PATIENCE);
        // A connection may be reset while it still sends, so that its answer is lost: that is 0.
        let told = require_ended("held back", &ended, &[0, 408, 503], ms(0), PATIENCE);
        let full = statuses(&ended).iter().filter(|s| **s == 503).count();
        assert!(full > 0, "nobody was told 503: {}", tally(statuses(&ended)));
        format!("{taken} sent all but the last byte; {}; {told}", tally(statuses(&ended)))
    });
}

// ---- endless requests

/// Sends a beginning and then a filling for as long as the server takes it: it must stop early, and close.
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
            // A client that goes on sending may lose the answer to a reset: then there is none.
            statuses.push(client.answer("POST").ok().flatten().map_or(0, |a| a.status));
        }
        assert!(statuses.iter().all(|s| [0, 400, 413, 414, 431].contains(s)), "{name}: {}", tally(statuses));
        format!("{} KiB taken from 4 clients, {}", sent / 1024, tally(statuses))
    });
}

#[test]
fn an_endless_header_line() {
    endless("an endless header line", "GET /health HTTP/1.1\r\nHost: h\r\nA: ", "a");
}

#[test]
fn endless_headers() {
    endless("endless headers", "GET /health HTTP/1.1\r\nHost: h\r\n", "Aa: bbbbbbbbbb\r\n");
}

#[test]
fn an_endless_request_line() {
    endless("an endless request line", "GET /", "a");
}

#[test]
fn endless_empty_lines() {
    endless("endless empty lines", "", "\r\n");
}

#[test]
fn an_endless_chunk_size() {
    endless(
        "an endless chunk size",
        "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0",
    );
}

#[test]
fn an_endless_chunk_extension() {
    endless(
        "an endless chunk extension",
        "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;",
        "a",
    );
}

#[test]
fn endless_chunks() {
    endless(
        "endless chunks",
        "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "1\r\nb\r\n",
    );
}

#[test]
fn endless_trailers() {
    endless(
        "endless trailers",
        "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        "T: aaaaaaaaaaa\r\n",
    );
}
