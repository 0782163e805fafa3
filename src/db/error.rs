//! Database errors: why a statement or a connection failed, and what follows from it.
//!
//! [`Class`] is the one table of SQLSTATEs. `specs/database/failure.md` says the same in words.

use std::error::Error as StdError;
use std::{fmt, io};

use postgres::error::{DbError as ServerError, Severity, SqlState};
use tokio_postgres::Error as PgError;

use super::tls;

/// Why a statement failed, or there is no connection.
#[derive(Debug)]
pub enum DbError {
    /// PostgreSQL refused it, or the connection failed while it was under way.
    Postgres(PgError),
    /// No response came before the deadline. The statement may have run.
    Timeout,
    /// The connection had ended before anything was sent.
    NotSent,
    /// There is no connection: none came in time, or the database is known to be down.
    Unavailable,
    /// The database cannot be used as it is: the table does not fit, for instance.
    Unusable(String),
    /// What was read is not what it should be: a bug of ours.
    Bug(String),
}

/// What an SQLSTATE means for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// What was prepared no longer holds. The statement did not run.
    StalePlan,
    /// A privilege is missing, or the table was altered under the server: our statements are constants that worked.
    SchemaMismatch,
    /// PostgreSQL rolled the transaction back because of a concurrent one.
    Conflict,
    /// The same may succeed later: connection, resources, operator intervention, read-only server, lock not available.
    Transient,
    /// Anything else.
    Permanent,
}

impl Class {
    fn of(code: &SqlState) -> Self {
        let code = code.code();
        match (code, code.get(..2).unwrap_or_default()) {
            // A pooler gave us a backend that does not know the statement, or another one of that name.
            ("26000" | "42P05", _) => Self::StalePlan,
            // Privilege; no such table or column, a column of another type, a view, a generated column.
            ("42501" | "42P01" | "42703" | "42804" | "42809" | "42846" | "42883" | "428C9", _) => Self::SchemaMismatch,
            ("40001" | "40P01", _) => Self::Conflict,
            ("25006" | "55P03", _) | (_, "08" | "40" | "53" | "57") => Self::Transient,
            _ => Self::Permanent,
        }
    }
}

