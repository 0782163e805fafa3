//! Keyset pagination: a page of a list as JSON, and the cursor of the next page.
//!
//! A page ends after [`MAX_PAGE_TASKS`], or with the task that makes it longer than [`MAX_PAGE_BYTES`]. The first row
//! that does not fit is the cursor of the next page. So nothing is counted, and a deleted task shifts no other.

use super::list_query::{Cursor, ListQuery, MAX_LIMIT, SHORT_LIST_TASKS};
use super::sql;
use super::task::{RowReader, Task};
use crate::auth::UserId;
use crate::db::{Database, DbError, Row};

/// The most tasks of a page.
const MAX_PAGE_TASKS: i64 = MAX_LIMIT;
/// A page of so many bytes of JSON takes no further task.
const MAX_PAGE_BYTES: usize = 256 * 1024;
/// What its last task may add, in bytes. The longest title and description take less: 10,255 characters of at most six
/// bytes in JSON (`\u0001`).
const MAX_TASK_BYTES: usize = 64 * 1024;
/// So no page is longer than this, in bytes. A row that another program wrote may be longer than our limits.
pub const MAX_PAGE_BUFFER_BYTES: usize = MAX_PAGE_BYTES + MAX_TASK_BYTES;
/// A first page of at most so many bytes may be queued until the rest of its list is read. A longer one is read again:
/// a full queue of them would take too much memory.
const MAX_QUEUED_BYTES: usize = 32 * 1024;
/// Room for most short pages, in bytes.
const START_BYTES: usize = 8 * 1024;
/// From this length in bytes a page gets its full capacity: growth in steps would leave freed blocks of each size.
const LONG_BYTES: usize = 64 * 1024;

/// A page. All pages of a list together are one JSON array.
#[derive(Debug, Clone)]
pub struct Page {
    /// The tasks. The array begins with the first page and ends with the last.
    pub json: Vec<u8>,
    /// The length of the whole list, in the first page of a window.
    pub total: Option<i64>,
    /// Where the next page begins; `None` in the last one.
    pub cursor: Option<Cursor>,
    tasks: i64,
    /// How many tasks the list may have from this page on.
    remaining: Option<i64>,
}

impl Page {
    /// A first page without a task yet.
    pub fn first(query: &ListQuery) -> Self {
        let mut json = Vec::with_capacity(START_BYTES);
        json.push(b'[');
        let remaining = query.window.and_then(|window| window.limit);
        Self { json, total: query.window.map(|_| 0), cursor: None, tasks: 0, remaining }
    }

    /// Reads the first page. `known` is the cursor of a shorter read before it, and tells how many tasks fill a page.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub fn read_first(
        database: &Database,
        user: &UserId,
        query: &ListQuery,
        known: Option<&Cursor>,
    ) -> Result<Self, DbError> {
        let is_filled = known.is_some_and(|cursor| cursor.page_tasks <= SHORT_LIST_TASKS);
        let max_tasks = if is_filled { SHORT_LIST_TASKS } else { MAX_PAGE_TASKS };
        let statement = sql::first_page(user, query, max_tasks + 1);
        let add = |page: &mut Page, row: Row| page.add(&row, user, max_tasks);
        Ok(database.fold(&statement, || Self::first(query), add)?.finish())
    }

    /// Reads the page at the cursor, and appends it to `json`: the start of the list, which is shorter than a page.
    ///
    /// # Errors
    /// When the database cannot answer, or the page is the same again.
    pub fn read_next(
        database: &Database,
        user: &UserId,
        query: &ListQuery,
        cursor: &Cursor,
        json: &[u8],
    ) -> Result<Self, DbError> {
        let rows = (cursor.page_tasks + 1).min(cursor.remaining.unwrap_or(i64::MAX));
        let statement = sql::next_page(user, query, cursor, rows);
        let start = || Self { json: json.to_vec(), total: None, cursor: None, tasks: 0, remaining: cursor.remaining };
        let add = |page: &mut Page, row: Row| page.add(&row, user, cursor.page_tasks);
        let page = database.fold(&statement, start, add)?.finish();
        match &page.cursor {
            Some(next) if (&next.key, next.id) == (&cursor.key, cursor.id) => {
                Err(DbError::Bug("a page of a list does not advance".to_owned()))
            }
            _ => Ok(page),
        }
    }

    /// Adds the task of a row, if it fits. The first row that does not fit is the cursor; later rows are skipped.
    ///
    /// # Errors
    /// When the row is not what its statement returns, or another user's.
    pub fn add(&mut self, row: &Row, user: &UserId, max_tasks: i64) -> Result<(), DbError> {
        if self.cursor.is_some() {
            return Ok(());
        }
        let mut reader = RowReader::new(row);
        let task = Task::read(&mut reader, user)?;
        let is_full = self.tasks == max_tasks || self.json.len() >= MAX_PAGE_BYTES;
        let key = if is_full || self.total == Some(0) { Some(reader.sort_key()?) } else { None };
        if self.total == Some(0) {
            self.total = reader.column()?;
        }
        let Some(task) = task else { return Ok(()) };
        if let Some(key) = key.filter(|_| is_full) {
            self.cursor = Some(Cursor { key, id: task.id, remaining: None, page_tasks: MAX_PAGE_TASKS });
            return Ok(());
        }
        if self.json.len() >= LONG_BYTES {
            self.json.reserve(MAX_PAGE_BUFFER_BYTES.saturating_sub(self.json.len()));
        }
        if self.json != b"[" {
            self.json.push(b',');
        }
        serde_json::to_writer(&mut self.json, &task).expect("a task serialises");
        self.tasks += 1;
        Ok(())
    }

    /// The page without its tasks if they take more memory than a queued job may have.
    pub fn without_long_json(self) -> Self {
        let json = if self.json.len() > MAX_QUEUED_BYTES { Vec::new() } else { self.json };
        Self { json, ..self }
    }

    /// The page once every row is added.
    pub fn finish(mut self) -> Self {
        match &mut self.cursor {
            None => self.json.push(b']'),
            Some(cursor) => {
                cursor.remaining = self.remaining.map(|remaining| remaining - self.tasks);
                let task_bytes = (self.json.len() as i64 / self.tasks.max(1)).max(1);
                cursor.page_tasks = (MAX_PAGE_BYTES as i64 / task_bytes).clamp(1, MAX_PAGE_TASKS);
                self.json.shrink_to_fit(); // it may wait long for its client
            }
        }
        self
    }
}
