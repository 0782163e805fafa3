//! A statement as data, so that several can be sent in one round trip; and rows of the simple protocol.

use std::borrow::Cow;
use std::time::SystemTime;

use postgres::SimpleQueryMessage;
use postgres::types::{Timestamp, ToSql, Type};

/// A parameter, and the type that PostgreSQL is told: never the one that it would guess from the column.
pub type Param = (Box<dyn ToSql + Sync + Send>, Type);

/// A text, or null.
pub fn text(value: Option<String>) -> Param {
    (Box::new(value), Type::TEXT)
}

/// A list of texts, or null.
pub fn texts(value: Option<Vec<String>>) -> Param {
    (Box::new(value), Type::TEXT_ARRAY)
}

/// A boolean, or null.
pub fn boolean(value: Option<bool>) -> Param {
    (Box::new(value), Type::BOOL)
}

/// A 64-bit integer.
pub fn bigint(value: i64) -> Param {
    (Box::new(value), Type::INT8)
}

/// A moment, which may be infinite, or null.
pub fn timestamptz(value: Option<Timestamp<SystemTime>>) -> Param {
    (Box::new(value), Type::TIMESTAMPTZ)
}

/// A statement with its parameters.
#[derive(Debug)]
pub struct Statement {
    /// The text. Equal texts share a prepared statement.
    pub sql: Cow<'static, str>,
    /// The values of `$1`, `$2`, …
    pub params: Vec<Param>,
    /// Whether it changes anything.
    pub writes: bool,
    /// The id of the existing row that it locks, if it locks one.
    pub locked_row: Option<i64>,
}

impl Statement {
    /// A statement that changes nothing.
    pub fn read(sql: impl Into<Cow<'static, str>>, params: Vec<Param>) -> Self {
        Self { sql: sql.into(), params, writes: false, locked_row: None }
    }

    /// A statement that adds a row.
    pub fn insert(sql: &'static str, params: Vec<Param>) -> Self {
        Self { sql: sql.into(), params, writes: true, locked_row: None }
    }

    /// A statement that changes or deletes the row with this id.
    pub fn change(sql: &'static str, params: Vec<Param>, row_id: i64) -> Self {
        Self { sql: sql.into(), params, writes: true, locked_row: Some(row_id) }
    }
}

/// A row of the simple protocol: each value as text.
pub type TextRow = Vec<Option<String>>;

/// The rows of a response in the simple protocol.
pub fn text_rows(messages: Vec<SimpleQueryMessage>) -> Vec<TextRow> {
    let texts = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
        _ => None,
    };
    messages.into_iter().filter_map(texts).collect()
}