impl DbError {
    /// What PostgreSQL said, if it said anything.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Postgres(error) => error.as_db_error(),
            _ => None,
        }
    }

    /// The SQLSTATE.
    pub fn code(&self) -> Option<&SqlState> {
        self.server().map(ServerError::code)
    }

    fn class(&self) -> Option<Class> {
        let said = self.server()?;
        Some(match said.code().code() {
            // "cached plan must not change result type"
            "0A000" if said.routine() == Some("RevalidateCachedQuery") => Class::StalePlan,
            // A column that the program never sets null. Triggers raise this too, for other tables or for none.
            "23502" if said.table() == Some("tasks") => Class::SchemaMismatch,
            _ => Class::of(said.code()),
        })
    }

    /// Whether PostgreSQL's message is an ERROR, else it is FATAL or PANIC; `None` where it sent none.
    fn is_error(&self) -> Option<bool> {
        let said = self.server()?;
        // Some poolers leave out the field that is not translated; they speak English.
        Some(said.parsed_severity().map_or(said.severity() == "ERROR", |severity| severity == Severity::Error))
    }

    /// PostgreSQL refused the statement and rolled it back. The connection goes on.
    pub fn is_refusal(&self) -> bool {
        self.is_error() == Some(true)
    }

    /// PostgreSQL ended the connection with this message.
    pub fn is_fatal(&self) -> bool {
        self.is_error() == Some(false)
    }

    /// The connection ended. A statement that was under way may have run.
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::NotSent => true,
            Self::Postgres(error) => {
                self.is_fatal() || error.is_closed() || sources(error).any(|source| source.is::<io::Error>())
            }
            Self::Timeout | Self::Unavailable | Self::Unusable(_) | Self::Bug(_) => false,
        }
    }

    /// The same may succeed a little later: a 503, and no defect.
    pub fn is_transient(&self) -> bool {
        let is_unanswered = matches!(self, Self::Timeout | Self::Unavailable | Self::Unusable(_));
        is_unanswered || self.is_disconnect() || matches!(self.class(), Some(Class::Conflict | Class::Transient))
    }

    /// Another transaction was in the way: a deadlock, or a failed serialization.
    pub fn is_serialization_failure(&self) -> bool {
        self.class() == Some(Class::Conflict)
    }

    /// Whether to try again. `writes` says that the statement changes something: then only if it certainly did not run.
    pub fn may_retry(&self, writes: bool) -> bool {
        let was_not_executed = matches!(self, Self::NotSent)
            || self.is_refusal() && matches!(self.class(), Some(Class::StalePlan | Class::Conflict))
            // The sequence of `id` is behind the table. Each try takes the next number.
            || self.is_duplicate_id();
        was_not_executed || self.is_disconnect() && !writes
    }

    /// A prepared statement of this connection no longer holds.
    pub fn is_stale_plan(&self) -> bool {
        self.class() == Some(Class::StalePlan)
    }

    /// The table was altered, so that no connection's prepared statements hold.
    pub fn is_altered_table(&self) -> bool {
        self.is_stale_plan() && self.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
    }

    /// A privilege is missing, or the table was altered under the server.
    pub fn is_schema_mismatch(&self) -> bool {
        self.class() == Some(Class::SchemaMismatch) || self.is_altered_table()
    }

    /// PostgreSQL takes no writes: a replica, perhaps what was the primary a moment ago.
    pub fn is_read_only(&self) -> bool {
        self.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    /// The columns of the key that an error is about, such as `user_id, title`. They are never translated, and stand
    /// before the values in the detail. Row-level security hides the detail.
    fn key_columns(&self) -> Option<&str> {
        let (key, _) = self.server()?.detail()?.split_once(")=(")?;
        key.split_once('(').map(|(_, columns)| columns)
    }

    /// The key that an error is about may contain this column. Where the columns are hidden, PostgreSQL's name of a
    /// foreign key tells, such as `tasks_user_id_fkey`.
    pub fn may_concern(&self, column: &str) -> bool {
        let name_of_key = || self.server()?.constraint()?.strip_suffix("_fkey").map(|name| name.contains(column));
        match self.key_columns() {
            Some(columns) => columns.split(", ").any(|name| name == column),
            None => name_of_key().unwrap_or(true),
        }
    }

    /// An insert met a row with the same `id`. Where the columns are hidden, PostgreSQL's name of a primary key tells.
    pub fn is_duplicate_id(&self) -> bool {
        let of_primary_key = || self.server()?.constraint()?.strip_suffix("_pkey").map(|_| "id");
        self.code() == Some(&SqlState::UNIQUE_VIOLATION) && self.key_columns().or_else(of_primary_key) == Some("id")
    }

    /// The server answered the attempt to connect, and refused. A database that starts or stops (class 57) is
    /// unreachable.
    pub fn is_connect_refusal(&self) -> bool {
        match (self, self.code()) {
            (Self::Unusable(_), _) => true,
            (_, Some(code)) => !code.code().starts_with("57"),
            // It asks for a password, for instance, and the URL has none.
            (Self::Postgres(_), None) => !self.is_disconnect(),
            _ => false,
        }
    }

    /// A pooler does not let a start-up option through.
    pub fn is_unsupported_option(&self) -> bool {
        self.code() == Some(&SqlState::PROTOCOL_VIOLATION)
            && self.server().is_some_and(|said| said.message().contains("unsupported startup parameter"))
    }

    /// The TLS handshake failed.
    pub fn is_tls_error(&self) -> bool {
        matches!(self, Self::Postgres(error) if tls::tls_error(error).is_some())
    }
}

impl From<PgError> for DbError {
    fn from(error: PgError) -> Self {
        Self::Postgres(error)
    }
}

