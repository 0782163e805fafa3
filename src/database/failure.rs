//! What became of a statement that failed: who is told what, and whether it may be sent once more.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use log::error;
use postgres::error::{Severity, SqlState};

use crate::error::Error;

/// What a client is told of a failed statement. A defect is told to the log here; that the database cannot answer is
/// told by [`super::health::Health`], once.
pub fn judge(error: &postgres::Error) -> Error {
    Failure::of(error).tell()
}

/// A statement that failed, of which the log is still to be told on behalf of whoever asked.
pub enum Failure {
    /// The same may well succeed a little later.
    Passing,
    /// It is a defect, with this cause.
    Defect(String),
}

impl Failure {
    /// What kind of failure it is.
    pub fn of(error: &postgres::Error) -> Self {
        if is_passing(error) { Failure::Passing } else { Failure::Defect(Cause(error).to_string()) }
    }

    /// What a client is told.
    pub fn tell(self) -> Error {
        match self {
            Failure::Passing => Error::Unavailable,
            Failure::Defect(cause) => {
                error!("a statement failed: {cause}");
                Error::Internal
            }
        }
    }
}

/// Whether the same may well succeed a little later.
pub fn is_passing(error: &postgres::Error) -> bool {
    error.is_closed()
        || io_error(error).is_some()
        || error.code().is_some_and(|code| {
            matches!(*code, SqlState::READ_ONLY_SQL_TRANSACTION | SqlState::LOCK_NOT_AVAILABLE)
            // connection, transaction rollback, resources, operator intervention
            || ["08", "40", "53", "57"].contains(&&code.code()[..2])
        })
}

/// Whether the connection ended, rather than the statement failed or took too long. It may have run.
pub fn is_lost(error: &postgres::Error) -> bool {
    let ended_by_network = io_error(error).is_some_and(|error| error.kind() != io::ErrorKind::TimedOut);
    error.is_closed() || is_fatal(error) || ended_by_network
}

/// Whether what was prepared on this connection no longer holds: the table was altered, or somebody in between forgot the
/// statement. It did not run.
pub fn is_outdated(error: &postgres::Error) -> bool {
    let outdated = [
        SqlState::FEATURE_NOT_SUPPORTED, // "cached plan must not change result type"
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
    ];
    error.code().is_some_and(|code| outdated.contains(code))
}

/// Whether it came to nothing only because of what others did at the same time.
pub fn is_conflict(error: &postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("40"))
}

/// Whether the server said no, rather than nothing.
pub fn is_refusal(error: &postgres::Error) -> bool {
    error.code().is_some_and(|code| !code.code().starts_with("57"))
}

/// Whether the database takes no writes: a replica, perhaps what was the primary a moment ago.
pub fn is_read_only(error: &postgres::Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// What the server itself said of it: refused (`ERROR`), or the end of the connection; `None` where it did not say.
pub fn severity(error: &postgres::Error) -> Option<Severity> {
    error.as_db_error()?.parsed_severity()
}

/// Whether TLS did not come about.
pub fn is_tls_error(error: &postgres::Error) -> bool {
    io_error(error).and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<rustls::Error>())
}

fn is_fatal(error: &postgres::Error) -> bool {
    matches!(severity(error), Some(Severity::Fatal | Severity::Panic))
}

fn io_error(error: &postgres::Error) -> Option<&io::Error> {
    sources(error).find_map(|source| source.downcast_ref())
}

fn sources<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |error: &&'e (dyn StdError + 'static)| (*error).source())
}

/// An error with all its sources, in one line: `postgres` says only "db error" by itself. Of what the server said, its
/// sentence and its code; its `DETAIL` can quote a whole task.
pub struct Cause<'e>(pub &'e postgres::Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0.as_db_error() {
            Some(error) => format!("{}: {} ({})", error.severity(), error.message(), error.code().code()),
            None => {
                let all: Vec<_> = std::iter::once(self.0.to_string())
                    .chain(sources(self.0).map(ToString::to_string))
                    .collect();
                // What does not concern TLS comes by way of it all the same (`transport.rs`).
                let is_misnamed = all[0] == "error performing TLS handshake" && !is_tls_error(self.0);
                all[usize::from(is_misnamed && all.len() > 1)..].join(": ")
            }
        };
        f.write_str(&text.replace(char::is_control, " "))
    }
}
