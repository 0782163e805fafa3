//! What is said on a connection: messages sent, and messages heard, one after the other.

use std::io;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::backend::{DATA_ROW_TAG, ERROR_RESPONSE_TAG, Header, Message};
use tokio::io::AsyncReadExt as _;

use super::error::Fault;
use super::stream::Layer;

/// For how much there is always room to receive it at once, in bytes.
const RECEIVE_BYTES: usize = 16 * 1024;
/// What is kept of the room that long messages took, in bytes.
const KEPT_BYTES: usize = 32 * 1024;

/// The length of a message's head: a letter, and the number of bytes that follow the letter.
const HEAD_BYTES: usize = 5;

/// What the server says.
pub enum Said<'m> {
    /// A row; the content of its message.
    Row(&'m [u8]),
    /// Anything else.
    Other(Message),
}

/// A connection to a server that has let us in.
pub struct Wire {
    layer: Box<dyn Layer>,
    /// What is still to be heard of what the server said.
    received: BytesMut,
    /// What the server is still to receive.
    pub unsent: BytesMut,
    /// The next byte is sent only once it is known what the server has said until then.
    must_look: bool,
    has_sent: bool,
    /// What the server said first.
    first_letter: Option<u8>,
}

impl Wire {
    /// The connection over this socket, on which these bytes have come already.
    pub fn new(layer: Box<dyn Layer>, received: &[u8]) -> Self {
        Self {
            layer,
            received: received.into(),
            unsent: BytesMut::new(),
            must_look: false,
            has_sent: false,
            first_letter: None,
        }
    }

    /// A statement is about to be sent. With `look` only if the server has not ended the connection already, as far as has
    /// become known here: that asks nobody.
    pub fn begin(&mut self, look: bool) {
        (self.must_look, self.has_sent, self.first_letter) = (look, false, None);
        self.unsent.clear(); // of what a panic left half written
    }

    /// Whether anything was sent since then.
    pub fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// Whether the first thing that the server said since then is an error. Then it has not even bound the statement: what
    /// PostgreSQL binds it confirms before it executes, so before it commits, and the confirmation comes first.
    pub fn began_with_error(&self) -> bool {
        self.first_letter == Some(ERROR_RESPONSE_TAG)
    }

    /// Sends what is unsent, and has `hear` hear what the server says, until it has heard all. What has come is heard before anything is
    /// sent.
    ///
    /// # Errors
    /// When the connection fails, `hear` does, or the server ends the connection: then with what it said.
    pub fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        hear: &mut impl FnMut(Said) -> Result<ControlFlow<()>, Fault>,
    ) -> Poll<Result<(), Fault>> {
        if std::mem::take(&mut self.must_look) {
            // The runtime knows only what its last look at the socket told. Woken at once, it has another.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            while let Some(heard) = self.hear_next(hear)? {
                if heard.is_break() {
                    if !self.unsent.is_empty() {
                        return Poll::Ready(Err(Fault::too_early()));
                    }
                    self.forget_long_messages();
                    return Poll::Ready(Ok(()));
                }
            }
            if self.poll_receive(cx)?.is_pending() {
                ready!(self.poll_send(cx))?;
                return Poll::Pending;
            }
        }
    }

    /// Has `hear` hear the next message, if it has come as a whole. Rows are most of what is said: they are not copied for that.
    fn hear_next(
        &mut self,
        hear: &mut impl FnMut(Said) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<Option<ControlFlow<()>>, Fault> {
        let Some(head) = Header::parse(&self.received)? else { return Ok(None) };
        self.first_letter.get_or_insert(head.tag());
        let length = 1 + usize::try_from(head.len()).unwrap_or_default();
        let Some(content) = self.received.get(HEAD_BYTES..length) else { return Ok(None) };
        if head.tag() == DATA_ROW_TAG {
            let heard = hear(Said::Row(content));
            self.received.advance(length);
            return heard.map(Some);
        }
        let Some(message) = Message::parse(&mut self.received)? else { return Ok(None) };
        if let Message::ErrorResponse(body) = &message
            && let fault = Fault::read(body)
            && fault.is_fatal()
        {
            return Err(fault);
        }
        hear(Said::Other(message)).map(Some)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.received.reserve(RECEIVE_BYTES);
        match ready!(pin!(self.layer.read_buf(&mut self.received)).poll(cx))? {
            0 => Poll::Ready(Err(Fault::closed())),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            self.has_sent = true;
            let sent = ready!(Pin::new(&mut *self.layer).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        Pin::new(&mut *self.layer).poll_flush(cx)
    }

    /// Sends what is unsent, and then nothing more.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut *self.layer).poll_shutdown(cx)
    }

    /// Whether more room than this is kept for what is received or sent, in bytes.
    #[cfg(test)]
    pub fn keeps_more_than(&mut self, bytes: usize) -> bool {
        self.received.try_reclaim(bytes + 1) || self.unsent.try_reclaim(bytes + 1)
    }

    fn forget_long_messages(&mut self) {
        for buffer in [&mut self.received, &mut self.unsent] {
            if buffer.is_empty() && buffer.try_reclaim(KEPT_BYTES + 1) {
                *buffer = BytesMut::new();
            }
        }
    }
}
