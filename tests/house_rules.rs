//! The rules of this house that a machine can hold: length, no unwrap, who may know what, one changelog.

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines that a file may have, its unit tests at the end not counted.
const MAX_FILE_LINES: usize = 400;
/// The most lines that a function may have: a screen.
const MAX_FUNCTION_LINES: usize = 66;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file of the program and its engine: its path from the root, and its text without unit tests.
fn sources() -> Vec<(String, String)> {
    let mut folders: Vec<PathBuf> = ["src", "crates/tiny_http/src"].map(|folder| root().join(folder)).into();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                sources.push((name, code));
            }
        }
    }
    assert!(sources.len() > 20, "{sources:?}");
    sources
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn a_file_is_read_at_one_sitting_and_a_function_on_one_screen() {
    let mut long = Vec::new();
    for (name, code) in sources() {
        let lines: Vec<&str> = code.lines().collect();
        if lines.len() > MAX_FILE_LINES {
            long.push(format!("{name} has {} lines", lines.len()));
        }
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if !words.starts_with("fn ") && !words.starts_with("const fn ") {
                continue;
            }
            // rustfmt puts the closing brace where the function begins.
            let closing = format!("{}}}", " ".repeat(indent));
            let end = lines[start..].iter().position(|line| *line == closing).unwrap_or(0);
            if end + 1 > MAX_FUNCTION_LINES {
                long.push(format!("{name}:{} has a function of {} lines", start + 1, end + 1));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn nothing_is_unwrapped_or_left_undone() {
    for (name, code) in sources() {
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !is_comment(line)) {
            for bad in [".unwrap()", "todo!(", "unimplemented!(", "dbg!(", "unsafe {"] {
                // The engine's one file with `unsafe` in it says why at each line.
                let is_known = bad == "unsafe {" && name.starts_with("crates/");
                assert!(!line.contains(bad) || is_known, "{name}:{}: {bad}", number + 1);
            }
        }
    }
}

/// What only some may name (`ARCHITECTURE.md`).
#[test]
fn each_file_knows_what_it_may() {
    let rules: [(&str, &[&str]); 6] = [
        ("tiny_http::", &["src/http/mod.rs", "src/dispatch/mod.rs", "src/server.rs", "src/ops/admin.rs"]),
        ("postgres::", &["src/tasks/", "src/db/"]),
        ("postgres_protocol", &["src/db/"]),
        ("r2d2", &["src/db/"]),
        ("UserId(", &["src/auth/"]),
        ("env::var", &["src/config/env.rs"]),
    ];
    for (name, code) in sources().iter().filter(|(name, _)| name.starts_with("src/")) {
        for (word, knowing) in rules {
            let knows = code.lines().filter(|line| !is_comment(line)).any(|line| line.contains(word));
            let may = knowing.iter().any(|own| name.starts_with(own));
            assert!(!knows || may, "{name} names {word}, which only {knowing:?} may");
        }
    }
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (_, knowing) in rules {
        for file in knowing {
            let file = file.trim_start_matches("src/");
            assert!(page.contains(file), "ARCHITECTURE.md says nothing of {file}");
        }
    }
}

#[test]
fn the_changelog_knows_this_version() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let newest = changelog.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    assert_eq!(newest.split(' ').next(), Some(env!("CARGO_PKG_VERSION")));
}
