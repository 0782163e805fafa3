//! The list, a page at a time: its SQL texts, and how much of it is in memory at once.
//!
//! A page ends after [`MAX_PAGE_TASKS`], or with the task that makes it longer than [`MAX_PAGE_BYTES`]. The first row that has
//! no place any more says where the next page begins; so nothing is counted, and what is deleted meanwhile shifts nothing.

use std::borrow::Cow;
use std::time::SystemTime;

use super::{Tasks, read_task, text};
use crate::auth::UserId;
use crate::db::{Fault, Param, Question, Row, Statement, judge};
use crate::http::error::Error;
use crate::tasks::list_query::{Listing, MAX_LIMIT, Page as Part, Sort};
use crate::tasks::task::Task;
use crate::tasks::timestamp::Timestamp;

/// The most tasks of a page. Whoever asks for a part of the list may ask for so many at most.
pub const MAX_PAGE_TASKS: i64 = MAX_LIMIT;
/// A page of so many bytes of JSON takes no further task.
const MAX_PAGE_BYTES: usize = 256 * 1024;
/// What its last task may add, in bytes. A title of 255 characters and a description of 10,000, each of which takes six bytes in JSON
/// (`\u0001`), are less.
const MAX_TASK_BYTES: usize = 64 * 1024;
/// So no page is longer than this, in bytes.
pub const LONGEST_PAGE_BYTES: usize = MAX_PAGE_BYTES + MAX_TASK_BYTES;

/// Room for most short pages, in bytes.
const START_BYTES: usize = 8 * 1024;
/// A page that has so many bytes gets all the room that it may need: each room that it had would stay with the allocator for a while.
const LONG_BYTES: usize = 24 * 1024;

/// One row more than a page has, which tells that there are more.
const FIRST: &str = concat!(
    "select ",
    columns!(),
    " from tasks where user_id = $1 order by created_at desc, id desc limit 1001"
);

/// The part that is asked for most: of the list as such, from its start. As [`part_sql`] would put it together.
const PART: &str = concat!(
    "select ",
    columns!(),
    ", (select count(*) from tasks where user_id = $1) as total from tasks where user_id = $1 \
     order by created_at desc, id desc limit $4"
);

/// All tasks of the user. With the filters there, and null, no generic plan could count them by the index alone.
const FROM_ALL: &str = "from tasks where user_id = $1";

// Compared as bytes, for a text that repeats itself is found in another such only slowly among characters (`queries.md`,
// "Searching"). `position` takes `%` and `_` as they are.
const FROM_MATCHING: &str = "from tasks where user_id = $1 and ($2::boolean is null or completed = $2) and ($3::text is null \
     or position((select convert_to(lower($3), 'UTF8')) in convert_to(lower(title), 'UTF8')) > 0 \
     or position((select convert_to(lower($3), 'UTF8')) in convert_to(lower(description), 'UTF8')) > 0)";

/// What a list is sorted by. Equal keys are told apart by `id`, so that pages neither repeat nor skip a task.
fn key(sort: Sort) -> &'static str {
    match sort {
        Sort::CreatedAt => "created_at",
        Sort::UpdatedAt => "updated_at",
        Sort::Title => "lower(title)",
    }
}

fn order_by(sort: Sort, descending: bool) -> String {
    let (key, direction) = (key(sort), if descending { " desc" } else { "" });
    format!("order by {key}{direction}, id{direction}")
}

/// The columns of a task, and the key where it is none of them.
fn columns(sort: Sort) -> &'static str {
    match sort {
        Sort::Title => concat!(columns!(), ", lower(title) as key"),
        Sort::CreatedAt | Sort::UpdatedAt => columns!(),
    }
}

/// Which tasks a list has; the parameters are the same.
fn from(is_filtered: bool) -> &'static str {
    if is_filtered { FROM_MATCHING } else { FROM_ALL }
}

/// The first page of a list with a filter, or in another order.
fn first_sql(sort: Sort, descending: bool, is_filtered: bool) -> String {
    let (columns, from, order) = (columns(sort), from(is_filtered), order_by(sort, descending));
    format!("select {columns} {from} {order} limit {}", MAX_PAGE_TASKS + 1)
}

/// The first page of a part of the list, and in each row how long the whole list is.
fn part_sql(sort: Sort, descending: bool, is_filtered: bool) -> String {
    let (columns, from, order) = (columns(sort), from(is_filtered), order_by(sort, descending));
    format!("select {columns}, (select count(*) {from}) as total {from} {order} limit $4")
}

