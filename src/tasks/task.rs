//! A task: its columns, its reader and its JSON stand here, in one order. Nothing is read by number.

use std::borrow::Cow;

use postgres::types::FromSql;
use serde::Serialize;

use super::timestamp::Timestamp;
use crate::auth::UserId;
use crate::db::statement::Raw;
use crate::db::{DbError, Row};
use crate::http::error::{ApiError, FieldError};

/// The columns of a task, in the order in which [`Task::read`] reads them. The casts serve tables that something else
/// made: `id` may be any integer type, the texts `varchar`, `char`, `citext` or a domain.
pub const TASK_COLUMNS: &str =
    "id::bigint, user_id::text, title::text, description::text, completed, created_at, updated_at";

/// A task as a client reads it. It borrows its texts from the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // specs/api/tasks.md says what each is
pub struct Task<'r> {
    pub id: i64,
    pub user_id: &'r str,
    pub title: Cow<'r, str>,
    pub description: Option<Cow<'r, str>>,
    pub completed: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl<'r> Task<'r> {
    /// The next columns of a row as a task of this user; `None` where they are all null. A column that another program
    /// left null reads as `specs/api/tasks.md` says.
    ///
    /// # Errors
    /// When it is another user's task: a last defence, so that a defect elsewhere shows it to nobody.
    pub fn read(row: &mut RowReader<'r>, user: &UserId) -> Result<Option<Self>, DbError> {
        let id: Option<i64> = row.column()?;
        let user_id: Option<&str> = row.column()?;
        let title: Option<Raw<&[u8]>> = row.column()?;
        let description: Option<Raw<&[u8]>> = row.column()?;
        let completed: Option<bool> = row.column()?;
        let created_at: Option<Timestamp> = row.column()?;
        let updated_at: Option<Timestamp> = row.column()?;
        let (Some(id), Some(user_id)) = (id, user_id) else { return Ok(None) };
        if user_id != user.as_str() {
            return Err(DbError::Bug("the row is another user's task".to_owned()));
        }
        Ok(Some(Self {
            id,
            user_id,
            title: title.map_or(Cow::Borrowed(""), Raw::to_utf8),
            description: description.map(Raw::to_utf8),
            completed: completed.unwrap_or_default(),
            created_at: created_at.or(updated_at).unwrap_or(Timestamp::UNIX_EPOCH),
            updated_at: updated_at.or(created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        }))
    }
}

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

    /// The next column as the sort key of a list: its bytes, which are a parameter of the statement for the next page.
    ///
    /// # Errors
    /// When there is none.
    pub fn sort_key(&mut self) -> Result<Option<Vec<u8>>, DbError> {
        Ok(self.column::<Option<Raw<&[u8]>>>()?.map(|Raw(bytes)| bytes.to_vec()))
    }
}

/// The id of a task, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId(i64);

impl TaskId {
    /// Reads the `{id}` of a path.
    ///
    /// # Errors
    /// [`ApiError::TaskNotFound`] for an integer that no task can have, [`ApiError::Validation`] for anything else.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(FieldError::new(&["path", "id"], "int_parsing", "Input should be a positive integer").into());
        }
        match text.parse() {
            Ok(id) if id >= 1 => Ok(Self(id)),
            _ => Err(ApiError::TaskNotFound),
        }
    }

    /// The id as a number.
    pub fn get(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use postgres::types::Type;

    use super::*;

    #[test]
    fn task_when_serialized_is_the_json_of_the_specification() {
        let moment = |microseconds: i64| {
            Timestamp::from_sql(&Type::TIMESTAMPTZ, &microseconds.to_be_bytes()).expect("a moment of the calendar")
        };
        let mut task = Task {
            id: 7,
            user_id: "ada",
            title: "\"milk\" & Brötchen".into(),
            description: Some("two lines:\none\tand \\ two".into()),
            completed: true,
            created_at: moment(0),
            updated_at: moment(1_500_000),
        };
        let json = |task: &Task| serde_json::to_string(task).unwrap();
        assert_eq!(
            json(&task),
            r#"{"id":7,"user_id":"ada","title":"\"milk\" & Brötchen","#.to_owned()
                + r#""description":"two lines:\none\tand \\ two","completed":true,"#
                + r#""created_at":"2000-01-01T00:00:00.000000Z","updated_at":"2000-01-01T00:00:01.500000Z"}"#
        );
        // In the order of its columns, which are those of the table.
        let columns: Vec<_> = TASK_COLUMNS.split(", ").map(|column| column.split("::").next().unwrap()).collect();
        let is_key = |text: &&str| columns.contains(text) && json(&task).contains(&format!("\"{text}\":"));
        assert_eq!(json(&task).split('"').filter(is_key).collect::<Vec<_>>(), columns);
        let required = include_str!("../db/schema/incompatibilities.sql").split("\n),").next().unwrap().lines();
        let required = required.filter(|line| line.starts_with("    (")).map(|line| line.split('\'').nth(1).unwrap());
        assert_eq!(required.collect::<Vec<_>>(), columns);
        let schema = include_str!("../../schema.sql").lines().filter_map(|line| line.strip_prefix("    "));
        assert_eq!(schema.map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(), columns);
        task.description = None;
        assert!(json(&task).contains(r#","description":null,"completed":true,"#), "{}", json(&task));
    }

    #[test]
    fn id_when_an_integer_in_range_is_accepted() {
        for (text, id) in [("1", 1), ("007", 7), ("9223372036854775807", i64::MAX)] {
            assert_eq!(TaskId::parse(text).unwrap().get(), id, "{text}");
        }
        for text in ["0", "-0", "-1", "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890"] {
            assert_eq!(TaskId::parse(text), Err(ApiError::TaskNotFound), "{text}");
        }
        for text in ["abc", "1.0", "+1", "1e3", "-", "--1", "0x1", " 1", "%31", "١", "1a"] {
            let Err(ApiError::Validation(errors)) = TaskId::parse(text) else { panic!("{text} was taken") };
            assert_eq!((errors[0].loc.join("."), errors[0].kind), ("path.id".to_owned(), "int_parsing"), "{text}");
        }
    }
}
