//! Log line: a record as text or JSON. It is always one line: text of a client or of the database cannot begin another.

use std::fmt::{self, Display, Write};

use log::Record;
use log::kv::{Error, Key, Value, VisitSource};
use serde_json::Value as Json;

use super::Format;

/// Capacity for most lines, in bytes.
const LINE_BYTES: usize = 320;

/// A record in one of these forms, with a line end:
///
/// `[time LEVEL target] message key=value request_id=…`
///
/// `{"time":…,"level":…,"target":…,"message":…,"key":value,"request_id":…}`
///
/// # Errors
/// Those of a value that fails to display itself.
pub fn write(format: Format, time: &dyn Display, record: &Record, request_id: Option<&str>) -> Result<String, Error> {
    let (level, target, message) = (record.level(), record.target(), record.args());
    let mut line = String::with_capacity(LINE_BYTES);
    match format {
        Format::Text => write!(line, "[{time} {level:<5} {target}] {message}")?,
        Format::Json => {
            let (level, message) = (level.as_str().to_ascii_lowercase(), message.to_string());
            let (target, message) = (Json::from(target), Json::from(message));
            write!(line, r#"{{"time":"{time}","level":"{level}","target":{target},"message":{message}"#)?;
        }
    }
    let mut fields = Fields { line, format };
    record.key_values().visit(&mut fields)?;
    fields.add("request_id", request_id.into())?;
    let Fields { line, .. } = fields;
    Ok(match format {
        Format::Text => escape_control_characters(line) + "\n",
        Format::Json => line + "}\n",
    })
}

/// Escapes control characters, line breaks above all, as Rust does.
fn escape_control_characters(text: String) -> String {
    // Without an early return the compiler vectorizes this loop.
    if text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~')) {
        return text;
    }
    let mut escaped = String::new();
    for char in text.chars() {
        if char.is_control() { escaped.extend(char.escape_default()) } else { escaped.push(char) }
    }
    escaped
}

/// Appends key-value pairs. A null is left out.
struct Fields {
    line: String,
    format: Format,
}

impl Fields {
    fn add(&mut self, key: &str, value: Json) -> fmt::Result {
        match (self.format, value) {
            (_, Json::Null) => Ok(()),
            (Format::Text, Json::String(text)) => write!(self.line, " {key}={text}"),
            (Format::Text, value) => write!(self.line, " {key}={value}"),
            (Format::Json, value) => write!(self.line, r#","{key}":{value}"#),
        }
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let number = || value.to_u64().map(Json::from).or_else(|| value.to_f64().map(Json::from));
        let quick = value.to_borrowed_str().map(Json::from).or_else(number);
        let value = quick.unwrap_or_else(|| literal_or_text(value.to_string()));
        Ok(self.add(key.as_str(), value)?)
    }
}

/// The value that is displayed like this: a number or boolean like JSON's, a null as `None`, anything else is text.
fn literal_or_text(displayed: String) -> Json {
    if displayed == "None" {
        return Json::Null;
    }
    serde_json::from_str(&displayed).unwrap_or_else(|_| displayed.into())
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    fn line(format: Format, message: &str, request_id: Option<&str>) -> String {
        let path = std::path::Path::new("/a").display();
        let fields: [(&str, Value); 7] = [
            ("status", 200_u64.into()),
            ("ms", 1.25.into()),
            ("route", "/api/tasks".into()),
            ("user", Value::null()),
            ("text", "a\nb".into()),
            ("is", true.into()),
            ("path", Value::from_display(&path)),
        ];
        let mut record = Record::builder();
        record.level(Level::Info).target("request").key_values(&fields);
        write(format, &"now", &record.args(format_args!("{message}")).build(), request_id).unwrap()
    }

    #[test]
    fn record_when_it_contains_control_characters_is_one_line() {
        let fields = "status=200 ms=1.25 route=/api/tasks text=a\\nb is=true path=/a";
        assert_eq!(
            line(Format::Text, "a\nb\u{7f}\u{85}é\"", Some("r-1")),
            format!("[now INFO  request] a\\nb\\u{{7f}}\\u{{85}}é\" {fields} request_id=r-1\n")
        );
        assert_eq!(line(Format::Text, "", None), format!("[now INFO  request]  {fields}\n"));
        let json = line(Format::Json, "a\nb\u{0}\"\\é", Some("r-1"));
        assert_eq!(json.lines().count(), 1);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).unwrap(),
            serde_json::json!({
                "time": "now", "level": "info", "target": "request", "message": "a\nb\u{0}\"\\é", "status": 200,
                "ms": 1.25, "route": "/api/tasks", "text": "a\nb", "is": true, "path": "/a", "request_id": "r-1"
            })
        );
    }
}
