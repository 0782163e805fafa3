//! More connections than a server wants: kept, idle, reset, or more than it has descriptors.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::crowd::{Crowd, require_ended};
use crate::process::Setup;
use crate::support::client::{Client, PATIENCE};
use crate::{EARLY, HEALTH, LATE, Target, allowed, alone, attack, attack_with, ms, tally};

#[test]
fn kept_connections_beyond_the_number_of_workers_are_all_served() {
    attack("8, 16, 64 kept connections", |target| {
        const ROUNDS: usize = 20;
        let mut told = Vec::new();
        for count in [8, 16, 64] {
            let began = Instant::now();
            let mut clients: Vec<Client> = (0..count).map(|_| target.client()).collect();
            for round in 0..ROUNDS {
                for client in &mut clients {
                    client.send(HEALTH).unwrap_or_else(|e| panic!("{count} connections, round {round}: {e}"));
                }
                for client in &mut clients {
                    let answer = client
                        .answer("GET")
                        .unwrap_or_else(|e| panic!("{count} connections, round {round}: {e}"));
                    assert_eq!(answer.map(|a| a.status), Some(200), "{count} connections, round {round}");
                }
            }
            told.push(format!("{count}: {} answers in {:.0?}", count * ROUNDS, began.elapsed()));
        }
        told.join("; ")
    });
}

#[test]
fn ten_thousand_idle_connections() {
    let setup = Setup { idle_ms: 60_000, ..Setup::default() };
    let count = allowed(10_000);
    attack_with("10,000 idle connections", &setup, |target| {
        let before = target.server.figures();
        let mut clients = Vec::with_capacity(count);
        for i in 0..count {
            let mut client = target.client();
            let answer = client.ask("GET", HEALTH).unwrap_or_else(|e| panic!("idle connection {i}: {e}"));
            assert_eq!(answer.status, 200, "idle connection {i}");
            clients.push(client);
        }
        let now = target.server.figures();
        assert!(now.descriptors >= count, "only {} of {count} connections are open", now.descriptors);
        let each = (now.resident_kib - before.resident_kib) * 1024 / count;
        // All of them are still served.
        for (i, client) in clients.iter_mut().enumerate().step_by(97) {
            let answer =
                client.ask("GET", HEALTH).unwrap_or_else(|e| panic!("idle connection {i}, again: {e}"));
            assert_eq!(answer.status, 200, "idle connection {i}, again");
        }
        assert!(each < 4096, "{each} bytes a connection");
        format!("{count} connections, {each} bytes each, {} threads", now.threads)
    });
}

#[test]
fn twenty_thousand_connections_opened_and_reset() {
    attack("20,000 connections reset", |target| {
        const COUNT: usize = 20_000;
        let starts: [&[u8]; 4] = [
            b"",
            b"GET /hea",
            HEALTH.as_bytes(),
            b"POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
        ];
        let began = Instant::now();
        for i in 0..COUNT {
            let mut stream = TcpStream::connect_timeout(&target.addr(), PATIENCE)
                .unwrap_or_else(|e| panic!("connection {i}: {e}"));
            // Closing resets: no time to linger.
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
        let mut silent = target.crowd(200);
        let mut kept = target.crowd(200);
        kept.send_all(HEALTH.as_bytes(), PATIENCE);
        let latest = ms(setup.idle_ms.max(setup.head_ms)) + LATE;
        let kept = require_ended(
            "idle after an answer",
            &kept.wait_ended(PATIENCE),
            &[200],
            ms(setup.idle_ms) - EARLY,
            latest,
        );
        let earliest = ms(setup.idle_ms.min(setup.head_ms)) - EARLY;
        let silent =
            require_ended("silent from the start", &silent.wait_ended(PATIENCE), &[0, 408], earliest, latest);
        format!("after an answer: {kept}; silent: {silent}")
    });
}

#[test]
fn descriptors_run_out() {
    // The shell gives the server 64; 150 connections want one each, first idle, then in the middle of a head.
    const COUNT: usize = 150;
    let setup = Setup { descriptors: 64, ..Setup::default() };
    attack_with("64 descriptors, 150 idle connections", &setup, |target| {
        let ended = crowd_over_time(target, COUNT).wait_ended(PATIENCE);
        require_ended("idle connections at the cap", &ended, &[0, 408, 503], ms(0), PATIENCE)
    });
    attack_with("64 descriptors, 150 slow heads", &setup, |target| {
        let mut crowd = crowd_over_time(target, COUNT);
        let ended = crowd.drip(std::iter::repeat_n(b'G', 400), ms(20), PATIENCE);
        require_ended("slow heads at the cap", &ended, &[0, 400, 408, 503], ms(0), PATIENCE)
    });
}

/// The program itself takes every descriptor, so that accepting fails: it must go on when some are free
/// again, and who is connected must not notice.
#[test]
fn descriptors_taken_by_the_program_itself() {
    const COUNT: usize = 24;
    let _alone = alone();
    let setup = Setup { descriptors: 64, ..Setup::default() };
    let target = Target::start("64 descriptors, all taken by the program", &setup);
    let mut kept = target.client();
    let mut ask = |url: &str| {
        let answer = kept.ask("GET", format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n"));
        answer.unwrap_or_else(|e| panic!("no descriptors, a kept connection asks {url}: {e}")).text()
    };
    let hoard = ask("/hoard");
    let mut crowd = target.crowd(COUNT);
    crowd.send(HEALTH.as_bytes());
    (0..200).for_each(|_| assert_eq!(ask("/health"), "{\"status\":\"ok\"}"));
    ask("/release");
    let answers = crowd.wait_answered(COUNT, PATIENCE);
    assert!(answers.iter().all(|s| [200, 503].contains(s)), "without descriptors: {}", tally(answers));
    drop((kept, crowd));
    target.recovered(&format!("{hoard} taken; of {COUNT} newcomers {}", tally(answers)), None);
}

/// Connections one after the other: at the cap each costs another its place, which nobody has to give who has waited for less
/// than `evictable_after` (100 ms). In one burst they would leave no place for a healthy newcomer, who is then told 503.
fn crowd_over_time(target: &Target, count: usize) -> Crowd {
    let mut crowd = target.crowd(0);
    for _ in 0..count {
        crowd.join(target.addr());
        thread::sleep(ms(10));
    }
    crowd
}
