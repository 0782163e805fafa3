//! Mapping of PostgreSQL's errors to API errors (`specs/database/failure.md`). What an operator needs is logged.

use log::error;
use postgres::error::SqlState;

use super::body::TaskPatch;
use crate::auth::{AuthError, UserId};
use crate::db::DbError;
use crate::http::error::{ApiError, FieldError};

/// Only the start creates a table: a missing one may only have been renamed for a moment.
const SCHEMA_MISMATCH: &str = "the table was altered, or a privilege is missing: `todo-backend --check` may name the \
     cause, and a restart creates a missing table";

/// What a request sent to the database.
#[derive(Debug, Default)]
pub struct Sent {
    /// It changes something.
    pub writes: bool,
    /// It creates a task.
    pub is_creation: bool,
    /// The fields that it creates or updates a task with.
    pub fields: TaskPatch,
}

impl Sent {
    /// The texts that `is_wrong` holds for.
    fn texts(&self, is_wrong: impl Fn(&str) -> bool) -> Vec<&'static str> {
        self.fields.texts().filter(|(_, text)| is_wrong(text)).map(|(name, _)| name).collect()
    }
}

/// The database's encoding lacks a character of this text, which was sent. The error on a stored text names no
/// parameter, or all of them with their values. The context ("unnamed portal parameter $3") may be in any language.
pub fn is_unencodable(text: &str, error: &DbError) -> bool {
    let context = error.server().and_then(|said| said.where_()).unwrap_or_default();
    let names_one = context.contains('$') && !context.contains("$1 = ");
    !text.is_ascii() && names_one && matches!(sqlstate(error), "22P05" | "22021")
}

fn sqlstate(error: &DbError) -> &str {
    error.code().map_or("", SqlState::code)
}

/// The API error for a failed statement. What an operator needs is logged.
pub fn to_api_error(error: &DbError, user: &UserId, sent: &Sent) -> ApiError {
    let texts = sent.texts(|_| true);
    match sqlstate(error) {
        // A function that a policy calls, for instance, raises it. The message may quote a task.
        code if !sent.writes && (matches!(code, "22001" | "54000" | "P0001") || code.starts_with("23")) => {
            error!("a rule of the database prevents reading: SQLSTATE {code}");
            ApiError::Unavailable
        }
        // Too long for the column, or for an index on it. If no text is too long, the user's id is.
        "22001" | "54000" => {
            let is_wrong = |text: &str| text.chars().count() > column_length(error);
            let wrong = sent.texts(is_wrong);
            if wrong.is_empty() && sent.is_creation && is_wrong(user.as_str()) {
                return AuthError::Invalid("its user id is too long for the database").into();
            }
            refused_value(&wrong, "string_too_long", "String is too long for the database")
        }
        "22P05" | "22021" => {
            let wrong = sent.texts(|text| is_unencodable(text, error));
            if !wrong.is_empty() {
                return refused_value(&wrong, "string_unencodable", "String has a character that the database lacks");
            }
            if is_unencodable(user.as_str(), error) {
                return AuthError::Invalid("its user id has a character that the database cannot store").into();
            }
            error!("a stored text has no equivalent in UTF-8: {error}");
            ApiError::Internal
        }
        // A check, or a trigger that raises an exception, may be about any field.
        "23514" | "P0001" | "23502" if !error.is_schema_mismatch() => {
            let wrong = if sent.fields.has_only_texts() { &*texts } else { &[] };
            refused_value(wrong, "check_violation", "Value is refused by a rule of the database")
        }
        "23503" if sent.is_creation && error.may_concern("user_id") => {
            AuthError::Invalid("its user does not exist").into()
        }
        "23503" => {
            let wrong: Vec<_> = texts.into_iter().filter(|name| error.may_concern(name)).collect();
            if !wrong.is_empty() {
                return refused_value(
                    &wrong,
                    "foreign_key_violation",
                    "Value does not occur where the database needs it",
                );
            }
            if sent.is_creation {
                return unavailable("a column of a new task refers to data that does not exist", error);
            }
            let message = "Other data of the database refers to this task";
            ApiError::Validation(vec![FieldError::new(&["path", "id"], "foreign_key_violation", message)])
        }
        "23505" | "23P01" if !error.is_duplicate_id() => {
            refused_value(&texts, "unique_violation", "There is such a task already")
        }
        "22003" | "23505" | "2200H" if sent.is_creation => {
            unavailable("no task can be created, because the sequence of `id` is behind or at its end", error)
        }
        "26000" | "42P05" => unavailable("a pooler takes prepared statements away, and was not recognised", error),
        _ if error.is_schema_mismatch() => unavailable(SCHEMA_MISMATCH, error),
        _ if error.is_transient() => ApiError::Unavailable,
        _ => {
            error!("a statement failed: {error}");
            ApiError::Internal
        }
    }
}

fn unavailable(why: &str, error: &DbError) -> ApiError {
    error!("{why}: {error}");
    ApiError::Unavailable
}

