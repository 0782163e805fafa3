//! Many misbehaving connections on one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::MAX_WAIT;

/// How one connection ended.
#[derive(Clone, Copy, Debug)]
pub struct ClosedConnection {
    /// The time from the start until the end was noticed.
    pub after: Duration,
    /// The status of the first response, 0 without one.
    pub status: u16,
}

struct Client {
    stream: TcpStream,
    began: Instant,
    read: Vec<u8>,
    ended: Option<Duration>,
}

/// Non-blocking connections.
pub struct ClientGroup {
    clients: Vec<Client>,
}

impl ClientGroup {
    /// Opens `count` connections.
    pub fn connect(addr: SocketAddr, count: usize) -> ClientGroup {
        let mut group = ClientGroup { clients: Vec::with_capacity(count) };
        (0..count).for_each(|_| group.join(addr));
        group
    }

    /// Opens another connection.
    pub fn join(&mut self, addr: SocketAddr) {
        let count = self.clients.len();
        let stream = TcpStream::connect_timeout(&addr, MAX_WAIT)
            .unwrap_or_else(|e| panic!("a connection beside {count} others: {e}"));
        stream.set_nodelay(true).expect("a connected socket");
        stream.set_nonblocking(true).expect("a connected socket");
        self.clients.push(Client { stream, began: Instant::now(), read: Vec::new(), ended: None });
    }

    /// Sends on every connection as much as the socket accepts. Returns the number of bytes sent.
    pub fn send(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for client in &mut self.clients {
            let mut rest = bytes;
            while let Ok(n) = client.stream.write(rest) {
                taken += n;
                rest = &rest[n..];
                if rest.is_empty() {
                    break;
                }
            }
        }
        taken
    }

    /// Sends all bytes on every connection, in turns, for at most `max_wait`. Returns how many connections accepted
    /// all.
    pub fn send_all(&mut self, bytes: &[u8], max_wait: Duration) -> usize {
        let end = Instant::now() + max_wait;
        let mut left: Vec<(usize, &[u8])> = (0..self.clients.len()).map(|i| (i, bytes)).collect();
        let mut complete = 0;
        while !left.is_empty() && Instant::now() < end {
            let mut moved = false;
            left.retain_mut(|(i, rest)| match self.clients[*i].stream.write(rest) {
                Ok(n) => {
                    moved = true;
                    *rest = &rest[n..];
                    complete += usize::from(rest.is_empty());
                    !rest.is_empty()
                }
                Err(e) => e.kind() == ErrorKind::WouldBlock,
            });
            if !moved {
                thread::sleep(Duration::from_millis(1));
            }
        }
        complete
    }

    /// Sends one byte per tick on every connection until all are closed, for at most `max_wait`.
    pub fn drip(
        &mut self,
        bytes: impl IntoIterator<Item = u8>,
        tick: Duration,
        max_wait: Duration,
    ) -> Vec<Option<ClosedConnection>> {
        let began = Instant::now();
        for byte in bytes {
            self.send(&[byte]);
            if self.notice() == self.clients.len() || began.elapsed() > max_wait {
                break;
            }
            thread::sleep(tick);
        }
        self.ended()
    }

    /// Waits until the server has closed every connection, for at most `max_wait`.
    pub fn wait_closed(&mut self, max_wait: Duration) -> Vec<Option<ClosedConnection>> {
        let began = Instant::now();
        while self.notice() < self.clients.len() && began.elapsed() < max_wait {
            thread::sleep(Duration::from_millis(5));
        }
        self.ended()
    }

    /// Waits until `count` connections have a response or are closed. Returns the status of each, 0 without one.
    pub fn wait_for_responses(&mut self, count: usize, max_wait: Duration) -> Vec<u16> {
        let began = Instant::now();
        loop {
            self.notice();
            let done = self.clients.iter().filter(|m| m.ended.is_some() || status_of(&m.read) != 0).count();
            if done >= count || began.elapsed() > max_wait {
                return self.clients.iter().map(|m| status_of(&m.read)).collect();
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads what has arrived. Returns how many connections are closed.
    fn notice(&mut self) -> usize {
        let mut chunk = [0; 4096];
        for client in self.clients.iter_mut().filter(|m| m.ended.is_none()) {
            loop {
                match client.stream.read(&mut chunk) {
                    Ok(0) => client.ended = Some(client.began.elapsed()),
                    Ok(n) if client.read.len() < chunk.len() => {
                        client.read.extend_from_slice(&chunk[..n]);
                        continue;
                    }
                    Ok(_) => continue,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => client.ended = Some(client.began.elapsed()),
                }
                break;
            }
        }
        self.clients.iter().filter(|m| m.ended.is_some()).count()
    }

    fn ended(&self) -> Vec<Option<ClosedConnection>> {
        let end = |m: &Client| m.ended.map(|after| ClosedConnection { after, status: status_of(&m.read) });
        self.clients.iter().map(end).collect()
    }
}

/// The status of the first response in some bytes, 0 without one.
pub fn status_of(bytes: &[u8]) -> u16 {
    let digits = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| d.parse().ok()).unwrap_or(0)
}

/// Requires that every connection was closed within these times, with one of these statuses (0 for none).
pub fn require_closed(
    what: &str,
    ended: &[Option<ClosedConnection>],
    statuses: &[u16],
    earliest: Duration,
    latest: Duration,
) -> String {
    let open = ended.iter().filter(|e| e.is_none()).count();
    assert!(open == 0, "{what}: {open} of {} connections are still open", ended.len());
    let ended: Vec<ClosedConnection> = ended.iter().flatten().copied().collect();
    let (first, last) = (ended.iter().map(|e| e.after).min(), ended.iter().map(|e| e.after).max());
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    if let Some(other) = ended.iter().find(|e| !statuses.contains(&e.status)) {
        panic!("{what}: a response of {} instead of one of {statuses:?}", other.status);
    }
    assert!(first >= earliest, "{what}: closed after {first:.1?} already, not before {earliest:.1?}");
    assert!(last <= latest, "{what}: closed after {last:.1?} only, by {latest:.1?}");
    format!("{} closed after {first:.1?} to {last:.1?}", ended.len())
}
