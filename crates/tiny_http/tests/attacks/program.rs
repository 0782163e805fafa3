//! The application under attack: invalid requests, panics, blocked workers, stalls, shutdown.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client_group::{require_closed, status_of};
use crate::process::Setup;
use crate::readers::wait_for_response_start;
use crate::served::WORKERS;
use crate::support::client::{Client, MAX_WAIT};
use crate::support::probes::{self, SMUGGLED};
use crate::{EARLY, HEALTH, LATE, Target, alone, attack, ms, tally};

// ---- invalid requests

#[test]
fn http_2_requests_get_505() {
    attack("300 × HTTP/2.0", |target| {
        let mut group = target.group(300);
        group.send_all(b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", MAX_WAIT);
        require_closed("HTTP/2.0", &group.wait_closed(MAX_WAIT), &[505], ms(0), LATE)
    });
}

#[test]
fn framing_probes_in_parallel_leave_no_connection_open() {
    attack("every framing probe", |target| {
        let mut summary = Vec::new();
        let probes = probes::all();
        for round in 0..3 {
            let mut clients: Vec<Client> = probes.iter().map(|_| target.client()).collect();
            // Large probes are sent by threads of their own, because the server may stop reading them.
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
            let mut responses = Vec::new();
            for (client, probe) in clients.iter_mut().zip(&probes) {
                let mut all = Vec::new();
                // A reset after a large rejected body counts as closed.
                let end = client.stream.read_to_end(&mut all);
                let open = end
                    .is_err_and(|e| matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
                assert!(!open, "round {round}: [{}] {} is left open", probe.group, probe.name);
                responses.push(status_of(&all));
            }
            summary = responses;
        }
        format!("3 × {} probes, first responses {}", probes.len(), tally(summary))
    });
}

#[test]
fn worker_when_it_panics_answers_500() {
    attack("a worker's panic", |target| {
        let mut statuses = Vec::new();
        for i in 0..100 {
            let mut client = target.client();
            client.send("GET /panic HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
            match client.read_response("GET") {
                Ok(response) => statuses.push(response.map_or(0, |a| a.status)),
                Err(e) => panic!("panic {i}: {e}"),
            }
        }
        assert!(statuses.iter().all(|s| *s == 500), "instead of 500 each: {}", tally(statuses));
        tally(statuses)
    });
}

// ---- times

/// A response is sent in one write, or without waiting for the acknowledgement of the first (Nagle).
#[test]
fn responses_of_any_size_are_not_delayed_by_nagle() {
    attack("stalls on a kept connection", |target| {
        let mut summary = Vec::new();
        let mut client = target.client();
        for kib in [1, 2, 4, 8, 16, 32, 64] {
            let request = format!("GET /size?{} HTTP/1.1\r\nHost: h\r\n\r\n", kib * 1024);
            let mut times: Vec<Duration> = (0..40)
                .map(|i| {
                    let began = Instant::now();
                    let response = client.ask("GET", &request).unwrap_or_else(|e| panic!("{kib} KiB, {i}: {e}"));
                    assert_eq!(response.body.len(), kib * 1024);
                    began.elapsed()
                })
                .collect();
            times.sort();
            let median = times[times.len() / 2];
            assert!(median < ms(20), "{kib} KiB: a median of {median:.1?}; a stall is 40 ms");
            summary.push(format!("{kib} KiB {median:.0?}"));
        }
        format!("medians: {}", summary.join(", "))
    });
}

/// All workers sleep while requests arrive: a bounded number waits, the others get 503 at once, each gets a response,
/// and deadlines are kept.
#[test]
fn requests_when_every_worker_blocks_are_queued_or_shed() {
    const ARRIVING: usize = 400;
    let _alone = alone();
    let setup = Setup { pending: 50, ..Setup::default() };
    let mut target = Target::start("every worker blocked", &setup);
    // Longer than the deadline of a head, so that the deadline passes meanwhile.
    let blocked = ms(setup.head_ms) + LATE + ms(500);
    let mut blockers = target.group(WORKERS);
    blockers.send(format!("GET /sleep?{} HTTP/1.1\r\nHost: h\r\n\r\n", blocked.as_millis()).as_bytes());
    for _ in 0..WORKERS {
        target.server.wait_for_output("asleep");
    }
    let began = Instant::now();
    let mut slow = target.group(20);
    slow.send(b"GET /hea");
    let mut arriving = target.group(ARRIVING);
    arriving.send(HEALTH.as_bytes());

    let early = arriving.wait_for_responses(ARRIVING - setup.pending, blocked);
    let shed_after = began.elapsed();
    let shed = early.iter().filter(|s| **s == 503).count();
    assert!(shed >= ARRIVING - setup.pending, "not shed while all workers sleep: {}", tally(early));
    assert!(shed_after < LATE, "shed after {shed_after:.1?} only");
    let slow = require_closed(
        "slow heads",
        &slow.wait_closed(MAX_WAIT),
        &[408],
        ms(setup.head_ms) - EARLY,
        ms(setup.head_ms) + LATE,
    );

    let late = arriving.wait_for_responses(ARRIVING, MAX_WAIT);
    let served = late.iter().filter(|s| **s == 200).count();
    assert!(served > 0 && served + shed == ARRIVING, "not every request is answered: {}", tally(late));
    let woken = blockers.wait_for_responses(WORKERS, MAX_WAIT);
    assert!(woken.iter().all(|s| *s == 200), "the workers' own: {}", tally(woken));
    drop((arriving, blockers));
    target.recovered(&format!("{shed} shed within {shed_after:.1?}, {served} served; slow heads: {slow}"), None);
}

/// All workers sleep while streams are read at full speed: the streams must not delay the timer thread.
#[test]
fn deadlines_when_workers_block_and_streams_run_are_kept() {
    let _alone = alone();
    let setup = Setup::default();
    let mut target = Target::start("every worker blocked, streams at full speed", &setup);
    let mut readers: Vec<Client> = (0..4).map(|_| target.client()).collect();
    for reader in &mut readers {
        reader.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
        wait_for_response_start(reader);
    }
    let blocked = ms(setup.head_ms) + LATE + ms(500);
    let mut blockers = target.group(WORKERS);
    blockers.send(format!("GET /sleep?{} HTTP/1.1\r\nHost: h\r\n\r\n", blocked.as_millis()).as_bytes());
    (0..WORKERS).for_each(|_| target.server.wait_for_output("asleep"));

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
        let mut slow = target.group(20);
        slow.send(b"GET /hea");
        let slow = slow.wait_closed(MAX_WAIT);
        stop.store(true, Ordering::Relaxed);
        slow
    });
    let (earliest, latest) = (ms(setup.head_ms) - EARLY, ms(setup.head_ms) + LATE);
    let slow = require_closed("slow heads beside streams", &slow, &[408], earliest, latest);
    let woken = blockers.wait_for_responses(WORKERS, MAX_WAIT);
    assert!(woken.iter().all(|s| *s == 200), "the workers' own: {}", tally(woken));
    drop((readers, blockers));
    let mib = read.into_inner() >> 20;
    target.recovered(&format!("{mib} MiB of streams read; slow heads: {slow}"), None);
}

// ---- shutdown

/// Under load, every request that the application received is answered completely, and idle connections are closed
/// soon.
#[test]
fn shutdown_under_load_answers_every_request() {
    const IDLE: usize = 100;
    let _alone = alone();
    let setup = Setup { idle_ms: 60_000, drain_ms: 5000, ..Setup::default() };
    let mut target = Target::start("graceful shutdown", &setup);
    let addr = target.addr();
    let mut idle = target.group(IDLE);
    idle.send(HEALTH.as_bytes());
    idle.wait_for_responses(IDLE, MAX_WAIT);
    let mut sleepers = target.group(WORKERS / 2);
    sleepers.send(b"GET /sleep?400 HTTP/1.1\r\nHost: h\r\n\r\n");
    (0..WORKERS / 2).for_each(|_| target.server.wait_for_output("asleep"));

    let answered = AtomicU64::new(0);
    let (began, idle, sleepers) = thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| ask_until_closed(addr, &answered));
        }
        let loaded = Instant::now();
        while answered.load(Ordering::Relaxed) < 200 && loaded.elapsed() < MAX_WAIT {
            thread::sleep(ms(1));
        }
        let began = Instant::now();
        target.server.begin_shutdown();
        let idle = idle.wait_closed(MAX_WAIT);
        assert!(began.elapsed() < LATE, "idle connections closed after {:.1?} only", began.elapsed());
        (began, idle, sleepers.wait_closed(MAX_WAIT))
    });
    let baseline = target.baseline.asked() as u64;
    let received = target.server.wait_closed();
    let took = began.elapsed();
    // These connections were opened before the shutdown began, so their times are longer.
    let idle = require_closed("idle at the end", &idle, &[200], ms(0), MAX_WAIT);
    let sleepers = require_closed("in flight at the end", &sleepers, &[200], ms(0), MAX_WAIT);
    let answered = answered.into_inner() + baseline + (IDLE + WORKERS / 2) as u64;
    assert_eq!(received, answered, "graceful shutdown: requests received to the application, responses that arrived");
    assert!(took < ms(setup.drain_ms), "graceful shutdown: took {took:.1?} with nothing stuck");
    assert!(TcpStream::connect(addr).is_err(), "graceful shutdown: the port still accepts");
    println!("graceful shutdown\n    {answered} of {received} answered in {took:.1?}; idle: {idle}; open: {sleepers}");
}

