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