/// The same after some tasks. A part without any is one row without a task, so that it tells the length all the same.
fn part_after_sql(sort: Sort, descending: bool, is_filtered: bool) -> String {
    let (columns, from, order) = (columns(sort), from(is_filtered), order_by(sort, descending));
    format!(
        "with matching as not materialized (select {columns} {from}), \
         page as (select * from matching {order} limit $4 offset $5) \
         select page.*, total from (select count(*) as total from matching) as counted left join page on true {order}"
    )
}

/// Every further page.
fn next_sql(sort: Sort, descending: bool, is_filtered: bool) -> String {
    let (columns, from, order, key) =
        (columns(sort), from(is_filtered), order_by(sort, descending), key(sort));
    let comparison = if descending { "<=" } else { ">=" };
    format!("select {columns} {from} and ({key}, id) {comparison} ($4, $5) {order} limit $6")
}

/// A page of a list, as JSON: all pages of a list together are one array.
#[derive(Debug)]
pub struct Page {
    /// The tasks. The array begins with the first page, and ends with the last.
    pub json: Vec<u8>,
    /// The length of the whole list, in the first page of a part of it.
    pub total: Option<i64>,
    /// What the next page goes on with; `None` in the last one.
    pub rest: Option<Rest>,
    tasks: i64,
}

/// The rest of a list.
#[derive(Debug)]
pub struct Rest {
    key: Key,
    id: i32,
    /// How many tasks it may have, where the client set a limit.
    left: Option<i64>,
    /// How many tasks fill a page, as far as those before tell.
    page_tasks: i64,
}

/// The key of a task in the order of the list.
#[derive(Debug)]
enum Key {
    Moment(SystemTime),
    Title(String),
}

impl Key {
    fn read(row: &Row, sort: Sort) -> Result<Self, Fault> {
        let moment = |column| row.try_get::<Timestamp>(column).map(|moment| Key::Moment(moment.into()));
        match sort {
            Sort::CreatedAt => moment(5),
            Sort::UpdatedAt => moment(6),
            Sort::Title => row.try_get_named("key").map(Key::Title),
        }
    }

    fn as_param(&self) -> Param {
        match self {
            Key::Moment(moment) => Param::Moment(*moment),
            Key::Title(title) => text(Some(title)),
        }
    }
}

impl Page {
    fn beginning_with(opening: &[u8]) -> Self {
        let mut json = Vec::with_capacity(START_BYTES);
        json.extend_from_slice(opening);
        Self { json, total: None, rest: None, tasks: 0 }
    }

    /// A part before its first row: its list is empty unless a row says otherwise.
    fn of_part() -> Self {
        Self { total: Some(0), ..Self::beginning_with(b"[") }
    }

    /// Adds a task, if there is a place for it. The first that finds none is where the next page begins; those behind it are
    /// passed over.
    fn add(&mut self, row: &Row, user: &UserId, listing: &Listing, most: i64) -> Result<(), Fault> {
        if self.rest.is_some() {
            return Ok(());
        }
        let task: Task<&str> = read_task(row, user)?;
        if self.tasks == most || self.json.len() >= MAX_PAGE_BYTES {
            let key = Key::read(row, listing.sort)?;
            self.rest = Some(Rest { key, id: task.id, left: None, page_tasks: MAX_PAGE_TASKS });
            return Ok(());
        }
        if self.json.len() >= LONG_BYTES {
            self.json.reserve(LONGEST_PAGE_BYTES.saturating_sub(self.json.len()));
        }
        if self.json != b"[" {
            self.json.push(b',');
        }
        task.write_json(&mut self.json);
        self.tasks += 1;
        Ok(())
    }

    /// The same for a row that also tells the length of the whole list, and may have no task.
    fn add_counted(&mut self, row: &Row, user: &UserId, listing: &Listing) -> Result<(), Fault> {
        if self.total == Some(0) {
            self.total = row.try_get_named("total")?;
        }
        match row.try_get::<Option<i32>>(0)? {
            Some(_) => self.add(row, user, listing, MAX_PAGE_TASKS),
            None => Ok(()),
        }
    }

    /// `left` is how many tasks the list may still have had with this page.
    fn finish(mut self, left: Option<i64>) -> Self {
        match &mut self.rest {
            None => self.json.push(b']'),
            Some(rest) => {
                rest.left = left.map(|left| left - self.tasks);
                let task_bytes = (self.json.len() as i64 / self.tasks.max(1)).max(1);
                rest.page_tasks = (MAX_PAGE_BYTES as i64 / task_bytes).clamp(1, MAX_PAGE_TASKS);
                self.json.shrink_to_fit(); // for it may wait for its reader
            }
        }
        self
    }
}

