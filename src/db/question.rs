//! What is asked of the database, apart from asking it: so that several requests can ask together.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::time::SystemTime;

use bytes::BytesMut;
use postgres::types::{IsNull, ToSql, Type};
use postgres_protocol::IsNull as WireIsNull;

use super::rows::Rows;
use super::{Database, Failure};
use crate::http::error::Error;

/// A parameter of a statement.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Param {
    Text(Option<String>),
    Texts(Option<Vec<String>>),
    Flag(Option<bool>),
    Id(i32),
    Number(i64),
    Moment(SystemTime),
}

impl Param {
    /// Adds it to what is sent, in PostgreSQL's binary format.
    pub(super) fn write(&self, unsent: &mut BytesMut) -> Result<WireIsNull, Box<dyn StdError + Sync + Send>> {
        let kind = self.kind();
        let is_null = match self {
            Param::Text(text) => text.to_sql(&kind, unsent),
            Param::Texts(texts) => texts.to_sql(&kind, unsent),
            Param::Flag(flag) => flag.to_sql(&kind, unsent),
            Param::Id(id) => id.to_sql(&kind, unsent),
            Param::Number(number) => number.to_sql(&kind, unsent),
            Param::Moment(moment) => moment.to_sql(&kind, unsent),
        }?;
        Ok(match is_null {
            IsNull::Yes => WireIsNull::Yes,
            IsNull::No => WireIsNull::No,
        })
    }

    /// Its type: said beforehand, an unnamed statement needs no round trip to learn it.
    pub(super) fn kind(&self) -> Type {
        match self {
            Param::Text(_) => Type::TEXT,
            Param::Texts(_) => Type::TEXT_ARRAY,
            Param::Flag(_) => Type::BOOL,
            Param::Id(_) => Type::INT4,
            Param::Number(_) => Type::INT8,
            Param::Moment(_) => Type::TIMESTAMPTZ,
        }
    }
}

/// A statement that takes next to no time. Several of these share a connection and a round trip: those that look something up
/// among themselves, and those that change something.
pub struct Statement {
    pub(super) sql: Cow<'static, str>,
    pub(super) params: Vec<Param>,
    effect: Effect,
}

/// What a statement changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// It adds a row.
    Adds,
    /// The row with this number.
    Changes(i32),
}

impl Statement {
    /// A statement that changes nothing.
    pub fn lookup(sql: impl Into<Cow<'static, str>>, params: Vec<Param>) -> Self {
        Self { sql: sql.into(), params, effect: Effect::Nothing }
    }

    /// A statement that adds a row.
    pub fn insert(sql: &'static str, params: Vec<Param>) -> Self {
        Self { sql: sql.into(), params, effect: Effect::Adds }
    }

    /// A statement that changes the row with this number, or deletes it.
    pub fn change(sql: &'static str, params: Vec<Param>, row: i32) -> Self {
        Self { sql: sql.into(), params, effect: Effect::Changes(row) }
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        self.effect != Effect::Nothing
    }

    /// The number of the row that it locks, if it locks one that is there already.
    pub fn locks(&self) -> Option<i32> {
        match self.effect {
            Effect::Changes(row) => Some(row),
            Effect::Nothing | Effect::Adds => None,
        }
    }
}

/// What is made of the rows that a statement returns.
pub type Answer<'q, T> = Box<dyn FnOnce(Rows) -> Result<T, Error> + 'q>;

/// A statement, and what is made of what it returns.
pub struct Question<'q, T> {
    statement: Statement,
    answer: Answer<'q, T>,
}

impl<'q, T: 'q> Question<'q, T> {
    /// A question that `answer` answers.
    pub fn new(statement: Statement, answer: impl FnOnce(Rows) -> Result<T, Error> + 'q) -> Self {
        Self { statement, answer: Box::new(answer) }
    }

    /// The same question with another answer.
    pub fn and_then<U>(self, then: impl FnOnce(T) -> Result<U, Error> + 'q) -> Question<'q, U> {
        let Self { statement, answer } = self;
        Question { statement, answer: Box::new(move |rows| then(answer(rows)?)) }
    }

    /// What is asked.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// What is asked, and the answer.
    pub fn apart(self) -> (Statement, Answer<'q, T>) {
        (self.statement, self.answer)
    }

    /// Asks by itself what changes nothing.
    ///
    /// # Errors
    /// As for [`Database::fold`], or what the answer fails with.
    pub fn ask(self, database: &Database) -> Result<T, Error> {
        let found = database.look_up(&[&self.statement], |_, rows| rows).pop().ok_or(Error::Internal)?;
        (self.answer)(found.map_err(Failure::tell)?)
    }
}
