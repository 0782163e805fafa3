//! What became of a statement that failed: who is told what, and whether it may be sent once more.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator as _;
use log::error;
use postgres::error::SqlState;
use postgres_protocol::message::backend::ErrorResponseBody;

use crate::http::error::Error;

/// Why a statement failed, or there is no connection.
#[derive(Debug)]
pub enum Fault {
    /// The server says so.
    Server {
        /// `ERROR`, or `FATAL` or `PANIC`, with which it ends the connection. In another language where the server is older than 9.6.
        severity: String,
        /// What a program can tell it by.
        code: SqlState,
        /// PostgreSQL's sentence.
        message: String,
        /// Where in PostgreSQL's own code it comes from.
        routine: String,
    },
    /// The connection ended, or what came on it is not PostgreSQL's protocol.
    Connection(io::Error),
    /// A value is not what the program takes it for.
    Value(String),
    /// A library failed: there is no connection, or `--check` could not ask.
    Library(postgres::Error),
}

impl Fault {
    /// The connection ended.
    pub fn closed() -> Self {
        Self::Connection(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the database has closed the connection",
        ))
    }

    /// What came is not PostgreSQL's protocol.
    pub fn garbled(what: &'static str) -> Self {
        Self::Connection(io::Error::new(io::ErrorKind::InvalidData, what))
    }

    /// The server says that it is ready, and has not answered.
    pub fn too_early() -> Self {
        Self::garbled("the database is ready without having answered")
    }

    /// The value of what has this name is not what it should be.
    pub fn value(name: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Value(format!("`{name}`: {why}"))
    }

    /// What the server says.
    pub fn read(body: &ErrorResponseBody) -> Self {
        let [mut severity, mut code, mut message, mut routine] = [const { String::new() }; 4];
        let mut fields = body.fields();
        // `V` comes behind `S`, and is the same in English, whatever language the server speaks.
        while let Ok(Some(field)) = fields.next() {
            let kept = match field.type_() {
                b'S' | b'V' => &mut severity,
                b'C' => &mut code,
                b'M' => &mut message,
                b'R' => &mut routine,
                _ => continue,
            };
            *kept = String::from_utf8_lossy(field.value_bytes()).into_owned();
        }
        Self::Server { severity, code: SqlState::from_code(&code), message, routine }
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Server { code, .. } => Some(code),
            _ => None,
        }
    }

    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Connection(error) => Some(error),
            Self::Library(error) => sources(error).find_map(|source| source.downcast_ref()),
            _ => None,
        }
    }

    /// Whether the server ends the connection with it.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Server { severity, .. } if severity == "FATAL" || severity == "PANIC")
    }

    /// Whether the server refuses the statement with it, and nothing else.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Server { severity, .. } if severity == "ERROR")
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl From<postgres::Error> for Fault {
    fn from(error: postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => Self::Server {
                severity: said
                    .parsed_severity()
                    .map_or_else(|| said.severity().to_owned(), |said| said.to_string()),
                code: said.code().clone(),
                message: said.message().to_owned(),
                routine: said.routine().unwrap_or_default().to_owned(),
            },
            None => Self::Library(error),
        }
    }
}

