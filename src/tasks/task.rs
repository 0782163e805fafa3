//! Tasks, and what a client may say of one. A value of these types has been checked; nothing is checked again later.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::http::error::{Error, Violation};
use crate::http::json::{self, Scalar, is_object};
use crate::tasks::timestamp::Timestamp;

/// The longest title after trimming, in characters (Unicode scalar values).
pub const MAX_TITLE_CHARS: usize = 255;
/// The longest description, in characters (Unicode scalar values).
pub const MAX_DESCRIPTION_CHARS: usize = 10_000;

/// A task as the store knows it and as a client reads it. Its texts are its own, or those of the row that it is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // specs/api/tasks.md says what each is
pub struct Task<S = String> {
    pub id: i32,
    pub user_id: S,
    pub title: S,
    pub description: Option<S>,
    pub completed: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl<S: AsRef<str>> Task<S> {
    /// Adds it to JSON, as a client reads it. Member by member, for a list is little else: `serde_json` takes twice as long.
    pub fn write_json(&self, json: &mut Vec<u8>) {
        let Self { id, user_id, title, description, completed, created_at, updated_at } = self; // all there are
        json.extend_from_slice(b"{\"id\":");
        json::write(json, id);
        json.extend_from_slice(b",\"user_id\":");
        json::write_text(json, user_id.as_ref());
        json.extend_from_slice(b",\"title\":");
        json::write_text(json, title.as_ref());
        json.extend_from_slice(b",\"description\":");
        match description {
            Some(description) => json::write_text(json, description.as_ref()),
            None => json.extend_from_slice(b"null"),
        }
        json.extend_from_slice(b",\"completed\":");
        json::write(json, completed);
        json.extend_from_slice(b",\"created_at\":");
        created_at.write_json(json);
        json.extend_from_slice(b",\"updated_at\":");
        updated_at.write_json(json);
        json.push(b'}');
    }
}

/// The id of a task, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId(i32);

impl TaskId {
    /// Reads the `{id}` of a path.
    ///
    /// # Errors
    /// [`Error::UnknownTask`] for an integer that no task can have, [`Error::Invalid`] for what is no integer.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::Invalid(vec![Violation::new(
                &["path", "id"],
                "int_parsing",
                "Input should be a positive integer",
            )]));
        }
        match text.parse() {
            Ok(id) if id >= 1 => Ok(Self(id)),
            _ => Err(Error::UnknownTask),
        }
    }

    /// The id as a number.
    pub fn get(self) -> i32 {
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

    fn parse(field: Scalar) -> Result<Self, Violation> {
        let text = text("title", field)?;
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(violation("title", "string_too_short", "Title should have at least 1 character"));
        }
        check_text("title", trimmed, MAX_TITLE_CHARS)?;
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

    /// `null` is an answer too: none.
    fn parse(field: Scalar) -> Result<Option<Self>, Violation> {
        if field == Scalar::Null {
            return Ok(None);
        }
        let text = text("description", field)?;
        check_text("description", &text, MAX_DESCRIPTION_CHARS)?;
        Ok(Some(Self(text)))
    }
}

/// What every stored text has to keep to.
fn check_text(field: &'static str, text: &str, max_chars: usize) -> Result<(), Violation> {
    if text.contains('\0') {
        return Err(violation(field, "string_nul", "String should not contain a NUL character"));
    }
    // A character has at least one byte: most texts need not be counted.
    if text.len() > max_chars && text.chars().count() > max_chars {
        return Err(violation(
            field,
            "string_too_long",
            format!("String should have at most {max_chars} characters"),
        ));
    }
    Ok(())
}

fn text(name: &'static str, field: Scalar) -> Result<String, Violation> {
    match field {
        Scalar::Text(text) => Ok(text),
        _ => Err(violation(name, "string_type", "Input should be a valid string")),
    }
}

fn completed(field: Scalar) -> Result<bool, Violation> {
    match field {
        Scalar::Bool(value) => Ok(value),
        _ => Err(violation("completed", "bool_type", "Input should be true or false")),
    }
}

fn violation(field: &'static str, kind: &'static str, message: impl Into<String>) -> Violation {
    Violation::new(&["body", field], kind, message)
}

/// The fields of a body that a task can be given. Everything else in it is skipped without being kept: clients send
/// `priority`, `tags`, `user_id`. When a field stands twice, the last one wins.
#[derive(Default)]
struct Fields {
    title: Scalar,
    description: Scalar,
    completed: Scalar,
}

