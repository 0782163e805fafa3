//! Connections to PostgreSQL: how one is opened, checked and given up, and whether the database is there at all.
//!
//! Nothing here waits without a limit. While the database is known to be away no request waits for it: the pool tries to
//! reach it in the background, and until it does every answer is "not now".

mod schema;
pub mod transport;
pub mod url;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use postgres::error::{Severity, SqlState};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};
use postgres::{Client, Row, SimpleQueryMessage, Statement};
use r2d2::{ManageConnection, NopErrorHandler, Pool, PooledConnection};
use r2d2_postgres::PostgresConnectionManager;

use crate::error::Error;
use transport::{Deadline, Tls};
use url::DatabaseUrl;

/// How long a request waits for a connection before it is answered 503.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may take to be made: TCP, TLS and login together. Neon wakes a sleeping database meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two attempts to connect grows up to half of this.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// How long PostgreSQL works on a statement before it gives up, in milliseconds.
const STATEMENT_TIMEOUT_MS: u32 = 5_000;
/// How long we wait for it: some longer, so that it can say that it gave up.
const STATEMENT_DEADLINE: Duration = Duration::from_millis(STATEMENT_TIMEOUT_MS as u64 + 1_000);
/// When an unused connection goes. Neon suspends a database that nobody has been connected to for five minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 60);
/// How long a connection may lie unused before it is looked at: whether the server has ended it meanwhile. That asks nobody
/// and costs a millisecond, the grain of the client's clock.
const UNSEEN_IDLE: Duration = Duration::from_millis(50);
/// How long it may lie unused before the server is asked, for a network in between may have forgotten it.
const TRUSTED_IDLE: Duration = Duration::from_secs(30);
/// How long it has to say so, and to go when it is let go.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer of [`Database::is_ready`] holds.
const READINESS_TTL: Duration = Duration::from_secs(1);

/// A parameter of a statement, and its type: said beforehand, an unnamed statement needs no round trip to learn it.
pub type Param<'p> = (&'p (dyn ToSql + Sync), Type);

/// The pool of connections.
pub struct Database {
    pool: Pool<Sessions>,
    health: Arc<Health>,
    readiness: Mutex<Readiness>,
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
    /// Whether the database was there when it was last tried to reach; `None` when it has not been tried.
    pub is_there: Option<bool>,
}

#[derive(Default)]
struct Readiness {
    asked_at: Option<Instant>,
    ready: bool,
}

impl Database {
    /// At most `pool_size` connections, made when they are first used, so that a database which is away at the start is no
    /// hindrance.
    pub fn new(url: DatabaseUrl, pool_size: u32) -> Self {
        let health = Arc::new(Health::default());
        let sessions = Sessions { url, health: Arc::clone(&health), schema_is_there: Mutex::new(false) };
        let pool = Pool::builder()
            .max_size(pool_size)
            .min_idle(Some(0))
            .max_lifetime(None)
            .idle_timeout(Some(IDLE_TIMEOUT))
            .connection_timeout(RECONNECT_PAUSE)
            .test_on_check_out(true)
            .error_handler(Box::new(NopErrorHandler)) // `Sessions::connect` says it better
            .build_unchecked(sessions);
        Self { pool, health, readiness: Mutex::default() }
    }

    /// Runs one statement that changes nothing. When the connection was lost, once more on another.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is no connection in time, and at once while the database is known to be away; what
    /// [`judge`] makes of a failed statement.
    pub fn read(&self, sql: &str, params: &[Param]) -> Result<Vec<Row>, Error> {
        let first = self.session()?.query(sql, params);
        match first {
            Err(error) if is_lost(&error) => {
                debug!("once more, for the connection was lost: {}", Chain(&error));
                self.session()?.query(sql, params)
            }
            answer => answer,
        }
        .map_err(|error| judge(&error))
    }

    /// Runs one statement that changes something. Never twice: when the connection was lost, it may have been done.
    ///
    /// # Errors
    /// As for [`Database::read`].
    pub fn write(&self, sql: &str, params: &[Param]) -> Result<Vec<Row>, Error> {
        self.session()?.query(sql, params).map_err(|error| judge(&error))
    }

