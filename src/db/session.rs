//! A connection: how it is opened, what is kept with it, and when it is not used again.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use log::warn;
use postgres::types::Type;
use r2d2::ManageConnection;
use r2d2_postgres::PostgresConnectionManager;
use tokio::runtime::Runtime;
use tokio_postgres::Config;

use super::availability::Health;
use super::client::{self, Client};
use super::error::{
    Fault, is_altered, is_lost, is_outdated, is_passing, is_read_only, is_refusal, is_tls_error,
};
use super::query::{Prepared, Query};
use super::stream::Peer;
use super::transport::{Deadline, Tls, Transport};
use super::url::DatabaseUrl;
use super::{Limits, Param, schema};

mod together;

/// While an attempt to connect is under way and does not end, or the database is away, another attempt begins so often:
/// one that a cut network swallowed does not hold up the next.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
/// At most so many attempts at once. Only a name service that hangs makes more than a few.
const MAX_ATTEMPTS: usize = 32;
/// How often one that waits for an attempt looks whether it is time for another.
const ATTEMPT_CHECK: Duration = Duration::from_millis(50);
/// A connection that lay unused for longer than this is looked at before it is written to: whether the server has ended it
/// meanwhile. That asks nobody.
const UNSEEN_IDLE: Duration = Duration::from_millis(1);
/// How long it may lie unused before the server is asked, for a network in between may have forgotten it.
const TRUSTED_IDLE: Duration = Duration::from_secs(30);
/// How long the server has to say that a connection works, and to take leave of it.
pub const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection older than this that takes no writes is given up: it may lead to what was the primary once.
const READ_ONLY_PATIENCE: Duration = Duration::from_secs(10);

/// Opens and checks connections for the pool.
pub struct Sessions {
    opener: Arc<Opener>,
    health: Arc<Health>,
    last_attempt: Mutex<Option<Instant>>,
}

impl Sessions {
    /// To this database, whose health is told to `health`.
    pub fn new(url: DatabaseUrl, limits: Limits, health: Arc<Health>) -> Self {
        let table_is_there = AtomicBool::new(false);
        let opener = Opener { url, limits, health: Arc::clone(&health), table_is_there };
        Self { opener: Arc::new(opener), health, last_attempt: Mutex::default() }
    }

    /// Whether it is time for another attempt, which then counts as begun. The first one of a caller need not wait as
    /// long as the database is there.
    fn may_attempt(&self, is_first: bool) -> bool {
        let mut last = self.last_attempt.lock().expect("nothing panics while it holds this lock");
        let is_time = last.is_none_or(|last| last.elapsed() >= ATTEMPT_PAUSE)
            || is_first && !self.health.is_unreachable();
        // Each attempt under way holds the opener.
        let may = is_time && Arc::strong_count(&self.opener) <= MAX_ATTEMPTS;
        if may {
            *last = Some(Instant::now());
        }
        may
    }

    fn attempt(&self, until: Instant, tell: &Sender<Result<Session, NoSession>>) -> Result<(), NoSession> {
        let (opener, tell) = (Arc::clone(&self.opener), tell.clone());
        // Nobody listens any more when another attempt was faster; then the connection ends here.
        let attempt = move || drop(tell.send(opener.open_logged(until)));
        thread::Builder::new().name("connect".to_owned()).spawn(attempt).map(drop).map_err(NoSession::new)
    }

    fn first_of_several(&self, until: Instant) -> Result<Session, NoSession> {
        let (tell, told) = channel();
        self.attempt(until, &tell)?;
        while Instant::now() < until {
            if let Ok(outcome) = told.recv_timeout(ATTEMPT_CHECK) {
                return outcome;
            }
            if self.may_attempt(false) {
                self.attempt(until, &tell)?;
            }
        }
        Err(NoSession::new("no connection in time"))
    }
}

impl ManageConnection for Sessions {
    type Connection = Session;
    type Error = NoSession;

    fn connect(&self) -> Result<Session, NoSession> {
        if !self.may_attempt(true) {
            return Err(NoSession::new("the last attempt to connect was a moment ago"));
        }
        let began = Instant::now();
        self.first_of_several(began + self.opener.limits.connect_timeout)
            .inspect(|session| self.health.connected(session.statements.is_none()))
            .inspect_err(|error| self.health.not_connected(began, error, error.is_refusal))
    }

