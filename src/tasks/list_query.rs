//! The query parameters of `GET /api/tasks`: filter, order and window of a list.

use std::borrow::Cow;

use crate::http::error::{ApiError, FieldError};

/// The largest `limit`.
pub const MAX_LIMIT: i64 = 1_000;
/// The longest list that is batched: this many tasks in index order are read within microseconds.
pub const SHORT_LIST_TASKS: i64 = 100;

/// What a client asks for. The default is that of an empty query: everything, newest first.
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

/// What a list is sorted by.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Sort {
    #[default]
    CreatedAt,
    UpdatedAt,
    Title,
}

/// A part of a list.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// At most so many tasks; all that remain where `None`.
    pub limit: Option<i64>,
    /// After so many tasks.
    pub offset: i64,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self { completed: None, search: None, sort: Sort::CreatedAt, descending: true, window: None }
    }
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
        let last = |name: &str| pairs.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_ref());
        let either = |name: &'static str, alias: &'static str| {
            last(name).map(|value| (name, value)).or_else(|| last(alias).map(|value| (alias, value)))
        };
        let (mut errors, number) = (Vec::new(), |field: Option<(&'static str, &str)>, least, most| {
            field.map(|(name, value)| parse_number(name, value, least, most)).transpose()
        });
        let mut check = |parsed: Result<Option<i64>, FieldError>| parsed.map_err(|error| errors.push(error)).ok()?;
        let limit = check(number(last("limit").map(|value| ("limit", value)), 1, MAX_LIMIT));
        let offset = check(number(either("offset", "skip"), 0, i64::MAX));
        let search = either("search", "q").filter(|(_, value)| !value.is_empty());
        if let Some((name, _)) = search.filter(|(_, value)| value.contains('\0')) {
            // PostgreSQL cannot compare with a NUL character.
            let message = "String should not contain a NUL character";
            errors.push(FieldError::new(&["query", name], "string_nul", message));
        }
        if !errors.is_empty() {
            return Err(ApiError::Validation(errors));
        }
        let sort = either("sort", "sort_by").map_or(Sort::default(), |(_, value)| Sort::parse(value));
        let descending = either("order", "sort_order").and_then(|(_, value)| parse_order(value));
        Ok(Self {
            completed: last("status").and_then(parse_status).or_else(|| last("completed").and_then(parse_flag)),
            search: search.map(|(_, value)| value.to_owned()),
            sort,
            descending: descending.unwrap_or(sort != Sort::Title),
            window: (limit.is_some() || offset.is_some()).then(|| Window { limit, offset: offset.unwrap_or_default() }),
        })
    }
}

/// What `status` says of `completed`; `all` is the same as no `status`.
fn parse_status(text: &str) -> Option<bool> {
    match text {
        "pending" => Some(false),
        "completed" => Some(true),
        _ => None,
    }
}

impl Sort {
    /// All sort orders.
    pub const ALL: [Self; 3] = [Self::CreatedAt, Self::UpdatedAt, Self::Title];

    fn parse(text: &str) -> Self {
        match text {
            "updated_at" | "updated" => Sort::UpdatedAt,
            "title" => Sort::Title,
            _ => Sort::CreatedAt,
        }
    }
}

fn parse_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Whether the order is descending.
fn parse_order(text: &str) -> Option<bool> {
    match text {
        "asc" => Some(false),
        "desc" => Some(true),
        _ => None,
    }
}

fn parse_number(name: &'static str, text: &str, least: i64, most: i64) -> Result<i64, FieldError> {
    let error = |kind, message| Err(FieldError::new(&["query", name], kind, message));
    match text.parse::<i64>() {
        Err(_) => error("int_parsing", "Input should be an integer".to_owned()),
        Ok(number) if number < least => {
            error("greater_than_equal", format!("Input should be greater than or equal to {least}"))
        }
        Ok(number) if number > most => {
            error("less_than_equal", format!("Input should be less than or equal to {most}"))
        }
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_when_a_value_is_unknown_treats_it_as_absent() {
        let table = [
            ("", ListQuery::default()),
            ("page=2&foo=bar&user_id=eve", ListQuery::default()),
            ("status=all", ListQuery::default()),
            ("status=open&sort=priority&order=up&completed=maybe&search=", ListQuery::default()),
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
