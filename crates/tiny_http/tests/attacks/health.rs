//! A healthy client that requests `/health` during an attack, and its response times.
//!
//! It alternates between the server under attack and a reference server of the same kind. The load of the machine,
//! including that of the attackers, slows both, so the difference is due to the attack. It compares the p99 of a
//! hundred requests in a row, and takes the median of all rows: a busy machine spoils some rows, a successful attack
//! most.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::client::Client;

const REQUEST: &str = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";
/// The pause between two requests: short enough to notice a stall, long enough not to be a load.
const PACE: Duration = Duration::from_millis(1);
/// Requests per p99.
const ROW: usize = 100;
/// The minimum number of such rows during an attack.
const ROWS: usize = 3;
/// The highest allowed ratio of the p99 under attack to that of the reference.
const SLOWER: u32 = 5;
/// A p99 up to this is never a failure: a busy machine causes it.
const NOISE: Duration = Duration::from_millis(15);
/// Above this and above `SLOWER` times the p99 before the attack, it is a failure whatever the reference server's
/// p99: an attack that uses the whole machine slows that server, too.
const MOST: Duration = Duration::from_millis(100);

/// The results of the healthy client.
pub struct Report {
    attacked: Vec<Duration>,
    reference: Vec<Duration>,
    pub failures: Vec<String>,
}

/// The p99 of the median row.
fn p99(times: &[Duration]) -> Duration {
    let p99_of_row = |row: &[Duration]| {
        let mut row = row.to_vec();
        row.sort();
        row[(row.len() * 99).div_ceil(100) - 1]
    };
    let mut rows: Vec<Duration> = times.chunks_exact(ROW).map(p99_of_row).collect();
    rows.sort();
    rows.get(rows.len() / 2).copied().unwrap_or_default()
}

impl Report {
    pub fn p99(&self) -> Duration {
        p99(&self.attacked)
    }

    /// The number of responses.
    pub fn asked(&self) -> usize {
        self.attacked.len()
    }

    /// Requires that every request was answered. Returns whether that was about as fast as before and by the
    /// reference.
    pub fn is_as_fast_as(&self, baseline: &Report, attack: &str) -> bool {
        let failed = self.failures.len();
        assert!(failed == 0, "{attack}: {failed} healthy requests failed, first: {}", self.failures[0]);
        let (own, before, reference) = (self.p99(), baseline.p99(), p99(&self.reference));
        own <= NOISE || own <= SLOWER * before.max(reference) && (own <= MOST || own <= SLOWER * before)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let worst = self.attacked.iter().max().copied().unwrap_or_default();
        let (own, reference) = (self.p99(), p99(&self.reference));
        let still = self.reference.iter().max().copied().unwrap_or_default();
        write!(
            f,
            "{} asked, p99 {own:.1?}, worst {worst:.1?}; reference p99 {reference:.1?}, worst {still:.1?}",
            self.asked()
        )
    }
}

/// The client, on a thread of its own.
pub struct Health {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

impl Health {
    pub fn start(attacked: SocketAddr, reference: SocketAddr) -> Health {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            move || ask_until(attacked, reference, ROWS, || stop.load(Ordering::Relaxed))
        });
        Health { stop, thread: Some(thread) }
    }

    /// Ends the client. After a short attack it goes on until it has sent `ROWS` times `ROW` requests.
    pub fn end(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("the healthy client does not panic")
    }
}

impl Drop for Health {
    /// After a failed attack, the client must not go on into the next.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Measures one row without an attack.
pub fn baseline(addr: SocketAddr, reference: SocketAddr) -> Report {
    ask_until(addr, reference, 1, || true)
}

fn ask_until(attacked: SocketAddr, reference: SocketAddr, rows: usize, done: impl Fn() -> bool) -> Report {
    let mut report = Report { attacked: Vec::new(), reference: Vec::new(), failures: Vec::new() };
    let (mut attacked, mut reference) = (Asker::new(attacked), Asker::new(reference));
    for i in 0.. {
        if i % ROW == 0 && i >= rows * ROW && done() {
            break;
        }
        for (asker, times) in [(&mut attacked, &mut report.attacked), (&mut reference, &mut report.reference)] {
            let began = Instant::now();
            match asker.ask(i % 4 == 3) {
                Ok(()) => times.push(began.elapsed()),
                Err(e) => report.failures.push(e),
            }
            thread::sleep(PACE);
        }
    }
    report
}

/// Sends requests to one server, mostly on one kept connection.
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

/// Sends one request. Returns the connection if the response is right.
fn ask(mut client: Client) -> Result<Client, String> {
    let response = client.ask("GET", REQUEST)?;
    match response.status == 200 && response.text() == "{\"status\":\"ok\"}" {
        true => Ok(client),
        false => Err(format!("{} {}", response.status, response.text())),
    }
}
