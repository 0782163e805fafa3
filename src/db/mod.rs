//! Connections to PostgreSQL, and whether the database is there at all.
//!
//! Nothing here waits without a limit. While the database is known to be away no request waits for it: the pool tries to
//! reach it in the background, and until it does every answer is "not now".

mod availability;
mod check;
mod client;
mod error;
mod login;
mod query;
mod question;
mod rows;
mod schema;
mod session;
mod stream;
pub mod tls;
mod transport;
pub mod url;
pub mod url_parameters;
mod wire;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::debug;
use r2d2::{NopErrorHandler, Pool, PooledConnection};

use crate::http::error::Error;
use availability::{AWAY_AFTER, Health};
pub use check::{Finding, check};
use client::{Answers, Client};
pub use error::{Failure, Fault, judge};
use error::{is_conflict, is_lost, is_outdated};
use query::Query;
pub use question::{Answer, Param, Question, Statement};
pub use rows::{Row, Rows};
use session::{PING_TIMEOUT, Sessions};
use url::DatabaseUrl;

/// How much longer than PostgreSQL works on a statement we wait for it, so that it can say that it gave up.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);
/// How often a statement is tried at most: one connection may be dead, and another die meanwhile; or another statement end their bundle.
const MAX_TRIES: u32 = 3;
/// The longest pause between two attempts of the pool to connect; it grows up to half of this.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How long an answer of [`Database::is_ready`] holds.
const READINESS_TTL: Duration = Duration::from_secs(1);

/// What an operator can limit (`specs/api/limits.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `DB_POOL_SIZE`: connections, and as many workers, so that none waits for another's connection.
    pub pool_size: u32,
    /// `DB_CONNECT_TIMEOUT_MS`: how long a connection may take to be made: name, TCP, TLS and login together. Neon wakes a
    /// sleeping database meanwhile.
    pub connect_timeout: Duration,
    /// `DB_CHECKOUT_TIMEOUT_MS`: how long a request waits for a connection, unless the database is known to be away.
    pub checkout_timeout: Duration,
    /// `DB_STATEMENT_TIMEOUT_MS`: how long PostgreSQL works on a statement before it gives up.
    pub statement_timeout: Duration,
    /// `DB_IDLE_TIMEOUT_MS`: how long a connection is kept unused. The pool looks every 30 s, so the last one is gone so much
    /// later: after 4.5 minutes by default. Neon suspends a database that nobody has used for 5.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pool_size: 8,
            connect_timeout: Duration::from_secs(5),
            checkout_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(4 * 60),
        }
    }
}

/// The pool of connections.
pub struct Database {
    pool: Pool<Sessions>,
    limits: Limits,
    health: Arc<Health>,
    readiness: Mutex<Readiness>,
}

/// What became of statements that were to be written together.
pub enum Outcome {
    /// All are done, and each returned these rows.
    Done(Vec<Rows>),
    /// None is done: one of them failed, or would have held up the others. Each by itself may well succeed.
    NothingDone,
    /// Nobody knows whether they are done; or there was no connection. Not now.
    Unknown,
}

/// What the pool is doing, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Connections open now.
    pub connections: u32,
    /// Those of them that nobody uses now.
    pub idle: u32,
    /// The most there may be.
    pub max: u32,
    /// Whether the database answered last; `None` when it has not been tried.
    pub is_there: Option<bool>,
}

#[derive(Default)]
struct Readiness {
    asked_at: Option<Instant>,
    ready: bool,
}

impl Database {
    /// Connections are made when they are first used, so that a database which is away at the start is no hindrance.
    pub fn new(url: DatabaseUrl, limits: Limits) -> Self {
        let health = Arc::new(Health::default());
        let pool = Pool::builder()
            .max_size(limits.pool_size)
            .min_idle(Some(0))
            .max_lifetime(None)
            .idle_timeout(Some(limits.idle_timeout))
            .connection_timeout(RECONNECT_PAUSE)
            .test_on_check_out(true)
            .error_handler(Box::new(NopErrorHandler)) // `Health` says it better
            .build_unchecked(Sessions::new(url, limits, Arc::clone(&health)));
        Self { pool, limits, health, readiness: Mutex::default() }
    }

    /// Looks all of this up in one round trip; `read` makes something of each. What is open then, because the connection was lost or
    /// another one failed, is looked up once more.
    ///
    /// # Errors
    /// Of each: [`Failure::Passing`] when there is no connection in time, and at once while the database is known to be away;
    /// what [`Failure::of`] makes of a failed statement.
    pub fn look_up<T>(
        &self,
        lookups: &[&Statement],
        mut read: impl FnMut(usize, Rows) -> T,
    ) -> Vec<Result<T, Failure>> {
        let until = self.latest();
        let mut found: Vec<Option<Result<T, Failure>>> = lookups.iter().map(|_| None).collect();
        for tries in 1..=MAX_TRIES {
            let open: Vec<usize> = (0..found.len()).filter(|index| found[*index].is_none()).collect();
            if open.is_empty() {
                break;
            }
            let Ok(mut session) = self.session(until) else { break };
            let asked: Vec<&Statement> = open.iter().map(|index| lookups[*index]).collect();
            let Answers { answers, end } = session.look_up(
                &asked,
                || self.deadline(until),
                tries == 1,
                |index, rows| read(open[index], rows),
            );
            for (index, answer) in open.into_iter().zip(answers) {
                found[index] = match answer.as_ref().map_or(end.as_ref(), |answer| answer.as_ref().err()) {
                    Some(error)
                        if tries < MAX_TRIES
                            && (is_lost(error) || is_outdated(error) || is_conflict(error)) =>
                    {
                        debug!("once more: {error}");
                        None
                    }
                    Some(error) => Some(Err(Failure::of(error))),
                    None => answer.map(|answer| answer.map_err(|error| Failure::of(&error))),
                };
            }
        }
        found.into_iter().map(|found| found.unwrap_or(Err(Failure::Passing))).collect()
    }

