//! Fuzz tests of input of clients and operators: nothing panics, and only valid input is accepted.
//!
//! `auth/fuzz_tests.rs` does the same for tokens and key sets, the engine's for heads and chunked bodies.
//! `./dev fuzz SECONDS` runs them all.

use serde_json::Value;

use crate::db::url::DatabaseUrl;
use crate::random::{fuzz, mutate};
use crate::tasks::list_query::{ListQuery, MAX_LIMIT};
use crate::tasks::task::{Completion, MAX_DESCRIPTION_CHARS, MAX_TITLE_CHARS, NewTask, TaskPatch};

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

/// Whether a field may be this title, or this description, as the contract has it.
fn is_text(value: &Value, length: std::ops::RangeInclusive<usize>, trims: bool) -> bool {
    value.as_str().is_some_and(|text| {
        let text = if trims { text.trim() } else { text };
        length.contains(&text.chars().count()) && !text.contains('\0')
    })
}

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
        let parsed = (NewTask::parse(&body), TaskPatch::parse(&body), Completion::parse(&body));
        // It has limits that the program has not: of nesting and of numbers.
        let Ok(value) = serde_json::from_str::<Value>(&body) else { return };
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
        if let Ok(task) = parsed.0 {
            assert_eq!(Some(task.title.as_str()), value["title"].as_str().map(str::trim), "{body}");
            assert_eq!(task.description.as_ref().map(|text| text.as_str()), value["description"].as_str(), "{body}");
            assert_eq!(task.completed, value["completed"] == true, "{body}");
            accepted += 1;
        }
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
        let query = mutate(random, seed, &words);
        let parsed = ListQuery::parse(&query);
        assert_eq!(ListQuery::parse(&format!("{query}&{query}")), parsed, "repeated: {query}");
        assert_eq!(ListQuery::parse(&format!("unknown=1&{query}&limits=x")), parsed, "with unknown ones: {query}");
        if let Ok(list) = parsed {
            assert!(list.search.is_none_or(|text| !text.is_empty() && !text.contains('\0')), "{query}");
            if let Some(window) = list.window {
                assert!(window.limit.is_none_or(|limit| (1..=MAX_LIMIT).contains(&limit)), "{query}");
                assert!(window.offset >= 0, "{query}");
            }
        }
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
        let url = format!("postgresql://ada:s3cr3t@{}", mutate(random, seed, &words));
        let messages = match DatabaseUrl::parse(&url, None) {
            Ok(parsed) => {
                assert!(!parsed.hosts().is_empty(), "{url}");
                accepted += 1;
                let addresses = parsed.hosts().iter().map(|host| host.address.clone());
                addresses.chain(parsed.notes().iter().cloned()).chain([format!("{parsed:?}")]).collect()
            }
            Err(mistakes) => {
                assert!(!mistakes.is_empty(), "{url}");
                mistakes
            }
        };
        // A mutation may put the word elsewhere, too.
        let is_password_only = url.matches("s3cr3t").count() == 1 + url.matches("password=s3cr3t&").count();
        assert!(!is_password_only || !messages.concat().contains("s3cr3t"), "{url}: {messages:?}");
        // The whole may be anything.
        let whole = mutate(random, &url, &words);
        let _ = DatabaseUrl::parse(&whole, None);
    });
    assert!(accepted > 0, "no mutated URL was accepted");
}
