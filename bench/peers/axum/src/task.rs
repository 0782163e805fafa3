//! Tasks as rows and as JSON, and the request bodies.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::response::Error;

/// How many columns a task has. The statements return other columns after them.
pub const TASK_COLUMNS: usize = 7;

/// A task that borrows its texts from the row.
#[derive(Serialize)]
pub struct Task<'r> {
    pub id: i64,
    user_id: &'r str,
    title: &'r str,
    description: Option<&'r str>,
    completed: bool,
    #[serde(serialize_with = "to_microseconds")]
    created_at: Timestamp,
    #[serde(serialize_with = "to_microseconds")]
    updated_at: Timestamp,
}

impl<'r> Task<'r> {
    /// Reads the first [`TASK_COLUMNS`].
    pub fn read(row: &'r Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            user_id: row.try_get(1)?,
            title: row.try_get(2)?,
            description: row.try_get(3)?,
            completed: row.try_get(4)?,
            created_at: row.try_get(5)?,
            updated_at: row.try_get(6)?,
        })
    }
}

fn to_microseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

/// The body of a `POST`.
#[derive(Deserialize)]
pub struct NewTask {
    pub title: String,
    pub description: Option<String>,
    #[serde(default)]
    pub completed: bool,
}

impl NewTask {
    /// The types of [`NewTask::values`].
    pub const TYPES: [Type; 4] = [Type::TEXT, Type::TEXT, Type::TEXT, Type::BOOL];

    /// The parameters of the statement that creates it.
    pub fn values<'v>(&'v self, user: &'v String) -> [&'v (dyn ToSql + Sync); Self::TYPES.len()] {
        [user, &self.title, &self.description, &self.completed]
    }

    /// Parses it. A title has 1 to 255 characters, a description at most 10,000; neither has a NUL.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut new: Self = serde_json::from_slice(body).map_err(|_| Error::Invalid("body"))?;
        let trimmed = new.title.trim();
        if trimmed.len() < new.title.len() {
            new.title = trimmed.to_owned();
        }
        let is_valid =
            |text: &str, max: usize| (text.len() <= max || text.chars().count() <= max) && !text.contains('\0');
        if new.title.is_empty() || !is_valid(&new.title, 255) {
            return Err(Error::Invalid("title"));
        }
        if !new.description.as_deref().is_none_or(|text| is_valid(text, 10_000)) {
            return Err(Error::Invalid("description"));
        }
        Ok(new)
    }
}

/// The body of a `PATCH` that sets `completed`.
#[derive(Deserialize)]
pub struct Completion {
    pub completed: bool,
}

impl Completion {
    /// Parses it.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(body).map_err(|_| Error::Invalid("completed"))
    }
}
