//! The socket to PostgreSQL: TLS as the database's URL asks for it, and a deadline on every wait.
//!
//! A server that accepts and then says nothing would hold a worker for ever, at the login, where the library waits, and later. The
//! library hands its socket to whoever does TLS before it writes a byte, if told that TLS is all there is
//! (`sslnegotiation=direct`): that is where the deadline goes in, and why the question whether the server offers TLS is asked
//! here.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use postgres::Socket;
use postgres::config::{SslMode, SslNegotiation};
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::stream::{Peer, Stream};
use super::url::DatabaseUrl;

/// Whether the connection is encrypted. Where it is, the server's chain and name are always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always.
    Require,
}

/// The question whether a server speaks TLS: the length of the message, and a code in place of a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What every connection to the database has in common.
#[derive(Clone)]
pub struct Tls {
    mode: TlsMode,
    rustls: MakeRustlsConnect,
}

impl Tls {
    /// As this URL says.
    pub fn of(url: &DatabaseUrl) -> Self {
        let mode = match url.hosts().first().map(|host| host.config.get_ssl_mode()) {
            Some(SslMode::Require) => TlsMode::Require,
            Some(SslMode::Prefer) => TlsMode::Prefer,
            _ => TlsMode::Disable,
        };
        Self { mode, rustls: url.tls().connector() }
    }

    /// The same without TLS, if that is allowed.
    pub fn fallback(url: &DatabaseUrl) -> Option<Self> {
        url.tls().allows_fallback().then(|| Self::of(url).disabled())
    }

    /// All hosts in one.
    pub fn config(url: &DatabaseUrl) -> tokio_postgres::Config {
        let mut hosts = url.hosts().iter().map(|host| &host.config);
        let mut config = hosts.next().cloned().unwrap_or_default();
        for host in hosts {
            if let ([postgres::config::Host::Tcp(name)], [port]) = (host.get_hosts(), host.get_ports()) {
                config.host(name).port(*port);
            }
        }
        Self::prepare(&mut config);
        config
    }

    /// Has the library hand us its socket.
    pub fn prepare(config: &mut tokio_postgres::Config) {
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    }

    /// The same without TLS.
    pub fn disabled(&self) -> Self {
        Self { mode: TlsMode::Disable, rustls: self.rustls.clone() }
    }

    /// For one connection, which waits no longer than `deadline` says: at each host for this share, and not after `until`.
    pub fn transport(&self, deadline: Arc<Deadline>, until: Instant, share: Duration) -> Transport {
        Transport { tls: self.clone(), deadline, until, share, peer: Arc::default() }
    }
}

/// Until when a connection may wait for the server; for ever while none is set.
#[derive(Debug, Default)]
pub struct Deadline(Mutex<Option<Instant>>);

impl Deadline {
    /// Whatever is waited for must come before this.
    pub fn set(&self, until: Instant) {
        *self.lock() = Some(until);
    }

    /// Nothing is waited for.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    fn get(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// How one connection is made.
#[derive(Clone)]
pub struct Transport {
    tls: Tls,
    deadline: Arc<Deadline>,
    until: Instant,
    share: Duration,
    peer: Arc<Peer>,
}

impl Transport {
    /// See [`Peer`].
    pub fn peer(&self) -> Arc<Peer> {
        Arc::clone(&self.peer)
    }
}

impl MakeTlsConnect<Socket> for Transport {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, io::Error> {
        self.deadline.set(self.until.min(Instant::now() + self.share));
        Ok(Handshake { transport: self.clone(), host: host.to_owned() })
    }
}

/// A connection that is about to be made to this host.
pub struct Handshake {
    transport: Transport,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(self.shake_hands(socket))
    }
}

impl Handshake {
    async fn shake_hands(self, socket: Socket) -> io::Result<Stream> {
        let Transport { tls: Tls { mode, mut rustls }, deadline, peer, .. } = self.transport;
        let mut socket = Timed { socket, alarm: None, deadline };
        if mode == TlsMode::Disable {
            return Ok(Stream::new(socket, peer));
        }
        socket.write_all(&SSL_REQUEST).await?;
        match (socket.read_u8().await?, mode) {
            (b'S', _) => {
                let connect = MakeTlsConnect::<Timed>::make_tls_connect(&mut rustls, &self.host)
                    .map_err(io::Error::other)?;
                let encrypted = connect.connect(socket).await?;
                peer.encrypt();
                Ok(Stream::new(encrypted, peer))
            }
            (b'N', TlsMode::Prefer) => Ok(Stream::new(socket, peer)),
            (b'N', _) => Err(io::Error::other("the server offers no TLS, and sslmode asks for it")),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the server is no PostgreSQL")),
        }
    }
}

/// The socket, which fails when a wait outlasts the deadline.
pub struct Timed {
    socket: Socket,
    alarm: Option<Pin<Box<Sleep>>>,
    deadline: Arc<Deadline>,
}

impl Timed {
    /// Passes on what is ready; what is not must come before the deadline. The alarm is left at the deadline of an earlier wait
    /// where that comes first, and set anew when it goes off: mostly the answer is there long before.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(deadline) = self.deadline.get().filter(|_| polled.is_pending()).map(Into::into) else {
            return polled;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < alarm.deadline() {
            alarm.as_mut().reset(deadline);
        }
        // Where the server sends without a pause, the runtime has its pauses, and lets no alarm go off in them.
        while tokio::time::Instant::now() < deadline {
            ready!(alarm.as_mut().poll(cx));
            alarm.as_mut().reset(deadline);
        }
        let message = "the database did not answer in time";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.in_time(cx, polled)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.in_time(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        self.in_time(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.in_time(cx, polled)
    }
}

impl TlsStream for Timed {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}
