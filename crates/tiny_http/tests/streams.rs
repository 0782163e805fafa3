//! Answers whose body is read while they are sent, by a program whose reads wait, hang, fail or panic.
//!
//! The program here has one thread in `recv`, as a program with a dispatcher has: whatever a body does, that thread must go
//! on giving requests, and deadlines must be kept.

#[path = "support/wait.rs"]
mod wait;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Limits, Rejection, Response, Server, StatusCode};
use wait::{PATIENCE, wait_until};

/// What one page of a body holds: more than the engine reads at a time.
const PAGE_BYTES: usize = 100_000;
/// An answer that the program has in memory.
const WHOLE_BYTES: usize = 300_000;

/// What the bodies of a test wait for, and how many reads wait.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_waiting.fetch_max(waiting, Ordering::SeqCst);
        let open = self.open.lock().expect("nobody panics with it");
        drop(self.opened.wait_while(open, |open| !*open).expect("nobody panics with it"));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.open.lock().expect("nobody panics with it") = true;
        self.opened.notify_all();
    }
}

/// A body that gives its first page at once and asks `before_page` before each other one, as one does that reads its pages
/// from a database.
struct Pages<F> {
    left: usize,
    in_page: usize,
    before_page: F,
}

fn pages<F: FnMut() -> io::Result<()>>(count: usize, before_page: F) -> Pages<F> {
    Pages { left: count - 1, in_page: PAGE_BYTES, before_page }
}

impl<F: FnMut() -> io::Result<()>> Read for Pages<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.in_page == 0 {
            if self.left == 0 {
                return Ok(0);
            }
            (self.before_page)()?;
            self.left -= 1;
            self.in_page = PAGE_BYTES;
        }
        let count = buffer.len().min(self.in_page);
        buffer[..count].fill(b'p');
        self.in_page -= count;
        Ok(count)
    }
}

/// Serves with one thread: `/quick` at once, `/whole` from memory, everything else with the body that `body` makes.
fn serve<R, F>(limits: Limits, body: F) -> (Arc<Server>, SocketAddr)
where
    R: Read + Send + 'static,
    F: Fn() -> R + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = Arc::new(Server::with_limits(listener, limits, Rejection::to_response).expect("a listener"));
    let address = server.server_addr().to_ip().expect("a TCP address");
    let receiving = Arc::clone(&server);
    thread::spawn(move || {
        for request in receiving.incoming_requests() {
            // Some clients here are gone before their answer, which is theirs to judge.
            let _ = match request.url() {
                "/quick" => request.respond(Response::empty(204)),
                "/whole" => request.respond(Response::from_data(vec![b'w'; WHOLE_BYTES])),
                _ => request.respond(Response::new(StatusCode(200), vec![], body(), None, None)),
            };
        }
    });
    (server, address)
}

fn connect(address: SocketAddr, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).expect("the server listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client.write_all(request.as_bytes()).expect("the server reads");
    client
}

fn get(url: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn require_quick(address: SocketAddr) {
    let mut answer = [0; 12];
    connect(address, &get("/quick")).read_exact(&mut answer).expect("an answer in time");
    assert_eq!(&answer, b"HTTP/1.1 204");
}

/// How many bytes of content a chunked answer has, which must come whole; a short refusal may come behind it.
fn read_whole(client: &mut TcpStream) -> usize {
    const END: &[u8] = b"\r\n0\r\n\r\n";
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let count = client.read(&mut buffer).expect("the rest in time");
        assert!(count > 0, "ended after {} bytes", answer.len());
        answer.extend_from_slice(&buffer[..count]);
        let tail = answer.len().saturating_sub(1024);
        if let Some(end) = answer[tail..].windows(END.len()).position(|bytes| bytes == END) {
            return answer[..tail + end].iter().filter(|byte| **byte == b'p').count();
        }
    }
}

