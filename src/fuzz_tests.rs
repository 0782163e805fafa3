//! Any input of clients and operators: nothing panics, and what is accepted is what another reading finds in it.
//!
//! `tests/fuzz` calls the `check_` functions with the input of libFuzzer (`./dev fuzz SECONDS`), the tests here with
//! mutated seeds. `auth/fuzz_tests.rs` does the same for tokens and key sets, the engine's for heads and chunked
//! bodies.

use serde_json::Value;

use crate::db::url::DatabaseUrl;
use crate::tasks::body::{Completion, MAX_DESCRIPTION_CHARS, MAX_TITLE_CHARS, NewTask, TaskPatch};
use crate::tasks::list_query::{ListQuery, MAX_LIMIT};

/// Whether a field may be this title, or this description, as the contract has it.
fn is_text(value: &Value, length: std::ops::RangeInclusive<usize>, trims: bool) -> bool {
    value.as_str().is_some_and(|text| {
        let text = if trims { text.trim() } else { text };
        length.contains(&text.chars().count()) && !text.contains('\0')
    })
}

/// Parses it as each of the three bodies. Whether it is a task that can be created.
pub fn check_body(body: &str) -> bool {
    let parsed = (NewTask::parse(body), TaskPatch::parse(body), Completion::parse(body));
    // It has limits that the program has not: of nesting and of numbers.
    let Ok(value) = serde_json::from_str::<Value>(body) else { return false };
    let field = |name: &str, is_valid: &dyn Fn(&Value) -> bool| value.get(name).is_none_or(is_valid);
    let has_valid_title = field("title", &|title| is_text(title, 1..=MAX_TITLE_CHARS, true));
    let has_valid_rest =
        field("description", &|text| text.is_null() || is_text(text, 0..=MAX_DESCRIPTION_CHARS, false))
            && field("completed", &Value::is_boolean);
    let is_patch = value.is_object() && has_valid_title && has_valid_rest;
    assert_eq!(parsed.0.is_ok(), is_patch && value.get("title").is_some(), "{body}");
    assert_eq!(parsed.1.is_ok(), is_patch, "{body}");
    let is_completion = value.is_null() || value.is_object() && field("completed", &Value::is_boolean);
    assert_eq!(parsed.2.is_ok(), is_completion, "{body}");
    if let Ok(task) = parsed.1 {
        assert!(parsed.0.is_err() || parsed.0.as_ref().is_ok_and(|new| *new.fields() == task), "{body}");
        let TaskPatch { title, description, completed } = task;
        assert_eq!(title.as_ref().map(|text| text.as_str()), value["title"].as_str().map(str::trim), "{body}");
        assert_eq!(description.flatten().as_ref().map(|text| text.as_str()), value["description"].as_str(), "{body}");
        assert_eq!(completed, value["completed"].as_bool(), "{body}");
    }
    parsed.0.is_ok()
}

/// Parses it as the query of a list.
pub fn check_list_query(query: &str) {
    let parsed = ListQuery::parse(query);
    assert_eq!(ListQuery::parse(&format!("{query}&{query}")), parsed, "repeated: {query}");
    assert_eq!(ListQuery::parse(&format!("unknown=1&{query}&limits=x")), parsed, "with unknown ones: {query}");
    if let Ok(list) = parsed {
        assert!(list.search.is_none_or(|text| !text.is_empty() && !text.contains('\0')), "{query}");
        if let Some(window) = list.window {
            assert!(window.limit.is_none_or(|limit| (1..=MAX_LIMIT).contains(&limit)), "{query}");
            assert!(window.offset >= 0, "{query}");
        }
    }
}

