//! A client that behaves well and keeps asking `/health` while others do not, and how it fared.
//!
//! It asks two servers in turns: the one under attack, and one of the same kind that is left in peace beside it. Both feel the
//! machine, the attackers' own work included, at the same moments, so what the first is slower by is the attack's. What is compared
//! is the p99 of a hundred requests in a row, and of all such rows the median one: a machine that is busy elsewhere spoils a row
//! now and then, an attack that works spoils most.

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
/// Requests of which a p99 is taken.
const ROW: usize = 100;
/// The fewest such rows under attack.
const ROWS: usize = 3;
/// How many times as slow as in peace the p99 may be under attack.
const SLOWER: u32 = 5;
/// A p99 up to this is never a failure: it is a time slice or two of a busy machine.
const NOISE: Duration = Duration::from_millis(15);
/// Past this, and past `SLOWER` times the quiet value, it is a failure whatever the server in peace says: an attack that takes
/// the whole machine slows that one, too.
const MOST: Duration = Duration::from_millis(100);

/// How the client fared.
pub struct Report {
    attacked: Vec<Duration>,
    peaceful: Vec<Duration>,
    pub failures: Vec<String>,
}

/// The median row's p99.
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

    /// How many requests were answered.
    pub fn asked(&self) -> usize {
        self.attacked.len()
    }

    /// Requires that every request was answered. Whether about as fast as in quiet times and by the server in peace.
    pub fn is_as_good_as(&self, quiet: &Report, attack: &str) -> bool {
        let failed = self.failures.len();
        assert!(failed == 0, "{attack}: {failed} healthy requests failed, first: {}", self.failures[0]);
        let (own, before, peaceful) = (self.p99(), quiet.p99(), p99(&self.peaceful));
        own <= NOISE || own <= SLOWER * before.max(peaceful) && (own <= MOST || own <= SLOWER * before)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let worst = self.attacked.iter().max().copied().unwrap_or_default();
        let (own, peaceful) = (self.p99(), p99(&self.peaceful));
        let still = self.peaceful.iter().max().copied().unwrap_or_default();
        write!(
            f,
            "{} asked, p99 {own:.1?}, worst {worst:.1?}; in peace p99 {peaceful:.1?}, worst {still:.1?}",
            self.asked()
        )
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
            move || ask_until(attacked, peaceful, ROWS, || stop.load(Ordering::Relaxed))
        });
        Health { stop, thread: Some(thread) }
    }

    /// A short attack leaves the client little to ask, and what it leaves behind counts too: the client goes
    /// on until it has asked `ROWS` times `ROW` times.
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
    ask_until(addr, peaceful, 1, || true)
}

fn ask_until(attacked: SocketAddr, peaceful: SocketAddr, rows: usize, done: impl Fn() -> bool) -> Report {
    let mut report = Report { attacked: Vec::new(), peaceful: Vec::new(), failures: Vec::new() };
    let (mut attacked, mut peaceful) = (Asker::new(attacked), Asker::new(peaceful));
    for i in 0.. {
        if i % ROW == 0 && i >= rows * ROW && done() {
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
