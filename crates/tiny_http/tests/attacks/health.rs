//! A client that behaves well and keeps asking `/health` while others do not, and how it fared.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::client::Client;

const REQUEST: &str = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";
/// The pause between two requests: often enough to feel a stall, too seldom to be a load.
const PACE: Duration = Duration::from_millis(2);
/// The fewest requests that say anything.
const FEWEST: usize = 50;
/// A slower p99 than this, and than five times the quiet one, is a failure. One alone is noise: the quiet
/// value is tens of microseconds, and a busy machine can take a time slice of tens of milliseconds away from
/// anyone.
const NOISE: Duration = Duration::from_millis(250);

/// How the client asks: on one connection kept alive, every fourth time on a fresh one, and
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// once.
    Once,
    /// once more on a fresh connection where one is closed before an answer, as RFC 9112 section 9.3.1 lets a
    /// client. For servers so full that they rightly close who is idle.
    Twice,
}

/// How the client fared.
pub struct Report {
    times: Vec<Duration>,
    asked_twice: usize,
    pub failures: Vec<String>,
}

impl Report {
    pub fn p99(&self) -> Duration {
        self.times.get(self.times.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// How many requests were answered.
    pub fn asked(&self) -> usize {
        self.times.len()
    }

    /// Requires that every request was answered, and about as fast as in quiet times.
    pub fn require_as_good_as(&self, quiet: &Report, attack: &str) {
        let failed = self.failures.len();
        assert!(failed == 0, "{attack}: {failed} healthy requests failed, first: {}", self.failures[0]);
        let slow = self.p99() > NOISE && self.p99() > quiet.p99() * 5;
        assert!(!slow, "{attack}: a healthy p99 of {:?}, quiet {:?}", self.p99(), quiet.p99());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let worst = self.times.last().copied().unwrap_or_default();
        write!(f, "{} asked, p99 {:.1?}, worst {:.1?}", self.times.len(), self.p99(), worst)?;
        match self.asked_twice {
            0 => Ok(()),
            n => write!(f, ", {n} asked twice"),
        }
    }
}

/// The client at work on a thread of its own.
pub struct Health {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

impl Health {
    pub fn start(addr: SocketAddr, asks: Asks) -> Health {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            move || ask_until(addr, asks, || stop.load(Ordering::Relaxed))
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

/// Asks for a fixed time, with nobody else about.
pub fn quiet(addr: SocketAddr) -> Report {
    let end = Instant::now() + Duration::from_millis(300);
    ask_until(addr, Asks::Once, || Instant::now() > end)
}

fn ask_until(addr: SocketAddr, asks: Asks, done: impl Fn() -> bool) -> Report {
    let mut report = Report { times: Vec::new(), asked_twice: 0, failures: Vec::new() };
    let mut kept = None;
    for i in 0.. {
        if done() && report.times.len() + report.failures.len() >= FEWEST {
            break;
        }
        let began = Instant::now();
        let fresh = i % 4 == 3;
        let client = if fresh { None } else { kept.take() };
        let mut result = client.map_or_else(|| connect(addr), Ok).and_then(ask);
        if result.is_err() && asks == Asks::Twice {
            report.asked_twice += 1;
            result = connect(addr).and_then(ask);
        }
        let result = result.map(|client| {
            if !fresh {
                kept = Some(client)
            }
        });
        match result {
            Ok(()) => report.times.push(began.elapsed()),
            Err(e) => {
                report.failures.push(format!("{} connection: {e}", if fresh { "fresh" } else { "kept" }))
            }
        }
        thread::sleep(PACE);
    }
    report.times.sort();
    report
}

fn connect(addr: SocketAddr) -> Result<Client, String> {
    Client::connect(addr).map_err(|e| format!("connecting failed: {e}"))
}

/// One request; the connection back if all went well.
fn ask(mut client: Client) -> Result<Client, String> {
    let answer = client.ask("GET", REQUEST)?;
    match answer.status == 200 && answer.text() == "{\"status\":\"ok\"}" {
        true => Ok(client),
        false => Err(format!("{} {}", answer.status, answer.text())),
    }
}
