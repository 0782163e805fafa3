//! Long response bodies whose reads block, hang, fail or panic.
//!
//! The application has one thread in `recv`. Whatever a body does, that thread must receive requests, and deadlines
//! must be kept.

#[path = "support/wait.rs"]
mod wait;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Limits, Rejection, Response, Server, StatusCode};
use wait::{MAX_WAIT, wait_until};

/// The size of a page of a body: more than the engine reads at a time.
const PAGE_BYTES: usize = 100_000;
/// The size of a response that is in memory.
const WHOLE_BYTES: usize = 300_000;

/// A gate that blocks the reads of bodies, and counts them.
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
        let open = self.open.lock().expect("no thread panics while holding it");
        drop(self.opened.wait_while(open, |open| !*open).expect("no thread panics while holding it"));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        *self.open.lock().expect("no thread panics while holding it") = true;
        self.opened.notify_all();
    }
}

/// A body with its first page in memory that calls `before_page` before each further page, like one that reads pages
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

/// Serves with one thread: `/quick` at once, `/whole` from memory, everything else with a body from `body`.
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
            // Fails if the client has disconnected.
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
    client.set_read_timeout(Some(MAX_WAIT)).expect("a socket");
    client.write_all(request.as_bytes()).expect("the server reads");
    client
}

fn get(url: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn require_quick(address: SocketAddr) {
    let mut response = [0; 12];
    connect(address, &get("/quick")).read_exact(&mut response).expect("a response in time");
    assert_eq!(&response, b"HTTP/1.1 204");
}

/// Reads a complete chunked response, and returns the length of its body. A rejection may follow it.
fn read_whole(client: &mut TcpStream) -> usize {
    const END: &[u8] = b"\r\n0\r\n\r\n";
    let (mut response, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let count = client.read(&mut buffer).expect("the rest in time");
        assert!(count > 0, "ended after {} bytes", response.len());
        response.extend_from_slice(&buffer[..count]);
        let tail = response.len().saturating_sub(1024);
        if let Some(end) = response[tail..].windows(END.len()).position(|bytes| bytes == END) {
            return response[..tail + end].iter().filter(|byte| **byte == b'p').count();
        }
    }
}

#[test]
fn bodies_when_they_hang_delay_no_other_and_use_a_bounded_number_of_threads() {
    const STREAMS: usize = 50;
    const THREADS: usize = 3;
    let gate = Arc::new(Gate::default());
    let limits = Limits { max_body_threads: THREADS, head_timeout: Duration::from_millis(300), ..Limits::default() };
    let hanging = Arc::clone(&gate);
    let (server, address) = serve(limits, move || {
        let gate = Arc::clone(&hanging);
        pages(3, move || {
            gate.pass();
            Ok(())
        })
    });
    let mut streams: Vec<TcpStream> = (0..STREAMS).map(|_| connect(address, &get("/list"))).collect();
    wait_until("as many reads hang as allowed", || gate.waiting.load(Ordering::SeqCst) == THREADS);

    // An event on a connection whose body hangs must not block the polling thread.
    for stream in &mut streams {
        stream.write_all(b"G").expect("the server is there");
    }
    (0..100).for_each(|_| require_quick(address));
    // A response from memory must not be blocked either.
    let mut whole = vec![0; WHOLE_BYTES];
    connect(address, &get("/whole")).read_exact(&mut whole).expect("all of it in time");
    let mut slow = connect(address, "GET /slow");
    let mut response = String::new();
    slow.read_to_string(&mut response).expect("a response in time");
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    // The connection of a client that disconnects is closed, although its body hangs.
    let gone = STREAMS / 2;
    streams.truncate(STREAMS - gone);
    wait_until("closed connections are removed", || server.stats().connections <= STREAMS - gone);

    gate.open();
    for stream in &mut streams {
        assert_eq!(read_whole(stream), 3 * PAGE_BYTES);
    }
    assert_eq!(gate.most_waiting.load(Ordering::SeqCst), THREADS);
}

#[test]
fn lists_read_page_by_page_delay_no_other_request() {
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
    // A page takes 20 ms to read: a request that waited for one would take longer than this.
    assert!(median < ROUND_TRIP / 2, "others took a median of {median:.1?}");
}

#[test]
fn body_when_it_fails_resets_the_connection() {
    for (version, panics) in [("1.0", false), ("1.0", true), ("1.1", false), ("1.1", true)] {
        let (server, address) = serve(Limits::default(), move || {
            pages(3, move || {
                assert!(!panics, "a defect of the body");
                Err(io::Error::other("the database is gone"))
            })
        });
        let mut client = connect(address, &format!("GET /list HTTP/{version}\r\nHost: h\r\n\r\n"));
        let mut response = Vec::new();
        let end = client.read_to_end(&mut response);
        assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 200 OK\r\n"));
        let is_reset = end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        assert!(is_reset, "HTTP/{version}: {} bytes that look whole", response.len());
        wait_until("the connection is closed", || server.stats().connections == 0);
        require_quick(address);
    }
}

/// Panics when dropped.
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
fn body_when_its_drop_panics_ends_no_thread() {
    let limits = Limits { max_body_threads: 1, write_timeout: Duration::from_secs(1), ..Limits::default() };
    let (server, address) = serve(limits, || Bad(pages(200, (|| Ok(())) as fn() -> io::Result<()>)));
    for _ in 0..3 {
        // One is read to its end, one client disconnects, one stalls until its deadline.
        let whole = read_whole(&mut connect(address, &get("/list")));
        assert_eq!(whole, 200 * PAGE_BYTES);
        drop(connect(address, &get("/list")));
        let _stalled = connect(address, &get("/list"));
        wait_until("all connections are closed", || server.stats().connections == 0);
    }
    require_quick(address);
}