#[test]
fn bodies_that_hang_hold_up_nobody_and_take_a_bounded_number_of_threads() {
    const STREAMS: usize = 50;
    const THREADS: usize = 3;
    let gate = Arc::new(Gate::default());
    let limits =
        Limits { max_body_threads: THREADS, head_timeout: Duration::from_millis(300), ..Limits::default() };
    let hanging = Arc::clone(&gate);
    let (server, address) = serve(limits, move || {
        let gate = Arc::clone(&hanging);
        pages(3, move || {
            gate.pass();
            Ok(())
        })
    });
    let mut streams: Vec<TcpStream> = (0..STREAMS).map(|_| connect(address, &get("/list"))).collect();
    wait_until("as many reads hang as may", || gate.waiting.load(Ordering::SeqCst) == THREADS);

    // An event on a connection whose body hangs must not make whoever polls wait for it.
    for stream in &mut streams {
        stream.write_all(b"G").expect("the server is there");
    }
    (0..100).for_each(|_| require_quick(address));
    // Nor must an answer that asks nobody any more.
    let mut whole = vec![0; WHOLE_BYTES];
    connect(address, &get("/whole")).read_exact(&mut whole).expect("all of it in time");
    let mut slow = connect(address, "GET /slow");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("an answer in time");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // A client that goes is let go, although its body hangs.
    let gone = STREAMS / 2;
    streams.truncate(STREAMS - gone);
    wait_until("who is gone is forgotten", || server.stats().connections <= STREAMS - gone);

    gate.open();
    for stream in &mut streams {
        assert_eq!(read_whole(stream), 3 * PAGE_BYTES);
    }
    assert_eq!(gate.most_waiting.load(Ordering::SeqCst), THREADS);
}

#[test]
fn eight_lists_at_once_read_page_by_page_delay_nobody_else() {
    const LISTS: usize = 8;
    const PAGES: usize = 20;
    const ROUND_TRIP: Duration = Duration::from_millis(20);
    let (_server, address) = serve(Limits::default(), || {
        pages(PAGES, || {
            thread::sleep(ROUND_TRIP);
            Ok(())
        })
    });
    let began = Instant::now();
    let lists: Vec<_> = (0..LISTS)
        .map(|_| {
            let mut client = connect(address, &get("/list"));
            thread::spawn(move || read_whole(&mut client))
        })
        .collect();
    let mut others = Vec::new();
    while !lists.iter().all(thread::JoinHandle::is_finished) {
        let asked = Instant::now();
        require_quick(address);
        others.push(asked.elapsed());
    }
    for list in lists {
        assert_eq!(list.join().expect("no panic"), PAGES * PAGE_BYTES);
    }
    others.sort();
    let median = others[others.len() / 2];
    println!(
        "8 lists of {PAGES} pages in {:.0?}; meanwhile {} others, median {median:.1?}, worst {:.1?}",
        began.elapsed(),
        others.len(),
        others[others.len() - 1]
    );
    // A page takes 20 ms to read: whoever waited for one would take longer than this.
    assert!(median < ROUND_TRIP / 2, "others took a median of {median:.1?}");
}

#[test]
fn a_body_that_fails_never_looks_whole_even_where_only_the_end_tells() {
    for (version, panics) in [("1.0", false), ("1.0", true), ("1.1", false), ("1.1", true)] {
        let (server, address) = serve(Limits::default(), move || {
            pages(3, move || {
                assert!(!panics, "a defect of the body");
                Err(io::Error::other("the database is gone"))
            })
        });
        let mut client = connect(address, &format!("GET /list HTTP/{version}\r\nHost: h\r\n\r\n"));
        let mut answer = Vec::new();
        let end = client.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        let is_reset = end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        assert!(is_reset, "HTTP/{version}: {} bytes that look whole", answer.len());
        wait_until("the connection is gone", || server.stats().connections == 0);
        require_quick(address);
    }
}

/// Panics where it is dropped, too.
struct Bad(Pages<fn() -> io::Result<()>>);

impl Read for Bad {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("a defect of the body's drop");
    }
}

#[test]
fn a_body_that_panics_when_dropped_ends_no_thread_of_the_engine() {
    let limits = Limits { max_body_threads: 1, write_timeout: Duration::from_secs(1), ..Limits::default() };
    let (server, address) = serve(limits, || Bad(pages(200, (|| Ok(())) as fn() -> io::Result<()>)));
    for _ in 0..3 {
        // One that is read to its end, one whose client is gone, one that stalls until its deadline.
        let whole = read_whole(&mut connect(address, &get("/list")));
        assert_eq!(whole, 200 * PAGE_BYTES);
        drop(connect(address, &get("/list")));
        let _stalled = connect(address, &get("/list"));
        wait_until("all are gone", || server.stats().connections == 0);
    }
    require_quick(address);
}
