//! Rules of the source that a machine can check: lengths, the code budget, imports, names, the changelog.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/glossary.rs"]
mod glossary;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/names.rs"]
mod names;

/// The most lines of a file, without the unit tests at its end.
const MAX_FILE_LINES: usize = 300;
/// The most lines of a function: a screen.
const MAX_FUNCTION_LINES: usize = 66;
/// The most characters of a line.
const MAX_LINE_CHARS: usize = 120;
/// The most lines of code in `src/`: no unit tests, comments or blank lines.
const MAX_CODE_LINES: usize = 6_000;
/// The most words of README, ARCHITECTURE and specs together.
const MAX_DOC_WORDS: usize = 14_000;
/// The most terms of the glossary.
const MAX_TERMS: usize = 20;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
struct File {
    /// From the root.
    path: String,
    text: String,
}

impl File {
    fn is_within(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// What comes before the unit tests.
    fn without_tests(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod tests {").next().expect("a split has a first part")
    }

    /// The lines of code with their numbers: no unit tests, comments or blank lines.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.without_tests().lines());
        lines.filter(|(_, line)| !line.trim_start().starts_with("//") && !line.trim().is_empty())
    }
}

/// Every file of the repository whose name ends so, but for what is built or installed.
fn files(endings: &[&str]) -> Vec<File> {
    let mut folders = vec![root().to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                let is_ours = !matches!(name, "target" | "node_modules" | ".git" | ".dev" | "__pycache__");
                folders.extend(is_ours.then_some(path));
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path).unwrap();
                files.push(File { path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(files.len() > 20, "{} files were found", files.len());
    files
}

/// The sources of the program and its engine, without the files of unit tests.
fn sources() -> Vec<File> {
    let is_source = |file: &File| {
        file.is_within(&["src/", "crates/tiny_http/src/"])
            && !file.path.ends_with("tests.rs")
            && !file.path.contains("/tests/")
    };
    files(&[".rs"]).into_iter().filter(is_source).collect()
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn source_files_are_at_most_300_lines_and_functions_a_screen() {
    let mut problems = Vec::new();
    for file in sources() {
        let path = &file.path;
        let lines: Vec<&str> = file.without_tests().lines().collect();
        if lines.len() > MAX_FILE_LINES {
            problems.push(format!("{path} has {} lines", lines.len()));
        }
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if !words.starts_with("fn ") && !words.starts_with("const fn ") {
                continue;
            }
            // rustfmt puts the closing brace where the function begins.
            let closing = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| *line == closing).map_or(1, |end| end + 1);
            if length > MAX_FUNCTION_LINES {
                problems.push(format!("{path}:{} has a function of {length} lines", start + 1));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn lines_are_at_most_120_characters() {
    let mut problems = Vec::new();
    for file in files(&[".rs", ".md", ".sh"]).iter().filter(|file| !file.is_within(&["bench/results/"])) {
        // A row of a Markdown table cannot be broken.
        let is_row = |line: &str| file.path.ends_with(".md") && line.starts_with('|');
        for (number, line) in (1..).zip(file.text.lines()) {
            if line.chars().count() > MAX_LINE_CHARS && !is_row(line) {
                problems.push(format!("{}:{number} has {} characters", file.path, line.chars().count()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn code_of_the_program_is_within_its_budget() {
    let mut lines: Vec<(usize, String)> = sources()
        .into_iter()
        .filter(|file| file.path.starts_with("src/"))
        .map(|file| (file.code().count(), file.path))
        .collect();
    lines.sort();
    let total: usize = lines.iter().map(|(count, _)| count).sum();
    for (count, path) in lines.iter().rev() {
        println!("{count:6} {path}");
    }
    println!("{total:6} lines of code in src/, at most {MAX_CODE_LINES}");
    assert!(total <= MAX_CODE_LINES, "src/ has {total} lines of code, more than {MAX_CODE_LINES}");
}

#[test]
fn source_has_no_unwrap_no_unfinished_code_and_no_empty_documentation() {
    let mut problems = Vec::new();
    for file in sources() {
        for (number, line) in file.code() {
            for bad in [".unwrap()", "todo!(", "unimplemented!(", "dbg!(", "unsafe {"] {
                if line.contains(bad) {
                    problems.push(format!("{}:{number}: {bad}", file.path));
                }
            }
        }
        if file.text.contains("/// See the module.") {
            problems.push(format!("{}: `See the module.` documents nothing", file.path));
        }
    }
    assert_none(&problems);
}

/// What only some files may name (`ARCHITECTURE.md`).
#[test]
fn files_name_only_what_architecture_allows() {
    let rules: [(&str, &[&str]); 7] = [
        (
            "tiny_http::",
            &["src/dispatch/job.rs", "src/http/mod.rs", "src/dispatch/mod.rs", "src/server.rs", "src/ops/admin.rs"],
        ),
        (
            "postgres::",
            &["src/db/", "src/tasks/", "src/auth/jwks_table.rs", "src/ops/check_database.rs", "src/ops/check_probe.rs"],
        ),
        ("postgres_protocol", &["src/db/"]),
        ("r2d2", &["src/db/", "src/ops/check_database.rs"]),
        ("UserId(", &["src/auth/"]),
        ("CheckStep", &["src/tasks/sql.rs", "src/ops/check_probe.rs"]),
        ("env::var", &["src/config/mod.rs"]),
    ];
    let mut problems = Vec::new();
    for file in sources().iter().filter(|file| file.path.starts_with("src/")) {
        for (word, allowed) in rules {
            if file.code().any(|(_, line)| line.contains(word)) && !file.is_within(allowed) {
                problems.push(format!("{} names {word}, which only {allowed:?} may", file.path));
            }
        }
    }
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for path in rules.iter().flat_map(|(_, allowed)| *allowed) {
        if !page.contains(path.trim_start_matches("src/")) {
            problems.push(format!("ARCHITECTURE.md does not mention {path}"));
        }
    }
    assert_none(&problems);
}

#[test]
fn files_do_not_import_each_other_in_a_cycle() {
    let graph = imports::graph(&sources());
    assert!(graph["src/main.rs"].is_empty(), "main.rs imports through the crate's name: {:?}", graph["src/main.rs"]);
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > graph.len(), "{edges} imports between {} files: too few were found", graph.len());
    let cycles: Vec<_> = graph.keys().filter_map(|file| imports::shortest_cycle(&graph, file)).collect();
    for cycle in &cycles {
        println!("{}", cycle.join(" → "));
    }
    assert!(cycles.is_empty(), "{} files import each other in a cycle; see above", cycles.len());
}

#[test]
fn imports_when_nested_and_relative_are_all_found() {
    let code = "use crate::a::{self, b::{C, d}};\nuse super::super::e::F;\nfn f() { crate::g::h(); my_crate::x(); }";
    let found: Vec<String> = imports::of_code(&["m", "n"], code).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a::self", "a::b::C", "a::b::d", "g::h", "e::F"]);
}

#[test]
fn old_names_are_gone() {
    let mut problems = Vec::new();
    for file in sources() {
        let code: String = file.code().map(|(_, line)| format!("{line}\n")).collect();
        for old in names::OLD_NAMES {
            let is_word = |at: usize| {
                let around = [code[..at].chars().next_back(), code[at + old.len()..].chars().next()];
                !around.iter().flatten().any(|next| next.is_alphanumeric() || *next == '_')
            };
            if code.match_indices(old).any(|(at, _)| is_word(at)) {
                problems.push(format!("{} says `{old}`, which is an old name: use the term of the field", file.path));
            }
        }
    }
    assert_none(&problems);
}

/// What the glossary holds for: code, tests, bench and documents, but not this rule.
fn files_with_terms() -> Vec<File> {
    let folders = ["src/", "crates/tiny_http/", "tests/", "bench/", "specs/", "ops/"];
    let is_checked = |file: &File| {
        (file.is_within(&folders) || !file.path.contains('/') && file.path.ends_with(".md"))
            && !file.is_within(&["bench/results/", "tests/tidy"])
    };
    let endings = [".rs", ".md", ".sh", ".py", ".mjs", ".ts", ".html", "openapi.json", ".yml"];
    files(&endings).into_iter().filter(is_checked).collect()
}

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

#[test]
fn glossary_has_at_most_20_terms_and_each_is_used() {
    let terms = glossary::terms(&architecture());
    assert!((10..=MAX_TERMS).contains(&terms.len()), "{} terms", terms.len());
    let sources: Vec<_> = sources().iter().map(|file| glossary::words(&file.text)).collect();
    let is_unused = |term: &&glossary::Term| sources.iter().all(|words| glossary::find(words, &term.name).is_empty());
    let unused: Vec<_> = terms.iter().filter(is_unused).map(|term| format!("no file says `{}`", term.name)).collect();
    assert_none(&unused);
}

#[test]
fn files_use_one_word_for_each_term_of_the_glossary() {
    let files = files_with_terms();
    assert!(files.len() > 200, "{} files", files.len());
    assert_none(&glossary::synonyms(&glossary::terms(&architecture()), &files));
}

#[test]
fn synonyms_when_in_prose_or_in_an_identifier_are_found_by_line() {
    let terms = glossary::terms(
        "\n## Glossary\n\n| term | meaning | not |\n|---|---|---|\n| hint | what to do | a cure, remedy |\n",
    );
    let lines = |text: &str| {
        let file = File { path: "f".to_owned(), text: text.to_owned() };
        let found = glossary::synonyms(&terms, &[file]).into_iter();
        found.map(|problem| problem["f:".len()..].split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines("/// The Remedy.\nlet last_remedy = 1;\nfn f(x: SomeRemedy) {}"), ["1", "2", "3"]);
    assert_eq!(lines("// This is a\n// cure, and `fn a_cure()`."), ["1", "2"]);
    assert_eq!(lines("// A hint, a: cure. Remedying a secure curer."), Vec::<String>::new());
}

#[test]
fn documents_are_within_their_budget_of_words() {
    let is_counted =
        |file: &&File| ["README.md", "ARCHITECTURE.md"].contains(&&*file.path) || file.is_within(&["specs/"]);
    let files = files(&[".md"]);
    let words: usize = files.iter().filter(is_counted).map(|file| file.text.split_whitespace().count()).sum();
    println!("{words} words");
    assert!(words <= MAX_DOC_WORDS, "README, ARCHITECTURE and specs have {words} words, more than {MAX_DOC_WORDS}");
}

#[test]
fn changelog_begins_with_this_version() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let newest = changelog.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    assert_eq!(newest.split(' ').next(), Some(env!("CARGO_PKG_VERSION")));
}
