//! PostgreSQL: connections, their deadlines, their failure. Knows no statement of tasks and no user.
//!
//! Nothing waits without a limit. While the database is known to be down no request waits for it: the pool tries to
//! connect in the background, and until it succeeds every request fails at once.

mod availability;
mod connection;
pub mod error;
mod limits;
mod pool;
pub mod schema;
pub mod statement;
pub mod tls;
pub mod url;
mod url_parameters;

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::debug;
use r2d2::{NopErrorHandler, Pool, PooledConnection};
pub use tokio_postgres::Row;

use availability::{Availability, DOWN_AFTER};
pub use connection::Connection;
use connection::PING_TIMEOUT;
use connection::pipeline::push_row;
pub use connection::transaction::BatchOutcome;
pub use error::DbError;
pub use limits::Limits;
use pool::ConnectionManager;
pub use statement::{Statement, texts};
use url::DatabaseUrl;

/// How long to wait for a response beyond the statement timeout, so that PostgreSQL can report a cancelled statement.
const RESPONSE_MARGIN: Duration = Duration::from_secs(1);
/// The most attempts of a statement. One connection may be dead, and another may die meanwhile.
const MAX_ATTEMPTS: u32 = 3;
/// `connection_timeout` of the pool. Between two attempts to connect, r2d2 waits at most half of it.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long a response of [`Database::is_ready`] is reused.
const READINESS_TTL: Duration = Duration::from_secs(1);

/// The pool of connections.
pub struct Database {
    pool: Pool<ConnectionManager>,
    limits: Limits,
    availability: Arc<Availability>,
    /// When [`Database::is_ready`] last asked, and what came back.
    readiness: Mutex<Option<(Instant, bool)>>,
}

/// What the pool is doing, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Connections open now.
    pub connections: u32,
    /// Those of them that are not in use.
    pub idle: u32,
    /// The most there may be.
    pub max: u32,
    /// Whether the database answered when it was last used; `None` before the first attempt.
    pub is_up: Option<bool>,
}

impl Database {
    /// Connections are made when they are first used: a database that is down at the start does not prevent it.
    /// `applies_schema`: the first one creates the table, or checks it.
    ///
    /// # Panics
    /// When the pool's threads cannot be started.
    pub fn new(url: DatabaseUrl, limits: Limits, applies_schema: bool) -> Self {
        let availability = Arc::new(Availability::default());
        let pool = Pool::builder()
            .max_size(limits.pool_size)
            .min_idle(Some(0))
            .max_lifetime(None)
            .idle_timeout(Some(limits.idle_timeout))
            .connection_timeout(RECONNECT_PAUSE)
            .test_on_check_out(true)
            .error_handler(Box::new(NopErrorHandler)) // `Availability` logs it, once
            .build_unchecked(ConnectionManager::new(url, limits, Arc::clone(&availability), applies_schema));
        Self { pool, limits, availability, readiness: Mutex::default() }
    }

    /// Runs statements in one round trip, each in a transaction of its own. The rows are not kept: each is added to
    /// what `start` makes for its statement. There is a result for each.
    ///
    /// This is the one retry loop: a statement that fails and may be tried again ([`DbError::may_retry`]) starts anew,
    /// on a connection from the pool.
    pub fn fold_each<T>(
        &self,
        statements: &[&Statement],
        start: impl Fn(usize) -> T,
        add: impl Fn(&mut T, Row) -> Result<(), DbError>,
    ) -> Vec<Result<T, DbError>> {
        let until = self.last_deadline();
        let mut results: Vec<_> = statements.iter().map(|_| Err(DbError::Unavailable)).collect();
        let mut open: Vec<usize> = (0..statements.len()).collect();
        for attempt in 1..=MAX_ATTEMPTS {
            let Some(mut connection) = self.checkout(until) else { break };
            let tried = open.iter().map(|at| (statements[*at], start(*at))).collect();
            let responses = connection.pipeline(tried, || self.response_deadline(until), &add);
            for (at, response) in take(&mut open).into_iter().zip(responses) {
                let may_retry = response.as_ref().is_err_and(|error| error.may_retry(statements[at].writes));
                if may_retry && attempt < MAX_ATTEMPTS {
                    open.push(at);
                } else {
                    results[at] = response;
                }
            }
            if open.is_empty() {
                break;
            }
            debug!("trying again, attempt {attempt} failed");
        }
        results
    }

