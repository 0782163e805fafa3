//! Attacks on a server process, one after the other, each while a healthy client keeps asking.
//!
//! Each test is one bounded attack on loopback. In every one the healthy client must be answered every time,
//! and about as fast as before and as by a server in peace (`health.rs`); afterwards the server must be back at its threads and descriptors, and its
//! memory must never have passed `PEAK_KIB`. Deadlines are set to seconds, so that a test can wait for them.
//!
//! Runs alone: it measures time and memory.

#[path = "attacks/connections.rs"]
mod connections;
#[path = "attacks/crowd.rs"]
mod crowd;
#[path = "attacks/health.rs"]
mod health;
#[path = "attacks/process.rs"]
mod process;
#[path = "attacks/program.rs"]
mod program;
#[path = "attacks/readers.rs"]
mod readers;
#[path = "attacks/senders.rs"]
mod senders;
#[path = "attacks/served.rs"]
mod served;
#[allow(
    dead_code,
    reason = "shared with framing.rs, which judges what comes of probes; here only bytes are sent"
)]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crowd::{Crowd, Ended};
use health::{Health, Report};
use process::{Figures, SETUP, ServerProcess, Setup};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use served::BIG_BYTES;
use support::client::{Client, PATIENCE};

/// The memory that no attack may make the server take.
const PEAK_KIB: usize = 64 * 1024;
/// The memory that it may have more than before once an attack is over, presumably what the allocator keeps for the next. Eight MiB
/// were too few in one run of some eight.
const KEPT_KIB: usize = 24 * 1024;
/// So often the healthy client may be slow before it is the server's fault: a busy machine spoils one attempt now and then, an
/// attack that works spoils each.
const ATTEMPTS: usize = 3;
/// How much later than its deadline a connection may be closed, on a busy machine.
const LATE: Duration = Duration::from_millis(1500);
/// How much earlier: deadlines may be kept in coarse steps.
const EARLY: Duration = Duration::from_millis(250);
/// Descriptors that a test needs beside those of its attack.
const SPARE_DESCRIPTORS: u64 = 200;

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

// ---- one attack

/// One attack after the other: each measures times and memory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server that nobody attacks, for the healthy client to compare with. It ends with this process, which holds its input.
fn in_peace() -> SocketAddr {
    static IN_PEACE: OnceLock<ServerProcess> = OnceLock::new();
    IN_PEACE.get_or_init(|| ServerProcess::start(&Setup::default())).addr
}

/// The server under attack, as it was in quiet times.
struct Target {
    name: &'static str,
    server: ServerProcess,
    before: Figures,
    quiet: Report,
}

