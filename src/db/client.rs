//! The client that requests use. `tokio-postgres` connects and logs in. Statements then go over its socket in messages of
//! `postgres-protocol`, and the thread that asks waits for the answers.
//!
//! That is for two things which the library cannot do. Of several statements all are sent before the first answer is waited for:
//! together they cost one round trip, and PostgreSQL wakes once for them. And of those that are a [bundle](Client::query_all) only the
//! last has a `Sync`. Each is a transaction of its own otherwise, unless another says `begin`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow::{self, Break, Continue};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};

use bytes::BytesMut;
use postgres::Socket;
use postgres::config::TargetSessionAttrs;
use postgres::types::Type;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, BindError};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client as Handle, Config, Connection};

use super::error::Fault;
use super::query::{Prepared, Query, Reply};
use super::rows::{Columns, Row, Rows, Texts};
use super::stream::Stream;
use super::transport::Transport;
use super::wire::{Said, Wire};

/// How many statements this process has prepared. They are counted for all connections together: behind one of ours there may be a
/// connection that another had before.
static PREPARED: AtomicU64 = AtomicU64::new(0);

/// The answers to several statements, as many as there are.
pub struct Answers<T> {
    /// In the order of the statements. Those behind one that failed in a bundle have none.
    pub answers: Vec<Option<Result<T, Fault>>>,
    /// Why the connection ended, where that is why the others have none.
    pub end: Option<Fault>,
}

/// What a connection needs to wait for its socket: three descriptors, and no thread.
///
/// # Errors
/// When there are no more.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().build()
}

/// Connects and logs in, and waits until there is nothing more to hear of that.
async fn log_in(
    config: &Config,
    transport: Transport,
) -> Result<(Handle, Connection<Socket, Stream>), Fault> {
    let (handle, mut connection) = config.connect(transport).await?;
    if config.get_target_session_attrs() != TargetSessionAttrs::Any {
        // The library has asked the server whether it takes writes, and does not wait for the end of that answer.
        let mut asked = pin!(handle.simple_query(""));
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
                    return Poll::Ready(answer.map(drop).map_err(Fault::from));
                }
                match ready!(connection.poll_message(cx)) {
                    Some(message) => drop(message?), // a notice
                    None => return Poll::Ready(Err(Fault::closed())),
                }
            }
        })
        .await?;
    }
    Ok((handle, connection))
}

/// A connection to PostgreSQL.
pub struct Client {
    wire: Wire,
    runtime: Runtime,
    is_closed: bool,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When that fails, or takes longer than the transport allows.
    pub fn connect(runtime: Runtime, config: &Config, transport: Transport) -> Result<Self, Fault> {
        let peer = transport.peer();
        let logged_in = runtime.block_on(log_in(config, transport))?;
        let (socket, received) = peer.take_socket().ok_or_else(Fault::closed)?;
        drop(logged_in); // says nothing any more
        Ok(Self { wire: Wire::new(socket, &received), runtime, is_closed: false })
    }

    /// Whether the connection has ended, as far as is known.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// See [`Wire::begin`].
    pub fn begin(&mut self, look: bool) {
        self.wire.begin(look);
    }

    /// See [`Wire::has_sent`].
    pub fn has_sent(&self) -> bool {
        self.wire.has_sent()
    }

    /// See [`Wire::began_with_error`].
    pub fn began_with_error(&self) -> bool {
        self.wire.began_with_error()
    }

