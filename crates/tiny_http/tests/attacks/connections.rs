//! Too many connections: kept, idle, reset, or more than there are descriptors.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::client_group::{ClientGroup, require_closed};
use crate::process::Setup;
use crate::support::client::{Client, MAX_WAIT};
use crate::{EARLY, HEALTH, LATE, Target, allowed, alone, attack, attack_with, ms, tally};

#[test]
fn kept_connections_when_more_than_workers_are_all_served() {
    attack("8, 16, 64 kept connections", |target| {
        const ROUNDS: usize = 20;
        let mut summary = Vec::new();
        for count in [8, 16, 64] {
            let began = Instant::now();
            let mut clients: Vec<Client> = (0..count).map(|_| target.client()).collect();
            for round in 0..ROUNDS {
                for client in &mut clients {
                    client.send(HEALTH).unwrap_or_else(|e| panic!("{count} connections, round {round}: {e}"));
                }
                for client in &mut clients {
                    let response = client
                        .read_response("GET")
                        .unwrap_or_else(|e| panic!("{count} connections, round {round}: {e}"));
                    assert_eq!(response.map(|a| a.status), Some(200), "{count} connections, round {round}");
                }
            }
            summary.push(format!("{count}: {} responses in {:.0?}", count * ROUNDS, began.elapsed()));
        }
        summary.join("; ")
    });
}

#[test]
fn idle_connections_in_large_numbers_cost_little_memory_and_are_served() {
    let setup = Setup { idle_ms: 60_000, ..Setup::default() };
    let count = allowed(10_000);
    attack_with("10,000 idle connections", &setup, |target| {
        let before = target.server.figures();
        let mut clients = Vec::with_capacity(count);
        for i in 0..count {
            let mut client = target.client();
            let response = client.ask("GET", HEALTH).unwrap_or_else(|e| panic!("idle connection {i}: {e}"));
            assert_eq!(response.status, 200, "idle connection {i}");
            clients.push(client);
        }
        let now = target.server.figures();
        assert!(now.descriptors >= count, "only {} of {count} connections are open", now.descriptors);
        let each = (now.resident_kib - before.resident_kib) * 1024 / count;
        // All of them are still served.
        for (i, client) in clients.iter_mut().enumerate().step_by(97) {
            let response = client.ask("GET", HEALTH).unwrap_or_else(|e| panic!("idle connection {i}, again: {e}"));
            assert_eq!(response.status, 200, "idle connection {i}, again");
        }
        assert!(each < 4096, "{each} bytes a connection");
        format!("{count} connections, {each} bytes each, {} threads", now.threads)
    });
}

#[test]
fn connections_when_reset_by_the_client_leave_nothing_behind() {
    attack("20,000 connections reset", |target| {
        const COUNT: usize = 20_000;
        let starts: [&[u8]; 4] =
            [b"", b"GET /hea", HEALTH.as_bytes(), b"POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx"];
        let began = Instant::now();
        for i in 0..COUNT {
            let mut stream =
                TcpStream::connect_timeout(&target.addr(), MAX_WAIT).unwrap_or_else(|e| panic!("connection {i}: {e}"));
            // Makes the close a reset.
            set_socket_linger(&stream, Some(Duration::ZERO)).expect("a connected socket");
            stream.write_all(starts[i % starts.len()]).unwrap_or_else(|e| panic!("connection {i}: {e}"));
        }
        format!("{COUNT} connections in {:.1?}", began.elapsed())
    });
}

#[test]
fn idle_connections_are_closed_by_their_deadline() {
    let setup = Setup::default();
    attack_with("idle connections", &setup, |target| {
        let mut silent = target.group(200);
        let mut kept = target.group(200);
        kept.send_all(HEALTH.as_bytes(), MAX_WAIT);
        let latest = ms(setup.idle_ms.max(setup.head_ms)) + LATE;
        let kept = require_closed(
            "idle after a response",
            &kept.wait_closed(MAX_WAIT),
            &[200],
            ms(setup.idle_ms) - EARLY,
            latest,
        );
        let earliest = ms(setup.idle_ms.min(setup.head_ms)) - EARLY;
        let silent =
            require_closed("silent from the start", &silent.wait_closed(MAX_WAIT), &[0, 408], earliest, latest);
        format!("after a response: {kept}; silent: {silent}")
    });
}

#[test]
fn connections_when_descriptors_run_out_are_closed_or_rejected() {
    // The server has 64 descriptors. 150 connections need one each, first idle, then in the middle of a head.
    const COUNT: usize = 150;
    let setup = Setup { descriptors: 64, ..Setup::default() };
    attack_with("64 descriptors, 150 idle connections", &setup, |target| {
        let ended = open_over_time(target, COUNT).wait_closed(MAX_WAIT);
        require_closed("idle connections at the cap", &ended, &[0, 408, 503], ms(0), MAX_WAIT)
    });
    attack_with("64 descriptors, 150 slow heads", &setup, |target| {
        let mut group = open_over_time(target, COUNT);
        let ended = group.drip(std::iter::repeat_n(b'G', 400), ms(20), MAX_WAIT);
        require_closed("slow heads at the cap", &ended, &[0, 400, 408, 503], ms(0), MAX_WAIT)
    });
}

/// The application takes every descriptor, so that accepting fails. It must resume when descriptors are free again,
/// and open connections must not be affected.
#[test]
fn accepting_when_the_application_takes_all_descriptors_resumes_later() {
    const COUNT: usize = 24;
    let _alone = alone();
    let setup = Setup { descriptors: 64, ..Setup::default() };
    let target = Target::start("64 descriptors, all taken by the application", &setup);
    let mut kept = target.client();
    let mut ask = |url: &str| {
        let response = kept.ask("GET", format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n"));
        response.unwrap_or_else(|e| panic!("no descriptors, a kept connection asks {url}: {e}")).text()
    };
    let hoard = ask("/hoard");
    let mut group = target.group(COUNT);
    group.send(HEALTH.as_bytes());
    (0..200).for_each(|_| assert_eq!(ask("/health"), "{\"status\":\"ok\"}"));
    ask("/release");
    let responses = group.wait_for_responses(COUNT, MAX_WAIT);
    assert!(responses.iter().all(|s| [200, 503].contains(s)), "without descriptors: {}", tally(responses));
    drop((kept, group));
    target.recovered(&format!("{hoard} taken; of {COUNT} new_clients {}", tally(responses)), None);
}

/// Opens connections with pauses. At the limit each evicts another one that has waited for `evictable_after` (100
/// ms); after a burst there would be none to evict for a healthy client, which would get 503.
fn open_over_time(target: &Target, count: usize) -> ClientGroup {
    let mut group = target.group(0);
    for _ in 0..count {
        group.join(target.addr());
        thread::sleep(ms(20));
    }
    group
}
