//! One connection to PostgreSQL: `tokio-postgres` behind blocking calls, each with a deadline.
//!
//! The library is asynchronous. A connection has a single-threaded runtime of its own, which runs only while a call
//! waits: no thread stands behind it. Several statements go out before the first response is awaited, so they cost one
//! round trip.

pub mod pipeline;
pub mod transaction;

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use postgres::types::Type;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::timeout_at;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Error as PgError, Row, Socket, Statement as Prepared};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::availability::Availability;
use super::error::DbError;
use super::statement::{Statement, texts};
use pipeline::{Plan, in_order, query};

/// After this idle time the socket is checked for its end before it is written to. Costs no round trip.
const UNCHECKED_IDLE: Duration = Duration::from_millis(1);
/// How long a connection may be idle before it is pinged: a network in between may have forgotten it.
const TRUSTED_IDLE: Duration = Duration::from_secs(30);
/// How long PostgreSQL has to answer a ping.
pub const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that refuses writes is closed once it is older than this: it may lead to a former primary.
const READ_ONLY_GRACE: Duration = Duration::from_secs(10);
/// The library's other half: it must be polled to read and write the socket.
type Wire = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A connection.
pub struct Connection {
    runtime: Runtime,
    /// `None` while it is dropped.
    client: Option<Client>,
    /// `None` once the connection has ended.
    wire: Option<Wire>,
    availability: Arc<Availability>,
    /// Prepared statements by text. `None` behind a pooler: there a name may belong to another client's statement.
    prepared: Option<HashMap<Cow<'static, str>, Prepared>>,
    schema_generation: u64,
    opened_at: Instant,
    last_response_at: Instant,
    must_close: bool,
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When PostgreSQL refuses, cannot be reached, or does not answer before `deadline`.
    pub fn open(
        config: &Config,
        tls: MakeRustlsConnect,
        availability: Arc<Availability>,
        deadline: Instant,
    ) -> Result<Self, DbError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| DbError::Unusable(format!("no runtime for a connection: {error}")))?;
        let (client, wire) = match runtime.block_on(before(deadline, config.connect(tls))) {
            Ok(connected) => connected,
            Err(error) => {
                // A name lookup may still run; dropping the runtime would wait for it.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let now = Instant::now();
        Ok(Self {
            runtime,
            client: Some(client),
            wire: Some(wire),
            schema_generation: availability.schema_generation(),
            availability,
            prepared: None,
            opened_at: now,
            last_response_at: now,
            must_close: false,
        })
    }

    /// From now on statements are prepared: there is no pooler in between.
    pub fn enable_prepared_statements(&mut self) {
        self.prepared = Some(HashMap::new());
    }

    /// Whether there is a pooler in between, so that nothing is prepared.
    pub fn is_pooled(&self) -> bool {
        self.prepared.is_none()
    }

    /// Whether it must not be used again.
    pub fn must_close(&self) -> bool {
        self.must_close || self.wire.is_none()
    }

    /// Runs statements in one round trip, each in a transaction of its own; behind a pooler one after the other. Each
    /// row is added to the value beside its statement, as it comes. There is a response for each statement.
    /// `next_deadline` is asked anew after each response.
    pub fn pipeline<T>(
        &mut self,
        statements: Vec<(&Statement, T)>,
        next_deadline: impl Fn() -> Instant,
        add: &impl Fn(&mut T, Row) -> Result<(), DbError>,
    ) -> Vec<Result<T, DbError>> {
        let results = self.send(statements, &next_deadline, add);
        self.observe(&results);
        results
    }

    /// Runs statements without parameters by the simple protocol, which every pooler understands; all their
    /// values as texts, without nulls.
    ///
    /// # Errors
    /// When one fails.
    pub fn simple(&mut self, sql: &str, deadline: Instant) -> Result<Vec<String>, DbError> {
        self.drive(async |client| before(deadline, client.simple_query(sql)).await).map(texts)
    }

    /// Checks with one round trip that PostgreSQL answers.
    ///
    /// # Errors
    /// When none comes within [`PING_TIMEOUT`].
    pub fn ping(&mut self) -> Result<(), DbError> {
        let result = self.simple("", Instant::now() + PING_TIMEOUT).map(drop);
        self.observe(std::slice::from_ref(&result));
        result
    }

    /// Checks a connection that may have been idle, and discards its prepared statements if the table was altered.
    ///
    /// # Errors
    /// When the connection has ended, another was lost since this one last answered, or a ping fails.
    pub fn check(&mut self) -> Result<(), DbError> {
        if !self.availability.trusts(self.last_response_at) {
            return Err(DbError::NotSent);
        }
        let generation = self.availability.schema_generation();
        if std::mem::replace(&mut self.schema_generation, generation) != generation {
            self.prepared.iter_mut().for_each(HashMap::clear);
        }
        let idle = self.last_response_at.elapsed();
        if idle > UNCHECKED_IDLE {
            // Between two polls the runtime looks at the socket.
            self.drive(async |_| yield_now().await);
        }
        if self.wire.is_none() {
            self.observe(&[Err::<(), _>(DbError::NotSent)]);
            return Err(DbError::NotSent);
        }
        if idle > TRUSTED_IDLE { self.ping() } else { Ok(()) }
    }

    /// How to send a statement. Prepares it if necessary.
    fn plan(&mut self, statement: &Statement, deadline: Instant) -> Result<Plan, DbError> {
        if self.wire.is_none() {
            return Err(DbError::NotSent);
        }
        let Some(prepared) = &self.prepared else { return Ok(None) };
        if let Some(plan) = prepared.get(&statement.sql) {
            return Ok(Some(plan.clone()));
        }
        let types: Vec<Type> = statement.params.iter().map(|(_, kind)| kind.clone()).collect();
        let plan = self.drive(async |client| before(deadline, client.prepare_typed(&statement.sql, &types)).await);
        let plan = plan.map_err(|error| if error.is_disconnect() { DbError::NotSent } else { error })?;
        self.prepared.iter_mut().for_each(|all| drop(all.insert(statement.sql.clone(), plan.clone())));
        Ok(Some(plan))
    }

    /// Prepares what is not yet prepared, sends all at once, or behind a pooler one by one, and waits for the responses
    /// in order.
    fn send<T>(
        &mut self,
        statements: Vec<(&Statement, T)>,
        next_deadline: &impl Fn() -> Instant,
        add: &impl Fn(&mut T, Row) -> Result<(), DbError>,
    ) -> Vec<Result<T, DbError>> {
        let (all, deadline, at_once) = (statements.len(), next_deadline(), !self.is_pooled());
        let plans: Vec<_> = statements.iter().map(|(statement, _)| self.plan(statement, deadline)).collect();
        // Once the time is up, nothing more is sent.
        if plans.iter().any(|plan| matches!(plan, Err(DbError::Timeout))) {
            return plans.into_iter().map(|plan| Err(plan.err().unwrap_or(DbError::Timeout))).collect();
        }
        let mut results = self.drive(async |client| {
            let queries = statements.into_iter().zip(plans).map(|((statement, mut made), plan)| async move {
                let mut rows = pin!(query(client, plan, statement).await?);
                while let Some(row) = rows.try_next().await? {
                    add(&mut made, row)?;
                }
                Ok(made)
            });
            in_order(queries, at_once, next_deadline).await
        });
        results.resize_with(all, || Err(DbError::Timeout));
        results
    }

    /// Runs `work` while the connection is polled.
    fn drive<T>(&mut self, work: impl AsyncFnOnce(&Client) -> T) -> T {
        let Self { runtime, client, wire, .. } = self;
        let mut work = pin!(work(client.as_ref().expect("only drop takes it")));
        runtime.block_on(poll_fn(|cx| {
            poll_wire(wire, cx);
            work.as_mut().poll(cx)
        }))
    }

    /// Updates the state of this connection and of the database by these results.
    fn observe<T>(&mut self, results: &[Result<T, DbError>]) {
        let errors = || results.iter().filter_map(|result| result.as_ref().err());
        let has_response = results.iter().any(|result| result.as_ref().err().is_none_or(DbError::is_refusal));
        for error in errors() {
            let is_former_primary = error.is_read_only() && self.opened_at.elapsed() > READ_ONLY_GRACE;
            let is_timeout = matches!(error, DbError::Timeout);
            self.must_close |= error.is_disconnect() || is_timeout || is_former_primary;
            self.forget_plans(error);
            // A server that answered another statement in time is slow, not unreachable.
            if error.is_disconnect() || is_timeout && !has_response {
                let was_sent = !matches!(error, DbError::NotSent);
                self.availability.connection_lost(self.last_response_at, was_sent, error);
            } else if error.is_transient() && !error.is_serialization_failure() {
                self.availability.statement_cancelled(error);
            }
        }
        if !errors().any(DbError::is_transient) {
            self.last_response_at = Instant::now();
            self.availability.record_response();
        }
    }

    /// After a stale plan, statements are prepared anew: on all connections if the table was altered, else this one
    /// closes.
    fn forget_plans(&mut self, error: &DbError) {
        if error.is_altered_table() {
            self.availability.schema_changed(self.schema_generation);
        } else {
            self.must_close |= error.is_stale_plan();
        }
    }
}

/// Sends Terminate, without waiting: otherwise PostgreSQL counts the session as abandoned, and a pooler logs an
/// unexpected end.
impl Drop for Connection {
    fn drop(&mut self) {
        self.client = None; // then the library ends the connection
        let Self { runtime, wire, .. } = self;
        runtime.block_on(poll_fn(|cx| {
            poll_wire(wire, cx);
            Poll::Ready(())
        }));
    }
}

/// The result of `work`, if it comes before the deadline.
async fn before<T>(deadline: Instant, work: impl Future<Output = Result<T, PgError>>) -> Result<T, DbError> {
    Ok(timeout_at(deadline.into(), work).await.map_err(|_| DbError::Timeout)??)
}

fn poll_wire(wire: &mut Option<Wire>, cx: &mut Context<'_>) {
    while let Some(connection) = wire {
        match connection.poll_message(cx) {
            Poll::Ready(Some(Ok(_))) => {} // a notice
            // What is under way fails when it is dropped.
            Poll::Ready(_) => *wire = None,
            Poll::Pending => break,
        }
    }
}
