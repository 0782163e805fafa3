//! The connection manager of the pool: opens and checks connections.
//!
//! While the database does not answer there is one attempt at a time, and a short pause between two.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::warn;
use r2d2::ManageConnection;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::availability::Availability;
use super::connection::Connection;
use super::error::DbError;
use super::limits::Limits;
use super::schema;
use super::url::{DatabaseUrl, HostConfig};

/// The shortest time between the beginnings of two attempts while the database does not answer.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(250);
/// How long a connection may lie idle before it is pinged: a network in between may have forgotten it.
const TRUSTED_IDLE: Duration = Duration::from_secs(30);
/// A pooler passes no start-up option on, so this setting of ours has its value only on a direct connection.
const SESSION_SETTING: &str = "todo_backend.session";
/// In one round trip: the time zone that `now()` has in a column without one; the client's encoding, in which a
/// database in `SQL_ASCII` hands over any text; and whether our option arrived.
const PREPARE_SESSION: &str = "set time zone 'UTC'; \
    select set_config('client_encoding', case current_setting('server_encoding') when 'SQL_ASCII' then 'SQL_ASCII' \
    else 'UTF8' end, false); select current_setting('";

/// Opens and checks connections.
pub struct ConnectionManager {
    url: DatabaseUrl,
    limits: Limits,
    availability: Arc<Availability>,
    attempts: Mutex<Attempts>,
    /// A pooler refused our start-up options: they are not sent again.
    refuses_options: AtomicBool,
    /// This process has created or checked the table.
    is_schema_applied: AtomicBool,
    /// The log says that TLS failed.
    is_tls_warned: AtomicBool,
}

#[derive(Default)]
struct Attempts {
    is_running: bool,
    last_began_at: Option<Instant>,
}

impl ConnectionManager {
    /// For this database. What is learned of it is recorded in `availability`. `applies_schema`: the first connection
    /// creates the table, or checks it.
    pub fn new(url: DatabaseUrl, limits: Limits, availability: Arc<Availability>, applies_schema: bool) -> Self {
        Self {
            url,
            limits,
            availability,
            attempts: Mutex::default(),
            refuses_options: AtomicBool::new(false),
            is_schema_applied: AtomicBool::new(!applies_schema),
            is_tls_warned: AtomicBool::new(false),
        }
    }

    /// Whether an attempt may begin now. There may be several at once as long as the database answers.
    fn begin_attempt(&self) -> bool {
        let mut attempts = self.lock();
        let is_free = !self.availability.is_unreachable()
            || !attempts.is_running
                && attempts.last_began_at.is_none_or(|began_at| began_at.elapsed() >= ATTEMPT_INTERVAL);
        if is_free {
            *attempts = Attempts { is_running: true, last_began_at: Some(Instant::now()) };
        }
        is_free
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().expect("nothing panics while it holds this lock")
    }

    /// Tries each host in turn. Each has its share of the time.
    fn open_any(&self, deadline: Instant) -> Result<Connection, ConnectError> {
        let mut failure = ConnectError::new("", "the URL names no host");
        let mut left = u32::try_from(self.url.hosts().len()).unwrap_or(u32::MAX);
        for host in self.url.hosts() {
            let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
            left -= 1;
            match self.open_host(host, Instant::now() + share) {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = ConnectError::from((host, error)),
            }
        }
        Err(failure)
    }

    fn open_host(&self, host: &HostConfig, deadline: Instant) -> Result<Connection, DbError> {
        match self.open(host, true, deadline) {
            Err(error) if error.is_tls_error() && self.url.tls().allows_fallback() => {
                if !self.is_tls_warned.swap(true, Ordering::Relaxed) {
                    warn!("{}: TLS failed, going on without it as sslmode allows: {error}", host.address);
                }
                self.open(host, false, deadline)
            }
            result => {
                self.is_tls_warned.fetch_and(result.is_err(), Ordering::Relaxed);
                result
            }
        }
    }

