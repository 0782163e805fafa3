//! Takes connections in, and keeps doing so whatever runs out.
//!
//! The listener is armed for one event at a time, so that one thread accepts while the others serve. A shortage of descriptors
//! or memory leaves it unarmed until the keeper's next round; nothing but the end of the server ends accepting.

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

/// Connections that the kernel may hold for us until they are accepted.
const BACKLOG: i32 = 4096;
/// Accepts in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// However few descriptors there are, so many connections are tried.
const MIN_CONNECTIONS: usize = 8;

const ONE_EVENT: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

pub(crate) struct Acceptor {
    /// `None` once the server accepts no more.
    listener: Mutex<Option<TcpListener>>,
    /// A descriptor to give up when there is no other, so that a client hears 503 instead of nothing.
    spare: Mutex<Option<OwnedFd>>,
    paused: AtomicBool,
}

/// How many connections may be open: no more than there are descriptors for.
pub(crate) fn connection_cap(limits: &Limits) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.and_then(|count| usize::try_from(count).ok());
    let available = descriptors.map_or(usize::MAX, |count| count.saturating_sub(limits.reserved_descriptors));
    limits.max_connections.min(available.max(MIN_CONNECTIONS))
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener) -> io::Result<Acceptor> {
        listener.set_nonblocking(true)?;
        // Listening again only changes the backlog.
        listen(&listener, BACKLOG)?;
        Ok(Acceptor {
            listener: Mutex::new(Some(listener)),
            spare: Mutex::new(Some(spare_descriptor()?)),
            paused: AtomicBool::new(false),
        })
    }

    pub(crate) fn register(&self, epoll: &OwnedFd) -> io::Result<()> {
        if let Some(listener) = &*lock(&self.listener) {
            epoll::add(epoll, listener, EventData::new_u64(LISTENER), ONE_EVENT)?;
        }
        Ok(())
    }

    /// Accepts who waits, then arms the listener again.
    pub(crate) fn accept(&self, engine: &Arc<Engine>) {
        if let Some(listener) = &*lock(&self.listener) {
            match self.accept_some(listener, engine) {
                Ok(_) => arm(listener, engine),
                Err(Shortage) => self.paused.store(true, Ordering::Relaxed),
            }
        }
    }

    /// Tries again after a shortage.
    pub(crate) fn resume(&self, engine: &Engine) {
        if self.paused.swap(false, Ordering::Relaxed)
            && let Some(listener) = &*lock(&self.listener)
        {
            arm(listener, engine);
        }
    }

    /// Accepts who waits already, and nobody after that.
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
                Ok((socket, peer)) => take_in(socket, peer, engine),
                Err(Errno::AGAIN) => return Ok(NoMore),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.refuse_with_spare(listener, engine);
                    return Err(Shortage);
                }
                // The client has gone again (accept(2)): the next one may be there.
                Err(_) => {}
            }
        }
        Ok(More)
    }

    fn refuse_with_spare(&self, listener: &TcpListener, engine: &Engine) {
        let mut spare = lock(&self.spare);
        *spare = None;
        if let Ok((socket, _)) = accept_one(listener) {
            refuse(&socket, engine);
        }
        *spare = spare_descriptor().ok();
    }
}

/// Whether more connections may wait.
enum Accepted {
    More,
    NoMore,
}
use Accepted::{More, NoMore};

/// There are too few descriptors, or too little memory, to accept.
struct Shortage;

fn accept_one(listener: &TcpListener) -> Result<(OwnedFd, SocketAddr), Errno> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::CONNABORTED)?;
    Ok((socket, peer))
}

/// Admits a connection, at the cost of the one that waits the longest for its client if there is no place.
fn take_in(socket: OwnedFd, peer: SocketAddr, engine: &Arc<Engine>) {
    engine.counters.accepted.fetch_add(1, Ordering::Relaxed);
    // Answers leave in one write; none may wait for an acknowledgement. An error means that the client is gone.
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    let Err(connection) = engine.admit(Box::new(Connection::new(socket, peer, engine))) else {
        return;
    };
    engine.evict_one();
    if let Err(connection) = engine.admit(connection) {
        refuse(connection.socket(), engine);
    }
}

/// Says 503, as far as that goes without waiting, and closes.
fn refuse(socket: &OwnedFd, engine: &Engine) {
    let mut answer = engine.refuse(TOO_MANY_CONNECTIONS, None);
    answer.write(socket.as_fd());
    let _ = shutdown(socket, Shutdown::Write);
    // What was read cannot turn the close into a reset.
    let _ = recv(socket, &mut [0; 4096], RecvFlags::empty());
}

fn arm(listener: &TcpListener, engine: &Engine) {
    epoll::modify(&engine.epoll, listener, EventData::new_u64(LISTENER), ONE_EVENT)
        .expect("the listener is in this set as long as it is open");
}

fn spare_descriptor() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}