/// Parses what stands behind `postgresql://ada:s3cr3t@` in a database URL. Whether it is accepted.
pub fn check_database_url(rest: &str) -> bool {
    let url = format!("postgresql://ada:s3cr3t@{rest}");
    let parsed = DatabaseUrl::parse(&url, None);
    let messages: Vec<String> = match &parsed {
        Ok(parsed) => {
            assert!(!parsed.hosts().is_empty(), "{url}");
            let addresses = parsed.hosts().iter().map(|host| host.address.clone());
            addresses.chain(parsed.notes().iter().cloned()).chain([format!("{parsed:?}")]).collect()
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "{url}");
            mistakes.clone()
        }
    };
    // The input may have the word elsewhere, too.
    let is_password_only = url.matches("s3cr3t").count() == 1 + url.matches("password=s3cr3t&").count();
    assert!(!is_password_only || !messages.concat().contains("s3cr3t"), "{url}: {messages:?}");
    parsed.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{fuzz, mutate};

    const JSON_WORDS: [&str; 22] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u0000",
        "\\ud83d\\ude00",
        "\\ud800",
        "null",
        "true",
        "1e999",
        "-0",
        " ",
        "\u{3000}",
        "\0",
        "\"title\":",
        "\"description\":",
        "\"completed\":",
        "{\"title\":\"a\",\"title\":",
    ];

    #[test]
    fn body_when_mutated_is_accepted_exactly_when_its_fields_are_valid() {
        let bodies = [
            r#"{"title":"milk","description":"two\nlines","completed":true}"#.to_owned(),
            r#"{"title":" é ","description":null,"tags":[1,{"a":"b"}]}"#.to_owned(),
            r#"{"completed":false}"#.to_owned(),
            format!(r#"{{"title":"{}"}}"#, "é".repeat(MAX_TITLE_CHARS)),
            format!(r#"{{"title":"a","description":"{}"}}"#, "é".repeat(MAX_DESCRIPTION_CHARS)),
        ];
        let mut accepted = 0;
        fuzz(|random| {
            let seed = random.pick(&bodies);
            let body = mutate(random, seed, &JSON_WORDS);
            accepted += usize::from(check_body(&body));
        });
        assert!(accepted > 0, "no mutated body was accepted");
    }

    #[test]
    fn list_query_when_mutated_is_refused_or_within_its_limits() {
        let seeds = [
            "limit=20&offset=40&status=pending&search=milk",
            "skip=0&q=50%25+off&sort=title&order=desc",
            "completed=true&sort_by=updated_at&sort_order=asc",
        ];
        let words = [
            "&",
            "=",
            "%",
            "%00",
            "%ff",
            "+",
            ";",
            "limit=",
            "limit=1000",
            "offset=",
            "skip=-1",
            "search=",
            "q=",
            "sort=",
            "9223372036854775807",
            "1e3",
            "\0",
            "é",
        ];
        fuzz(|random| {
            let seed = random.pick(&seeds);
            check_list_query(&mutate(random, seed, &words));
        });
    }

    #[test]
    fn database_url_when_mutated_never_shows_its_password() {
        let seeds = [
            "db.example/todo?sslmode=require&channel_binding=require",
            "a.example:5432,b.example:5433/todo?target_session_attrs=read-write&connect_timeout=10",
            "[::1]:5432/todo?sslmode=disable&options=-c%20search_path%3Da&application_name=x",
            "/todo?host=/var/run/postgresql&port=5432&sslrootcert=system",
        ];
        let words = [
            "@",
            "/",
            "?",
            "&",
            "=",
            ":",
            ",",
            "%",
            "%00",
            "%40",
            "[",
            "]",
            " ",
            "\n",
            "\0",
            "'",
            "é",
            "host=",
            "port=99999",
            "sslmode=verify-full",
            "sslmode=",
            "connect_timeout=-1",
            "password=s3cr3t&",
            "user=",
            "options=",
            "hostaddr=::1",
        ];
        let mut accepted = 0;
        fuzz(|random| {
            let seed = random.pick(&seeds);
            let rest = mutate(random, seed, &words);
            accepted += usize::from(check_database_url(&rest));
            // The whole may be anything.
            let _ = DatabaseUrl::parse(&mutate(random, &format!("postgresql://ada:s3cr3t@{rest}"), &words), None);
        });
        assert!(accepted > 0, "no mutated URL was accepted");
    }
}