fn sources<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn StdError + 'static)| (*error).source())
}

/// One line for the log. What can quote a task is left out: PostgreSQL's `DETAIL`, and the message on a value that a
/// trigger could not convert.
impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Postgres(error) => match (error.as_db_error(), tls::explain(error)) {
                (Some(said), _) => {
                    let quotes_value = matches!(said.code().code(), "22003" | "22007" | "22008" | "22P02");
                    let message = if quotes_value { "a value cannot be converted" } else { said.message() };
                    format!("{}: {message} ({})", said.severity(), said.code().code())
                }
                (None, Some(explanation)) => explanation,
                (None, None) => sources(error).map(ToString::to_string).collect::<Vec<_>>().join(": "),
            },
            Self::Timeout => "the database did not answer in time".to_owned(),
            Self::NotSent => "the connection had ended".to_owned(),
            Self::Unavailable => "no connection to the database".to_owned(),
            Self::Unusable(why) | Self::Bug(why) => why.clone(),
        };
        f.write_str(&text.replace(char::is_control, " "))
    }
}

impl StdError for DbError {}

#[cfg(test)]
pub(crate) use tests::server_error;

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use rustls::CertificateError;
    use tokio::io::{AsyncWriteExt, DuplexStream};
    use tokio_postgres::NoTls;
    use tokio_postgres::config::SslMode;
    use tokio_postgres::tls::{NoTlsStream, TlsConnect};

    use super::*;

    #[test]
    fn sqlstate_when_classified_matches_the_table() {
        for (code, class) in [
            ("26000", Class::StalePlan),
            ("42P05", Class::StalePlan),
            ("40001", Class::Conflict),
            ("40P01", Class::Conflict),
            ("40003", Class::Transient),
            ("08006", Class::Transient),
            ("25006", Class::Transient),
            ("53300", Class::Transient),
            ("55P03", Class::Transient),
            ("57014", Class::Transient),
            ("57P01", Class::Transient),
            ("23505", Class::Permanent),
            ("42501", Class::SchemaMismatch),
            ("42703", Class::SchemaMismatch),
            ("42601", Class::Permanent),
            ("0A000", Class::Permanent),
            ("4", Class::Permanent),
            ("", Class::Permanent),
        ] {
            assert_eq!(Class::of(&SqlState::from_code(code)), class, "{code}");
        }
    }

    /// What becomes of a connection whose server says this in the end and closes it.
    fn failure(message: &[u8]) -> DbError {
        failure_with(message, SslMode::Disable, NoTls)
    }

    fn failure_with(message: &[u8], mode: SslMode, tls: impl TlsConnect<DuplexStream>) -> DbError {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (client, mut server) = tokio::io::duplex(4_096);
        runtime.block_on(async {
            server.write_all(message).await.unwrap();
            server.shutdown().await.unwrap();
            let mut config = tokio_postgres::Config::new();
            let config = config.user("ada").ssl_mode(mode);
            DbError::from(config.connect_raw(client, tls).await.err().expect("the server refuses"))
        })
    }

    /// A TLS handshake that fails.
    struct FailingTls;

    impl TlsConnect<DuplexStream> for FailingTls {
        type Stream = NoTlsStream;
        type Error = rustls::Error;
        type Future = Ready<Result<NoTlsStream, rustls::Error>>;

        fn connect(self, _: DuplexStream) -> Self::Future {
            ready(Err(CertificateError::Expired.into()))
        }
    }

    /// The same with an `ErrorResponse` of these fields (PostgreSQL 17, section 53.8).
    pub(crate) fn server_error(fields: &[(char, &str)]) -> DbError {
        let body: String = fields.iter().map(|(kind, value)| format!("{kind}{value}\0")).collect();
        let length = u32::try_from(4 + body.len() + 1).unwrap().to_be_bytes();
        failure(&[b"E", length.as_slice(), body.as_bytes(), b"\0"].concat())
    }

    fn error(severity: &str, code: &str, message: &str) -> DbError {
        server_error(&[('S', severity), ('V', severity), ('C', code), ('M', message)])
    }

    #[test]
    fn severity_when_translated_or_without_its_plain_field_is_understood() {
        let translated = server_error(&[('S', "FEHLER"), ('V', "ERROR"), ('C', "23505"), ('M', "doppelt")]);
        assert!(translated.is_refusal() && !translated.is_fatal());
        let of_a_pooler = server_error(&[('S', "FATAL"), ('C', "08P01"), ('M', "no more connections")]);
        assert!(of_a_pooler.is_fatal() && !of_a_pooler.is_refusal());
        let panic = error("PANIC", "XX000", "no space");
        assert!(panic.is_fatal() && !panic.is_refusal());
        assert!(!DbError::NotSent.is_refusal() && !DbError::NotSent.is_fatal());
    }

    #[test]
    fn failure_when_judged_has_the_consequences_of_its_kind() {
        let detail = ('D', "Key (id)=(7) already exists.");
        let duplicate_id = server_error(&[('S', "ERROR"), ('V', "ERROR"), ('C', "23505"), ('M', "duplicate"), detail]);
        // Whether it ended the connection, is transient, lets a write and a read be tried again.
        for (error, expected) in [
            (error("ERROR", "23505", "duplicate key"), [false, false, false, false]),
            (duplicate_id, [false, false, true, true]),
            (error("ERROR", "23514", "check"), [false, false, false, false]),
            (error("ERROR", "0A000", "cannot perform INSERT RETURNING"), [false, false, false, false]),
            (error("ERROR", "26000", "no such prepared statement"), [false, false, true, true]),
            (error("ERROR", "40001", "could not serialize"), [false, true, true, true]),
            (error("ERROR", "57014", "statement timeout"), [false, true, false, false]),
            (error("ERROR", "53100", "disk full"), [false, true, false, false]),
            (error("FATAL", "57P01", "terminating connection"), [true, true, false, true]),
            (error("FATAL", "40001", "conflict with recovery"), [true, true, false, true]),
            (error("PANIC", "XX000", "no space"), [true, true, false, true]),
            (failure(b""), [true, true, false, true]),
            (failure(b"E"), [true, true, false, true]),
            // Not a message of the protocol.
            (failure(b"HTTP/1.1 400 Bad Request\r\n\r\n"), [true, true, false, true]),
            (DbError::NotSent, [true, true, true, true]),
            (DbError::Timeout, [false, true, false, false]),
            (DbError::Unavailable, [false, true, false, false]),
            (DbError::Unusable("no table".to_owned()), [false, true, false, false]),
            (DbError::Bug("a bug".to_owned()), [false, false, false, false]),
        ] {
            let found = [error.is_disconnect(), error.is_transient(), error.may_retry(true), error.may_retry(false)];
            assert_eq!(found, expected, "{error:?}");
            assert!(!error.is_tls_error(), "{error:?}");
        }
    }

    #[test]
    fn plan_when_stale_tells_whether_the_table_was_altered() {
        let stale = |routine| server_error(&[('S', "ERROR"), ('C', "0A000"), ('M', "cached plan"), ('R', routine)]);
        let altered = stale("RevalidateCachedQuery");
        assert!(altered.is_stale_plan() && altered.is_altered_table());
        let other = stale("PerformCursorOpen");
        assert!(!other.is_stale_plan() && !other.is_altered_table());
        let unknown = error("ERROR", "26000", "prepared statement does not exist");
        assert!(unknown.is_stale_plan() && !unknown.is_altered_table());
        let conflict = server_error(&[('S', "ERROR"), ('C', "40001"), ('M', "x"), ('R', "RevalidateCachedQuery")]);
        assert!(!conflict.is_stale_plan() && !conflict.is_altered_table());
        assert!(!DbError::Timeout.is_stale_plan());
    }

    #[test]
    fn transaction_when_another_was_in_the_way_is_a_serialization_failure() {
        for (code, expected) in [("40001", true), ("40P01", true), ("40003", false), ("23505", false)] {
            assert_eq!(error("ERROR", code, "x").is_serialization_failure(), expected, "{code}");
        }
        assert!(!DbError::Timeout.is_serialization_failure());
    }

    #[test]
    fn key_when_violated_tells_its_columns_or_its_name() {
        let violated =
            |kind, value| server_error(&[('S', "ERROR"), ('C', "23503"), ('M', "no such key"), (kind, value)]);
        let detail = "Key (user_id, title)=(ada, a) is not present in table \"lists\".";
        for (error, [user_id, title, id]) in [
            (violated('D', detail), [true, true, false]),
            (violated('n', "tasks_user_id_fkey"), [true, false, true]),
            (violated('n', "a_rule"), [true, true, true]),
            (violated('D', "no columns"), [true, true, true]),
        ] {
            let found = ["user_id", "title", "id"].map(|column| error.may_concern(column));
            assert_eq!(found, [user_id, title, id], "{error:?}");
        }
    }

    #[test]
    fn null_when_refused_is_a_schema_mismatch_only_in_the_table_itself() {
        let refused = |table| server_error(&[('S', "ERROR"), ('C', "23502"), ('M', "null value"), ('t', table)]);
        assert!(refused("tasks").is_schema_mismatch() && !refused("audit").is_schema_mismatch());
        assert!(!error("ERROR", "23502", "raised by a trigger").is_schema_mismatch());
    }

    #[test]
    fn connection_when_refused_tells_why() {
        let read_only = error("ERROR", "25006", "cannot execute in a read-only transaction");
        assert!(read_only.is_read_only() && !error("ERROR", "25001", "active transaction").is_read_only());
        for (refused, expected) in [
            (error("FATAL", "28P01", "password authentication failed"), true),
            (error("FATAL", "3D000", "database does not exist"), true),
            (error("FATAL", "57P03", "the database system is starting up"), false),
            (failure(b""), false),
            // It asks for a password in clear text, and there is none.
            (failure(b"R\0\0\0\x08\0\0\0\x03"), true),
            (DbError::Unusable("no table".to_owned()), true),
            (DbError::Timeout, false),
        ] {
            assert_eq!(refused.is_connect_refusal(), expected, "{refused:?}");
        }
        for (code, message, expected) in [
            ("08P01", "unsupported startup parameter: options", true),
            ("08P01", "no more connections allowed", false),
            ("28000", "unsupported startup parameter: options", false),
        ] {
            assert_eq!(error("FATAL", code, message).is_unsupported_option(), expected, "{code} {message}");
        }
    }

    #[test]
    fn handshake_when_it_fails_is_a_tls_error() {
        let error = failure_with(b"S", SslMode::Require, FailingTls);
        assert!(error.is_tls_error() && !error.is_disconnect() && !error.is_transient(), "{error:?}");
        assert_eq!(error.to_string(), "the database's certificate is not accepted: it has expired");
    }

    #[test]
    fn error_when_shown_is_one_line_without_the_detail() {
        let fields = [('S', "ERROR"), ('C', "23505"), ('M', "two\nlines"), ('D', "Key (title)=(secret) exists.")];
        assert_eq!(server_error(&fields).to_string(), "ERROR: two lines (23505)");
        assert_eq!(failure(b"").to_string(), "connection closed");
        assert_eq!(DbError::Timeout.to_string(), "the database did not answer in time");
        assert_eq!(DbError::Unusable("no\ttable".to_owned()).to_string(), "no table");
    }

    #[test]
    fn write_when_it_may_have_run_is_not_retried() {
        assert!(DbError::NotSent.may_retry(true) && DbError::NotSent.may_retry(false));
        assert!(!DbError::Timeout.may_retry(true) && !DbError::Timeout.may_retry(false));
        assert!(!DbError::Unavailable.may_retry(false));
    }
}
