//! A TCP proxy on the loopback address that delays every byte: `bench-delay PORT MICROSECONDS`.
//!
//! It prints its own port and connects each client to PORT. Each direction is delayed by that time, so a round trip
//! takes twice as long; throughput is not limited, as in a network. Each direction has a thread that reads and one that
//! writes. They mostly sleep, so the proxy takes little processor time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// The most that is read at once, in bytes.
const CHUNK_BYTES: usize = 65_536;
/// The most chunks in transit in one direction of a connection. At this limit the proxy stops reading.
const MAX_CHUNKS: usize = 1_024;
/// The most connections at once.
const MAX_CONNECTIONS: usize = 1_024;
/// How late Linux wakes a thread ("timer slack", prctl(2)); subtracted from each sleep.
const SLACK: Duration = Duration::from_micros(50);

/// When a chunk is due, and its bytes; none at the end of the stream.
type Chunk = (Instant, Vec<u8>);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, microseconds] = arguments.as_slice() else {
        return Err("usage: bench-delay PORT MICROSECONDS".into());
    };
    let (port, delay) = (port.parse()?, Duration::from_micros(microseconds.parse()?));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    for client in listener.incoming().take(MAX_CONNECTIONS) {
        // A connection that fails closes itself, and its client sees that.
        let _ = relay(client?, port, delay);
    }
    Err(format!("more than {MAX_CONNECTIONS} connections").into())
}

fn relay(client: TcpStream, port: u16, delay: Duration) -> std::io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        from.set_nodelay(true)?;
        let (send, receive) = sync_channel(MAX_CHUNKS);
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || receive_chunks(from, &send, delay));
        thread::spawn(move || send_chunks(to, &receive));
    }
    Ok(())
}

/// Reads chunks with the time of their arrival, until the end of the stream.
fn receive_chunks(mut from: TcpStream, send: &SyncSender<Chunk>, delay: Duration) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if send.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
    // The end is delayed like the data.
    let _ = send.send((Instant::now() + delay, Vec::new()));
}

/// Writes each chunk when it is due.
fn send_chunks(mut to: TcpStream, receive: &Receiver<Chunk>) {
    for (due, bytes) in receive {
        thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(SLACK));
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both); // fails where it is closed already
}
