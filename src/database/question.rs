//! What is asked of the database, apart from asking it: so that several requests can ask together.

use std::borrow::Cow;

use postgres::Row;

use super::{Database, Failure, Param};
use crate::error::Error;

/// A statement that changes nothing and takes next to no time. Several of these share a connection and a round trip.
pub struct Lookup {
    pub(super) sql: Cow<'static, str>,
    pub(super) params: Vec<Param>,
}

impl Lookup {
    /// This statement with these parameters.
    pub fn new(sql: impl Into<Cow<'static, str>>, params: Vec<Param>) -> Self {
        Self { sql: sql.into(), params }
    }
}

/// What is made of the rows that a lookup finds.
pub type Answer<'q, T> = Box<dyn FnOnce(Vec<Row>) -> Result<T, Error> + 'q>;

/// A lookup, and what is made of what it finds.
pub struct Question<'q, T> {
    lookup: Lookup,
    answer: Answer<'q, T>,
}

impl<'q, T: 'q> Question<'q, T> {
    /// A question that `answer` answers.
    pub fn new(lookup: Lookup, answer: impl FnOnce(Vec<Row>) -> Result<T, Error> + 'q) -> Self {
        Self { lookup, answer: Box::new(answer) }
    }

    /// The same question with another answer.
    pub fn and_then<U>(self, then: impl FnOnce(T) -> Result<U, Error> + 'q) -> Question<'q, U> {
        let Self { lookup, answer } = self;
        Question { lookup, answer: Box::new(move |rows| then(answer(rows)?)) }
    }

    /// What is to be looked up, and the answer.
    pub fn apart(self) -> (Lookup, Answer<'q, T>) {
        (self.lookup, self.answer)
    }

    /// Asks by itself.
    ///
    /// # Errors
    /// As for [`Database::fold`], or what the answer fails with.
    pub fn ask(self, database: &Database) -> Result<T, Error> {
        let found = database.look_up(&[self.lookup], |_, rows| rows).pop().ok_or(Error::Internal)?;
        (self.answer)(found.map_err(Failure::tell)?)
    }
}
