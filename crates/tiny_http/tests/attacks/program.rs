//! What the program under attack goes through: wrong requests, panics, blocked workers, stalls, its end.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::crowd::{require_ended, status_of};
use crate::process::Setup;
use crate::readers::wait_begun;
use crate::served::WORKERS;
use crate::support::client::{Client, PATIENCE};
use crate::support::probes::{self, SMUGGLED};
use crate::{EARLY, HEALTH, LATE, Target, alone, attack, ms, tally};

// ---- requests of every wrong kind

#[test]
fn three_hundred_times_http_2() {
    attack("300 × HTTP/2.0", |target| {
        let mut crowd = target.crowd(300);
        crowd.send_all(b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", PATIENCE);
        require_ended("HTTP/2.0", &crowd.wait_ended(PATIENCE), &[505], ms(0), LATE)
    });
}

#[test]
fn every_framing_probe_at_once() {
    attack("every framing probe", |target| {
        let mut told = Vec::new();
        let probes = probes::all();
        for round in 0..3 {
            let mut clients: Vec<Client> = probes.iter().map(|_| target.client()).collect();
            // Large ones from threads of their own, since the server may stop reading them.
            thread::scope(|scope| {
                for (client, probe) in clients.iter_mut().zip(&probes) {
                    let mut send = move || {
                        let _ = client.send(&probe.bytes);
                        let _ = client.send(&SMUGGLED[..10]);
                        client.end_sending();
                    };
                    match probe.bytes.len() > 65_536 {
                        true => drop(scope.spawn(send)),
                        false => send(),
                    }
                }
            });
            let mut answers = Vec::new();
            for (client, probe) in clients.iter_mut().zip(&probes) {
                let mut all = Vec::new();
                // A reset behind a large refused body is an end too; an open connection is not.
                let end = client.stream.read_to_end(&mut all);
                let open = end.is_err_and(|e| {
                    matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
                });
                assert!(!open, "round {round}: [{}] {} is left open", probe.group, probe.name);
                answers.push(status_of(&all));
            }
            told = answers;
        }
        format!("3 × {} probes, first answers {}", probes.len(), tally(told))
    });
}

#[test]
fn a_worker_that_panics() {
    attack("a worker's panic", |target| {
        let mut statuses = Vec::new();
        for i in 0..100 {
            let mut client = target.client();
            client.send("GET /panic HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
            match client.answer("GET") {
                Ok(answer) => statuses.push(answer.map_or(0, |a| a.status)),
                Err(e) => panic!("panic {i}: {e}"),
            }
        }
        assert!(statuses.iter().all(|s| *s == 500), "instead of 500 each: {}", tally(statuses));
        tally(statuses)
    });
}

// ---- times

/// A kept connection is answered in one write, or without Nagle's wait for the acknowledgement of the first.
#[test]
fn answers_of_any_size_do_not_stall() {
    attack("stalls on a kept connection", |target| {
        let mut told = Vec::new();
        let mut client = target.client();
        for kib in [1, 2, 4, 8, 16, 32, 64] {
            let request = format!("GET /size?{} HTTP/1.1\r\nHost: h\r\n\r\n", kib * 1024);
            let mut times: Vec<Duration> = (0..40)
                .map(|i| {
                    let began = Instant::now();
                    let answer =
                        client.ask("GET", &request).unwrap_or_else(|e| panic!("{kib} KiB, {i}: {e}"));
                    assert_eq!(answer.body.len(), kib * 1024);
                    began.elapsed()
                })
                .collect();
            times.sort();
            let median = times[times.len() / 2];
            assert!(median < ms(20), "{kib} KiB: a median of {median:.1?}; a stall is 40 ms");
            told.push(format!("{kib} KiB {median:.0?}"));
        }
        format!("medians: {}", told.join(", "))
    });
}

/// All workers sleep while requests go on arriving: a bounded number waits, the others are told 503 at once,
/// nobody is forgotten, and deadlines go on being kept.
#[test]
fn every_worker_blocked() {
    const ARRIVING: usize = 400;
    let _alone = alone();
    let setup = Setup { pending: 50, ..Setup::default() };
    let mut target = Target::start("every worker blocked", &setup);
    // Longer than a head may take and be late, so that the deadline must be kept meanwhile.
    let blocked = ms(setup.head_ms) + LATE + ms(500);
    let mut blockers = target.crowd(WORKERS);
    blockers.send(format!("GET /sleep?{} HTTP/1.1\r\nHost: h\r\n\r\n", blocked.as_millis()).as_bytes());
    for _ in 0..WORKERS {
        target.server.wait_said("asleep");
    }
    let began = Instant::now();
    let mut slow = target.crowd(20);
    slow.send(b"GET /hea");
    let mut arriving = target.crowd(ARRIVING);
    arriving.send(HEALTH.as_bytes());

    let early = arriving.wait_answered(ARRIVING - setup.pending, blocked);
    let shed_after = began.elapsed();
    let shed = early.iter().filter(|s| **s == 503).count();
    assert!(shed >= ARRIVING - setup.pending, "not shed while all workers sleep: {}", tally(early));
    assert!(shed_after < LATE, "shed after {shed_after:.1?} only");
    let slow = require_ended(
        "slow heads",
        &slow.wait_ended(PATIENCE),
        &[408],
        ms(setup.head_ms) - EARLY,
        ms(setup.head_ms) + LATE,
    );

    let late = arriving.wait_answered(ARRIVING, PATIENCE);
    let served = late.iter().filter(|s| **s == 200).count();
    assert!(served > 0 && served + shed == ARRIVING, "not every request is answered: {}", tally(late));
    let woken = blockers.wait_answered(WORKERS, PATIENCE);
    assert!(woken.iter().all(|s| *s == 200), "the workers' own: {}", tally(woken));
    drop((arriving, blockers));
    target.recovered(
        &format!("{shed} shed within {shed_after:.1?}, {served} served; slow heads: {slow}"),
        None,
    );
}

/// All workers sleep while streams are read as fast as they come: the work for those must not hold up the clock.
#[test]
fn every_worker_blocked_and_streams_at_full_speed() {
    let _alone = alone();
    let setup = Setup::default();
    let mut target = Target::start("every worker blocked, streams at full speed", &setup);
    let mut readers: Vec<Client> = (0..4).map(|_| target.client()).collect();
    for reader in &mut readers {
        reader.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
        wait_begun(reader);
    }
    let blocked = ms(setup.head_ms) + LATE + ms(500);
    let mut blockers = target.crowd(WORKERS);
    blockers.send(format!("GET /sleep?{} HTTP/1.1\r\nHost: h\r\n\r\n", blocked.as_millis()).as_bytes());
    (0..WORKERS).for_each(|_| target.server.wait_said("asleep"));

    let (stop, read) = (AtomicBool::new(false), AtomicU64::new(0));
    let slow = thread::scope(|scope| {
        for reader in &mut readers {
            let (stop, read) = (&stop, &read);
            scope.spawn(move || {
                let mut chunk = vec![0; 256 * 1024];
                while !stop.load(Ordering::Relaxed)
                    && let Ok(n @ 1..) = reader.stream.read(&mut chunk)
                {
                    read.fetch_add(n as u64, Ordering::Relaxed);
                }
            });
        }
        let mut slow = target.crowd(20);
        slow.send(b"GET /hea");
        let slow = slow.wait_ended(PATIENCE);
        stop.store(true, Ordering::Relaxed);
        slow
    });
    let (earliest, latest) = (ms(setup.head_ms) - EARLY, ms(setup.head_ms) + LATE);
    let slow = require_ended("slow heads beside streams", &slow, &[408], earliest, latest);
    let woken = blockers.wait_answered(WORKERS, PATIENCE);
    assert!(woken.iter().all(|s| *s == 200), "the workers' own: {}", tally(woken));
    drop((readers, blockers));
    let mib = read.into_inner() >> 20;
    target.recovered(&format!("{mib} MiB of streams read; slow heads: {slow}"), None);
}

// ---- the end

/// Under load every request that the program was handed is answered in full, and idle connections are closed
/// soon.
#[test]
fn a_graceful_end_under_load_loses_nothing() {
    const IDLE: usize = 100;
    let _alone = alone();
    let setup = Setup { idle_ms: 60_000, drain_ms: 5000, ..Setup::default() };
    let mut target = Target::start("graceful end", &setup);
    let addr = target.addr();
    let mut idle = target.crowd(IDLE);
    idle.send(HEALTH.as_bytes());
    idle.wait_answered(IDLE, PATIENCE);
    let mut sleepers = target.crowd(WORKERS / 2);
    sleepers.send(b"GET /sleep?400 HTTP/1.1\r\nHost: h\r\n\r\n");
    (0..WORKERS / 2).for_each(|_| target.server.wait_said("asleep"));

    let answered = AtomicU64::new(0);
    let (began, idle, sleepers) = thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| ask_until_closed(addr, &answered));
        }
        let loaded = Instant::now();
        while answered.load(Ordering::Relaxed) < 200 && loaded.elapsed() < PATIENCE {
            thread::sleep(ms(1));
        }
        let began = Instant::now();
        target.server.begin_end();
        let idle = idle.wait_ended(PATIENCE);
        assert!(began.elapsed() < LATE, "idle connections closed after {:.1?} only", began.elapsed());
        (began, idle, sleepers.wait_ended(PATIENCE))
    });
    let quiet = target.quiet.asked() as u64;
    let handed = target.server.wait_ended();
    let took = began.elapsed();
    // These began before the end did: their times are their whole lives.
    let idle = require_ended("idle at the end", &idle, &[200], ms(0), PATIENCE);
    let sleepers = require_ended("in flight at the end", &sleepers, &[200], ms(0), PATIENCE);
    let answered = answered.into_inner() + quiet + (IDLE + WORKERS / 2) as u64;
    assert_eq!(handed, answered, "graceful end: requests handed to the program, answers that arrived");
    assert!(took < ms(setup.drain_ms), "graceful end: took {took:.1?} with nothing stuck");
    assert!(TcpStream::connect(addr).is_err(), "graceful end: the port still accepts");
    println!(
        "graceful end\n    {answered} of {handed} answered, ended after {took:.1?}; idle: {idle}; in flight: {sleepers}"
    );
}