    /// As [`Database::fold_each`], for one statement.
    ///
    /// # Errors
    /// When there is no connection in time, the statement fails, or `add` does.
    pub fn fold<T>(
        &self,
        statement: &Statement,
        start: impl Fn() -> T,
        add: impl Fn(&mut T, Row) -> Result<(), DbError>,
    ) -> Result<T, DbError> {
        self.fold_each(&[statement], |_| start(), add).pop().unwrap_or(Err(DbError::Unavailable))
    }

    /// Runs a statement; its rows.
    ///
    /// # Errors
    /// When there is no connection in time, or the statement fails.
    pub fn execute(&self, statement: &Statement) -> Result<Vec<Row>, DbError> {
        self.fold(statement, Vec::new, push_row)
    }

    /// Runs writes in one transaction and one round trip: all of them or none. They are not tried again here.
    pub fn execute_transaction(&self, statements: &[&Statement]) -> BatchOutcome {
        let until = self.last_deadline();
        let Some(mut connection) = self.checkout(until) else { return BatchOutcome::Unknown };
        connection.transaction(statements, || self.response_deadline(until))
    }

    /// When a request gives up, whatever happens.
    fn last_deadline(&self) -> Instant {
        Instant::now() + self.limits.checkout_timeout + self.limits.statement_timeout + RESPONSE_MARGIN
    }

    /// When the response to what is sent now must be there.
    fn response_deadline(&self, until: Instant) -> Instant {
        until.min(Instant::now() + self.limits.statement_timeout + RESPONSE_MARGIN)
    }

    /// Takes a connection that works, as far as is known; none if there is none in time.
    fn checkout(&self, until: Instant) -> Option<PooledConnection<ConnectionManager>> {
        let until = until.min(Instant::now() + self.limits.checkout_timeout);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // In steps, because it may turn out meanwhile that the database is down.
            let step = if self.availability.is_down() { Duration::ZERO } else { left.min(DOWN_AFTER) };
            let connection = self.pool.get_timeout(step);
            if connection.is_ok() || step < DOWN_AFTER {
                return connection.inspect_err(|error| debug!("no connection in time: {error}")).ok();
            }
        }
    }

    /// Whether there is a pooler in between, as far as is known: then nothing is gained by batches.
    pub fn is_pooled(&self) -> bool {
        self.availability.is_pooled()
    }

    /// What the pool is doing.
    pub fn stats(&self) -> Stats {
        let pool = self.pool.state();
        Stats {
            connections: pool.connections,
            idle: pool.idle_connections,
            max: self.pool.max_size(),
            is_up: self.availability.is_up(),
        }
    }

    /// Makes the first connection before a request needs one, so that the log tells whether it can be made.
    pub fn warm_up(&self) {
        drop(self.checkout(Instant::now() + self.limits.connect_timeout));
    }

    /// Whether the database answers. It is asked at most once in [`READINESS_TTL`], by one caller; others that come
    /// meanwhile wait for the response.
    pub fn is_ready(&self) -> bool {
        let mut readiness = self.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, is_ready)) = readiness.filter(|(asked_at, _)| asked_at.elapsed() < READINESS_TTL) {
            return is_ready;
        }
        // The checkout may ping, too, and replace a connection that ended while idle.
        let until = Instant::now() + 2 * PING_TIMEOUT;
        let is_ready = self.checkout(until).is_some_and(|mut connection| connection.ping().is_ok());
        *readiness = Some((Instant::now(), is_ready));
        is_ready
    }
}
