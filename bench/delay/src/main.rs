//! A TCP proxy on the loopback address that holds every byte back: `bench-delay PORT MICROSECONDS`.
//!
//! It prints its own port and leads each connection to PORT. What arrives goes on after that time, in each direction, so
//! that a round trip takes twice as long; how much is on its way meanwhile does not matter, as in a network. A thread
//! reads and another writes, for each direction: each only sleeps, and the proxy itself takes next to no time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// The most that is read at once, in bytes.
const CHUNK_BYTES: usize = 65_536;
/// The most pieces on their way in one direction of a connection. Past them no more is read until one has arrived.
const MAX_PIECES: usize = 1_024;
/// The most connections at once.
const MAX_CONNECTIONS: usize = 1_024;
/// By how much Linux wakes a thread late, so that it does not pile up on top of the delay ("timer slack", prctl(2)).
const SLACK: Duration = Duration::from_micros(50);

/// When a piece is due, and the piece.
type Piece = (Instant, Vec<u8>);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, microseconds] = arguments.as_slice() else {
        return Err("usage: bench-delay PORT MICROSECONDS".into());
    };
    let (port, delay) = (port.parse()?, Duration::from_micros(microseconds.parse()?));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    for client in listener.incoming().take(MAX_CONNECTIONS) {
        // A connection that fails ends itself; whoever made it will notice.
        let _ = lead(client?, port, delay);
    }
    Err(format!("more than {MAX_CONNECTIONS} connections").into())
}

fn lead(client: TcpStream, port: u16, delay: Duration) -> std::io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        from.set_nodelay(true)?;
        let (send, receive) = sync_channel(MAX_PIECES);
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || take(from, &send, delay));
        thread::spawn(move || give(to, &receive));
    }
    Ok(())
}

/// Takes down when each piece has come, until the end.
fn take(mut from: TcpStream, send: &SyncSender<Piece>, delay: Duration) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if send.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
    // The end takes its time, too.
    let _ = send.send((Instant::now() + delay, Vec::new()));
}

/// Hands each piece on when it is due.
fn give(mut to: TcpStream, receive: &Receiver<Piece>) {
    for (due, piece) in receive {
        thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(SLACK));
        if piece.is_empty() || to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both); // it may be over already
}