    /// Runs one statement that changes nothing, and adds each row to what `start` makes. The rows are not kept: they may be
    /// more than memory is given to. After a lost connection it starts anew on another.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is no connection in time, and at once while the database is known to be away; what
    /// [`judge`] makes of a failed statement.
    pub fn fold<T>(
        &self,
        sql: &str,
        params: &[Param],
        start: impl Fn() -> T,
        add: impl Fn(&mut T, &Row) -> Result<(), Fault>,
    ) -> Result<T, Error> {
        self.run(sql, params, is_lost, |client, query| {
            let mut made = start();
            client.for_each(query, |row| add(&mut made, row))?;
            Ok(made)
        })
    }

    /// Runs one statement that changes something. Again only when it certainly did not run, which a lost connection mostly
    /// does not tell.
    ///
    /// # Errors
    /// As for [`Database::fold`].
    pub fn write(&self, Statement { sql, params, .. }: &Statement) -> Result<Rows, Error> {
        self.run(sql, params, |_| false, Client::query)
    }

    /// Writes several in one transaction and one round trip: all of them or none. None is ever tried again here.
    pub fn write_together(&self, statements: &[&Statement]) -> Outcome {
        let until = self.latest();
        match self.session(until) {
            Ok(mut session) => session.write_together(statements, || self.deadline(until)),
            Err(_) => Outcome::Unknown,
        }
    }

    /// Has `ask` run a statement on a connection; on a second or third one where that did not run, or may run twice.
    fn run<T>(
        &self,
        sql: &str,
        params: &[Param],
        may_run_twice: fn(&Fault) -> bool,
        ask: impl Fn(&mut Client, &Query) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let until = self.latest();
        let mut tries = 0;
        loop {
            tries += 1;
            let mut session = self.session(until)?;
            match session.run(sql, params, self.deadline(until), tries > 1, &ask) {
                Err(fault) if tries < MAX_TRIES && (session.did_not_run(&fault) || may_run_twice(&fault)) => {
                    debug!("once more, on another connection: {fault}");
                }
                answer => return answer.map_err(judge),
            }
        }
    }

    /// Until when an answer is waited for.
    fn latest(&self) -> Instant {
        Instant::now() + self.limits.checkout_timeout + self.limits.statement_timeout + ANSWER_MARGIN
    }

    /// The same for what is sent now.
    fn deadline(&self, until: Instant) -> Instant {
        until.min(Instant::now() + self.limits.statement_timeout + ANSWER_MARGIN)
    }

    /// A connection that works, as far as anybody knows.
    fn session(&self, until: Instant) -> Result<PooledConnection<Sessions>, Error> {
        let until = until.min(Instant::now() + self.limits.checkout_timeout);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // In steps, for it may turn out meanwhile that the database is away.
            let step = if self.health.is_away() { Duration::ZERO } else { left.min(AWAY_AFTER) };
            match self.pool.get_timeout(step) {
                Ok(session) => return Ok(session),
                Err(_) if step == AWAY_AFTER => {}
                Err(error) => {
                    debug!("no connection in time: {error}");
                    return Err(Error::Unavailable);
                }
            }
        }
    }

    /// Whether there is a pooler in between, as far as is known: then nothing is gained by asking together.
    pub fn is_pooled(&self) -> bool {
        self.health.is_pooled()
    }

    /// What the pool is doing.
    pub fn stats(&self) -> Stats {
        let pool = self.pool.state();
        Stats {
            connections: pool.connections,
            idle: pool.idle_connections,
            max: self.pool.max_size(),
            is_there: self.health.is_there(),
        }
    }

    /// Makes the first connection before a request asks for one, and lets the log tell whether it can be.
    pub fn warm_up(&self) {
        // Not by way of `is_ready`: whoever asked that meanwhile would be told that it is not.
        drop(self.session(Instant::now() + self.limits.connect_timeout));
    }

    /// Whether the database answers. It is asked at most once in [`READINESS_TTL`], by one caller; meanwhile the others are
    /// told what it said last.
    pub fn is_ready(&self) -> bool {
        let lock = || self.readiness.lock().expect("nothing panics while it holds this lock");
        {
            let mut readiness = lock();
            if readiness.asked_at.is_some_and(|asked_at| asked_at.elapsed() < READINESS_TTL) {
                return readiness.ready;
            }
            readiness.asked_at = Some(Instant::now());
        }
        let until = Instant::now() + PING_TIMEOUT;
        // A connection that ended while nobody used it says nothing of the database: the next one does.
        let ready = (0..2).any(|_| self.session(until).is_ok_and(|mut session| session.ping().is_ok()));
        lock().ready = ready;
        ready
    }
}
