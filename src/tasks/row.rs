//! Reads tasks from rows. The columns stand beside their reader, in one order: nothing is read by number.

use std::borrow::Cow;

use postgres::types::FromSql;

use super::task::Task;
use super::timestamp::Timestamp;
use crate::auth::UserId;
use crate::db::statement::Raw;
use crate::db::{DbError, Row};

/// The columns of a task, in the order in which [`RowReader::task`] reads them. The casts serve tables that something
/// else made: `id` may be any integer type, the texts `varchar`, `char`, `citext` or a domain.
macro_rules! task_columns {
    () => {
        "id::bigint, user_id::text, title::text, description::text, completed, created_at, updated_at"
    };
}
pub(super) use task_columns;

/// Reads the columns of a row from left to right.
pub struct RowReader<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> RowReader<'r> {
    /// Before the first column.
    pub fn new(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    /// The value of the next column.
    ///
    /// # Errors
    /// When there is none, or its type is another.
    pub fn column<T: FromSql<'r>>(&mut self) -> Result<T, DbError> {
        self.next += 1;
        self.row.try_get(self.next - 1).map_err(|error| DbError::Bug(error.to_string()))
    }

    /// The next columns as a task of this user; `None` where they are all null. A column that another program left null
    /// reads as `specs/api/tasks.md` says.
    ///
    /// # Errors
    /// When it is another user's task: a last defence, so that a defect elsewhere shows it to nobody.
    pub fn task(&mut self, user: &UserId) -> Result<Option<Task<'r>>, DbError> {
        let id: Option<i64> = self.column()?;
        let user_id: Option<&str> = self.column()?;
        let title: Option<Raw<&[u8]>> = self.column()?;
        let description: Option<Raw<&[u8]>> = self.column()?;
        let completed: Option<bool> = self.column()?;
        let created_at: Option<Timestamp> = self.column()?;
        let updated_at: Option<Timestamp> = self.column()?;
        let (Some(id), Some(user_id)) = (id, user_id) else { return Ok(None) };
        if user_id != user.as_str() {
            return Err(DbError::Bug("the row is another user's task".to_owned()));
        }
        Ok(Some(Task {
            id,
            user_id,
            title: title.map_or(Cow::Borrowed(""), Raw::to_utf8),
            description: description.map(Raw::to_utf8),
            completed: completed.unwrap_or_default(),
            created_at: created_at.or(updated_at).unwrap_or(Timestamp::UNIX_EPOCH),
            updated_at: updated_at.or(created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        }))
    }

    /// The next column as the sort key of a list: its bytes, which are a parameter of the statement for the next page.
    ///
    /// # Errors
    /// When there is none.
    pub fn sort_key(&mut self) -> Result<Option<Vec<u8>>, DbError> {
        Ok(self.column::<Option<Raw<&[u8]>>>()?.map(|Raw(bytes)| bytes.to_vec()))
    }
}

/// Where a page ends and the next begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The sort key of the first task of the next page, in PostgreSQL's binary format.
    pub key: Option<Vec<u8>>,
    /// Its id.
    pub id: i64,
    /// How many tasks the list may still have, where the client set a limit.
    pub remaining: Option<i64>,
    /// How many tasks fill a page, judging by those before.
    pub page_tasks: i64,
}
