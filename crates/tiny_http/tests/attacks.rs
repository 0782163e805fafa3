//! Attacks on a server process, one at a time, each while a healthy client sends requests.
//!
//! Each test is one bounded attack on loopback. The healthy client must get every response, about as fast as before
//! the attack and as from a reference server (`health.rs`). Afterwards the server must have as many threads and
//! descriptors as before, and its memory must never have exceeded `PEAK_KIB`. Deadlines are seconds, so that tests
//! can wait for them.

#[path = "attacks/client_group.rs"]
mod client_group;
#[path = "attacks/connections.rs"]
mod connections;
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
#[allow(dead_code, reason = "shared with framing.rs, which judges what comes of probes; here only bytes are sent")]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use client_group::{ClientGroup, ClosedConnection};
use health::{Health, Report};
use process::{Figures, SETUP, ServerProcess, Setup};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use served::BIG_BYTES;
use support::client::{Client, MAX_WAIT};

/// The highest memory use of the server in any attack.
const PEAK_KIB: usize = 64 * 1024;
/// Memory that the server may keep after an attack: the allocator does not return all of it. 8 MiB were too few in
/// one of about eight runs.
const KEPT_KIB: usize = 24 * 1024;
/// Attempts until a slow healthy client is a failure: a busy machine spoils some attempts, a successful attack all.
const ATTEMPTS: usize = 3;
/// How long after its deadline a connection may be closed, on a busy machine.
const LATE: Duration = Duration::from_millis(1500);
/// How long before its deadline: deadlines have coarse steps.
const EARLY: Duration = Duration::from_millis(250);
/// Descriptors that a test needs in addition to those of its attack.
const SPARE_DESCRIPTORS: u64 = 200;

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

// ---- one attack

/// One attack at a time, because each measures times and memory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server that is not attacked, for comparison. It ends with this process, which holds its input.
fn reference_server() -> SocketAddr {
    static REFERENCE: OnceLock<ServerProcess> = OnceLock::new();
    REFERENCE.get_or_init(|| ServerProcess::start(&Setup::default())).addr
}

/// The server under attack, with measurements from before the attack.
struct Target {
    name: &'static str,
    server: ServerProcess,
    before: Figures,
    baseline: Report,
}

impl Target {
    fn start(name: &'static str, setup: &Setup) -> Target {
        let server = ServerProcess::start(setup);
        let unused = server.figures();
        let baseline = health::baseline(server.addr, reference_server());
        baseline.is_as_fast_as(&baseline, name);
        // The first requests make the server open descriptors that it keeps.
        let before = server.wait_for(usize::MAX, unused.descriptors, ms(500)).unwrap_or_else(|now| now);
        Target { name, server, before, baseline }
    }

    fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    fn group(&self, count: usize) -> ClientGroup {
        ClientGroup::connect(self.addr(), count)
    }

    fn client(&self) -> Client {
        Client::connect(self.addr()).unwrap_or_else(|e| panic!("{}: connecting failed: {e}", self.name))
    }

    /// Runs the attack beside a healthy client, checks what must hold for every attack, and prints the measurements.
    /// Returns whether the healthy client was served about as fast as before.
    fn run(self, attack: impl Fn(&Target) -> String) -> bool {
        let health = Health::start(self.addr(), reference_server());
        let summary = attack(&self);
        let report = health.end();
        let is_as_fast = report.is_as_fast_as(&self.baseline, self.name);
        self.recovered(&summary, Some(&report));
        is_as_fast
    }

    /// Requires that the server responds and has freed everything that the attack used, and prints the measurements.
    fn recovered(self, summary: &str, report: Option<&Report>) {
        let Target { name, server, before, baseline } = self;
        // The longest deadline bounds the time that a connection may stay open.
        let back = server.wait_for(before.threads, before.descriptors, MAX_WAIT);
        let now = back.unwrap_or_else(|now| panic!("{name}: does not come back, before {before:?}, now {now:?}"));
        let afterwards = format!("{name}, afterwards");
        let is_quick_again = || health::baseline(server.addr, reference_server()).is_as_fast_as(&baseline, &afterwards);
        assert!((0..ATTEMPTS).any(|_| is_quick_again()), "{name}: afterwards it is slow, and stays so");
        assert!(now.peak_kib < PEAK_KIB, "{name}: a peak of {} KiB, at most {PEAK_KIB}", now.peak_kib);
        let resident = server.figures().resident_kib;
        let more = resident.saturating_sub(before.resident_kib);
        assert!(more <= KEPT_KIB, "{name}: keeps {more} KiB, at most {KEPT_KIB}");
        println!("{name}");
        println!("    {summary}");
        if let Some(report) = report {
            println!("    healthy: {report} (baseline p99 {:.1?})", baseline.p99());
        }
        println!(
            "    peak {} KiB, afterwards {resident} KiB (before {}), {} threads, {} descriptors",
            now.peak_kib, before.resident_kib, now.threads, now.descriptors
        );
    }
}

/// An attack on a server with the default setup.
fn attack(name: &'static str, attack: impl Fn(&Target) -> String) {
    attack_with(name, &Setup::default(), attack);
}

fn attack_with(name: &'static str, setup: &Setup, attack: impl Fn(&Target) -> String) {
    let _alone = alone();
    let serves_well = |attempt| {
        let is_as_fast = Target::start(name, setup).run(&attack);
        if !is_as_fast {
            println!("!!! {name}: THE HEALTHY CLIENT WAS SERVED SLOWLY, ATTEMPT {attempt} OF {ATTEMPTS} !!!");
        }
        is_as_fast
    };
    assert!((1..=ATTEMPTS).any(serves_well), "{name}: the healthy client is served slowly");
}

/// Counts each status, as text.
fn tally(statuses: impl IntoIterator<Item = u16>) -> String {
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_insert(0) += 1;
    }
    let words: Vec<String> = counts.iter().map(|(status, n)| format!("{n} × {status}")).collect();
    words.join(", ")
}

fn statuses(ended: &[Option<ClosedConnection>]) -> Vec<u16> {
    ended.iter().flatten().map(|e| e.status).collect()
}

/// Raises this process's soft limit of descriptors to the hard limit and returns it.
fn descriptors_allowed() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If raising fails, the old limit remains, and the next line reads it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The number of connections wanted, or fewer with a warning if the system does not allow so many descriptors.
fn allowed(wanted: u64) -> usize {
    let allowed = descriptors_allowed().saturating_sub(SPARE_DESCRIPTORS).min(wanted);
    if allowed < wanted {
        println!("!!! ONLY {allowed} CONNECTIONS INSTEAD OF {wanted}: the hard limit of descriptors is low !!!");
    }
    allowed as usize
}

// ---- the server process itself

/// In a copy of this binary with a setup in its environment, this is the server. Otherwise it checks that the server
/// works when it is not attacked.
#[test]
fn server_when_not_attacked_serves_every_kind_of_request() {
    if let Ok(setup) = std::env::var(SETUP) {
        served::serve(&Setup::parse(&setup));
    }
    let _alone = alone();
    let target = Target::start("left reference", &Setup::default());
    let mut client = target.client();
    let big = client.ask("GET", "GET /big HTTP/1.1\r\nHost: h\r\n\r\n").expect("the big response");
    assert_eq!((big.status, big.body.len()), (200, BIG_BYTES));
    let body = "x".repeat(100_000);
    let counted = format!("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(client.ask("POST", counted).expect("the count").text(), "{\"bytes\":100000}");
    drop(client);
    target.recovered("one of each", None);
}