/// Asks on one connection until the server says that it closes; an answer cut short is a failure.
fn ask_until_closed(addr: SocketAddr, answered: &AtomicU64) {
    let mut client = Client::connect(addr).expect("the server accepts");
    loop {
        // The server may close just as a request is sent; the count of requests handed tells whether it was
        // lost.
        if client.send(HEALTH).is_err() {
            return;
        }
        match client.answer("GET") {
            Ok(Some(answer)) => {
                assert_eq!(answer.status, 200, "an answer during a graceful end");
                answered.fetch_add(1, Ordering::Relaxed);
                if answer.says_close() {
                    return;
                }
            }
            Ok(None) => return,
            Err(e) => assert!(e.contains("reset") && e.ends_with("after \"\""), "an answer cut short: {e}"),
        }
    }
}

/// Readers that never read hold up the end for the drain limit, and no longer.
#[test]
fn a_graceful_end_does_not_wait_for_stuck_readers() {
    let _alone = alone();
    let setup = Setup { write_ms: 60_000, drain_ms: 1000, ..Setup::default() };
    let mut target = Target::start("graceful end, stuck readers", &setup);
    let mut stuck: Vec<Client> = (0..8).map(|_| target.client()).collect();
    for client in &mut stuck {
        client.send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
        wait_begun(client);
    }
    let began = Instant::now();
    target.server.begin_end();
    target.server.wait_ended();
    let took = began.elapsed();
    assert!(took >= ms(setup.drain_ms) - EARLY, "ended after {took:.1?}, before the drain limit");
    assert!(took <= ms(setup.drain_ms) + LATE, "ended after {took:.1?}, long after the drain limit");
    println!("graceful end, stuck readers\n    ended after {took:.1?}");
}