impl Fields {
    fn parse(body: &str) -> Result<Self, Error> {
        let invalid = |kind, message: String| Error::Invalid(vec![Violation::new(&["body"], kind, message)]);
        let malformed = |error: serde_json::Error| invalid("json_invalid", format!("Invalid JSON: {error}"));
        if is_object(body.as_bytes()) {
            return serde_json::from_str(body).map_err(malformed);
        }
        serde_json::from_str::<IgnoredAny>(body).map_err(malformed)?;
        Err(invalid("model_attributes_type", "Input should be an object".to_owned()))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match name.as_ref() {
                "title" => fields.title = map.next_value()?,
                "description" => fields.description = map.next_value()?,
                "completed" => fields.completed = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

/// A task to be created.
#[derive(Debug, PartialEq, Eq)]
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
    /// [`Error::Invalid`] with everything that is wrong with it.
    pub fn parse(body: &str) -> Result<Self, Error> {
        let fields = Fields::parse(body)?;
        let title = match fields.title {
            Scalar::Absent => Err(violation("title", "missing", "Field required")),
            sent => Title::parse(sent),
        };
        let description = if_sent(fields.description, Description::parse);
        let completed = if_sent(fields.completed, completed);
        match (title, description, completed) {
            (Ok(title), Ok(description), Ok(completed)) => {
                Ok(Self { title, description: description.flatten(), completed: completed.unwrap_or(false) })
            }
            (title, description, completed) => {
                Err(invalid([title.err(), description.err(), completed.err()]))
            }
        }
    }
}

/// A change of a task. `None` keeps what is there: clients send partial bodies.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TaskChange {
    pub title: Option<Title>,
    /// `Some(None)` takes the description away.
    pub description: Option<Option<Description>>,
    pub completed: Option<bool>,
}

impl TaskChange {
    /// Reads the body of a `PUT`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with everything that is wrong with it.
    pub fn parse(body: &str) -> Result<Self, Error> {
        let fields = Fields::parse(body)?;
        let title = if_sent(fields.title, Title::parse);
        let description = if_sent(fields.description, Description::parse);
        let completed = if_sent(fields.completed, completed);
        match (title, description, completed) {
            (Ok(title), Ok(description), Ok(completed)) => Ok(Self { title, description, completed }),
            (title, description, completed) => {
                Err(invalid([title.err(), description.err(), completed.err()]))
            }
        }
    }

    /// Whether it names no field, and so changes nothing.
    pub fn is_empty(&self) -> bool {
        self.title.is_none() && self.description.is_none() && self.completed.is_none()
    }
}

/// What a `PATCH …/complete` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// To this value.
    Set(bool),
    /// To the other value than it has.
    Toggle,
}

impl Completion {
    /// Reads the body of a `PATCH …/complete`. Most clients send none, or `{}`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what is wrong with it.
    pub fn parse(body: &str) -> Result<Self, Error> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::Toggle);
        }
        match if_sent(Fields::parse(body)?.completed, completed) {
            Ok(None) => Ok(Self::Toggle),
            Ok(Some(value)) => Ok(Self::Set(value)),
            Err(violation) => Err(invalid([Some(violation)])),
        }
    }
}

/// `None` for a field that was not sent.
fn if_sent<T>(
    field: Scalar,
    parse: impl FnOnce(Scalar) -> Result<T, Violation>,
) -> Result<Option<T>, Violation> {
    if field == Scalar::Absent { Ok(None) } else { parse(field).map(Some) }
}

