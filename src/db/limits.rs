//! The limits of the database that an operator sets.

use std::time::Duration;

/// What an operator can limit (`specs/api/limits.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `DB_POOL_SIZE`: connections, and as many workers, so that no worker waits for another's connection.
    pub pool_size: u32,
    /// `DB_CONNECT_TIMEOUT_MS`: how long connecting may take: name, TCP, TLS and login together. A sleeping Neon
    /// database wakes meanwhile.
    pub connect_timeout: Duration,
    /// `DB_CHECKOUT_TIMEOUT_MS`: how long a request waits for a connection, unless the database is known to be down.
    pub checkout_timeout: Duration,
    /// `DB_STATEMENT_TIMEOUT_MS`: how long PostgreSQL works on a statement before it cancels it.
    pub statement_timeout: Duration,
    /// `DB_IDLE_TIMEOUT_MS`: how long an idle connection is kept. The pool checks every 30 s, so with the default the
    /// last one is closed after 4.5 minutes. Neon suspends a database that nobody has used for 5.
    pub idle_timeout: Duration,
}
