//! A record as a line. It is one line whatever it says: text of a stranger's, or of the database's, cannot begin another.

use std::fmt::{self, Display};
use std::io::{self, Write};

use log::Record;
use log::kv::{self, Key, Value, VisitSource, VisitValue};

/// `[time LEVEL target] message key=value request_id=…`
pub fn write_text(
    out: &mut dyn Write,
    time: &dyn Display,
    record: &Record,
    request_id: &str,
) -> io::Result<()> {
    write!(out, "[{time} {:<5} {}] ", record.level(), record.target())?;
    write_one_line(out, record.args())?;
    record.key_values().visit(&mut TextMembers { out }).map_err(io::Error::other)?;
    if !request_id.is_empty() {
        write!(out, " request_id={request_id}")?;
    }
    out.write_all(b"\n")
}

/// `{"time":…,"level":…,"target":…,"message":…,"key":value,"request_id":…}`
pub fn write_json(
    out: &mut dyn Write,
    time: &dyn Display,
    record: &Record,
    request_id: &str,
) -> io::Result<()> {
    let level = record.level().as_str().to_ascii_lowercase();
    write!(out, r#"{{"time":"{time}","level":"{level}","target":"#)?;
    write_json_text(out, record.target())?;
    out.write_all(br#","message":"#)?;
    match record.args().as_str() {
        Some(message) => write_json_text(out, message)?,
        None => write_json_text(out, &record.args().to_string())?,
    }
    record.key_values().visit(&mut JsonMembers { out }).map_err(io::Error::other)?;
    if !request_id.is_empty() {
        out.write_all(br#","request_id":"#)?;
        write_json_text(out, request_id)?;
    }
    out.write_all(b"}\n")
}

fn write_json_text(out: &mut dyn Write, text: &str) -> io::Result<()> {
    Ok(serde_json::to_writer(out, text)?)
}

/// Control characters, line breaks above all, are written as Rust escapes them.
fn write_one_line(out: &mut dyn Write, message: &fmt::Arguments) -> io::Result<()> {
    struct OneLine<'o>(&'o mut dyn Write);
    impl fmt::Write for OneLine<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error);
            }
            for piece in text.split_inclusive(char::is_control) {
                let (plain, control) = match piece.char_indices().next_back() {
                    Some((at, last)) if last.is_control() => (&piece[..at], Some(last)),
                    _ => (piece, None),
                };
                self.0.write_all(plain.as_bytes()).map_err(|_| fmt::Error)?;
                if let Some(control) = control {
                    write!(self.0, "{}", control.escape_default()).map_err(|_| fmt::Error)?;
                }
            }
            Ok(())
        }
    }
    fmt::write(&mut OneLine(out), *message).map_err(io::Error::other)
}

/// A null is left out.
struct TextMembers<'o> {
    out: &'o mut dyn Write,
}

impl<'kvs> VisitSource<'kvs> for TextMembers<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        value.visit(TextMember { out: self.out, key: key.as_str() })
    }
}

struct TextMember<'o, 'k> {
    out: &'o mut dyn Write,
    key: &'k str,
}

impl TextMember<'_, '_> {
    fn member(&mut self, value: impl Display) -> Result<(), kv::Error> {
        self.out.write_all(b" ")?;
        self.out.write_all(self.key.as_bytes())?;
        self.out.write_all(b"=")?;
        Ok(write_one_line(self.out, &format_args!("{value}"))?)
    }
}

// Of the kinds that a request's line has each is taken as it is: a `Value` finds out anew what it is when it is displayed.
impl VisitValue<'_> for TextMember<'_, '_> {
    fn visit_any(&mut self, value: Value) -> Result<(), kv::Error> {
        self.member(value)
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.member(value)
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.member(value)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.member(value)
    }
}

/// A null is left out.
struct JsonMembers<'o> {
    out: &'o mut dyn Write,
}

impl<'kvs> VisitSource<'kvs> for JsonMembers<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        value.visit(JsonMember { out: self.out, key: key.as_str() })
    }
}

struct JsonMember<'o, 'k> {
    out: &'o mut dyn Write,
    key: &'k str,
}

impl JsonMember<'_, '_> {
    fn number(&mut self, number: impl Display) -> Result<(), kv::Error> {
        Ok(write!(self.out, r#","{}":{number}"#, self.key)?)
    }
}

impl VisitValue<'_> for JsonMember<'_, '_> {
    fn visit_any(&mut self, value: Value) -> Result<(), kv::Error> {
        self.visit_str(&value.to_string())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        write!(self.out, r#","{}":"#, self.key)?;
        Ok(write_json_text(self.out, value)?)
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.number(value)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.number(value)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        // JSON has neither infinities nor NaN.
        if value.is_finite() { self.number(value) } else { self.visit_str(&value.to_string()) }
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.number(value)
    }
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    type Writer = fn(&mut dyn Write, &dyn Display, &Record, &str) -> io::Result<()>;

    fn line(write: Writer, message: &str, request_id: &str) -> String {
        let members: [(&str, Value); 6] = [
            ("status", 200_u64.into()),
            ("ms", 1.25.into()),
            ("route", "/api/tasks".into()),
            ("user", Value::null()),
            ("text", "a\nb".into()),
            ("is", true.into()),
        ];
        let mut out = Vec::new();
        let mut record = Record::builder();
        record.level(Level::Info).target("request").key_values(&members);
        write(&mut out, &"now", &record.args(format_args!("{message}")).build(), request_id).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_one_line_whatever_it_says() {
        assert_eq!(
            line(write_text, "a\nb\u{7f}\u{85}é\"", "r-1"),
            "[now INFO  request] a\\nb\\u{7f}\\u{85}é\" status=200 ms=1.25 route=/api/tasks text=a\\nb is=true request_id=r-1\n"
        );
        assert_eq!(
            line(write_text, "", ""),
            "[now INFO  request]  status=200 ms=1.25 route=/api/tasks text=a\\nb is=true\n"
        );
        let json = line(write_json, "a\nb\u{0}\"\\é", "r-1");
        assert_eq!(json.lines().count(), 1);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).unwrap(),
            serde_json::json!({
                "time": "now", "level": "info", "target": "request", "message": "a\nb\u{0}\"\\é",
                "status": 200, "ms": 1.25, "route": "/api/tasks", "text": "a\nb", "is": true, "request_id": "r-1"
            })
        );
    }
}
