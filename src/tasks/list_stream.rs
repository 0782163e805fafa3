//! A list of more than a page: the next page is asked for when the client has taken the last one.
//!
//! Between two pages it holds no connection of the database and no thread. It must never look complete when it is not: a page that
//! cannot be had is an error, upon which the engine resets the connection.

use std::io::{self, Read};
use std::sync::Arc;

use log::warn;

use crate::ops::log as logging;
use crate::ops::timing::Timer;
use crate::tasks::list_query::Listing;
use crate::tasks::store::{LONGEST_PAGE_BYTES, LastingTasks, Page, Rest};

/// The memory that a list takes while it waits for its reader, in bytes: a page.
pub const MAX_HELD_BYTES: usize = LONGEST_PAGE_BYTES;

/// The JSON of a list.
pub struct LongList {
    tasks: LastingTasks,
    listing: Listing,
    /// A page, and how much of it is taken.
    page: io::Cursor<Vec<u8>>,
    rest: Option<Rest>,
    request_id: Option<Arc<str>>,
}

impl LongList {
    /// The list that begins with this page.
    pub fn new(tasks: LastingTasks, listing: Listing, first_page: Vec<u8>, rest: Rest) -> Self {
        let request_id = logging::request_id();
        Self { tasks, listing, page: io::Cursor::new(first_page), rest: Some(rest), request_id }
    }

    /// The bytes of the next page; none behind the last one.
    fn next_page(&mut self) -> io::Result<Vec<u8>> {
        let Some(rest) = &self.rest else { return Ok(Vec::new()) };
        let _in_request = logging::enter_request(self.request_id.clone());
        let stopwatch = Timer::default();
        let next = self.tasks.tasks(&stopwatch).next_page(&self.listing, rest);
        let Page { json, rest, .. } = next.map_err(|_| {
            warn!("a list was cut off, for its next page could not be had");
            io::Error::other("a page could not be had")
        })?;
        self.rest = rest;
        Ok(json)
    }
}

impl Read for LongList {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.page.read(buffer)?;
        if taken > 0 || buffer.is_empty() {
            return Ok(taken);
        }
        self.page = io::Cursor::default(); // given back before the next is asked for
        self.page = io::Cursor::new(self.next_page()?);
        self.page.read(buffer)
    }
}