#[allow(clippy::missing_errors_doc)] // as for all of them
impl Tasks<'_> {
    /// A list that takes next to no time ([`Listing::is_brief`]).
    pub fn brief_list(&self, listing: Listing) -> Question<'static, Page> {
        let part = listing.page.unwrap_or_default();
        let (sql, params) = self.part(&listing, part);
        let user = self.user.clone();
        Question::new(Statement::lookup(sql, params), move |rows| {
            let mut page = Page::of_part();
            let add = |row: Result<Row, Fault>| page.add_counted(&row?, &user, &listing);
            rows.iter().try_for_each(add).map_err(judge)?;
            Ok(page.finish(part.limit))
        })
    }

    fn part(&self, listing: &Listing, part: Part) -> (Cow<'static, str>, Vec<Param>) {
        let Listing { completed, search, sort, descending, .. } = listing;
        let rows = part.limit.unwrap_or(MAX_PAGE_TASKS + 1);
        let mut params = self.bind([Param::Flag(*completed), text(search.as_deref()), Param::Number(rows)]);
        let sql = match (part.offset, *sort, descending, listing.is_filtered()) {
            (0, Sort::CreatedAt, true, false) => PART.into(),
            (0, ..) => part_sql(*sort, *descending, listing.is_filtered()).into(),
            (offset, ..) => {
                params.push(Param::Number(offset));
                part_after_sql(*sort, *descending, listing.is_filtered()).into()
            }
        };
        (sql, params)
    }

    /// The first page of a list.
    pub fn first_page(&self, listing: &Listing) -> Result<Page, Error> {
        let Listing { completed, search, sort, descending, page: part } = listing;
        let add = |page: &mut Page, row: &Row| page.add(row, self.user, listing, MAX_PAGE_TASKS);
        let start = || Page::beginning_with(b"[");
        let page = match part {
            None if *listing == Listing::default() => self.fold(FIRST, &self.bind([]), start, add),
            None => {
                let params = self.bind([Param::Flag(*completed), text(search.as_deref())]);
                self.fold(&first_sql(*sort, *descending, listing.is_filtered()), &params, start, add)
            }
            Some(part) => {
                let (sql, params) = self.part(listing, *part);
                self.fold(&sql, &params, Page::of_part, |page, row| page.add_counted(row, self.user, listing))
            }
        }?;
        Ok(page.finish(part.and_then(|part| part.limit)))
    }

    /// The page that the rest of a list begins with.
    pub fn next_page(&self, listing: &Listing, rest: &Rest) -> Result<Page, Error> {
        let Listing { completed, search, sort, descending, .. } = listing;
        let rows = (rest.page_tasks + 1).min(rest.left.unwrap_or(i64::MAX));
        let others = [
            Param::Flag(*completed),
            text(search.as_deref()),
            rest.key.as_param(),
            Param::Id(rest.id),
            Param::Number(rows),
        ];
        let page = self.fold(
            &next_sql(*sort, *descending, listing.is_filtered()),
            &self.bind(others),
            || Page::beginning_with(b""),
            |page, row| page.add(row, self.user, listing, rest.page_tasks),
        )?;
        Ok(page.finish(rest.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_is_bound_to_the_user() {
        let code = include_str!("list.rs").split("#[cfg(test)]").next().unwrap();
        assert_eq!(code.matches("from tasks").count(), 5, "a statement that this test does not know");
        assert_eq!(PART, part_sql(Sort::CreatedAt, true, false));
        let mut texts = vec![FIRST.to_owned()];
        for sort in [Sort::CreatedAt, Sort::UpdatedAt, Sort::Title] {
            for (descending, is_filtered) in [(false, false), (false, true), (true, false), (true, true)] {
                let all = [first_sql, part_sql, part_after_sql, next_sql];
                texts.extend(all.map(|text| text(sort, descending, is_filtered)));
            }
        }
        for sql in texts {
            let bound = sql.matches("from tasks where user_id = $1").count();
            assert!(bound > 0 && bound == sql.matches("tasks").count(), "{sql}");
            assert!(!sql.contains("$1 or ") && !sql.contains("$10"), "{sql}");
            // Of what follows nothing can widen it: `or` stands in parentheses of its own only.
            let (mut depth, mut from) = (0, 0);
            for (at, character) in sql.char_indices() {
                depth += i32::from(character == '(') - i32::from(character == ')');
                if sql[at..].starts_with("from tasks") {
                    from = depth;
                }
                assert!(depth > from || !sql[at..].starts_with(" or "), "{sql}");
            }
        }
    }

    #[test]
    fn a_page_asks_for_one_row_more_than_it_has() {
        assert!(FIRST.ends_with(&format!(" limit {}", MAX_PAGE_TASKS + 1)));
    }
}