/// What a client is told of a failed statement. A defect is told to the log here; that the database cannot answer is
/// told by [`super::availability::Health`], once.
pub fn judge(fault: Fault) -> Error {
    Failure::of(&fault).tell()
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
    pub fn of(fault: &Fault) -> Self {
        if is_passing(fault) { Failure::Passing } else { Failure::Defect(fault.to_string()) }
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
pub fn is_passing(fault: &Fault) -> bool {
    fault.io().is_some()
        || fault.code().is_some_and(|code| {
            matches!(*code, SqlState::READ_ONLY_SQL_TRANSACTION | SqlState::LOCK_NOT_AVAILABLE)
            // connection, transaction rollback, resources, operator intervention
            || ["08", "40", "53", "57"].iter().any(|class| code.code().starts_with(class))
        })
}

/// Whether the connection ended, rather than the statement failed or took too long. It may have run.
pub fn is_lost(fault: &Fault) -> bool {
    fault.is_fatal() || fault.io().is_some_and(|error| error.kind() != io::ErrorKind::TimedOut)
}

/// Whether what was prepared on this connection no longer holds: the table was altered, or somebody in between forgot the
/// statement. It did not run.
pub fn is_outdated(fault: &Fault) -> bool {
    let outdated = [
        SqlState::FEATURE_NOT_SUPPORTED, // "cached plan must not change result type"
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::DUPLICATE_PSTATEMENT,
    ];
    fault.code().is_some_and(|code| outdated.contains(code))
}

/// Whether the table was altered, so that it no longer holds on any connection. A trigger may refuse a statement by the same code.
pub fn is_altered(fault: &Fault) -> bool {
    let is_about_plan = matches!(fault, Fault::Server { routine, .. } if routine == "RevalidateCachedQuery");
    is_about_plan && fault.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
}

/// Whether it came to nothing only because of what others did at the same time.
pub fn is_conflict(fault: &Fault) -> bool {
    fault.code().is_some_and(|code| code.code().starts_with("40"))
}

/// Whether the server said no, rather than nothing.
pub fn is_refusal(fault: &Fault) -> bool {
    fault.code().is_some_and(|code| !code.code().starts_with("57"))
}

/// Whether the database takes no writes: a replica, perhaps what was the primary a moment ago.
pub fn is_read_only(fault: &Fault) -> bool {
    fault.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// Whether TLS did not come about.
pub fn is_tls_error(fault: &Fault) -> bool {
    fault.io().and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<rustls::Error>())
}

fn sources<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |error: &&'e (dyn StdError + 'static)| (*error).source())
}

/// In one line, with all sources of an error: the library says only "db error" by itself. Of what the server said, its sentence and
/// its code; its `DETAIL` can quote a whole task.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Server { severity, code, message, .. } => {
                format!("{severity}: {message} ({})", code.code())
            }
            Self::Connection(error) => error.to_string(),
            Self::Value(text) => text.clone(),
            Self::Library(error) => {
                let all: Vec<_> = std::iter::once(error.to_string())
                    .chain(sources(error).map(ToString::to_string))
                    .collect();
                // What does not concern TLS comes by way of it all the same (`transport.rs`).
                let is_misnamed = all[0] == "error performing TLS handshake" && !is_tls_error(self);
                all[usize::from(is_misnamed && all.len() > 1)..].join(": ")
            }
        };
        f.write_str(&text.replace(char::is_control, " "))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_protocol::message::backend::Message;

    use super::*;

    fn said(fields: &[&str]) -> Fault {
        let content = fields.concat() + "\0";
        let message = [b"E", &(4 + content.len() as u32).to_be_bytes()[..], content.as_bytes()].concat();
        match Message::parse(&mut BytesMut::from(&*message)) {
            Ok(Some(Message::ErrorResponse(body))) => Fault::read(&body),
            _ => panic!("no error: {content:?}"),
        }
    }

    #[test]
    fn of_what_the_server_says_the_detail_is_not_kept() {
        let fault =
            said(&["SFEHLER\0", "VERROR\0", "C23505\0", "Mtwice\nthere\0", "Dtitle=secret\0", "Rx\0"]);
        assert_eq!(fault.to_string(), "ERROR: twice there (23505)");
        assert!(fault.is_error() && !fault.is_fatal() && !is_lost(&fault) && !is_passing(&fault));
        assert!(!format!("{fault:?}").contains("secret"));
    }

    #[test]
    fn an_altered_table_is_told_from_what_a_trigger_refuses() {
        let altered = said(&["SERROR\0", "C0A000\0", "Mcached plan\0", "RRevalidateCachedQuery\0"]);
        assert!(is_altered(&altered) && is_outdated(&altered));
        let refused = said(&["SERROR\0", "C0A000\0", "Mcached plan\0", "Rexec_stmt_raise\0"]);
        assert!(!is_altered(&refused) && is_outdated(&refused));
    }

    #[test]
    fn a_server_that_says_less_is_understood() {
        // A pooler, which speaks English; and an old server, which need not.
        let end = said(&["SFATAL\0", "C08P01\0", "Mserver conn crashed?\0"]);
        assert!(end.is_fatal() && !end.is_error() && is_lost(&end) && is_passing(&end) && is_refusal(&end));
        let unknown = said(&["SFATAL ERROR IN ELVISH\0", "C57P01\0", "M?\0"]);
        assert!(!unknown.is_fatal() && !unknown.is_error() && is_passing(&unknown));
        assert_eq!(said(&[]).to_string(), ":  ()");
        assert_eq!(said(&["C4\0"]).to_string(), ":  (4)");
        assert!(!is_passing(&said(&["C4\0"])));
    }
}
