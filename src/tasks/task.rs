//! Tasks, and the bodies that create or change one. A value of these types is valid; nothing is checked again later.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::timestamp::Timestamp;
use crate::http::error::{ApiError, FieldError};
use crate::http::json::{JsonValue, is_object};

/// The longest title after trimming, in characters (Unicode scalar values).
pub const MAX_TITLE_CHARS: usize = 255;
/// The longest description, in characters (Unicode scalar values).
pub const MAX_DESCRIPTION_CHARS: usize = 10_000;

/// A task as a client reads it. It borrows its texts from the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // specs/api/tasks.md says what each is
pub struct Task<'r> {
    pub id: i64,
    pub user_id: &'r str,
    pub title: Cow<'r, str>,
    pub description: Option<Cow<'r, str>>,
    pub completed: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The id of a task, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId(i64);

impl TaskId {
    /// Reads the `{id}` of a path.
    ///
    /// # Errors
    /// [`ApiError::TaskNotFound`] for an integer that no task can have, [`ApiError::Validation`] for anything else.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(FieldError::new(&["path", "id"], "int_parsing", "Input should be a positive integer").into());
        }
        match text.parse() {
            Ok(id) if id >= 1 => Ok(Self(id)),
            _ => Err(ApiError::TaskNotFound),
        }
    }

    /// The id as a number.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// A title: 1 to [`MAX_TITLE_CHARS`] characters, without white space at its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title(String);

impl Title {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(field: JsonValue) -> Result<Self, FieldError> {
        let text = text("title", field)?;
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(field_error("title", "string_too_short", "Title should have at least 1 character"));
        }
        validate_text("title", trimmed, MAX_TITLE_CHARS)?;
        Ok(Self(if trimmed.len() == text.len() { text } else { trimmed.to_owned() }))
    }
}

/// A description: up to [`MAX_DESCRIPTION_CHARS`] characters, kept as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description(String);

impl Description {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `null` is valid and means no description.
    fn parse(field: JsonValue) -> Result<Option<Self>, FieldError> {
        if field == JsonValue::Null {
            return Ok(None);
        }
        let text = text("description", field)?;
        validate_text("description", &text, MAX_DESCRIPTION_CHARS)?;
        Ok(Some(Self(text)))
    }
}

/// Checks what every stored text must satisfy.
fn validate_text(field: &'static str, text: &str, max_chars: usize) -> Result<(), FieldError> {
    if text.contains('\0') {
        return Err(field_error(field, "string_nul", "String should not contain a NUL character"));
    }
    // A character has at least one byte: most texts need not be counted.
    if text.len() > max_chars && text.chars().count() > max_chars {
        let message = format!("String should have at most {max_chars} characters");
        return Err(field_error(field, "string_too_long", message));
    }
    Ok(())
}

fn text(name: &'static str, field: JsonValue) -> Result<String, FieldError> {
    match field {
        JsonValue::Text(text) => Ok(text),
        JsonValue::Absent => Err(field_error(name, "missing", "Field required")),
        _ => Err(field_error(name, "string_type", "Input should be a valid string")),
    }
}

fn parse_completed(field: JsonValue) -> Result<bool, FieldError> {
    match field {
        JsonValue::Bool(value) => Ok(value),
        _ => Err(field_error("completed", "bool_type", "Input should be true or false")),
    }
}

fn field_error(field: &'static str, kind: &'static str, message: impl Into<String>) -> FieldError {
    FieldError::new(&["body", field], kind, message)
}

/// The name of a field of a body. Clients also send `priority`, `tags`, `user_id`.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Title,
    Description,
    Completed,
    #[serde(other)]
    Other,
}

/// Title, description and `completed` of a body, as they were sent. Of a field that occurs twice the last one counts.
fn parse_body(body: &str) -> Result<[JsonValue; 3], ApiError> {
    let invalid = |kind, message: String| ApiError::from(FieldError::new(&["body"], kind, message));
    let malformed = |error: serde_json::Error| invalid("json_invalid", format!("Invalid JSON: {error}"));
    if !is_object(body.as_bytes()) {
        serde_json::from_str::<IgnoredAny>(body).map_err(malformed)?;
        return Err(invalid("model_attributes_type", "Input should be an object".to_owned()));
    }
    let fields: BTreeMap<Name, &RawValue> = serde_json::from_str(body).map_err(malformed)?;
    let field = |name| match fields.get(&name) {
        // The error in the whole body has the right line and column.
        Some(sent) => serde_json::from_str(sent.get())
            .map_err(|error| malformed(serde_json::from_str::<Value>(body).err().unwrap_or(error))),
        None => Ok(JsonValue::Absent),
    };
    Ok([field(Name::Title)?, field(Name::Description)?, field(Name::Completed)?])
}