/// Sends requests on one connection until the server closes it. A truncated response is a failure.
fn ask_until_closed(addr: SocketAddr, answered: &AtomicU64) {
    let mut client = Client::connect(addr).expect("the server accepts");
    loop {
        // The server may close just as a request is sent. The number of requests received shows whether one was lost.
        if client.send(HEALTH).is_err() {
            return;
        }
        match client.read_response("GET") {
            Ok(Some(response)) => {
                assert_eq!(response.status, 200, "a response during a graceful shutdown");
                answered.fetch_add(1, Ordering::Relaxed);
                if response.says_close() {
                    return;
                }
            }
            Ok(None) => return,
            Err(e) => assert!(e.contains("reset") && e.ends_with("after \"\""), "a response cut short: {e}"),
        }
    }
}

/// Clients that never read delay the shutdown up to the drain limit.
#[test]
fn shutdown_with_stuck_readers_ends_at_the_drain_limit() {
    let _alone = alone();
    let setup = Setup { write_ms: 60_000, drain_ms: 1000, ..Setup::default() };
    let mut target = Target::start("graceful shutdown, stuck readers", &setup);
    let mut stuck: Vec<Client> = (0..8).map(|_| target.client()).collect();
    for client in &mut stuck {
        client.send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
        wait_for_response_start(client);
    }
    let began = Instant::now();
    target.server.begin_shutdown();
    target.server.wait_closed();
    let took = began.elapsed();
    assert!(took >= ms(setup.drain_ms) - EARLY, "ended after {took:.1?}, before the drain limit");
    assert!(took <= ms(setup.drain_ms) + LATE, "ended after {took:.1?}, long after the drain limit");
    println!("graceful shutdown, stuck readers\n    ended after {took:.1?}");
}