    /// Connects, and prepares the session.
    fn open(&self, host: &HostConfig, with_tls: bool, deadline: Instant) -> Result<Connection, DbError> {
        let session = format!("{:016x}", RandomState::new().hash_one(Instant::now()));
        let (mut connection, sent_options) = self.connect(host, with_tls, &session, deadline)?;
        let rows = connection.simple(&format!("{PREPARE_SESSION}{SESSION_SETTING}', true)"), deadline)?;
        if sent_options && rows.last().and_then(|row| row.first()?.as_deref()) == Some(&*session) {
            connection.enable_prepared_statements();
        }
        if !self.is_schema_applied.load(Ordering::Relaxed) {
            let has_row_security = schema::apply(&mut connection, &host.config, deadline)?;
            if !self.is_schema_applied.swap(true, Ordering::Relaxed) && has_row_security {
                warn!(
                    "row-level security hides the tasks that no policy shows to this role; try `todo-backend --check`"
                );
            }
        }
        Ok(connection)
    }

    fn connect(
        &self,
        host: &HostConfig,
        with_tls: bool,
        session: &str,
        deadline: Instant,
    ) -> Result<(Connection, bool), DbError> {
        let mut config = host.config.clone();
        if !with_tls {
            config.ssl_mode(SslMode::Disable);
        }
        let open = |config: &Config| {
            Connection::open(config, self.url.tls().connector(), Arc::clone(&self.availability), deadline)
        };
        if !self.refuses_options.load(Ordering::Relaxed) {
            let mut with_options = config.clone();
            with_options.options(self.options(config.get_options().unwrap_or_default(), session));
            match open(&with_options) {
                Err(error) if error.is_unsupported_option() => self.refuses_options.store(true, Ordering::Relaxed),
                result => return Ok((result?, true)),
            }
        }
        Ok((open(&config)?, false))
    }

    /// What a direct session is started with. The idle limit ends a half-sent transaction after this process or the
    /// network has failed: it holds locks.
    fn options(&self, own: &str, session: &str) -> String {
        let timeout_ms = self.limits.statement_timeout.as_millis();
        format!(
            "{own} -c {SESSION_SETTING}={session} -c statement_timeout={timeout_ms} \
             -c idle_in_transaction_session_timeout={timeout_ms} -c default_transaction_isolation=read\\ committed"
        )
    }
}

impl ManageConnection for ConnectionManager {
    type Connection = Connection;
    type Error = ConnectError;

    fn connect(&self) -> Result<Connection, ConnectError> {
        if !self.begin_attempt() {
            return Err(ConnectError::new("", "another attempt to connect is under way or was a moment ago"));
        }
        let began_at = Instant::now();
        let result = self.open_any(began_at + self.limits.connect_timeout);
        self.lock().is_running = false;
        match &result {
            Ok(connection) => self.availability.connected(connection.is_pooled()),
            Err(error) => self.availability.connect_failed(began_at, error, error.is_refusal),
        }
        result
    }

    /// Called when a connection is taken from the pool.
    fn is_valid(&self, connection: &mut Connection) -> Result<(), ConnectError> {
        if !self.availability.trusts(connection.last_response_at()) {
            return Err(ConnectError::new("", "another connection was lost since this one last answered"));
        }
        if connection.last_response_at().elapsed() > TRUSTED_IDLE {
            connection.ping().map_err(|error| ConnectError::new("", error))?;
        }
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.must_close()
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub struct ConnectError {
    message: String,
    /// PostgreSQL refused, or the table cannot be served. False if nothing answered.
    is_refusal: bool,
}

impl ConnectError {
    fn new(address: &str, why: impl fmt::Display) -> Self {
        let separator = if address.is_empty() { "" } else { ": " };
        Self { message: format!("{address}{separator}{why}"), is_refusal: false }
    }
}

impl From<(&HostConfig, DbError)> for ConnectError {
    fn from((host, error): (&HostConfig, DbError)) -> Self {
        Self { is_refusal: error.is_connect_refusal(), ..Self::new(&host.address, error) }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConnectError {}
