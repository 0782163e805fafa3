//! `ARCHITECTURE.md` lists the functions that `GET /api/tasks/1` passes. This keeps the list true and short.

use std::fs;
use std::path::Path;

const SECTION: &str = "\n## The path of GET /api/tasks/1\n";
/// The most hops of the list.
const MAX_HOPS: usize = 15;

/// A line of the list: `1. `src/server.rs:accept` …`.
struct Hop {
    file: String,
    function: String,
}

impl Hop {
    fn parse(line: &str) -> Option<Self> {
        let (number, rest) = line.split_once(". `")?;
        number.parse::<usize>().ok()?;
        let (file, function) = rest.split_once('`')?.0.split_once(':')?;
        Some(Self { file: file.to_owned(), function: function.to_owned() })
    }

    /// The code of its file without the unit tests.
    fn code(&self) -> String {
        let text = read(&self.file);
        text.split("\n#[cfg(test)]\n").next().unwrap().to_owned()
    }
}

fn read(path: &str) -> String {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(whole).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The hops of the section, in order.
fn hops() -> Vec<Hop> {
    let text = read("ARCHITECTURE.md");
    let (_, rest) = text.split_once(SECTION).expect("ARCHITECTURE.md has the section");
    let section = rest.split("\n## ").next().unwrap();
    let is_item = |line: &&str| line.starts_with(|first: char| first.is_ascii_digit());
    section.lines().filter(is_item).map(|line| Hop::parse(line).unwrap_or_else(|| panic!("no hop: {line}"))).collect()
}

/// Whether the code defines this function.
fn defines(code: &str, function: &str) -> bool {
    ["(", "<"].iter().any(|end| code.contains(&format!("fn {function}{end}")))
}

/// Whether the code calls a function of this name, or passes it on.
fn calls(code: &str, function: &str) -> bool {
    code.match_indices(function).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + function.len()..]);
        let is_whole = !before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        is_whole && !before.ends_with("fn ") && after.starts_with(['(', ')'])
    })
}

#[test]
fn walk_of_a_get_when_listed_is_short() {
    let count = hops().len();
    assert!((5..=MAX_HOPS).contains(&count), "{count} hops");
}

#[test]
fn walk_of_a_get_when_listed_names_functions_that_exist() {
    for Hop { file, function } in hops() {
        assert!(file.starts_with("src/") && file.ends_with(".rs"), "{file} is not in src/");
        let hop = Hop { file, function };
        assert!(defines(&hop.code(), &hop.function), "{} does not define {}", hop.file, hop.function);
    }
}

#[test]
fn walk_of_a_get_when_listed_is_a_chain_of_calls() {
    let hops = hops();
    for (at, hop) in hops.iter().enumerate() {
        let callers = &hops[..=at];
        let is_called = callers.iter().any(|caller| calls(&caller.code(), &hop.function));
        assert!(is_called, "no hop before {}:{} calls it", hop.file, hop.function);
    }
}
