//! What the client speaks through, and what we hear and change of what is said there.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use postgres::tls::{ChannelBinding, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bundle::Bundle;
use super::login::Login;

/// What is kept of the room that statements took before they were sent, in bytes.
const KEPT_BYTES: usize = 16 * 1024;

/// Who is at the other end of a connection, and whether anything was sent there.
#[derive(Debug, Default)]
pub struct Peer {
    backend: AtomicU32,
    is_encrypted: AtomicBool,
    /// The next byte is sent only once it is known what the server has said until then.
    must_look: AtomicBool,
    has_sent: AtomicBool,
    first_letter: AtomicU8,
    /// How many statements are sent next, as a bundle.
    bundled: AtomicUsize,
}

impl Peer {
    /// Whether this is the number of the backend that was announced at login. A pooler announces one of its own making, so
    /// when another one answers, there is a pooler in between.
    pub fn is_backend(&self, number: u32) -> bool {
        self.backend.load(Ordering::Relaxed) == number
    }

    /// The server announced the number of its backend.
    pub fn announce(&self, backend: u32) {
        self.backend.store(backend, Ordering::Relaxed);
    }

    /// A statement is about to be sent. With `look` only if the server has not ended the connection already, as far as has
    /// become known here: that asks nobody.
    pub fn begin(&self, look: bool) {
        self.must_look.store(look, Ordering::Relaxed);
        self.has_sent.store(false, Ordering::Relaxed);
        self.first_letter.store(0, Ordering::Relaxed);
    }

    /// This many statements are sent next, as a [`Bundle`].
    pub fn bundle(&self, statements: usize) {
        self.bundled.store(statements, Ordering::Relaxed);
    }

    /// Whether anything was sent since then.
    pub fn has_sent(&self) -> bool {
        self.has_sent.load(Ordering::Relaxed)
    }

    /// Whether the first thing that the server said since then is an error. Then it has not even bound the statement: what
    /// PostgreSQL binds it confirms before it executes, so before it commits, and the confirmation comes first.
    pub fn began_with_error(&self) -> bool {
        self.first_letter.load(Ordering::Relaxed) == b'E'
    }

    fn hear(&self, bytes: &[u8]) {
        if let (Some(letter), 0) = (bytes.first(), self.first_letter.load(Ordering::Relaxed)) {
            self.first_letter.store(*letter, Ordering::Relaxed);
        }
    }

    /// TLS is spoken.
    pub fn encrypt(&self) {
        self.is_encrypted.store(true, Ordering::Relaxed);
    }

    /// Whether TLS is spoken.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted.load(Ordering::Relaxed)
    }
}

/// What the client speaks through: the socket, as it is or by TLS.
pub struct Stream {
    layer: Box<dyn Layer>,
    peer: Arc<Peer>,
    login: Option<Login>,
    bundle: Bundle,
    /// What the server is still to receive.
    unsent: Vec<u8>,
    /// What the client is still to hear of a bundle.
    unheard: Vec<u8>,
}

/// A socket, as it is or by TLS.
pub trait Layer: TlsStream + Send + Unpin {}
impl<T: TlsStream + Send + Unpin> Layer for T {}

impl Stream {
    /// Over this socket.
    pub fn new(layer: impl Layer + 'static, peer: Arc<Peer>) -> Self {
        let login = Some(Login::new(Arc::clone(&peer)));
        let layer = Box::new(layer);
        Self { layer, peer, login, bundle: Bundle::default(), unsent: Vec::new(), unheard: Vec::new() }
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        self.layer.channel_binding()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { layer, peer, login, bundle, unheard, .. } = &mut *self;
        if unheard.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut **layer).poll_read(cx, buffer))?;
            let bytes = &buffer.filled()[before..];
            peer.hear(bytes);
            let is_bundle = match login {
                None => bundle.hear(bytes, unheard)?,
                Some(listener) => {
                    if listener.is_over(bytes) {
                        bundle.hear(listener.rest(), unheard)?;
                        *login = None;
                    }
                    false
                }
            };
            if !is_bundle {
                return Poll::Ready(Ok(()));
            }
            buffer.set_filled(before);
        }
        let heard = buffer.remaining().min(unheard.len());
        buffer.put_slice(&unheard[..heard]);
        unheard.drain(..heard);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.peer.must_look.swap(false, Ordering::Relaxed) {
            // The client reads before it writes, but knows only what the last look at its sockets told. Woken at once, it has
            // another look, and reads again before it comes back here.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Self { peer, login, bundle, unsent, .. } = &mut *self;
        if login.is_some() {
            unsent.extend_from_slice(bytes);
        } else {
            bundle.begin(peer.bundled.swap(0, Ordering::Relaxed));
            bundle.send(bytes, unsent);
        }
        Poll::Ready(Ok(bytes.len())) // goes with the flush that always follows
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { layer, peer, unsent, .. } = &mut *self;
        while !unsent.is_empty() {
            peer.has_sent.store(true, Ordering::Relaxed);
            let sent = ready!(Pin::new(&mut **layer).poll_write(cx, unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            unsent.drain(..sent);
        }
        unsent.shrink_to(KEPT_BYTES);
        Pin::new(&mut **layer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.layer).poll_shutdown(cx)
    }
}
