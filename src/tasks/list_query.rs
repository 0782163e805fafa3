//! The query parameters of `GET /api/tasks`: filter, order and window of a list.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::http::error::{ApiError, FieldError};

/// The largest `limit`.
pub const MAX_LIMIT: i64 = 1_000;
/// The longest list that is batched: this many tasks in index order are read within microseconds.
pub const SHORT_LIST_TASKS: i64 = 100;

/// What a client asks for. An empty query is for everything, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only tasks whose `completed` has this value.
    pub completed: Option<bool>,
    /// Only tasks with this text in title or description, ignoring case.
    pub search: Option<String>,
    /// What they are sorted by.
    pub sort: Sort,
    /// Descending order.
    pub descending: bool,
    /// A window of the list. The response also has the length of the whole list.
    pub window: Option<Window>,
}

/// What a list is sorted by. `tasks/sql.rs` has the column of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Sort {
    CreatedAt,
    UpdatedAt,
    Title,
}

impl Sort {
    /// All of them. The first is the default.
    pub const ALL: [Self; 3] = [Self::CreatedAt, Self::UpdatedAt, Self::Title];

    /// Its names in a query, of which the first is the field's; and whether it descends where the query has no order.
    pub fn in_query(self) -> (&'static [&'static str], bool) {
        match self {
            Self::CreatedAt => (&["created_at", "created"], true),
            Self::UpdatedAt => (&["updated_at", "updated"], true),
            Self::Title => (&["title"], false),
        }
    }
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// At most so many tasks; all that remain where `None`.
    pub limit: Option<i64>,
    /// After so many tasks.
    pub offset: i64,
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

impl ListQuery {
    /// Whether it may leave tasks out.
    pub fn is_filtered(&self) -> bool {
        self.completed.is_some() || self.search.is_some()
    }

    /// Whether it may be batched: its first [`SHORT_LIST_TASKS`] are read in index order, and none is filtered out.
    pub fn is_batchable(&self) -> bool {
        let is_short =
            |window: Window| window.limit.is_some_and(|limit| limit.saturating_add(window.offset) <= SHORT_LIST_TASKS);
        self.window.is_none_or(is_short) && self.sort == Sort::CreatedAt && !self.is_filtered()
    }

    /// Reads a query string. Every parameter is optional; an unknown one is ignored; of a repeated one the last value
    /// counts. Where a parameter and its alias both occur, the parameter counts.
    ///
    /// # Errors
    /// [`ApiError::Validation`] with everything that is wrong with it.
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        let pairs: Vec<(Cow<str>, Cow<str>)> = form_urlencoded::parse(query.as_bytes()).collect();
        let find = |names: &[&'static str]| {
            let last = |name| Some((name, pairs.iter().rfind(|(own, _)| own == name)?.1.as_ref()));
            names.iter().find_map(|name| last(*name))
        };
        let value = |names| find(names).map(|(_, value)| value);
        let mut errors = Vec::new();
        let mut number = |names, range| {
            let (name, value) = find(names)?;
            parse_number(name, value, range).map_err(|error| errors.push(error)).ok()
        };
        let limit = number(&["limit"], 1..=MAX_LIMIT);
        let offset = number(&["offset", "skip"], 0..=i64::MAX);
        let search = find(&["search", "q"]).filter(|(_, value)| !value.is_empty());
        if let Some((name, _)) = search.filter(|(_, value)| value.contains('\0')) {
            // PostgreSQL cannot compare with a NUL character.
            let message = "String should not contain a NUL character";
            errors.push(FieldError::new(&["query", name], "string_nul", message));
        }
        if !errors.is_empty() {
            return Err(ApiError::Validation(errors));
        }
        let is_named = |sort: &Sort| value(&["sort", "sort_by"]).is_some_and(|name| sort.in_query().0.contains(&name));
        let sort = Sort::ALL.into_iter().find(is_named).unwrap_or(Sort::ALL[0]);
        Ok(Self {
            completed: match value(&["status"]) {
                Some("pending") => Some(false),
                Some("completed") => Some(true),
                _ => value(&["completed"]).and_then(parse_flag),
            },
            search: search.map(|(_, value)| value.to_owned()),
            sort,
            descending: match value(&["order", "sort_order"]) {
                Some("asc") => false,
                Some("desc") => true,
                _ => sort.in_query().1,
            },
            window: (limit.is_some() || offset.is_some()).then(|| Window { limit, offset: offset.unwrap_or_default() }),
        })
    }
}

