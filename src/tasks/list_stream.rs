//! A streamed response body for a list of several pages: each is read when the client has taken the one before.
//!
//! Between two pages it holds no connection and no thread. It never looks complete when it is not: a page that cannot
//! be read is an error, upon which the engine resets the connection.

use std::io::{self, Read};
use std::sync::Arc;

use log::warn;

use super::list_query::{Cursor, ListQuery};
use super::page::{self, Page};
use crate::auth::UserId;
use crate::db::Database;
use crate::ops::log as request_log;

/// The memory that a list takes while it waits for its client, in bytes: a page.
pub const RETAINED_BYTES: usize = page::MAX_PAGE_BUFFER_BYTES;

/// The JSON of a list.
pub struct TaskListStream {
    database: Arc<Database>,
    user: UserId,
    query: ListQuery,
    /// A page, and how much of it the client has taken.
    json: io::Cursor<Vec<u8>>,
    cursor: Option<Cursor>,
    request_id: Option<Arc<str>>,
}

impl TaskListStream {
    /// The list that begins with this page.
    pub fn new(database: &Arc<Database>, user: &UserId, query: &ListQuery, first: Page) -> Self {
        Self {
            database: Arc::clone(database),
            user: user.clone(),
            query: query.clone(),
            json: io::Cursor::new(first.json),
            cursor: first.cursor,
            request_id: request_log::request_id(),
        }
    }

    /// The bytes of the next page; none behind the last one.
    fn read_page(&mut self) -> io::Result<Vec<u8>> {
        let Some(cursor) = &self.cursor else { return Ok(Vec::new()) };
        let _scope = request_log::enter_request(self.request_id.clone());
        let next = Page::read_next(&self.database, &self.user, &self.query, cursor, &[]);
        let page = next.map_err(|error| {
            warn!("a list was cut off, because its next page could not be read: {error}");
            io::Error::other("the next page could not be read")
        })?;
        self.cursor = page.cursor;
        Ok(page.json)
    }
}

impl Read for TaskListStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.json.read(buffer)?;
        if taken > 0 || buffer.is_empty() {
            return Ok(taken);
        }
        self.json = io::Cursor::default(); // freed before the next page is read
        self.json = io::Cursor::new(self.read_page()?);
        self.json.read(buffer)
    }
}