/// A 422 on the wrong field; on the body where it is not clear which.
fn refused_value(wrong: &[&'static str], kind: &'static str, message: &str) -> ApiError {
    let loc = if let [field] = wrong { vec!["body", field] } else { vec!["body"] };
    ApiError::Validation(vec![FieldError::new(&loc, kind, message)])
}

/// The length in PostgreSQL's "value too long for type character varying(100)".
fn column_length(error: &DbError) -> usize {
    let message = error.server().map_or("", |said| said.message());
    let digits = message.rsplit_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(digits, _)| digits);
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::error::server_error;

    const NO_USER: (char, &str) = ('D', "Key (user_id)=(ada) is not present in table \"user\".");
    const NO_TITLE: (char, &str) = ('D', "Key (title)=(four) is not present in table \"titles\".");
    const NO_LIST: (char, &str) = ('D', "Key (list)=(1) is not present in table \"lists\".");
    const SAME_ID: (char, &str) = ('D', "Key (id)=(7) already exists.");
    const PARAMETER: (char, &str) = ('W', "unnamed portal parameter $3");
    const PARAMETERS: (char, &str) = ('W', "unnamed portal with parameters: $1 = 'ada'");
    const TASKS: (char, &str) = ('t', "tasks");
    const NOTHING: (char, &str) = ('D', "");

    fn sent(is_creation: bool, body: &str) -> Sent {
        Sent { writes: true, is_creation, fields: TaskPatch::parse(body).unwrap() }
    }

    /// What a client gets when PostgreSQL answers with this SQLSTATE and field: the status, or place and kind of a 422.
    fn response((code, field): (&str, (char, &str)), user: &str, sent: &Sent) -> String {
        let message = ('M', "value too long for type character varying(3)");
        let error = server_error(&[('S', "ERROR"), ('C', code), message, field]);
        match to_api_error(&error, &UserId::of_test(user), sent) {
            ApiError::Validation(errors) => format!("{} {}", errors[0].loc.join("."), errors[0].kind),
            other => other.description().0.to_string(),
        }
    }

    #[test]
    fn write_when_the_database_refuses_it_has_the_response_of_the_cause() {
        let created = sent(true, r#"{"title":"é","description":"four"}"#);
        let changed = sent(false, r#"{"title":"four","completed":true}"#);
        for (error, creation, change) in [
            (("22001", NOTHING), "body.description string_too_long", "body.title string_too_long"),
            (("54000", NOTHING), "body.description string_too_long", "body.title string_too_long"),
            (("22P05", PARAMETER), "body.title string_unencodable", "500"),
            (("22021", PARAMETER), "body.title string_unencodable", "500"),
            (("22P05", PARAMETERS), "500", "500"),
            (("22P05", NOTHING), "500", "500"),
            (("23514", NOTHING), "body check_violation", "body check_violation"),
            (("P0001", NOTHING), "body check_violation", "body check_violation"),
            (("23502", NOTHING), "body check_violation", "body check_violation"),
            (("23502", TASKS), "503", "503"),
            (("23503", NO_USER), "401", "path.id foreign_key_violation"),
            (("23503", NO_TITLE), "body.title foreign_key_violation", "body.title foreign_key_violation"),
            (("23503", NO_LIST), "503", "path.id foreign_key_violation"),
            (("23505", NOTHING), "body unique_violation", "body.title unique_violation"),
            (("23P01", NOTHING), "body unique_violation", "body.title unique_violation"),
            (("23505", SAME_ID), "503", "500"),
            (("22003", NOTHING), "503", "500"),
            (("2200H", NOTHING), "503", "500"),
            (("26000", NOTHING), "503", "503"),
            (("42501", NOTHING), "503", "503"),
            (("57014", NOTHING), "503", "503"),
            (("XX000", NOTHING), "500", "500"),
        ] {
            assert_eq!(response(error, "ada", &created), creation, "{error:?} to a creation");
            assert_eq!(response(error, "ada", &changed), change, "{error:?} to a change");
        }
        let titled = sent(false, r#"{"title":"four"}"#);
        assert_eq!(response(("23514", NOTHING), "ada", &titled), "body.title check_violation");
    }

    #[test]
    fn user_id_when_the_database_cannot_store_it_is_a_401() {
        let (created, changed) = (sent(true, r#"{"title":"abc"}"#), sent(false, r#"{"title":"abc"}"#));
        for (error, user, creation, change) in [
            (("22001", NOTHING), "four", "401", "body string_too_long"),
            (("22001", NOTHING), "ada", "body string_too_long", "body string_too_long"),
            (("22P05", PARAMETER), "é", "401", "401"),
            (("22P05", NOTHING), "é", "500", "500"),
        ] {
            assert_eq!(response(error, user, &created), creation, "{error:?} to a creation by {user}");
            assert_eq!(response(error, user, &changed), change, "{error:?} to a change by {user}");
        }
    }

    #[test]
    fn read_when_a_rule_of_the_database_prevents_it_is_a_503() {
        for code in ["22001", "54000", "P0001", "23503", "23514"] {
            assert_eq!(response((code, NOTHING), "ada", &Sent::default()), "503", "{code}");
        }
        assert_eq!(response(("22003", NOTHING), "ada", &Sent::default()), "500");
    }

    #[test]
    fn value_when_refused_by_the_database_names_the_field() {
        let loc = |body: &str, is_wrong: fn(&str) -> bool| {
            let sent = Sent { writes: true, fields: TaskPatch::parse(body).unwrap(), ..Sent::default() };
            match refused_value(&sent.texts(is_wrong), "kind", "why") {
                ApiError::Validation(errors) => errors[0].loc.join("."),
                other => panic!("{other:?}"),
            }
        };
        let both = r#"{"title":"é","description":"a"}"#;
        assert_eq!(loc(both, |text| !text.is_ascii()), "body.title");
        assert_eq!(loc(both, |text| text.is_ascii()), "body.description");
        assert_eq!(loc(both, |_| true), "body");
        assert_eq!(loc(r#"{"title":"é"}"#, |_| true), "body.title");
        assert_eq!(loc(r#"{"description":null,"completed":true}"#, |_| true), "body");
    }
}