fn parse_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn parse_number(name: &'static str, text: &str, range: RangeInclusive<i64>) -> Result<i64, FieldError> {
    let (kind, message) = match text.parse::<i64>() {
        Ok(number) if range.contains(&number) => return Ok(number),
        Ok(number) if number < *range.start() => {
            ("greater_than_equal", format!("Input should be greater than or equal to {}", range.start()))
        }
        Ok(_) => ("less_than_equal", format!("Input should be less than or equal to {}", range.end())),
        Err(_) => ("int_parsing", "Input should be an integer".to_owned()),
    };
    Err(FieldError::new(&["query", name], kind, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Default for ListQuery {
        fn default() -> Self {
            Self { completed: None, search: None, sort: Sort::CreatedAt, descending: true, window: None }
        }
    }

    #[test]
    fn query_when_a_value_is_unknown_treats_it_as_absent() {
        let table = [
            ("", ListQuery::default()),
            ("page=2&foo=bar&user_id=eve", ListQuery::default()),
            ("status=all", ListQuery::default()),
            ("status=open&sort=unknown&order=up&completed=maybe&search=", ListQuery::default()),
            ("status=pending", ListQuery { completed: Some(false), ..ListQuery::default() }),
            ("status=completed&completed=false", ListQuery { completed: Some(true), ..ListQuery::default() }),
            ("status=all&completed=TRUE", ListQuery { completed: Some(true), ..ListQuery::default() }),
            ("completed=0", ListQuery { completed: Some(false), ..ListQuery::default() }),
            ("sort=updated", ListQuery { sort: Sort::UpdatedAt, ..ListQuery::default() }),
            ("sort=created&order=asc", ListQuery { descending: false, ..ListQuery::default() }),
            ("sort=title", ListQuery { sort: Sort::Title, descending: false, ..ListQuery::default() }),
            ("sort=title&order=desc", ListQuery { sort: Sort::Title, ..ListQuery::default() }),
            ("search=50%25+off%5F", ListQuery { search: Some("50% off_".to_owned()), ..ListQuery::default() }),
            ("limit=1000", ListQuery { window: Some(Window { limit: Some(1000), offset: 0 }), ..ListQuery::default() }),
            ("offset=5", ListQuery { window: Some(Window { limit: None, offset: 5 }), ..ListQuery::default() }),
            ("q=milk", ListQuery { search: Some("milk".to_owned()), ..ListQuery::default() }),
            ("search=a&q=b", ListQuery { search: Some("a".to_owned()), ..ListQuery::default() }),
            ("sort_by=updated_at", ListQuery { sort: Sort::UpdatedAt, ..ListQuery::default() }),
            ("sort=created_at&sort_by=title", ListQuery::default()),
            ("sort_order=asc", ListQuery { descending: false, ..ListQuery::default() }),
            ("order=desc&sort_order=asc", ListQuery::default()),
            ("skip=5", ListQuery { window: Some(Window { limit: None, offset: 5 }), ..ListQuery::default() }),
            ("offset=1&skip=5", ListQuery { window: Some(Window { limit: None, offset: 1 }), ..ListQuery::default() }),
            (
                "limit=x&limit=2",
                ListQuery { window: Some(Window { limit: Some(2), offset: 0 }), ..ListQuery::default() },
            ),
        ];
        for (query, expected) in table {
            assert_eq!(ListQuery::parse(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn number_when_invalid_is_named() {
        for (query, kinds) in [
            ("limit=abc", vec!["int_parsing"]),
            ("limit=", vec!["int_parsing"]),
            ("limit=0", vec!["greater_than_equal"]),
            ("limit=1001", vec!["less_than_equal"]),
            ("limit=1.5&offset=-1", vec!["int_parsing", "greater_than_equal"]),
            ("offset=99999999999999999999", vec!["int_parsing"]),
            ("search=%00", vec!["string_nul"]),
            ("skip=x&q=%00", vec!["int_parsing", "string_nul"]),
        ] {
            let Err(ApiError::Validation(errors)) = ListQuery::parse(query) else { panic!("{query} was taken") };
            assert_eq!(errors.iter().map(|error| error.kind).collect::<Vec<_>>(), kinds, "{query}");
        }
    }

    #[test]
    fn list_when_short_and_in_index_order_is_batchable() {
        for (query, expected) in [
            ("", true),
            ("limit=20", true),
            ("limit=60&offset=40&order=asc", true),
            ("limit=60&offset=41", false),
            ("limit=101", false),
            ("offset=5", false),
            ("limit=20&completed=true", false),
            ("search=milk", false),
            ("limit=20&sort=title", false),
            ("sort=updated_at", false),
        ] {
            assert_eq!(ListQuery::parse(query).unwrap().is_batchable(), expected, "{query}");
        }
    }
}