impl Target {
    fn start(name: &'static str, setup: &Setup) -> Target {
        let server = ServerProcess::start(setup);
        let unused = server.figures();
        let quiet = health::quiet(server.addr, in_peace());
        quiet.is_as_good_as(&quiet, name);
        // What the first requests made the server open for good belongs to quiet times.
        let before = server.wait_for(usize::MAX, unused.descriptors, ms(500)).unwrap_or_else(|now| now);
        Target { name, server, before, quiet }
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    fn crowd(&self, count: usize) -> Crowd {
        Crowd::connect(self.addr(), count)
    }

    fn client(&self) -> Client {
        Client::connect(self.addr()).unwrap_or_else(|e| panic!("{}: connecting failed: {e}", self.name))
    }

    /// Runs the attack while a healthy client asks, requires all that holds for every attack, and prints the
    /// figures. Whether the healthy client was served about as fast as ever.
    fn attacked(self, attack: impl Fn(&Target) -> String) -> bool {
        let health = Health::start(self.addr(), in_peace());
        let told = attack(&self);
        let report = health.end();
        let is_as_good = report.is_as_good_as(&self.quiet, self.name);
        self.recovered(&told, Some(&report));
        is_as_good
    }

    /// Requires that the server still answers and holds nothing of the attack any more, and prints the
    /// figures.
    fn recovered(self, told: &str, report: Option<&Report>) {
        let Target { name, server, before, quiet } = self;
        // The time that a connection may live on is bounded by the longest deadline.
        let back = server.wait_for(before.threads, before.descriptors, PATIENCE);
        let now =
            back.unwrap_or_else(|now| panic!("{name}: does not come back, before {before:?}, now {now:?}"));
        let afterwards = format!("{name}, afterwards");
        let is_quick_again = || health::quiet(server.addr, in_peace()).is_as_good_as(&quiet, &afterwards);
        assert!((0..ATTEMPTS).any(|_| is_quick_again()), "{name}: afterwards it is slow, and stays so");
        assert!(now.peak_kib < PEAK_KIB, "{name}: a peak of {} KiB, at most {PEAK_KIB}", now.peak_kib);
        let resident = server.figures().resident_kib;
        let more = resident.saturating_sub(before.resident_kib);
        assert!(more <= KEPT_KIB, "{name}: keeps {more} KiB, at most {KEPT_KIB}");
        println!("{name}");
        println!("    {told}");
        if let Some(report) = report {
            println!("    healthy: {report} (quiet p99 {:.1?})", quiet.p99());
        }
        println!(
            "    peak {} KiB, afterwards {resident} KiB (before {}), {} threads, {} descriptors",
            now.peak_kib, before.resident_kib, now.threads, now.descriptors
        );
    }
}

/// An attack on a server with the usual limits.
fn attack(name: &'static str, attack: impl Fn(&Target) -> String) {
    attack_with(name, &Setup::default(), attack);
}

fn attack_with(name: &'static str, setup: &Setup, attack: impl Fn(&Target) -> String) {
    let _alone = alone();
    let serves_well = |attempt| {
        let is_as_good = Target::start(name, setup).attacked(&attack);
        if !is_as_good {
            println!("!!! {name}: THE HEALTHY CLIENT WAS SERVED SLOWLY, ATTEMPT {attempt} OF {ATTEMPTS} !!!");
        }
        is_as_good
    };
    assert!((1..=ATTEMPTS).any(serves_well), "{name}: the healthy client is served slowly");
}

/// How many of each status, as text.
fn tally(statuses: impl IntoIterator<Item = u16>) -> String {
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_insert(0) += 1;
    }
    let words: Vec<String> = counts.iter().map(|(status, n)| format!("{n} × {status}")).collect();
    words.join(", ")
}

fn statuses(ended: &[Option<Ended>]) -> Vec<u16> {
    ended.iter().flatten().map(|e| e.status).collect()
}

/// Raises the soft limit of this process's descriptors to the hard one and returns it.
fn descriptors_allowed() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where raising fails the old limit stands, and the next line reads it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// As many connections as wanted, or fewer, loudly, where the system does not allow so many descriptors.
fn allowed(wanted: u64) -> usize {
    let allowed = descriptors_allowed().saturating_sub(SPARE_DESCRIPTORS).min(wanted);
    if allowed < wanted {
        println!(
            "!!! ONLY {allowed} CONNECTIONS INSTEAD OF {wanted}: the hard limit of descriptors is low !!!"
        );
    }
    allowed as usize
}

// ---- the server process itself

/// In a copy of this binary with a setup in its environment, this is the server. Otherwise it checks that the
/// server of all these tests works when left in peace.
#[test]
fn a_server_in_a_process_of_its_own_answers() {
    if let Ok(setup) = std::env::var(SETUP) {
        served::serve(&Setup::parse(&setup));
    }
    let _alone = alone();
    let target = Target::start("left in peace", &Setup::default());
    let mut client = target.client();
    let big = client.ask("GET", "GET /big HTTP/1.1\r\nHost: h\r\n\r\n").expect("the big answer");
    assert_eq!((big.status, big.body.len()), (200, BIG_BYTES));
    let body = "x".repeat(100_000);
    let counted = format!("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(client.ask("POST", counted).expect("the count").text(), "{\"bytes\":100000}");
    drop(client);
    target.recovered("one of each", None);
}