    fn session(&self) -> Result<PooledConnection<Sessions>, Error> {
        if self.health.is_away() && self.pool.state().connections == 0 {
            return Err(Error::Unavailable);
        }
        self.pool.get_timeout(CHECKOUT_TIMEOUT).map_err(|error| {
            debug!("no connection in time: {error}");
            Error::Unavailable
        })
    }

    /// What the pool is doing.
    pub fn stats(&self) -> Stats {
        let pool = self.pool.state();
        Stats {
            connections: pool.connections,
            idle: pool.idle_connections,
            max: self.pool.max_size(),
            is_there: match self.health.state.load(Ordering::Relaxed) {
                AWAY => Some(false),
                THERE => Some(true),
                _ => None,
            },
        }
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
        let ready = self.session().is_ok_and(|mut session| session.ping().is_ok());
        lock().ready = ready;
        ready
    }
}

/// What is known of the database, by all connections together. Says each change of it once.
#[derive(Default)]
struct Health {
    state: AtomicU8,
    /// A connection was lost, so the others may be: each is asked before it is used again, until one answers.
    in_doubt: AtomicBool,
}

const AWAY: u8 = 1;
const THERE: u8 = 2;

impl Health {
    fn is_away(&self) -> bool {
        self.state.load(Ordering::Relaxed) == AWAY
    }

    fn went_away(&self, error: &postgres::Error) {
        if self.state.swap(AWAY, Ordering::Relaxed) != AWAY {
            warn!("no connection to the database: {}", Chain(error));
        }
    }

    fn is_there(&self) {
        self.in_doubt.store(false, Ordering::Relaxed);
        if self.state.swap(THERE, Ordering::Relaxed) != THERE {
            info!("connected to the database");
        }
    }
}

/// Opens and checks connections.
struct Sessions {
    url: DatabaseUrl,
    health: Arc<Health>,
    schema_is_there: Mutex<bool>,
}

impl ManageConnection for Sessions {
    type Connection = Session;
    type Error = postgres::Error;

    fn connect(&self) -> Result<Session, postgres::Error> {
        let session = self.open(&self.url.tls).or_else(|error| match self.url.without_tls() {
            Some(plain) if is_tls_error(&error) => {
                warn!(
                    "the database's certificate does not hold; going on without TLS, as sslmode=prefer allows"
                );
                self.open(&plain)
            }
            _ => Err(error),
        });
        session.inspect(|_| self.health.is_there()).inspect_err(|error| self.health.went_away(error))
    }

    /// Called when a connection is taken.
    fn is_valid(&self, session: &mut Session) -> Result<(), postgres::Error> {
        let idle = session.used_at.elapsed();
        if idle > UNSEEN_IDLE {
            session.client.notifications().timeout_iter(Duration::ZERO).next()?;
        }
        if idle > TRUSTED_IDLE || self.health.in_doubt.load(Ordering::Relaxed) || session.client.is_closed() {
            session.ping()?;
        }
        Ok(())
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.client.is_closed()
    }
}

impl Sessions {
    fn open(&self, tls: &Tls) -> Result<Session, postgres::Error> {
        let deadline = Arc::new(Deadline::default());
        deadline.set(CONNECT_TIMEOUT);
        let transport = tls.transport(Arc::clone(&deadline));
        let announced = transport.backend();
        let mut client = PostgresConnectionManager::new(self.url.config.clone(), transport).connect()?;
        // `now()` becomes UTC in a column without time zone, too. PgBouncer keeps the time zone for each of its clients.
        let answers = client.simple_query("set time zone 'UTC'; select pg_backend_pid()")?;
        let is_dedicated = backend_of(&answers).is_some_and(|backend| announced.is(backend));
        if is_dedicated {
            client.batch_execute(&format!("set statement_timeout = {STATEMENT_TIMEOUT_MS}"))?;
        }
        self.apply_schema(&mut client)?;
        deadline.clear();
        let statements = is_dedicated.then(HashMap::new);
        Ok(Session {
            client,
            deadline,
            health: Arc::clone(&self.health),
            statements,
            used_at: Instant::now(),
        })
    }

