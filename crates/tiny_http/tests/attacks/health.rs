//! A client that behaves well and keeps asking `/health` while others do not, and how it fared.
//!
//! It asks two servers in turns: the one under attack, and one of the same kind that is left in peace beside it. Both feel the
//! machine, the attackers' own work included, at the same moments, so what the first is slower by is the attack's.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::client::Client;

const REQUEST: &str = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";
/// The pause between two requests: often enough to feel a stall, too seldom to be a load.
const PACE: Duration = Duration::from_millis(1);
/// The fewest requests to each server that say anything.
const FEWEST: usize = 200;
/// How many times as slow as in peace the p99 may be under attack.
const SLOWER: u32 = 5;
/// A p99 up to this is never a failure: it is what a busy machine's time slices make of two or three requests of 200.
const NOISE: Duration = Duration::from_millis(25);
/// Past this, and past `SLOWER` times the quiet value, it is a failure whatever the server in peace says: an attack that takes
/// the whole machine slows that one, too.
const MOST: Duration = Duration::from_millis(250);

/// How the client fared.
pub struct Report {
    attacked: Vec<Duration>,
    peaceful: Vec<Duration>,
    pub failures: Vec<String>,
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
}

impl Report {
    pub fn p99(&self) -> Duration {
        p99(&self.attacked)
    }

    /// How many requests were answered.
    pub fn asked(&self) -> usize {
        self.attacked.len()
    }

    /// Requires that every request was answered, and about as fast as in quiet times and by the server in peace.
    pub fn require_as_good_as(&self, quiet: &Report, attack: &str) {
        let failed = self.failures.len();
        assert!(failed == 0, "{attack}: {failed} healthy requests failed, first: {}", self.failures[0]);
        let (own, before, peaceful) = (self.p99(), quiet.p99(), p99(&self.peaceful));
        let told = format!("{attack}: a healthy p99 of {own:?}, before {before:?}, in peace {peaceful:?}");
        assert!(own <= NOISE || own <= SLOWER * before.max(peaceful), "{told}");
        assert!(own <= MOST || own <= SLOWER * before, "{told}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let worst = self.attacked.last().copied().unwrap_or_default();
        let (own, peaceful) = (self.p99(), p99(&self.peaceful));
        write!(f, "{} asked, p99 {own:.1?}, worst {worst:.1?}; in peace p99 {peaceful:.1?}", self.asked())
    }
}

/// The client at work on a thread of its own.
pub struct Health {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

impl Health {
    pub fn start(attacked: SocketAddr, peaceful: SocketAddr) -> Health {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            move || ask_until(attacked, peaceful, || stop.load(Ordering::Relaxed))
        });
        Health { stop, thread: Some(thread) }
    }

    /// A short attack leaves the client little to ask, and what it leaves behind counts too: the client goes
    /// on until it has asked `FEWEST` times.
    pub fn end(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("the healthy client does not panic")
    }
}

impl Drop for Health {
    /// Behind an attack that failed, it must not go on into the next.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks as few times as say anything, with nobody else about.
pub fn quiet(addr: SocketAddr, peaceful: SocketAddr) -> Report {
    ask_until(addr, peaceful, || true)
}

fn ask_until(attacked: SocketAddr, peaceful: SocketAddr, done: impl Fn() -> bool) -> Report {
    let mut report = Report { attacked: Vec::new(), peaceful: Vec::new(), failures: Vec::new() };
    let (mut attacked, mut peaceful) = (Asker::new(attacked), Asker::new(peaceful));
    for i in 0.. {
        if done() && i >= FEWEST {
            break;
        }
        for (asker, times) in [(&mut attacked, &mut report.attacked), (&mut peaceful, &mut report.peaceful)] {
            let began = Instant::now();
            match asker.ask(i % 4 == 3) {
                Ok(()) => times.push(began.elapsed()),
                Err(e) => report.failures.push(e),
            }
            thread::sleep(PACE);
        }
    }
    report.attacked.sort();
    report.peaceful.sort();
    report
}

/// Asks one server, mostly on one connection that it keeps.
struct Asker {
    addr: SocketAddr,
    kept: Option<Client>,
}

impl Asker {
    fn new(addr: SocketAddr) -> Asker {
        Asker { addr, kept: None }
    }

    fn ask(&mut self, fresh: bool) -> Result<(), String> {
        let kind = if fresh { "fresh" } else { "kept" };
        let kept = if fresh { None } else { self.kept.take() };
        let client = kept.map_or_else(|| Client::connect(self.addr).map_err(|e| e.to_string()), Ok);
        let client = client.and_then(ask).map_err(|e| format!("{kind} connection: {e}"))?;
        if !fresh {
            self.kept = Some(client);
        }
        Ok(())
    }
}

/// One request; the connection back if all went well.
fn ask(mut client: Client) -> Result<Client, String> {
    let answer = client.ask("GET", REQUEST)?;
    match answer.status == 200 && answer.text() == "{\"status\":\"ok\"}" {
        true => Ok(client),
        false => Err(format!("{} {}", answer.status, answer.text())),
    }
}
