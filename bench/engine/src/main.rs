//! A benchmark of this engine, the published `tiny_http` and axum: requests per second, and CPU time per request.
//!
//! `cargo run --release` starts each server several times in turn, loads it with `wrk` at 16, 64 and 256 connections,
//! and prints medians. A ratio is the median of the ratios of all rounds; only ratios of the same run are comparable.
//! Server and `wrk` have a processor each, because on shared processors `wrk` would take more time from the faster
//! server. Needs `wrk`, `taskset` and two processors.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const SECONDS: u32 = 3;
const CONNECTIONS: [u32; 3] = [16, 64, 256];
const SERVERS: [&str; 3] = ["ours", "published", "axum"];
/// Headers of a browser, so that a head has about 1 KB.
const HEADERS: [&str; 9] = [
    "Accept: application/json, text/plain, */*",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9,de;q=0.8",
    "Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyIiwiZXhwIjoxfQ.\
     c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJl",
    "Origin: http://localhost:3000",
    "Referer: http://localhost:3000/tasks",
    "Sec-Fetch-Mode: cors",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
     Chrome/140.0.0.0 Safari/537.36",
    "Cookie: session=0123456789abcdef0123456789abcdef0123456789abcdef; theme=dark; \
     padding=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
     xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", server, address] => serve(server, address.parse()?),
        [] => compare(),
        _ => Err("usage: bench-engine".into()),
    }
}

/// The number of worker threads, the same as in axum's runtime.
fn workers() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get())
}

fn json() -> Vec<u8> {
    let text = format!(r#"{{"id":1,"title":"{}","completed":false}}"#, "t".repeat(163));
    assert_eq!(text.len(), 200);
    text.into_bytes()
}

fn serve(server: &str, address: SocketAddr) -> Result<()> {
    match server {
        "ours" => serve_ours(address),
        "published" => serve_published(address),
        "axum" => serve_axum(address),
        other => Err(format!("no server is called {other}").into()),
    }
}

/// Defines the same server for each of the two crates with this API.
macro_rules! serve_tiny_http {
    ($name:ident, $tiny_http:ident) => {
        fn $name(address: SocketAddr) -> Result<()> {
            let server = Arc::new($tiny_http::Server::http(address)?);
            let workers: Vec<_> = (0..workers())
                .map(|_| {
                    let server = Arc::clone(&server);
                    thread::spawn(move || {
                        for request in server.incoming_requests() {
                            let header = $tiny_http::Header::from_bytes("Content-Type", "application/json")
                                .expect("the header is valid");
                            let _ = request.respond($tiny_http::Response::from_data(json()).with_header(header));
                        }
                    })
                })
                .collect();
            workers.into_iter().for_each(|worker| worker.join().expect("a worker does not panic"));
            Ok(())
        }
    };
}

serve_tiny_http!(serve_ours, ours);
serve_tiny_http!(serve_published, published);

fn serve_axum(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let response = || async { ([("Content-Type", "application/json")], json()) };
        let app = axum::Router::new().route("/", axum::routing::get(response));
        axum::serve(tokio::net::TcpListener::bind(address).await?, app).await?;
        Ok(())
    })
}

/// One measurement: requests per second, and microseconds of CPU time per request.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    cpu_us: f64,
}

fn compare() -> Result<()> {
    let mut measured: BTreeMap<(u32, &str), Vec<Figures>> = BTreeMap::new();
    for round in 0..ROUNDS {
        for connections in CONNECTIONS {
            for position in 0..SERVERS.len() {
                // Rotates the order of the servers.
                let server = SERVERS[(position + round) % SERVERS.len()];
                measured.entry((connections, server)).or_default().push(measure(server, connections)?);
            }
        }
    }
    println!(
        "connections  server      requests/s  CPU us/request  times axum's requests/s and CPU  times the published's"
    );
    for connections in CONNECTIONS {
        for server in SERVERS {
            let own = &measured[&(connections, server)];
            let [to_axum, to_published] =
                ["axum", "published"].map(|other| ratio(own, &measured[&(connections, other)]));
            println!(
                "{connections:>11}  {server:<10} {:>11.0} {:>15.2} {:>25.2} {:>7.2} {:>14.2} {:>7.2}",
                median(own.iter().map(|own| own.per_second)),
                median(own.iter().map(|own| own.cpu_us)),
                to_axum.per_second,
                to_axum.cpu_us,
                to_published.per_second,
                to_published.cpu_us
            );
        }
    }
    Ok(())
}

/// The median of the ratios of all rounds.
fn ratio(own: &[Figures], other: &[Figures]) -> Figures {
    let rounds = || own.iter().zip(other);
    Figures {
        per_second: median(rounds().map(|(own, other)| own.per_second / other.per_second)),
        cpu_us: median(rounds().map(|(own, other)| own.cpu_us / other.cpu_us)),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server process, killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(server: &str, connections: u32) -> Result<Figures> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let process = on_processor(0, std::env::current_exe()?)
        .args(["serve", server, &address.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .map(Process)?;
    let end = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > end {
            return Err(format!("{server} does not listen").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    load(address, connections, 1)?;
    let before = cpu_seconds(process.0.id())?;
    let (requests, per_second) = load(address, connections, SECONDS)?;
    let cpu = cpu_seconds(process.0.id())? - before;
    Ok(Figures { per_second, cpu_us: cpu * 1e6 / requests })
}

/// A command that runs on this processor only.
fn on_processor(processor: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(processor.to_string()).arg(program);
    command
}

/// Runs `wrk`. Returns the number of requests in total and per second.
fn load(address: SocketAddr, connections: u32, seconds: u32) -> Result<(f64, f64)> {
    let mut wrk = on_processor(1, "wrk");
    wrk.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
    for header in HEADERS {
        wrk.args(["-H", header]);
    }
    let output = wrk.arg(format!("http://{address}/")).output()?;
    let text = String::from_utf8(output.stdout)?;
    let word_before = |mark: &str| {
        let line = text.lines().find(|line| line.contains(mark));
        line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse::<f64>().ok())
    };
    let requests = word_before(" requests in ").ok_or_else(|| format!("wrk printed: {text}"))?;
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let per_second = rate.ok_or_else(|| format!("wrk printed: {text}"))?.trim().parse()?;
    Ok((requests, per_second))
}

/// The CPU time of a process so far, user and system, in seconds.
fn cpu_seconds(process: u32) -> Result<f64> {
    /// Clock ticks per second in `/proc`: 100 on every architecture that this runs on.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may contain spaces. User and system time are the 12th and 13th words after it.
    let after_name = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let words: Vec<f64> = after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse().ok()).collect();
    Ok(words.iter().sum::<f64>() / TICKS)
}
