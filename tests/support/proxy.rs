//! A TCP proxy between server and database that can cut, redirect and delay connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Listens on a port, which it returns, and hands each connection to `serve` on a thread of its own.
pub fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// The same in front of a database: `forward` gets both connections and passes on what the client sends. The database's
/// responses are passed back as they come.
pub fn listen_before(database: u16, forward: impl Fn(TcpStream, TcpStream) + Send + Sync + 'static) -> u16 {
    listen(move |client| {
        let database = TcpStream::connect(("127.0.0.1", database)).unwrap();
        let (mut from, mut to) = (database.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            to.shutdown(Shutdown::Both)
        });
        forward(client, database);
    })
}

/// What happens to a connection that arrives.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// It is forwarded to this port.
    To(u16),
    /// It is forwarded to this port, and the first response is delayed.
    Slowly(u16, Duration),
    /// It is accepted, and nothing ever comes back: no byte, no end, no reset.
    Nowhere,
    /// It is closed at once.
    Refused,
}

struct State {
    way: Way,
    /// How often the network was cut. Connections from before a cut stay dead.
    cuts: usize,
}

/// The proxy. Runs until the test's process ends.
pub struct Proxy {
    pub port: u16,
    state: Arc<Mutex<State>>,
    arrived: Arc<AtomicUsize>,
}

impl Proxy {
    pub fn start(way: Way) -> Self {
        let state = Arc::new(Mutex::new(State { way, cuts: 0 }));
        let arrived = Arc::new(AtomicUsize::new(0));
        let (own_state, counter) = (Arc::clone(&state), Arc::clone(&arrived));
        let port = listen(move |client| {
            counter.fetch_add(1, Ordering::SeqCst);
            lead(client, &own_state);
        });
        Self { port, state, arrived }
    }

    /// From now on new connections go this way; existing ones stay as they are.
    pub fn lead(&self, way: Way) {
        self.state.lock().unwrap().way = way;
    }

    /// Cuts the network silently: every existing connection, and every new one.
    pub fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.way = Way::Nowhere;
        state.cuts += 1;
    }

    /// How many connections have arrived so far.
    pub fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("postgresql://todo@127.0.0.1:{}/postgres", self.port)
    }
}

fn lead(client: TcpStream, state: &Arc<Mutex<State>>) {
    let (way, cuts) = {
        let state = state.lock().unwrap();
        (state.way, state.cuts)
    };
    let (port, delay) = match way {
        Way::To(port) => (port, Duration::ZERO),
        Way::Slowly(port, delay) => (port, delay),
        Way::Nowhere => return hold(&client),
        Way::Refused => return,
    };
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let is_cut = {
        let state = Arc::clone(state);
        move || state.lock().unwrap().cuts != cuts
    };
    let (from, to, is_cut_too) = (client.try_clone().unwrap(), server.try_clone().unwrap(), is_cut.clone());
    thread::spawn(move || forward(&from, &to, Duration::ZERO, &is_cut_too));
    forward(&server, &client, delay, &is_cut);
}

/// Keeps a connection and sends nothing until the other side closes it.
fn hold(mut stream: &TcpStream) {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).is_ok_and(|length| length > 0) {}
}

fn forward(mut from: &TcpStream, mut to: &TcpStream, delay: Duration, is_cut: &impl Fn() -> bool) {
    let mut buffer = [0; 16 * 1024];
    let mut delay = Some(delay);
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        if is_cut() {
            // Neither this nor the end of the other side is passed on.
            return if length > 0 { hold(from) } else { hold(to) };
        }
        thread::sleep(delay.take().unwrap_or_default());
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// A network with a delay on the way to the database. Counts how often the server sends something.
pub struct Distance {
    pub port: u16,
    sent: Arc<AtomicUsize>,
}

impl Distance {
    /// The delay of each piece that is sent.
    const DELAY: Duration = Duration::from_millis(30);

    pub fn start(database: u16) -> Self {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let port = listen_before(database, move |server, database| {
            for_each_piece(server, |piece| {
                counter.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Self::DELAY);
                (&database).write_all(piece).unwrap();
            });
        });
        Self { port, sent }
    }

    pub fn url(&self) -> String {
        format!("postgresql://todo@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// How often the server has sent something.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

/// Hands over each piece that is received, until the end.
pub fn for_each_piece(mut from: TcpStream, mut take: impl FnMut(&[u8])) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        take(&buffer[..length]);
    }
}