    /// Called when a connection is taken.
    fn is_valid(&self, session: &mut Session) -> Result<(), NoSession> {
        if !self.health.trusts(session.heard_at) {
            return Err(NoSession::new("another connection was lost since this one was heard from"));
        }
        if session.heard_at.elapsed() > TRUSTED_IDLE {
            session.ping()?;
        }
        Ok(())
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.is_outdated || session.client.is_closed()
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub struct NoSession {
    why: String,
    /// The server said so.
    is_refusal: bool,
}

impl NoSession {
    fn new(why: impl fmt::Display) -> Self {
        Self { why: why.to_string(), is_refusal: false }
    }
}

impl From<Fault> for NoSession {
    fn from(fault: Fault) -> Self {
        Self { is_refusal: is_refusal(&fault), ..Self::new(fault) }
    }
}

impl fmt::Display for NoSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for NoSession {}

/// All that is needed to open a connection.
pub struct Opener {
    url: DatabaseUrl,
    limits: Limits,
    health: Arc<Health>,
    /// This process has seen to the table.
    table_is_there: AtomicBool,
}

impl Opener {
    fn open_logged(&self, until: Instant) -> Result<Session, NoSession> {
        let open = |tls: &Tls| -> Result<_, NoSession> {
            Ok(self.open(client::runtime().map_err(NoSession::new)?, tls, until))
        };
        let session = match (open(&Tls::of(&self.url))?, Tls::fallback(&self.url)) {
            (Err(error), Some(plain)) if is_tls_error(&error) => {
                warn!(
                    "the database's certificate does not hold; going on without TLS, as sslmode=prefer allows"
                );
                open(&plain)?
            }
            (session, _) => session,
        };
        session.map_err(NoSession::from)
    }

    fn open(&self, runtime: Runtime, tls: &Tls, until: Instant) -> Result<Session, Fault> {
        let (config, transport, deadline) = attempt(&self.url, tls, until);
        let peer = transport.peer();
        let mut client = Client::connect(runtime, &config, transport)?;
        deadline.set(until);
        // `now()` becomes UTC in a column without time zone, too. PgBouncer keeps the time zone for each of its clients.
        let answers = client.simple_query("set time zone 'UTC'; select pg_backend_pid()")?;
        let backend = answers.first().and_then(|row| row.first()?.as_ref()?.parse().ok());
        let is_direct = peer.is_backend(backend.ok_or_else(Fault::too_early)?);
        if is_direct {
            // The second is for a transaction that was sent by half when this process or the network stopped: it has rows locked.
            let [statement, idle] = ["statement_timeout", "idle_in_transaction_session_timeout"]
                .map(|limit| format!("set {limit} = {}", self.limits.statement_timeout.as_millis()));
            client.simple_query(&format!("{statement}; {idle}"))?;
        }
        if !self.table_is_there.load(Ordering::Relaxed) {
            schema::apply(&mut client, || !self.table_is_there.swap(true, Ordering::Relaxed))?;
        }
        deadline.clear();
        let now = Instant::now();
        Ok(Session {
            client,
            deadline,
            health: Arc::clone(&self.health),
            alterations: self.health.alterations(),
            statements: is_direct.then(HashMap::new),
            opened_at: now,
            heard_at: now,
            is_outdated: false,
        })
    }
}

/// Connects and logs in, not after this. Each of several hosts gets its share of the time.
pub fn connect(
    url: &DatabaseUrl,
    tls: &Tls,
    until: Instant,
) -> Result<(postgres::Client, Arc<Deadline>, Arc<Peer>), Fault> {
    let (config, transport, deadline) = attempt(url, tls, until);
    let peer = transport.peer();
    Ok((PostgresConnectionManager::new(config.into(), transport).connect()?, deadline, peer))
}

fn attempt(url: &DatabaseUrl, tls: &Tls, until: Instant) -> (Config, Transport, Arc<Deadline>) {
    let deadline = Arc::new(Deadline::default());
    let mut config = Tls::config(url);
    let within = until.saturating_duration_since(Instant::now());
    let share = within / u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX).max(1);
    config.connect_timeout(share.max(Duration::from_millis(1))); // none at all would be for ever
    let transport = tls.transport(Arc::clone(&deadline), until, share);
    (config, transport, deadline)
}

/// A connection.
pub struct Session {
    client: Client,
    deadline: Arc<Deadline>,
    health: Arc<Health>,
    /// What was prepared on it: as many as `store.rs` has texts. `None` behind a pooler, which gives each statement whatever
    /// backend is free: there a name may be unknown, or another client's.
    statements: Option<HashMap<String, Prepared>>,
    /// How often the table had been altered by then.
    alterations: u64,
    opened_at: Instant,
    heard_at: Instant,
    /// It is not to be used again.
    is_outdated: bool,
}

impl Session {
    /// Whether the last statement, which failed, certainly did not run, and may do better on another connection.
    pub fn did_not_run(&self, fault: &Fault) -> bool {
        // A pooler that ends a connection speaks for itself, and does not know.
        let is_direct = self.statements.is_some();
        let was_not_taken = !self.client.has_sent() || is_direct && self.client.began_with_error();
        is_outdated(fault) || is_lost(fault) && was_not_taken
    }

