//! The socket while a library logs in on it, and what is learned of the server meanwhile.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use postgres::tls::{ChannelBinding, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::login::Login;

/// A socket, as it is or by TLS.
pub trait Layer: TlsStream + Send + Unpin {}
impl<T: TlsStream + Send + Unpin> Layer for T {}

/// What is known of who is at the other end of a connection; and its socket, until that is taken.
#[derive(Default)]
pub struct Peer {
    backend: AtomicU32,
    is_encrypted: AtomicBool,
    line: Mutex<Option<Line>>,
}

/// The socket of a connection, and what was heard on it.
struct Line {
    layer: Box<dyn Layer>,
    login: Login,
}

impl Peer {
    /// Whether this is the number of the backend that was announced at login. A pooler announces one of its own making, so
    /// when another one answers, there is a pooler in between.
    pub fn is_backend(&self, number: u32) -> bool {
        self.backend.load(Ordering::Relaxed) == number
    }

    /// TLS is spoken.
    pub fn encrypt(&self) {
        self.is_encrypted.store(true, Ordering::Relaxed);
    }

    /// Whether TLS is spoken.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted.load(Ordering::Relaxed)
    }

    /// The socket, for good, so that it is ours alone when the library has logged in; and what has come of a message that has not come as
    /// a whole.
    pub fn take_socket(&self) -> Option<(Box<dyn Layer>, Vec<u8>)> {
        self.line().take().map(|Line { layer, login }| (layer, login.unread()))
    }

    fn line(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().expect("nothing panics while it holds this lock")
    }
}

/// What the library speaks through. It ends when the socket is taken.
pub struct Stream(Arc<Peer>);

impl Stream {
    /// Over this socket.
    pub fn new(layer: impl Layer + 'static, peer: Arc<Peer>) -> Self {
        *peer.line() = Some(Line { layer: Box::new(layer), login: Login::default() });
        Self(peer)
    }

    /// Has `poll` use the socket.
    fn poll<T>(&self, poll: impl FnOnce(Pin<&mut dyn Layer>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut *self.0.line() {
            Some(line) => poll(Pin::new(&mut *line.layer)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.line().as_ref().map_or_else(ChannelBinding::none, |line| line.layer.channel_binding())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.poll(|layer| layer.poll_read(cx, buffer)))?;
        if let Some(line) = &mut *self.0.line()
            && let Some(backend) = line.login.hear(&buffer.filled()[before..])
        {
            self.0.backend.store(backend, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(|layer| layer.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|layer| layer.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|layer| layer.poll_shutdown(cx))
    }
}
