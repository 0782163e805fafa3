//! The connection manager of the pool: opens and checks connections.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// A pooler refused our start-up options: they are not sent again.
    refuses_options: AtomicBool,
    /// This process has created or checked the table.
    is_schema_applied: AtomicBool,
    /// The log says that TLS failed.
    is_tls_warned: AtomicBool,
}

impl ConnectionManager {
    /// For this database. What is learned of it is recorded in `availability`. `applies_schema`: the first connection
    /// creates the table, or checks it.
    pub fn new(url: DatabaseUrl, limits: Limits, availability: Arc<Availability>, applies_schema: bool) -> Self {
        Self {
            url,
            limits,
            availability,
            refuses_options: AtomicBool::new(false),
            is_schema_applied: AtomicBool::new(!applies_schema),
            is_tls_warned: AtomicBool::new(false),
        }
    }

    /// Connects to a host. Leaves out what turns out to be refused: our start-up options, or TLS where `sslmode` allows
    /// that.
    fn open_host(&self, host: &HostConfig, deadline: Instant) -> Result<Connection, DbError> {
        let mut config = host.config.clone();
        let mut sends_options = !self.refuses_options.load(Ordering::Relaxed);
        loop {
            match self.open(config.clone(), sends_options, deadline) {
                Err(error) if sends_options && error.is_unsupported_option() => {
                    sends_options = false;
                    self.refuses_options.store(true, Ordering::Relaxed);
                }
                Err(error) if config.get_ssl_mode() == SslMode::Prefer && error.is_tls_error() => {
                    config.ssl_mode(SslMode::Disable);
                    if !self.is_tls_warned.swap(true, Ordering::Relaxed) {
                        warn!("{}: TLS failed, going on without it as sslmode allows: {error}", host.address);
                    }
                }
                result => {
                    let gave_up_tls = config.get_ssl_mode() != host.config.get_ssl_mode();
                    self.is_tls_warned.fetch_and(gave_up_tls || result.is_err(), Ordering::Relaxed);
                    return result;
                }
            }
        }
    }

    /// Connects, and prepares the session.
    fn open(&self, mut config: Config, sends_options: bool, deadline: Instant) -> Result<Connection, DbError> {
        let session = format!("{:016x}", RandomState::new().hash_one(Instant::now()));
        if sends_options {
            config.options(self.options(config.get_options().unwrap_or_default(), &session));
        }
        let mut connection = Connection::open(&config, self.url.tls(), Arc::clone(&self.availability), deadline)?;
        let rows = connection.simple(&format!("{PREPARE_SESSION}{SESSION_SETTING}', true)"), deadline)?;
        if rows.last().and_then(|row| row.first()?.as_deref()) == Some(&*session) {
            connection.enable_prepared_statements();
        }
        if !self.is_schema_applied.load(Ordering::Relaxed) {
            let has_row_security = schema::apply(&mut connection, &config, deadline)?;
            if !self.is_schema_applied.swap(true, Ordering::Relaxed) && has_row_security {
                warn!(
                    "row-level security hides the tasks that no policy shows to this role; try `todo-backend --check`"
                );
            }
        }
        Ok(connection)
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
    type Error = DbError;

    /// Tries each host in turn. Each has its share of the time.
    fn connect(&self) -> Result<Connection, DbError> {
        let began_at = Instant::now();
        let deadline = began_at + self.limits.connect_timeout;
        if !self.availability.begin_attempt(deadline) {
            return Err(DbError::Unavailable);
        }
        let mut failure = (String::new(), DbError::Unavailable);
        let hosts = self.url.hosts();
        for (host, left) in hosts.iter().zip((1..=u32::try_from(hosts.len()).unwrap_or(u32::MAX)).rev()) {
            let now = Instant::now();
            match self.open_host(host, now + deadline.saturating_duration_since(now) / left) {
                Ok(connection) => {
                    self.availability.connected(connection.is_pooled());
                    return Ok(connection);
                }
                Err(error) => failure = (format!("{}: {error}", host.address), error),
            }
        }
        let (why, error) = failure;
        self.availability.connect_failed(began_at, &why, error.is_connect_refusal());
        Err(error)
    }

    /// Called when a connection is taken from the pool.
    fn is_valid(&self, connection: &mut Connection) -> Result<(), DbError> {
        if !self.availability.trusts(connection.last_response_at()) {
            return Err(DbError::NotSent);
        }
        if connection.last_response_at().elapsed() > TRUSTED_IDLE { connection.ping() } else { Ok(()) }
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.must_close()
    }
}
