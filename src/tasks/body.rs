//! Request bodies that create or change a task. A value of these types is valid; nothing is checked again later.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::http::error::{ApiError, FieldError};
use crate::http::json::{JsonValue, is_object};

/// The longest title after trimming, in characters (Unicode scalar values).
pub const MAX_TITLE_CHARS: usize = 255;
/// The longest description, in characters (Unicode scalar values).
pub const MAX_DESCRIPTION_CHARS: usize = 10_000;

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
#[serde(rename_all = "snake_case")]
enum Name {
    Title,
    Description,
    Completed,
    #[serde(other)]
    Other,
}

type Parser<T> = fn(JsonValue) -> Result<T, FieldError>;

/// A body whose fields are parsed one by one. What is wrong with them is collected, so that all of it is reported.
struct Body<'b> {
    text: &'b str,
    /// As they were sent. Of a field that occurs twice the last one counts.
    fields: BTreeMap<Name, &'b RawValue>,
    errors: Vec<FieldError>,
}

impl<'b> Body<'b> {
    fn read(text: &'b str) -> Result<Self, ApiError> {
        if !is_object(text.as_bytes()) {
            serde_json::from_str::<IgnoredAny>(text).map_err(malformed)?;
            return Err(invalid("model_attributes_type", "Input should be an object".to_owned()));
        }
        Ok(Self { text, fields: serde_json::from_str(text).map_err(malformed)?, errors: Vec::new() })
    }

    /// The value of a field; `None` where it is wrong, or not sent and not required.
    fn parse<T>(&mut self, name: Name, is_required: bool, parse: Parser<T>) -> Result<Option<T>, ApiError> {
        let field = match self.fields.get(&name) {
            // The error in the whole body has the right line and column.
            Some(sent) => serde_json::from_str(sent.get())
                .map_err(|error| malformed(serde_json::from_str::<Value>(self.text).err().unwrap_or(error)))?,
            None if is_required => JsonValue::Absent,
            None => return Ok(None),
        };
        Ok(parse(field).map_err(|error| self.errors.push(error)).ok())
    }

    /// What was parsed, if nothing was wrong.
    fn finish<T>(self, parsed: T) -> Result<T, ApiError> {
        if self.errors.is_empty() { Ok(parsed) } else { Err(ApiError::Validation(self.errors)) }
    }
}

fn invalid(kind: &'static str, message: String) -> ApiError {
    FieldError::new(&["body"], kind, message).into()
}

fn malformed(error: serde_json::Error) -> ApiError {
    invalid("json_invalid", format!("Invalid JSON: {error}"))
}

/// A task to be created: fields of which one is a title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask(TaskPatch);

impl NewTask {
    /// Reads the body of a `POST`.
    ///
    /// # Errors
    /// [`ApiError::Validation`] with everything that is wrong with it.
    pub fn parse(body: &str) -> Result<Self, ApiError> {
        TaskPatch::read(body, true).map(Self)
    }

    /// Its fields. Those that were not sent are to have their defaults.
    pub fn fields(&self) -> &TaskPatch {
        &self.0
    }

    /// The same, without a copy.
    pub fn into_fields(self) -> TaskPatch {
        self.0
    }
}

/// The fields that a body names. In a change, `None` keeps what is there: clients send partial bodies.
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
        Self::read(body, false)
    }

    fn read(body: &str, is_new: bool) -> Result<Self, ApiError> {
        let mut body = Body::read(body)?;
        let fields = Self {
            title: body.parse(Name::Title, is_new, Title::parse)?,
            description: body.parse(Name::Description, false, Description::parse)?,
            completed: body.parse(Name::Completed, false, parse_completed)?,
        };
        body.finish(fields)
    }

    /// Whether it names no field, and so changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The texts that it names, each with its field.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let title = self.title.iter().map(|text| ("title", text.as_str()));
        let description = self.description.iter().flatten().map(|text| ("description", text.as_str()));
        title.chain(description)
    }

    /// Whether it names no field but texts.
    pub fn has_only_texts(&self) -> bool {
        let Self { title: _, description: _, completed } = self;
        completed.is_none()
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
        let mut body = Body::read(body)?;
        let value = body.parse(Name::Completed, false, parse_completed)?;
        body.finish(value.map_or(Self::Toggle, Self::Set))
    }
}

#[cfg(test)]
mod tests {
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
        let is = |body: &str, expected: &str| {
            assert_eq!(NewTask::parse(body).unwrap().fields(), &TaskPatch::parse(expected).unwrap(), "{body}");
        };
        is(r#"{"title":"a","unknown":"high","user_id":"eve"}"#, r#"{"title":"a"}"#);
        let twice = r#"{"title":"a","title":"b","description":"","completed":true}"#;
        is(twice, r#"{"completed":true,"title":" b ","description":""}"#);
        let task = NewTask::parse(twice).unwrap();
        assert_eq!(task.fields().texts().collect::<Vec<_>>(), [("title", "b"), ("description", "")]);
        assert_eq!(NewTask::parse(r#"{"title":"a","description":null}"#).unwrap().fields().description, Some(None));
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
        for body in [r#"{"title":"a"}"#, r#"{"description":null}"#, r#"{"completed":false}"#] {
            assert!(!TaskPatch::parse(body).unwrap().is_empty(), "{body}");
        }
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
