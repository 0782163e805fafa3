//! Log line: a record as text or JSON. It is always one line: text of a client or of the database cannot begin another.

use std::fmt::Display;
use std::io::{self, Write};

use log::Record;
use log::kv::{self, Key, Value, VisitSource, VisitValue};

use super::Format;

/// Appends a record to `line`, in one of these forms:
///
/// `[time LEVEL target] message key=value request_id=…`
///
/// `{"time":…,"level":…,"target":…,"message":…,"key":value,"request_id":…}`
///
/// # Errors
/// None of `line`'s, which is in memory: only those of a value that fails to display itself.
pub fn write(
    line: &mut Vec<u8>,
    format: Format,
    time: &dyn Display,
    record: &Record,
    request_id: Option<&str>,
) -> io::Result<()> {
    let args = record.args();
    let owned;
    let message = match args.as_str() {
        Some(message) => message,
        None => {
            owned = args.to_string();
            &owned
        }
    };
    match format {
        Format::Text => {
            write!(line, "[{time} {:<5} {}] ", record.level(), record.target())?;
            write_escaped(line, message)?;
        }
        Format::Json => {
            let level = record.level().as_str().to_ascii_lowercase();
            write!(line, r#"{{"time":"{time}","level":"{level}","target":"#)?;
            serde_json::to_writer(&mut *line, record.target())?;
            line.extend_from_slice(br#","message":"#);
            serde_json::to_writer(&mut *line, message)?;
        }
    }
    let mut members = Members { line, format };
    record.key_values().visit(&mut members).map_err(io::Error::other)?;
    if let Some(request_id) = request_id {
        members.text("request_id", request_id)?;
    }
    line.extend_from_slice(if format == Format::Json { b"}\n" } else { b"\n" });
    Ok(())
}

/// Escapes control characters, line breaks above all, as Rust does.
fn write_escaped(line: &mut Vec<u8>, text: &str) -> io::Result<()> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        line.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    text.chars().try_for_each(|char| {
        if char.is_control() { write!(line, "{}", char.escape_default()) } else { write!(line, "{char}") }
    })
}

/// Writes key-value pairs. A null is left out.
struct Members<'l> {
    line: &'l mut Vec<u8>,
    format: Format,
}

impl Members<'_> {
    fn text(&mut self, key: &str, value: &str) -> io::Result<()> {
        self.key(key)?;
        match self.format {
            Format::Text => write_escaped(self.line, value),
            Format::Json => Ok(serde_json::to_writer(&mut *self.line, value)?),
        }
    }

    fn number(&mut self, key: &str, value: impl Display) -> io::Result<()> {
        self.key(key)?;
        write!(self.line, "{value}")
    }

    fn key(&mut self, key: &str) -> io::Result<()> {
        match self.format {
            Format::Text => write!(self.line, " {key}="),
            Format::Json => write!(self.line, r#","{key}":"#),
        }
    }
}

impl<'kvs> VisitSource<'kvs> for Members<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        value.visit(Member { key: key.as_str(), members: self })
    }
}

struct Member<'l, 'm> {
    key: &'m str,
    members: &'m mut Members<'l>,
}

impl VisitValue<'_> for Member<'_, '_> {
    fn visit_any(&mut self, value: Value) -> Result<(), kv::Error> {
        self.visit_str(&value.to_string())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        Ok(self.members.text(self.key, value)?)
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        Ok(self.members.number(self.key, value)?)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        Ok(self.members.number(self.key, value)?)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        // JSON has neither infinities nor NaN.
        if value.is_finite() { Ok(self.members.number(self.key, value)?) } else { self.visit_str(&value.to_string()) }
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        Ok(self.members.number(self.key, value)?)
    }
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    fn line(format: Format, message: &str, request_id: Option<&str>) -> String {
        let members: [(&str, Value); 7] = [
            ("status", 200_u64.into()),
            ("ms", 1.25.into()),
            ("route", "/api/tasks".into()),
            ("user", Value::null()),
            ("text", "a\nb".into()),
            ("is", true.into()),
            ("ratio", f64::NAN.into()),
        ];
        let mut out = Vec::new();
        let mut record = Record::builder();
        record.level(Level::Info).target("request").key_values(&members);
        write(&mut out, format, &"now", &record.args(format_args!("{message}")).build(), request_id).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn record_when_it_contains_control_characters_is_one_line() {
        let members = "status=200 ms=1.25 route=/api/tasks text=a\\nb is=true ratio=NaN";
        assert_eq!(
            line(Format::Text, "a\nb\u{7f}\u{85}é\"", Some("r-1")),
            format!("[now INFO  request] a\\nb\\u{{7f}}\\u{{85}}é\" {members} request_id=r-1\n")
        );
        assert_eq!(line(Format::Text, "", None), format!("[now INFO  request]  {members}\n"));
        let json = line(Format::Json, "a\nb\u{0}\"\\é", Some("r-1"));
        assert_eq!(json.lines().count(), 1);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).unwrap(),
            serde_json::json!({
                "time": "now", "level": "info", "target": "request", "message": "a\nb\u{0}\"\\é", "status": 200,
                "ms": 1.25, "route": "/api/tasks", "text": "a\nb", "is": true, "ratio": "NaN", "request_id": "r-1"
            })
        );
    }
}
