//! The application under attack: four workers that call `recv` in a loop.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tiny_http::{Header, Limits, Rejection, Request, Response, Server, StatusCode};

use crate::process::Setup;

pub const WORKERS: usize = 4;
pub const BIG_BYTES: usize = 8 << 20;
/// The size of the stream of unknown length: more than sockets buffer and tests read.
const STREAM_BYTES: usize = 4 << 30;

/// The size of a page of a list, and the time to read one, as from a remote database.
pub const PAGE_BYTES: usize = 200_000;
const PAGE_TIME: Duration = Duration::from_millis(20);

/// All descriptors that the application could open.
static HOARD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Serves until standard input has a line or closes. Never returns.
pub fn serve(setup: &Setup) -> ! {
    // The panics here are part of the attack. Their messages would hide real failures.
    std::panic::set_hook(Box::new(|_| {}));
    let server = Arc::new(start(setup));
    let received = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (server, received) = (server.clone(), received.clone());
            thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    received.fetch_add(1, Ordering::Relaxed);
                    // A failed response or a panic ends the request, not the worker.
                    let _ = catch_unwind(AssertUnwindSafe(|| response(request)));
                }
            })
        })
        .collect();
    say(&format!("listening {}", server.server_addr().to_ip().expect("an address of the internet")));
    let mut line = String::new();
    if io::stdin().read_line(&mut line).unwrap_or(0) == 0 {
        exit(0);
    }
    server.shutdown(Duration::from_millis(setup.drain_ms));
    for worker in workers {
        worker.join().expect("a worker does not panic");
    }
    say(&format!("ended {}", received.load(Ordering::Relaxed)));
    exit(0);
}

/// A server with the limits of a test, and otherwise the default limits.
fn start(setup: &Setup) -> Server {
    let limits = Limits {
        head_timeout: Duration::from_millis(setup.head_ms),
        body_timeout: Duration::from_millis(setup.body_ms),
        idle_timeout: Duration::from_millis(setup.idle_ms),
        write_timeout: Duration::from_millis(setup.write_ms),
        min_write_bytes_per_second: setup.write_kib_per_second * 1024,
        max_buffered_bytes: setup.buffered_bytes,
        max_pending_requests: setup.pending,
        ..Limits::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    Server::with_limits(listener, limits, Rejection::to_response).expect("a server on it")
}

/// Writes a line for the test, past the output capture of the test runner.
fn say(line: &str) {
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the test reads");
}

fn response(mut request: Request) -> io::Result<()> {
    let url = request.url().to_owned();
    let (path, query) = url.split_once('?').unwrap_or((&url, ""));
    let number = query.parse().unwrap_or(0);
    match path {
        "/health" => request.respond(json("{\"status\":\"ok\"}".to_owned())),
        "/echo" => request.respond(Response::from_string(query)),
        "/size" => request.respond(Response::from_data(vec![b's'; number])),
        "/big" => request.respond(filled(BIG_BYTES, Some(BIG_BYTES))),
        "/stream" => request.respond(filled(STREAM_BYTES, None)),
        "/pages" => request.respond(Response::new(StatusCode(200), vec![], Pages::new(number), None, None)),
        "/count" => {
            let bytes = io::copy(request.as_reader(), &mut io::sink())?;
            request.respond(json(format!("{{\"bytes\":{bytes}}}")))
        }
        "/ignore" => request.respond(json("{\"ignored\":true}".to_owned())),
        "/sleep" => {
            say("asleep");
            thread::sleep(Duration::from_millis(number as u64));
            request.respond(json("{\"slept\":true}".to_owned()))
        }
        "/hoard" => {
            let mut hoard = HOARD.lock().expect("no thread panics while holding it");
            hoard.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
            request.respond(Response::from_string(hoard.len().to_string()))
        }
        "/release" => {
            HOARD.lock().expect("no thread panics while holding it").clear();
            request.respond(Response::from_string("released"))
        }
        "/panic" => panic!("as asked"),
        _ => request.respond(Response::empty(404)),
    }
}

fn json(text: String) -> Response<io::Cursor<Vec<u8>>> {
    let header = Header::from_bytes("Content-Type", "application/json").expect("a good header");
    Response::from_string(text).with_header(header)
}

/// A body that uses no memory of its own, so that all memory used is the engine's.
fn filled(bytes: usize, summary: Option<usize>) -> Response<io::Take<io::Repeat>> {
    Response::new(StatusCode(200), vec![], io::repeat(b'f').take(bytes as u64), summary, None)
}

/// A list whose pages are read while it is sent.
struct Pages {
    left: usize,
    in_page: usize,
}

impl Pages {
    fn new(count: usize) -> Pages {
        Pages { left: count, in_page: 0 }
    }
}

impl Read for Pages {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.in_page == 0 && self.left > 0 {
            thread::sleep(PAGE_TIME);
            self.left -= 1;
            self.in_page = PAGE_BYTES;
        }
        let count = buffer.len().min(self.in_page);
        buffer[..count].fill(b'p');
        self.in_page -= count;
        Ok(count)
    }
}
