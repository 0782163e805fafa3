//! A statement as data, so that several can be sent in one round trip; and values of the simple protocol.

use std::borrow::Cow;
use std::error::Error;

use bytes::BytesMut;
use postgres::SimpleQueryMessage;
use postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// A parameter, and the type that PostgreSQL gets for it: never the one that it would guess from the column.
pub type Param = (Box<dyn ToSql + Sync + Send>, Type);

/// A text or a moment in PostgreSQL's binary format. A text is in UTF-8; in a database with the encoding `SQL_ASCII` it
/// may be any bytes.
#[derive(Debug)]
pub struct Raw<B>(pub B);

impl<'r> Raw<&'r [u8]> {
    /// The text with U+FFFD for what is not UTF-8.
    pub fn to_utf8(self) -> Cow<'r, str> {
        // The check of a whole text is faster than the search for its valid parts.
        std::str::from_utf8(self.0).map_or_else(|_| String::from_utf8_lossy(self.0), Cow::Borrowed)
    }
}

impl<'r> FromSql<'r> for Raw<&'r [u8]> {
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    accepts!(TEXT, TIMESTAMP, TIMESTAMPTZ);
}

impl ToSql for Raw<Vec<u8>> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(TEXT, TIMESTAMP, TIMESTAMPTZ);
    to_sql_checked!();
}

/// A value, or null, as a parameter of this type.
pub fn param(value: impl ToSql + Sync + Send + 'static, kind: Type) -> Param {
    (Box::new(value), kind)
}

/// A text, or null.
pub fn text(value: Option<&str>) -> Param {
    param(value.map(str::to_owned), Type::TEXT)
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

    /// A statement that changes or deletes the row with the id `locked_row`, or adds one.
    pub fn write(sql: impl Into<Cow<'static, str>>, params: Vec<Param>, locked_row: Option<i64>) -> Self {
        Self { sql: sql.into(), params, writes: true, locked_row }
    }

    /// The parameters as the library takes them where nothing is prepared.
    pub fn typed_params(&self) -> impl ExactSizeIterator<Item = (&(dyn ToSql + Sync), Type)> {
        self.params.iter().map(|(value, kind)| (&**value as _, kind.clone()))
    }
}

/// The values in a response of the simple protocol, without nulls. A name that is not UTF-8 is left out: it is none of
/// ours.
pub fn texts(messages: Vec<SimpleQueryMessage>) -> Vec<String> {
    let values = |message| match message {
        SimpleQueryMessage::Row(row) => {
            (0..row.len()).filter_map(|at| row.try_get(at).ok().flatten().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    messages.into_iter().flat_map(values).collect()
}
