//! The connection manager of the pool: opens and checks connections.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use log::warn;
use r2d2::ManageConnection;

use super::availability::Availability;
use super::connection::Connection;
use super::error::DbError;
use super::limits::Limits;
use super::schema;
use super::url::{DatabaseUrl, HostConfig};

/// In one round trip: the time zone that `now()` has in a column without one; the client's encoding, in which a
/// database in `SQL_ASCII` hands over any text; and whether our option arrived, which a pooler does not pass on.
const PREPARE_SESSION: &str = "set time zone 'UTC'; \
    select set_config('client_encoding', case current_setting('server_encoding') when 'SQL_ASCII' then 'SQL_ASCII' \
    else 'UTF8' end, false), current_setting('todo_backend.session', true)";

/// Opens and checks connections.
pub struct ConnectionManager {
    url: DatabaseUrl,
    limits: Limits,
    availability: Arc<Availability>,
    /// A pooler refused our start-up options: they are not sent again.
    refuses_options: AtomicBool,
    /// This process has created or checked the table. Locked meanwhile, so that no second connection does it later: the
    /// table may have been renamed by then.
    is_schema_applied: Mutex<bool>,
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
            is_schema_applied: Mutex::new(!applies_schema),
            is_tls_warned: AtomicBool::new(false),
        }
    }

    /// Connects to a host, and prepares the session.
    fn open(&self, host: &HostConfig, deadline: Instant) -> Result<Connection, DbError> {
        let session = format!("{:016x}", RandomState::new().hash_one(Instant::now()));
        let timeout_ms = self.limits.statement_timeout.as_millis();
        // The idle limit ends a half-sent transaction after this process or the network has failed: it holds locks.
        let options = format!(
            "-c todo_backend.session={session} -c statement_timeout={timeout_ms} \
             -c idle_in_transaction_session_timeout={timeout_ms} -c default_transaction_isolation=read\\ committed"
        );
        let options = (!self.refuses_options.load(Ordering::Relaxed)).then_some(&*options);
        let open = |config| Connection::open(&config, self.url.tls(), Arc::clone(&self.availability), deadline);
        let mut has_tls_failed = false;
        let mut connection = host.connect(options, open, |error| {
            if error.is_unsupported_option() {
                self.refuses_options.store(true, Ordering::Relaxed);
                return;
            }
            has_tls_failed = true;
            if !self.is_tls_warned.swap(true, Ordering::Relaxed) {
                warn!("{}: TLS failed, going on without it as sslmode allows: {error}", host.address);
            }
        })?;
        self.is_tls_warned.fetch_and(has_tls_failed, Ordering::Relaxed);
        if connection.simple(PREPARE_SESSION, deadline)?.contains(&session) {
            connection.enable_prepared_statements();
        }
        let mut is_schema_applied = self.is_schema_applied.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_schema_applied {
            let has_row_security = schema::apply(&mut connection, &host.config, deadline)?;
            *is_schema_applied = true;
            if has_row_security {
                warn!(
                    "row-level security hides the tasks that no policy shows to this role; try `todo-backend --check`"
                );
            }
        }
        Ok(connection)
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
            match self.open(host, now + deadline.saturating_duration_since(now) / left) {
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
        connection.check()
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.must_close()
    }
}