/// Collects what is wrong with the fields of a body, so that all of it is reported at once.
#[derive(Default)]
struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// A field that need not be sent; `None` when it was not.
    fn optional<T>(&mut self, field: JsonValue, parse: impl FnOnce(JsonValue) -> Result<T, FieldError>) -> Option<T> {
        if field == JsonValue::Absent { None } else { self.check(parse(field)) }
    }

    fn check<T>(&mut self, parsed: Result<T, FieldError>) -> Option<T> {
        parsed.map_err(|error| self.0.push(error)).ok()
    }

    /// What was parsed, if nothing was wrong.
    fn finish<T>(self, parsed: Option<T>) -> Result<T, ApiError> {
        parsed.filter(|_| self.0.is_empty()).ok_or(ApiError::Validation(self.0))
    }
}

/// A task to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewTask {
    pub title: Title,
    pub description: Option<Description>,
    pub completed: bool,
}

impl NewTask {
    /// Reads the body of a `POST`.
    ///
    /// # Errors
    /// [`ApiError::Validation`] with everything that is wrong with it.
    pub fn parse(body: &str) -> Result<Self, ApiError> {
        let ([title, description, completed], mut errors) = (parse_body(body)?, FieldErrors::default());
        let title = errors.check(Title::parse(title));
        let description = errors.optional(description, Description::parse).flatten();
        let completed = errors.optional(completed, parse_completed).unwrap_or(false);
        errors.finish(title.map(|title| Self { title, description, completed }))
    }
}

/// A change of a task. `None` keeps what is there: clients send partial bodies.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TaskPatch {
    pub title: Option<Title>,
    /// `Some(None)` removes the description.
    pub description: Option<Option<Description>>,
    pub completed: Option<bool>,
}

impl TaskPatch {
    /// Reads the body of a `PUT`.
    ///
    /// # Errors
    /// [`ApiError::Validation`] with everything that is wrong with it.
    pub fn parse(body: &str) -> Result<Self, ApiError> {
        let ([title, description, completed], mut errors) = (parse_body(body)?, FieldErrors::default());
        let title = errors.optional(title, Title::parse);
        let description = errors.optional(description, Description::parse);
        let completed = errors.optional(completed, parse_completed);
        errors.finish(Some(Self { title, description, completed }))
    }

    /// Whether it names no field, and so changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a `PATCH …/complete` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// Sets it to this value.
    Set(bool),
    /// Inverts it.
    Toggle,
}

impl Completion {
    /// Reads the body of a `PATCH …/complete`. Most clients send none, or `{}`; axios sends `null` for none.
    ///
    /// # Errors
    /// [`ApiError::Validation`] with what is wrong with it.
    pub fn parse(body: &str) -> Result<Self, ApiError> {
        if matches!(body.trim_ascii(), "" | "null") {
            return Ok(Self::Toggle);
        }
        let ([.., completed], mut errors) = (parse_body(body)?, FieldErrors::default());
        let value = errors.optional(completed, parse_completed);
        errors.finish(Some(value.map_or(Self::Toggle, Self::Set)))
    }
}

#[cfg(test)]
mod tests {
    use postgres::types::{FromSql, Type};

    use super::*;

    fn kinds<T: std::fmt::Debug>(parsed: Result<T, ApiError>) -> Vec<(String, &'static str)> {
        match parsed {
            Err(ApiError::Validation(errors)) => {
                errors.into_iter().map(|error| (error.loc.join("."), error.kind)).collect()
            }
            other => panic!("expected errors, got {other:?}"),
        }
    }