    /// Has `ask` run one statement in one round trip; in two when it is prepared on this connection first. With `look` only after a look
    /// at the connection, as always after a rest.
    pub fn run<T>(
        &mut self,
        sql: &str,
        params: &[Param],
        until: Instant,
        look: bool,
        ask: impl FnOnce(&mut Client, &Query) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.begin(until, look);
        let prepared = self.prepared(sql, params);
        let done = prepared.and_then(|prepared| ask(&mut self.client, &Query { prepared, sql, params }));
        self.end(!done.as_ref().is_err_and(is_passing));
        done.inspect_err(|fault| self.learn(fault, self.client.is_closed()))
    }

    /// Draws from a failure what it says of this connection, which may be `lost` whatever it is, and of the database.
    fn learn(&mut self, fault: &Fault, lost: bool) {
        let is_lost = lost || is_lost(fault);
        let is_read_only = is_read_only(fault) && self.opened_at.elapsed() > READ_ONLY_PATIENCE;
        self.is_outdated |= is_lost || is_read_only;
        self.forget_outdated(fault);
        if is_lost {
            self.health.lost(self.heard_at, self.client.has_sent(), fault);
        } else if is_passing(fault) {
            self.health.gave_up(fault);
        }
    }

    /// Where that is why, nothing that was prepared is used again: on this connection, or after the table was altered, on any.
    fn forget_outdated(&mut self, fault: &Fault) {
        if is_altered(fault) {
            self.health.altered(self.alterations);
        } else {
            self.is_outdated |= is_outdated(fault);
        }
    }

    /// The statement of this text, prepared when it is first used; `None` where nothing is.
    fn prepared(&mut self, sql: &str, params: &[Param]) -> Result<Option<Prepared>, Fault> {
        let Some(statements) = &mut self.statements else { return Ok(None) };
        if let Some(statement) = statements.get(sql) {
            return Ok(Some(statement.clone()));
        }
        let types: Vec<Type> = params.iter().map(Param::kind).collect();
        let statement = self.client.prepare(sql, &types)?;
        statements.insert(sql.to_owned(), statement.clone());
        Ok(Some(statement))
    }

    fn begin(&mut self, until: Instant, look: bool) {
        self.deadline.set(until);
        self.client.begin(look || self.heard_at.elapsed() > UNSEEN_IDLE);
        let alterations = self.health.alterations();
        if std::mem::replace(&mut self.alterations, alterations) != alterations {
            let outdated = self.statements.iter_mut().flat_map(HashMap::drain);
            outdated.for_each(|(_, statement)| self.client.forget(&statement));
        }
    }

    fn end(&mut self, answered: bool) {
        self.deadline.clear();
        if answered && !self.client.is_closed() {
            self.heard_at = Instant::now();
            self.health.heard();
        }
    }

    /// Asks the server whether it is there.
    pub fn ping(&mut self) -> Result<(), Fault> {
        self.begin(Instant::now() + PING_TIMEOUT, true);
        let answer = self.client.simple_query("");
        self.end(answer.is_ok());
        answer.map(drop).inspect_err(|fault| {
            self.is_outdated = true;
            self.health.lost(self.heard_at, false, fault);
        })
    }
}

impl Drop for Session {
    /// The client says good-bye when it is dropped.
    fn drop(&mut self) {
        self.deadline.set(Instant::now() + PING_TIMEOUT);
    }
}
