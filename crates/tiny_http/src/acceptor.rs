//! The acceptor: accepts connections until the server ends, also when descriptors or memory run out.
//!
//! The listener is armed for one event at a time (`EPOLLONESHOT`), so one thread accepts while others serve. After a
//! shortage it stays disarmed until the timer thread's next round.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, SocketFlags, acceptfrom_with, listen, recv, shutdown, sockopt};
use rustix::process::{Resource, getrlimit};

use crate::connection::{Connection, TOO_MANY_CONNECTIONS};
use crate::engine::{Engine, LISTENER};
use crate::limits::Limits;
use crate::lock;

/// Connections that the kernel queues until they are accepted.
const BACKLOG: i32 = 4096;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// The lowest number of connections, however few descriptors there are.
const MIN_CONNECTIONS: usize = 8;

const ONE_EVENT: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

pub(crate) struct Acceptor {
    /// `None` once the server no longer accepts.
    listener: Mutex<Option<TcpListener>>,
    /// A spare descriptor: without any other it is closed, so that a client can be accepted and told 503.
    spare: Mutex<Option<OwnedFd>>,
    paused: AtomicBool,
}

/// The maximum number of open connections, limited by the number of descriptors.
pub(crate) fn connection_cap(limits: &Limits) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.and_then(|count| usize::try_from(count).ok());
    let available = descriptors.map_or(usize::MAX, |count| count.saturating_sub(limits.reserved_descriptors));
    limits.max_connections.min(available.max(MIN_CONNECTIONS))
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener) -> io::Result<Acceptor> {
        listener.set_nonblocking(true)?;
        // A second `listen` only changes the backlog.
        listen(&listener, BACKLOG)?;
        Ok(Acceptor {
            listener: Mutex::new(Some(listener)),
            spare: Mutex::new(Some(spare_descriptor()?)),
            paused: AtomicBool::new(false),
        })
    }

    pub(crate) fn add_to(&self, epoll: &OwnedFd) -> io::Result<()> {
        if let Some(listener) = &*lock(&self.listener) {
            epoll::add(epoll, listener, EventData::new_u64(LISTENER), ONE_EVENT)?;
        }
        Ok(())
    }

    /// Accepts waiting connections, then rearms the listener.
    pub(crate) fn accept(&self, engine: &Arc<Engine>) {
        if let Some(listener) = &*lock(&self.listener) {
            match self.accept_some(listener, engine) {
                Ok(_) => arm(listener, engine),
                Err(Shortage) => self.paused.store(true, Ordering::Relaxed),
            }
        }
    }

    /// Rearms the listener after a shortage.
    pub(crate) fn resume(&self, engine: &Engine) {
        if self.paused.swap(false, Ordering::Relaxed)
            && let Some(listener) = &*lock(&self.listener)
        {
            arm(listener, engine);
        }
    }

    /// Accepts the connections that wait already, then closes the listener.
    pub(crate) fn close(&self, engine: &Arc<Engine>) {
        let mut listener = lock(&self.listener);
        if let Some(open) = &*listener {
            let mut left = BACKLOG as usize;
            while left > 0 && matches!(self.accept_some(open, engine), Ok(More)) {
                left = left.saturating_sub(ACCEPTS_PER_TURN);
            }
        }
        *listener = None;
    }

    fn accept_some(&self, listener: &TcpListener, engine: &Arc<Engine>) -> Result<Accepted, Shortage> {
        for _ in 0..ACCEPTS_PER_TURN {
            match accept_one(listener) {
                Ok((socket, peer)) => register(socket, peer, engine),
                Err(Errno::AGAIN) => return Ok(NoMore),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.reject_with_spare(listener, engine);
                    return Err(Shortage);
                }
                // The client has disconnected already (accept(2)).
                Err(_) => {}
            }
        }
        Ok(More)
    }

    fn reject_with_spare(&self, listener: &TcpListener, engine: &Engine) {
        let mut spare = lock(&self.spare);
        *spare = None;
        if let Ok((socket, _)) = accept_one(listener) {
            reject(&socket, engine);
        }
        *spare = spare_descriptor().ok();
    }
}

/// Whether more connections may be waiting.
enum Accepted {
    More,
    NoMore,
}
use Accepted::{More, NoMore};

/// There are not enough descriptors or memory to accept a connection.
struct Shortage;

fn accept_one(listener: &TcpListener) -> Result<(OwnedFd, SocketAddr), Errno> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::CONNABORTED)?;
    Ok((socket, peer))
}

/// Adds a connection to the table. If the table is full, another one may be evicted for it.
fn register(socket: OwnedFd, peer: SocketAddr, engine: &Arc<Engine>) {
    engine.counters.accepted.fetch_add(1, Ordering::Relaxed);
    // A response must not wait for an acknowledgement (Nagle). Fails if the client has disconnected.
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    let Err(connection) = engine.insert(Box::new(Connection::new(socket, peer, engine))) else {
        return;
    };
    engine.evict_one();
    if let Err(connection) = engine.insert(connection) {
        reject(connection.socket(), engine);
    }
}

/// Sends 503 as far as the socket accepts it. The caller closes the socket.
fn reject(socket: &OwnedFd, engine: &Engine) {
    let mut response = engine.error_response(TOO_MANY_CONNECTIONS, None);
    response.write(socket.as_fd());
    let _ = shutdown(socket, Shutdown::Write);
    // Unread input would turn the close into a reset.
    let _ = recv(socket, &mut [0; 4096], RecvFlags::empty());
}

fn arm(listener: &TcpListener, engine: &Engine) {
    epoll::modify(&engine.epoll, listener, EventData::new_u64(LISTENER), ONE_EVENT)
        .expect("an open listener is in the epoll set");
}

fn spare_descriptor() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}