    #[test]
    fn task_when_serialized_is_the_json_of_the_specification() {
        let moment = |microseconds: i64| {
            Timestamp::from_sql(&Type::TIMESTAMPTZ, &microseconds.to_be_bytes()).expect("a moment of the calendar")
        };
        let mut task = Task {
            id: 7,
            user_id: "ada",
            title: "\"milk\" & Brötchen".into(),
            description: Some("two lines:\none\tand \\ two".into()),
            completed: true,
            created_at: moment(0),
            updated_at: moment(1_500_000),
        };
        let json = |task: &Task| serde_json::to_string(task).unwrap();
        assert_eq!(
            json(&task),
            r#"{"id":7,"user_id":"ada","title":"\"milk\" & Brötchen","#.to_owned()
                + r#""description":"two lines:\none\tand \\ two","completed":true,"#
                + r#""created_at":"2000-01-01T00:00:00.000000Z","updated_at":"2000-01-01T00:00:01.500000Z"}"#
        );
        task.description = None;
        assert!(json(&task).contains(r#","description":null,"completed":true,"#), "{}", json(&task));
    }

    #[test]
    fn id_when_an_integer_in_range_is_accepted() {
        for (text, id) in [("1", 1), ("007", 7), ("9223372036854775807", i64::MAX)] {
            assert_eq!(TaskId::parse(text).unwrap().get(), id, "{text}");
        }
        for text in ["0", "-0", "-1", "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890"] {
            assert_eq!(TaskId::parse(text), Err(ApiError::TaskNotFound), "{text}");
        }
        for text in ["abc", "1.0", "+1", "1e3", "-", "--1", "0x1", " 1", "%31", "١", "1a"] {
            assert_eq!(kinds(TaskId::parse(text)), [("path.id".to_owned(), "int_parsing")], "{text}");
        }
    }

    #[test]
    fn title_when_parsed_is_trimmed_then_counted_in_characters() {
        let title = |text: &str| Title::parse(JsonValue::Text(text.to_owned()));
        assert_eq!(title(" \t milk\u{a0}\n").unwrap().as_str(), "milk");
        assert_eq!(title(&"😀".repeat(255)).unwrap().as_str().chars().count(), 255);
        assert_eq!(title(&format!("  {}  ", "a".repeat(255))).unwrap().as_str().len(), 255);
        assert_eq!(title(&"é".repeat(256)).unwrap_err().kind, "string_too_long");
        assert_eq!(title(" \u{3000} ").unwrap_err().kind, "string_too_short");
        assert_eq!(title("a\0b").unwrap_err().kind, "string_nul");
    }

    #[test]
    fn new_task_when_it_has_a_title_is_valid() {
        let task = NewTask::parse(r#"{"title":"a","priority":"high","user_id":"eve"}"#).unwrap();
        assert_eq!((task.title.as_str(), task.description, task.completed), ("a", None, false));
        let task = NewTask::parse(r#"{"title":"a","title":"b","description":"","completed":true}"#).unwrap();
        assert_eq!((task.title.as_str(), task.description.unwrap().as_str(), task.completed), ("b", "", true));
        assert!(NewTask::parse(r#"{"title":"a","description":null}"#).unwrap().description.is_none());
    }

    #[test]
    fn body_when_several_fields_are_invalid_names_all() {
        assert_eq!(
            kinds(NewTask::parse(r#"{"description":5,"completed":"true"}"#)),
            [
                ("body.title".to_owned(), "missing"),
                ("body.description".to_owned(), "string_type"),
                ("body.completed".to_owned(), "bool_type")
            ]
        );
        assert_eq!(
            kinds(TaskPatch::parse(r#"{"title":null,"completed":1}"#)),
            [("body.title".to_owned(), "string_type"), ("body.completed".to_owned(), "bool_type")]
        );
    }

    #[test]
    fn body_when_not_an_object_is_refused_with_its_place() {
        for body in ["null", "[]", "\"x\"", "1", "true", "[\"title\"]"] {
            assert_eq!(kinds(NewTask::parse(body)), [("body".to_owned(), "model_attributes_type")], "{body}");
        }
        for body in ["", "{", "{\"title\":}", "{} x", "{'title':1}", "{\"title\":\"\\ud800\"}"] {
            assert_eq!(kinds(TaskPatch::parse(body)), [("body".to_owned(), "json_invalid")], "{body}");
        }
        let error = NewTask::parse("{\n  \"title\": oops}").unwrap_err();
        assert!(format!("{error:?}").contains("line 2 column 12"), "{error:?}");
    }

    #[test]
    fn body_when_deeply_nested_is_parsed() {
        let (open, close) = ("[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(kinds(NewTask::parse(&format!("{open}{close}"))), [("body".to_owned(), "model_attributes_type")]);
        let in_title = format!("{{\"title\":{open}{close}}}");
        assert_eq!(kinds(NewTask::parse(&in_title)), [("body.title".to_owned(), "string_type")]);
        assert!(NewTask::parse(&format!("{{\"title\":\"a\",\"tags\":{open}{close}}}")).is_ok());
        assert_eq!(kinds(NewTask::parse(&open)), [("body".to_owned(), "json_invalid")]);
        let Err(ApiError::Validation(errors)) = NewTask::parse("{\n\n \"title\": \"\\ud800\"}") else { panic!() };
        assert!(errors[0].msg.contains("line 3 column 18"), "{}", errors[0].msg);
    }

    #[test]
    fn patch_when_a_field_is_absent_keeps_it() {
        let change = TaskPatch::parse(r#"{"description":null}"#).unwrap();
        assert_eq!(change, TaskPatch { title: None, description: Some(None), completed: None });
        assert!(TaskPatch::parse(r#"{"tags":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn completion_when_without_a_value_toggles() {
        for body in ["", " \r\n", "{}", "{\"done\":true}", "null", " null\n"] {
            assert_eq!(Completion::parse(body), Ok(Completion::Toggle), "{body:?}");
        }
        assert_eq!(Completion::parse("{\"completed\":false}"), Ok(Completion::Set(false)));
        for body in ["[]", "1", "{\"completed\":null}", "{\"completed\":\"true\"}", "{\"completed\":1}"] {
            assert_eq!(kinds(Completion::parse(body)).len(), 1, "{body}");
        }
    }
}