    /// The first connection of this process sees to the schema; others wait for it.
    fn apply_schema(&self, client: &mut Client) -> Result<(), postgres::Error> {
        let mut schema_is_there =
            self.schema_is_there.lock().expect("nothing panics while it holds this lock");
        if !*schema_is_there {
            schema::apply(client)?;
            *schema_is_there = true;
        }
        Ok(())
    }
}

/// The number of the backend that answered `select pg_backend_pid()`.
fn backend_of(answers: &[SimpleQueryMessage]) -> Option<u32> {
    answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })
}

/// A connection.
struct Session {
    client: Client,
    deadline: Arc<Deadline>,
    health: Arc<Health>,
    /// What was prepared on it. `None` behind a pooler, which gives each statement whatever backend is free: there a
    /// name may be unknown, or another client's.
    statements: Option<HashMap<String, Statement>>,
    used_at: Instant,
}

impl Session {
    /// Runs one statement in one round trip; in two when it is prepared on this connection first.
    fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>, postgres::Error> {
        self.in_time(STATEMENT_DEADLINE, |session| {
            let Some(statements) = &mut session.statements else {
                return session.client.query_typed(sql, params);
            };
            if !statements.contains_key(sql) {
                let types: Vec<Type> = params.iter().map(|(_, kind)| kind.clone()).collect();
                statements.insert(sql.to_owned(), session.client.prepare_typed(sql, &types)?);
            }
            let values: Vec<_> = params.iter().map(|(value, _)| *value).collect();
            session.client.query(&statements[sql], &values)
        })
    }

    fn ping(&mut self) -> Result<(), postgres::Error> {
        self.in_time(PING_TIMEOUT, |session| session.client.batch_execute(""))?;
        self.health.is_there();
        Ok(())
    }

    fn in_time<T>(
        &mut self,
        within: Duration,
        ask: impl FnOnce(&mut Self) -> Result<T, postgres::Error>,
    ) -> Result<T, postgres::Error> {
        self.deadline.set(within);
        let answer = ask(self);
        self.deadline.clear();
        self.used_at = Instant::now();
        if self.client.is_closed() {
            self.health.in_doubt.store(true, Ordering::Relaxed);
        }
        answer
    }
}

impl Drop for Session {
    /// The client says good-bye when it is dropped.
    fn drop(&mut self) {
        self.deadline.set(PING_TIMEOUT);
    }
}

/// What a client is told of a failed statement; the log is told the whole.
pub fn judge(error: &postgres::Error) -> Error {
    let gone = error.is_closed() || io_error(error).is_some();
    let passing = error.code().is_some_and(|code| {
        matches!(*code, SqlState::READ_ONLY_SQL_TRANSACTION | SqlState::LOCK_NOT_AVAILABLE)
            // connection, transaction rollback, resources, operator intervention
            || ["08", "40", "53", "57"].contains(&&code.code()[..2])
    });
    if gone || passing {
        warn!("the database could not answer: {}", Chain(error));
        Error::Unavailable
    } else {
        error!("a statement failed: {}", Chain(error));
        Error::Internal
    }
}

/// Whether the connection ended, rather than the statement failed or took too long.
fn is_lost(error: &postgres::Error) -> bool {
    let ended_by_server =
        error.as_db_error().is_some_and(|error| error.parsed_severity() == Some(Severity::Fatal));
    let ended_by_network = io_error(error).is_some_and(|error| error.kind() != io::ErrorKind::TimedOut);
    error.is_closed() || ended_by_server || ended_by_network
}

fn is_tls_error(error: &postgres::Error) -> bool {
    io_error(error).and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<rustls::Error>())
}

fn io_error(error: &postgres::Error) -> Option<&io::Error> {
    sources(error).find_map(|source| source.downcast_ref())
}

fn sources<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |error: &&'e (dyn StdError + 'static)| (*error).source())
}

/// An error with all its sources: `postgres` says only "db error" by itself.
struct Chain<'e>(&'e (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        sources(self.0).try_for_each(|source| write!(f, ": {source}"))
    }
}