fn invalid<const N: usize>(violations: [Option<Violation>; N]) -> Error {
    Error::Invalid(violations.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use postgres::types::{FromSql, Type};

    use super::*;

    fn kinds<T: fmt::Debug>(parsed: Result<T, Error>) -> Vec<(String, &'static str)> {
        match parsed {
            Err(Error::Invalid(violations)) => {
                violations.into_iter().map(|violation| (violation.loc.join("."), violation.kind)).collect()
            }
            other => panic!("expected violations, got {other:?}"),
        }
    }

    #[test]
    fn a_task_is_the_json_that_its_specification_shows() {
        let moment = |microseconds: i64| {
            Timestamp::from_sql(&Type::TIMESTAMPTZ, &microseconds.to_be_bytes())
                .expect("a moment of the calendar")
        };
        let mut task = Task {
            id: 7,
            user_id: "ada",
            title: "\"milk\" & Brötchen",
            description: Some("two lines:\none\tand \\ two"),
            completed: true,
            created_at: moment(0),
            updated_at: moment(1_500_000),
        };
        let json = |task: &Task<&str>| {
            let mut json = Vec::new();
            task.write_json(&mut json);
            String::from_utf8(json).unwrap()
        };
        assert_eq!(
            json(&task),
            r#"{"id":7,"user_id":"ada","title":"\"milk\" & Brötchen","description":"two lines:\none\tand \\ two","completed":true,"#
                .to_owned()
                + r#""created_at":"2000-01-01T00:00:00.000000Z","updated_at":"2000-01-01T00:00:01.500000Z"}"#
        );
        task.description = None;
        assert!(json(&task).contains(r#","description":null,"completed":true,"#), "{}", json(&task));
    }

    #[test]
    fn an_id_is_an_integer_in_range() {
        for (text, id) in [("1", 1), ("007", 7), ("2147483647", i32::MAX)] {
            assert_eq!(TaskId::parse(text).unwrap().get(), id, "{text}");
        }
        for text in ["0", "-0", "-1", "2147483648", "9223372036854775808", "123456789012345678901234567890"] {
            assert_eq!(TaskId::parse(text), Err(Error::UnknownTask), "{text}");
        }
        for text in ["abc", "1.0", "+1", "1e3", "-", "--1", "0x1", " 1", "%31", "١", "1a"] {
            assert_eq!(kinds(TaskId::parse(text)), [("path.id".to_owned(), "int_parsing")], "{text}");
        }
    }

    #[test]
    fn a_title_is_trimmed_then_counted_in_characters() {
        let title = |text: &str| Title::parse(Scalar::Text(text.to_owned()));
        assert_eq!(title(" \t milk\u{a0}\n").unwrap().as_str(), "milk");
        assert_eq!(title(&"😀".repeat(255)).unwrap().as_str().chars().count(), 255);
        assert_eq!(title(&format!("  {}  ", "a".repeat(255))).unwrap().as_str().len(), 255);
        assert_eq!(title(&"é".repeat(256)).unwrap_err().kind, "string_too_long");
        assert_eq!(title(" \u{3000} ").unwrap_err().kind, "string_too_short");
        assert_eq!(title("a\0b").unwrap_err().kind, "string_nul");
    }

    #[test]
    fn a_new_task_needs_a_title_and_nothing_else() {
        let task = NewTask::parse(r#"{"title":"a","priority":"high","user_id":"eve"}"#).unwrap();
        assert_eq!((task.title.as_str(), task.description, task.completed), ("a", None, false));
        let task = NewTask::parse(r#"{"title":"a","title":"b","description":"","completed":true}"#).unwrap();
        assert_eq!(
            (task.title.as_str(), task.description.unwrap().as_str(), task.completed),
            ("b", "", true)
        );
        assert!(NewTask::parse(r#"{"title":"a","description":null}"#).unwrap().description.is_none());
    }

    #[test]
    fn everything_wrong_with_a_body_is_named_at_once() {
        assert_eq!(
            kinds(NewTask::parse(r#"{"description":5,"completed":"true"}"#)),
            [
                ("body.title".to_owned(), "missing"),
                ("body.description".to_owned(), "string_type"),
                ("body.completed".to_owned(), "bool_type")
            ]
        );
        assert_eq!(
            kinds(TaskChange::parse(r#"{"title":null,"completed":1}"#)),
            [("body.title".to_owned(), "string_type"), ("body.completed".to_owned(), "bool_type")]
        );
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_with_its_place() {
        for body in ["null", "[]", "\"x\"", "1", "true", "[\"title\"]"] {
            assert_eq!(kinds(NewTask::parse(body)), [("body".to_owned(), "model_attributes_type")], "{body}");
        }
        for body in ["", "{", "{\"title\":}", "{} x", "{'title':1}", "{\"title\":\"\\ud800\"}"] {
            assert_eq!(kinds(TaskChange::parse(body)), [("body".to_owned(), "json_invalid")], "{body}");
        }
        let error = NewTask::parse("{\n  \"title\": oops}").unwrap_err();
        assert!(format!("{error:?}").contains("line 2 column 12"), "{error:?}");
    }

    #[test]
    fn depth_costs_nothing() {
        let (open, close) = ("[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(
            kinds(NewTask::parse(&format!("{open}{close}"))),
            [("body".to_owned(), "model_attributes_type")]
        );
        let in_title = format!("{{\"title\":{open}{close}}}");
        assert_eq!(kinds(NewTask::parse(&in_title)), [("body.title".to_owned(), "string_type")]);
        assert!(NewTask::parse(&format!("{{\"title\":\"a\",\"tags\":{open}{close}}}")).is_ok());
        assert_eq!(kinds(NewTask::parse(&open)), [("body".to_owned(), "json_invalid")]);
    }

    #[test]
    fn an_absent_field_is_kept_and_a_null_description_taken_away() {
        let change = TaskChange::parse(r#"{"description":null}"#).unwrap();
        assert_eq!(change, TaskChange { title: None, description: Some(None), completed: None });
        assert!(TaskChange::parse(r#"{"tags":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn completion_is_set_by_a_value_and_toggled_without() {
        for body in ["", " \r\n", "{}", "{\"done\":true}"] {
            assert_eq!(Completion::parse(body), Ok(Completion::Toggle), "{body:?}");
        }
        assert_eq!(Completion::parse("{\"completed\":false}"), Ok(Completion::Set(false)));
        for body in ["null", "[]", "{\"completed\":null}", "{\"completed\":\"true\"}", "{\"completed\":1}"] {
            assert_eq!(kinds(Completion::parse(body)).len(), 1, "{body}");
        }
    }
}