    /// Runs statements without parameters, by the simple protocol; all their rows, as texts.
    ///
    /// # Errors
    /// When one fails, or the connection does.
    pub fn simple_query(&mut self, sql: &str) -> Result<Vec<Texts>, Fault> {
        self.write(|unsent| Ok(frontend::query(sql, unsent)?))?;
        let (mut columns, mut rows, mut is_answered) = (Columns::default(), Vec::new(), false);
        self.until_ready(|said| {
            match said {
                Said::Row(content) => rows.push(Row::read(&columns, content)?.texts()),
                Said::Other(Message::RowDescription(body)) => columns = Columns::read(&body)?,
                Said::Other(Message::CommandComplete(_) | Message::EmptyQueryResponse) => is_answered = true,
                Said::Other(Message::ReadyForQuery(_)) if !is_answered => return Err(Fault::too_early()),
                Said::Other(_) => {}
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// Has PostgreSQL parse a statement.
    ///
    /// # Errors
    /// When it refuses, or the connection fails.
    pub fn prepare(&mut self, sql: &str, types: &[Type]) -> Result<Prepared, Fault> {
        let name = format!("s{}", PREPARED.fetch_add(1, Ordering::Relaxed));
        self.write(|unsent| {
            frontend::parse(&name, sql, types.iter().map(Type::oid), unsent)?;
            frontend::describe(b'S', &name, unsent)?;
            frontend::sync(unsent);
            Ok(())
        })?;
        let mut described = None;
        self.until_ready(|said| {
            match said {
                Said::Other(Message::RowDescription(body)) => described = Some(Columns::read(&body)?),
                Said::Other(Message::NoData) => described = Some(Columns::default()),
                Said::Other(Message::ReadyForQuery(_)) if described.is_none() => {
                    return Err(Fault::too_early());
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(Prepared { name: name.into(), columns: described.unwrap_or_default() })
    }

    /// Has PostgreSQL forget a statement that it has parsed: with what is sent next.
    pub fn forget(&mut self, statement: &Prepared) {
        // A name without a NUL, as ours, always can be written.
        let _ = self.write(|unsent| Ok(frontend::close(b'S', &statement.name, unsent)?));
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// When it fails, or the connection does.
    pub fn query(&mut self, query: &Query) -> Result<Rows, Fault> {
        let mut reply = self.start(query)?;
        self.until_ready(|said| reply.hear(said))?;
        reply.finish()
    }

    /// Runs one statement, and hands over each row when it comes.
    ///
    /// # Errors
    /// As for [`Client::query`], or when `add` fails.
    pub fn for_each(
        &mut self,
        query: &Query,
        mut add: impl FnMut(&Row) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut reply = self.start(query)?;
        self.until_ready(|said| match said {
            Said::Row(content) => add(&Row::read(reply.columns()?, content)?),
            said => reply.hear(said),
        })
    }

    fn start(&mut self, query: &Query) -> Result<Reply, Fault> {
        self.write(|unsent| {
            query.write(unsent)?;
            frontend::sync(unsent);
            Ok(())
        })?;
        Ok(Reply::to(query))
    }

    /// Sends all of these, and waits for the answers, which come in the same order. `read` makes something of each when it comes, so
    /// that the rows of one of them are in memory and not those of all.
    ///
    /// `as_bundle` is for what may be one transaction, and be asked again. At a `Sync` PostgreSQL ends the transaction, sends what it
    /// has, and says that it is ready: a third to a half of what a short statement costs it. The protocol needs one after any number
    /// of statements (PostgreSQL's documentation, 55.2.4, "Pipelining"), so a bundle has one, behind the last. A statement that fails
    /// ends the bundle: PostgreSQL passes over those behind it.
    pub fn query_all<T>(
        &mut self,
        queries: &[Query],
        as_bundle: bool,
        mut read: impl FnMut(usize, Result<Rows, Fault>) -> Result<T, Fault>,
    ) -> Answers<T> {
        let mut answers: Vec<_> = queries.iter().map(|_| None).collect();
        let mut open = VecDeque::with_capacity(queries.len());
        for (index, query) in queries.iter().enumerate() {
            if let Err(fault) = self.write(|unsent| query.write(unsent)) {
                answers[index] = Some(read(index, Err(fault)));
                continue;
            }
            open.push_back((index, Reply::to(query)));
            if !as_bundle {
                frontend::sync(&mut self.wire.unsent);
            } else if open.len() == queries.len() / 2 {
                // What has been answered by then comes at once: slow statements get as much time together as when each has a
                // `Sync`, which is what a request has.
                frontend::flush(&mut self.wire.unsent);
            }
        }
        if open.is_empty() {
            return Answers { answers, end: None };
        }
        if as_bundle {
            frontend::sync(&mut self.wire.unsent);
        }
        let mut end = self
            .exchange(|said| {
                let is_ready = matches!(said, Said::Other(Message::ReadyForQuery(_)));
                let is_followed = as_bundle && open.len() > 1;
                let Some((_, reply)) = open.front_mut() else { return Ok(Break(())) };
                reply.hear(said)?;
                if (is_ready || is_followed && reply.is_complete)
                    && let Some((index, reply)) = open.pop_front()
                {
                    answers[index] = Some(read(index, reply.finish()));
                }
                Ok(if is_ready && (as_bundle || open.is_empty()) { Break(()) } else { Continue(()) })
            })
            .err();
        // What the server said of one before it ended the connection.
        if end.is_some()
            && let Some((index, Reply { failure, .. })) = open.pop_front()
            && let Some(fault) = failure.or_else(|| end.take_if(|end| end.is_fatal()))
        {
            answers[index] = Some(read(index, Err(fault)));
            end.get_or_insert_with(Fault::closed);
        }
        Answers { answers, end }
    }

    /// Adds messages to what is unsent, all of them or none.
    fn write(&mut self, add: impl FnOnce(&mut BytesMut) -> Result<(), BindError>) -> Result<(), Fault> {
        let unsent = &mut self.wire.unsent;
        let before = unsent.len();
        add(unsent).map_err(|error| {
            unsent.truncate(before);
            match error {
                BindError::Conversion(error) => Fault::value("a parameter", error),
                BindError::Serialization(error) => Fault::value("a statement", error),
            }
        })
    }

    /// Sends what is unsent, and has `hear` hear what the server says until it is ready again, or until a failure.
    fn until_ready(&mut self, mut hear: impl FnMut(Said) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut failure = None;
        let end = self.exchange(|said| {
            let is_ready = matches!(said, Said::Other(Message::ReadyForQuery(_)));
            if failure.is_none() {
                failure = match said {
                    Said::Other(Message::ErrorResponse(body)) => Some(Fault::read(&body)),
                    said => hear(said).err(),
                };
            }
            match failure.take_if(|fault| matches!(fault, Fault::Connection(_))) {
                Some(fault) => Err(fault),
                None => Ok(if is_ready { Break(()) } else { Continue(()) }),
            }
        });
        match (failure, end) {
            (Some(refused @ Fault::Server { .. }), _) => Err(refused),
            (failure, end) => end.and(failure.map_or(Ok(()), Err)),
        }
    }

    /// See [`Wire::poll_exchange`]. A connection on which that fails, or a panic ends it, is as good as closed.
    fn exchange(
        &mut self,
        mut hear: impl FnMut(Said) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        if std::mem::replace(&mut self.is_closed, true) {
            return Err(Fault::closed());
        }
        let wire = &mut self.wire;
        self.runtime.block_on(poll_fn(|cx| wire.poll_exchange(cx, &mut hear)))?;
        self.is_closed = false;
        Ok(())
    }
}

impl Drop for Client {
    /// Takes leave.
    fn drop(&mut self) {
        if !self.is_closed {
            let Self { wire, runtime, .. } = self;
            wire.unsent.clear();
            frontend::terminate(&mut wire.unsent);
            // The server need not listen.
            let _ = runtime.block_on(poll_fn(|cx| wire.poll_close(cx)));
        }
    }
}

#[cfg(test)]
mod tests;
