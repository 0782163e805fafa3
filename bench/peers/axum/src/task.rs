//! A task as it stands in its row, and what a client may say of one.

use std::error::Error as StdError;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type, accepts};

use crate::answer::Error;

/// A task that borrows its texts from the row.
#[derive(Serialize)]
pub struct Task<'r> {
    id: i32,
    user_id: &'r str,
    title: &'r str,
    description: Option<&'r str>,
    completed: bool,
    #[serde(serialize_with = "with_microseconds")]
    created_at: Timestamp,
    #[serde(serialize_with = "with_microseconds")]
    pub updated_at: Timestamp,
}

impl<'r> Task<'r> {
    /// Of the first seven columns.
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

fn with_microseconds<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{moment:.6}"))
}

/// The number of a transaction.
pub struct TransactionId(pub u32);

impl<'a> FromSql<'a> for TransactionId {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(u32::from_be_bytes(raw.try_into()?)))
    }

    accepts!(XID);
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
    /// Reads it; a title has 1 to 255 characters, a description at most 10,000, neither a NUL.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut new: Self = serde_json::from_slice(body).map_err(|_| Error::Invalid("body"))?;
        let trimmed = new.title.trim();
        if trimmed.len() < new.title.len() {
            new.title = trimmed.to_owned();
        }
        let is_proper =
            |text: &str, max: usize| (text.len() <= max || text.chars().count() <= max) && !text.contains('\0');
        if new.title.is_empty() || !is_proper(&new.title, 255) {
            return Err(Error::Invalid("title"));
        }
        if !new.description.as_deref().is_none_or(|text| is_proper(text, 10_000)) {
            return Err(Error::Invalid("description"));
        }
        Ok(new)
    }
}

/// The body of a `PATCH` that sets.
#[derive(Deserialize)]
pub struct Completion {
    pub completed: bool,
}

impl Completion {
    /// Reads it.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(body).map_err(|_| Error::Invalid("completed"))
    }
}
