//! The client that requests use: PostgreSQL's protocol by `tokio-postgres`, driven by the thread that waits for the answers.
//!
//! It does what `postgres` does, and one thing more: of several statements all are sent before the first answer is waited
//! for. Together they cost one round trip, and PostgreSQL wakes once for them. Each is a transaction of its own, unless another
//! says `begin` or they go as a [`Bundle`](super::bundle::Bundle).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream as _;
use postgres::types::Type;
use postgres::{Error, Row, SimpleQueryMessage, Socket, Statement};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client as Handle, Config, Connection, RowStream};

use super::Param;
use super::stream::{Peer, Stream};
use super::transport::Transport;

/// A statement, and how it is sent: by the name that it is prepared under on this connection, or where there is none as its text.
pub struct Query<'q> {
    /// What it is prepared as.
    pub prepared: Option<Statement>,
    /// Its text.
    pub sql: &'q str,
    /// Its parameters.
    pub params: &'q [Param],
}

/// The answers to several statements, as many as there are.
pub struct Answers<T> {
    /// In the order of the statements. Those behind one that failed in a bundle have none.
    pub answers: Vec<Option<Result<T, Error>>>,
    /// Why the connection ended, where that is why the others have none.
    pub end: Option<Error>,
}

/// What a connection needs to wait for its socket: three descriptors, and no thread.
///
/// # Errors
/// When there are no more.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().build()
}

/// A connection to PostgreSQL.
pub struct Client {
    handle: Handle, // goes first, which tells the connection to take leave
    driver: Driver,
    peer: Arc<Peer>,
}

struct Driver {
    runtime: Runtime,
    connection: Connection<Socket, Stream>,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When that fails, or takes longer than the transport allows.
    pub fn connect(runtime: Runtime, config: &Config, transport: Transport) -> Result<Self, Error> {
        let peer = transport.peer();
        let (handle, connection) = runtime.block_on(config.connect(transport))?;
        Ok(Self { handle, driver: Driver { runtime, connection }, peer })
    }

    /// Whether the connection has ended, as far as is known.
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Runs statements without parameters, by the simple protocol.
    ///
    /// # Errors
    /// When one fails, or the connection does.
    pub fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.driver.wait(self.handle.simple_query(sql))
    }

    /// Has PostgreSQL parse a statement.
    ///
    /// # Errors
    /// When it refuses, or the connection fails.
    pub fn prepare(&mut self, sql: &str, types: &[Type]) -> Result<Statement, Error> {
        self.driver.wait(self.handle.prepare_typed(sql, types))
    }

    /// Runs one statement, and hands over each row when it comes.
    ///
    /// # Errors
    /// When it fails, the connection does, or `add`.
    pub fn for_each(
        &mut self,
        query: &Query,
        add: impl FnMut(Row) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.driver.wait(run(&self.handle, query, add))
    }

    /// Sends all of these, and waits for the answers, which come in the same order. `read` makes something of each when it comes, so
    /// that the rows of one of them are in memory and not those of all. `as_bundle` is for what may be one transaction, and be asked again.
    pub fn query_all<T>(
        &mut self,
        queries: &[Query],
        as_bundle: bool,
        mut read: impl FnMut(usize, Result<Vec<Row>, Error>) -> Result<T, Error>,
    ) -> Answers<T> {
        let handle = &self.handle;
        let mut waiting: Vec<_> = queries.iter().map(|query| Box::pin(collect(handle, query))).collect();
        let mut answers: Vec<_> = queries.iter().map(|_| None).collect();
        let (mut is_sent, mut next, mut is_broken) = (false, 0, false);
        let end = self.driver.drive(|cx| {
            if !std::mem::replace(&mut is_sent, true) {
                for (index, (waiting, answer)) in waiting.iter_mut().zip(&mut answers).enumerate() {
                    if let Poll::Ready(failure) = waiting.as_mut().poll(cx) {
                        *answer = Some(read(index, failure));
                    }
                }
                // What is sent has no answer before the connection is asked for it.
                let sent = answers.iter().filter(|answer| answer.is_none()).count();
                self.peer.bundle(if as_bundle { sent } else { 0 });
            }
            while let (Some(waiting), Some(answer)) = (waiting.get_mut(next), answers.get_mut(next)) {
                if answer.is_none() {
                    let found = ready!(waiting.as_mut().poll(cx));
                    // Those behind one that failed were not carried out.
                    if !is_broken {
                        is_broken = as_bundle && found.is_err();
                        *answer = Some(read(next, found));
                    }
                }
                next += 1;
            }
            Poll::Ready(Ok(()))
        });
        drop(waiting);
        Answers { answers, end: end.err() }
    }
}

async fn send(handle: &Handle, query: &Query<'_>) -> Result<RowStream, Error> {
    let values = || query.params.iter().map(Param::value);
    match &query.prepared {
        Some(statement) => handle.query_raw(statement, values()).await,
        None => {
            let types = query.params.iter().map(Param::kind);
            handle.query_typed_raw(query.sql, values().zip(types)).await
        }
    }
}

async fn run(
    handle: &Handle,
    query: &Query<'_>,
    mut add: impl FnMut(Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut rows = pin!(send(handle, query).await?);
    while let Some(row) = poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
        add(row?)?;
    }
    Ok(())
}

async fn collect(handle: &Handle, query: &Query<'_>) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let add = |row| {
        rows.push(row);
        Ok(())
    };
    run(handle, query, add).await?;
    Ok(rows)
}

impl Driver {
    fn wait<T>(&mut self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut future = pin!(future);
        self.drive(|cx| future.as_mut().poll(cx))
    }

    /// Moves the connection on until `poll` is done, or the connection is.
    fn drive<T>(&mut self, mut poll: impl FnMut(&mut Context) -> Poll<Result<T, Error>>) -> Result<T, Error> {
        let Self { runtime, connection } = self;
        let mut is_first = true;
        runtime.block_on(poll_fn(|cx| {
            // What is sent first of all is there when the connection looks for something to send.
            if std::mem::take(&mut is_first)
                && let Poll::Ready(done) = poll(cx)
            {
                return Poll::Ready(done);
            }
            while let Poll::Ready(message) = connection.poll_message(cx) {
                match message {
                    Some(Ok(_)) => {} // a notice
                    // What the server said before it ended is there.
                    Some(Err(error)) => {
                        return match poll(cx) {
                            Poll::Pending => Poll::Ready(Err(error)),
                            done => done,
                        };
                    }
                    None => break,
                }
            }
            poll(cx)
        }))
    }
}

impl Drop for Driver {
    /// Takes leave.
    fn drop(&mut self) {
        let Self { runtime, connection } = self;
        // The server need not listen.
        let _ = runtime.block_on(connection);
    }
}
