//! Which of a user's tasks a list shows, and in which order: the query parameters of `GET /api/tasks`.

use crate::http::error::{Error, Violation};

/// The most tasks that a page may have.
pub const MAX_LIMIT: i64 = 1_000;

/// So few tasks are listed in next to no time.
const FEW_TASKS: i64 = 100;

/// A list that a client asks for. The default is that of an empty query: everything, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Only those that are, or are not, completed.
    pub completed: Option<bool>,
    /// Only those with this text in title or description, whatever the case.
    pub search: Option<String>,
    /// What they are sorted by.
    pub sort: Sort,
    /// From large to small.
    pub descending: bool,
    /// A part of the list; its answer also tells how long the whole is.
    pub page: Option<Page>,
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
pub struct Page {
    /// At most so many, all that are left where `None`.
    pub limit: Option<i64>,
    /// After so many.
    pub offset: i64,
}

impl Default for Listing {
    fn default() -> Self {
        Self { completed: None, search: None, sort: Sort::CreatedAt, descending: true, page: None }
    }
}

impl Listing {
    /// Whether it may leave tasks out.
    pub fn is_filtered(&self) -> bool {
        self.completed.is_some() || self.search.is_some()
    }

    /// Whether it takes next to no time: a short part from the start of it, for which no task is read in vain.
    /// All are counted, by the index alone.
    pub fn is_brief(&self) -> bool {
        let is_short =
            |page: Page| page.limit.is_some_and(|limit| limit.saturating_add(page.offset) <= FEW_TASKS);
        self.page.is_some_and(is_short) && self.sort == Sort::CreatedAt && !self.is_filtered()
    }

    /// Reads a query string. Every parameter is optional, an unknown one ignored; when one stands twice, the last wins.
    ///
    /// # Errors
    /// [`Error::Invalid`] with everything that is wrong with it.
    pub fn parse(query: &str) -> Result<Self, Error> {
        let (mut status, mut completed, mut descending) = (None, None, None);
        let (mut limit, mut offset, mut search) = (Ok(None), Ok(None), Ok(None));
        let mut sort = Sort::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "status" => status = parse_status(&value),
                "completed" => completed = parse_flag(&value),
                "sort" => sort = Sort::parse(&value),
                "order" => descending = parse_order(&value),
                "search" => search = parse_search(&value),
                "limit" => limit = parse_number("limit", &value, 1, MAX_LIMIT),
                "offset" => offset = parse_number("offset", &value, 0, i64::MAX),
                _ => {}
            }
        }
        match (limit, offset, search) {
            (Ok(limit), Ok(offset), Ok(search)) => Ok(Self {
                completed: status.or(completed),
                search,
                sort,
                descending: descending.unwrap_or(sort != Sort::Title),
                page: (limit.is_some() || offset.is_some())
                    .then(|| Page { limit, offset: offset.unwrap_or_default() }),
            }),
            (limit, offset, search) => {
                Err(Error::Invalid([limit.err(), offset.err(), search.err()].into_iter().flatten().collect()))
            }
        }
    }
}

/// What `status` asks of `completed`; `all` is as good as no `status`.
fn parse_status(text: &str) -> Option<bool> {
    match text {
        "pending" => Some(false),
        "completed" => Some(true),
        _ => None,
    }
}

impl Sort {
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

/// Whether it is from large to small.
fn parse_order(text: &str) -> Option<bool> {
    match text {
        "asc" => Some(false),
        "desc" => Some(true),
        _ => None,
    }
}

fn parse_search(text: &str) -> Result<Option<String>, Violation> {
    match text {
        "" => Ok(None),
        // PostgreSQL cannot compare with a NUL character.
        _ if text.contains('\0') => Err(Violation::new(
            &["query", "search"],
            "string_nul",
            "String should not contain a NUL character",
        )),
        _ => Ok(Some(text.to_owned())),
    }
}

fn parse_number(name: &'static str, text: &str, least: i64, most: i64) -> Result<Option<i64>, Violation> {
    let violation = |kind, message| Err(Violation::new(&["query", name], kind, message));
    match text.parse::<i64>() {
        Err(_) => violation("int_parsing", "Input should be an integer".to_owned()),
        Ok(number) if number < least => {
            violation("greater_than_equal", format!("Input should be greater than or equal to {least}"))
        }
        Ok(number) if number > most => {
            violation("less_than_equal", format!("Input should be less than or equal to {most}"))
        }
        Ok(number) => Ok(Some(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_is_optional_and_an_unknown_value_is_as_good_as_absent() {
        let table = [
            ("", Listing::default()),
            ("page=2&foo=bar&user_id=eve", Listing::default()),
            ("status=all", Listing::default()),
            ("status=open&sort=priority&order=up&completed=maybe&search=", Listing::default()),
            ("status=pending", Listing { completed: Some(false), ..Listing::default() }),
            ("status=completed&completed=false", Listing { completed: Some(true), ..Listing::default() }),
            ("status=all&completed=TRUE", Listing { completed: Some(true), ..Listing::default() }),
            ("completed=0", Listing { completed: Some(false), ..Listing::default() }),
            ("sort=updated", Listing { sort: Sort::UpdatedAt, ..Listing::default() }),
            ("sort=created&order=asc", Listing { descending: false, ..Listing::default() }),
            ("sort=title", Listing { sort: Sort::Title, descending: false, ..Listing::default() }),
            ("sort=title&order=desc", Listing { sort: Sort::Title, ..Listing::default() }),
            ("search=50%25+off%5F", Listing { search: Some("50% off_".to_owned()), ..Listing::default() }),
            (
                "limit=1000",
                Listing { page: Some(Page { limit: Some(1000), offset: 0 }), ..Listing::default() },
            ),
            ("offset=5", Listing { page: Some(Page { limit: None, offset: 5 }), ..Listing::default() }),
            (
                "limit=x&limit=2",
                Listing { page: Some(Page { limit: Some(2), offset: 0 }), ..Listing::default() },
            ),
        ];
        for (query, expected) in table {
            assert_eq!(Listing::parse(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn a_number_that_does_not_hold_is_named() {
        for (query, kinds) in [
            ("limit=abc", vec!["int_parsing"]),
            ("limit=", vec!["int_parsing"]),
            ("limit=0", vec!["greater_than_equal"]),
            ("limit=1001", vec!["less_than_equal"]),
            ("limit=1.5&offset=-1", vec!["int_parsing", "greater_than_equal"]),
            ("offset=99999999999999999999", vec!["int_parsing"]),
            ("search=%00", vec!["string_nul"]),
        ] {
            let Err(Error::Invalid(violations)) = Listing::parse(query) else { panic!("{query} was taken") };
            assert_eq!(
                violations.iter().map(|violation| violation.kind).collect::<Vec<_>>(),
                kinds,
                "{query}"
            );
        }
    }
}
