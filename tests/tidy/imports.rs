//! Which file of `src/` imports which other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::File;

/// The paths that a file imports, from the crate's root: `use crate::a::{self, b::C}` gives `a::self` and `a::b::C`.
pub fn of_code(module: &[&str], code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':') {
                continue;
            }
            let mut base: Vec<String> = module.iter().map(|part| (*part).to_owned()).collect();
            let mut rest = &code[at..];
            if let Some(after) = rest.strip_prefix("crate::") {
                (base, rest) = (Vec::new(), after);
            }
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            collect_paths(&base, rest, &mut found);
        }
    }
    found
}

/// Reads one path, or a group of paths in braces; returns what follows.
fn collect_paths<'c>(base: &[String], mut rest: &'c str, found: &mut Vec<Vec<String>>) -> &'c str {
    let mut path = base.to_vec();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            while !rest.is_empty() && !rest.starts_with('}') {
                let item = rest.trim_start_matches([' ', '\n', ',']);
                let after = collect_paths(&path, item, found);
                rest = if after.len() == rest.len() { &rest[1..] } else { after };
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|other: char| !other.is_alphanumeric() && other != '_').unwrap_or(rest.len());
        if end > 0 {
            path.push(rest[..end].to_owned());
        }
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(after) => rest = after,
            None => break,
        }
    }
    found.push(path);
    rest
}

/// Each file of `src/`, and the files that it imports from.
pub fn graph(sources: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let files: Vec<&File> = sources.iter().filter(|file| file.path.starts_with("src/")).collect();
    let module_of =
        |path: &str| path["src/".len()..].trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
    let modules: BTreeMap<String, String> =
        files.iter().map(|file| (module_of(&file.path), file.path.clone())).collect();
    let edges = |file: &File| -> BTreeSet<String> {
        let module = module_of(&file.path);
        let code: String = file.code().map(|(_, line)| format!("{line}\n")).collect();
        let children = modules.keys().filter_map(|other| other.strip_prefix(&format!("{module}::")));
        let own =
            children.filter(|child| code.contains(&format!("use {child}::"))).map(|child| format!("{module}::{child}"));
        let parts: Vec<&str> = module.split("::").collect();
        let of_file =
            |path: Vec<String>| (1..=path.len()).rev().find_map(|length| modules.get(&path[..length].join("::")));
        let imported = of_code(&parts, &code).into_iter().filter_map(of_file).cloned();
        let all = imported.chain(own.filter_map(|module| modules.get(&module).cloned()));
        all.filter(|other| *other != file.path).collect()
    };
    files.into_iter().map(|file| (file.path.clone(), edges(file))).collect()
}

/// The shortest way from a file back to itself.
pub fn shortest_cycle(graph: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in &graph[way.last().expect("it begins with the start")] {
            let longer = [way.as_slice(), std::slice::from_ref(next)].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}
