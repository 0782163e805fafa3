//! The glossary of `ARCHITECTURE.md`: its terms, and the words that must not be used for them.

use super::File;

/// A row of the glossary.
pub struct Term {
    pub name: String,
    /// Words and phrases that the project does not use for it.
    pub not: Vec<String>,
}

/// The rows of the table under `## Glossary`.
pub fn terms(architecture: &str) -> Vec<Term> {
    let (_, section) = architecture.split_once("\n## Glossary\n").expect("ARCHITECTURE.md has a glossary");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _meaning, not] = cells[..] else { panic!("a row without three cells: {row}") };
        let phrases = not.split(',').map(str::trim).filter(|phrase| !phrase.is_empty());
        Term { name: name.to_owned(), not: phrases.map(str::to_owned).collect() }
    })
    .collect()
}

/// The words of a text in lower case, each with the number of its line. `someName`, `SomeName`, `some_name` and
/// `some-name` are two words. An empty word stands for punctuation, which no phrase spans.
pub fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = vec![];
    for (number, line) in (1..).zip(text.lines()) {
        let mut word = String::new();
        let mut end = |word: &mut String| {
            if !word.is_empty() {
                words.push((number, std::mem::take(word)));
            }
        };
        // A sentence goes on in the next line of a comment.
        let mut chars = line.trim_start_matches([' ', '/', '!', '#', '*']).chars().peekable();
        while let Some(char) = chars.next() {
            if char.is_alphabetic() {
                word.extend(char.to_lowercase());
                if char.is_lowercase() && chars.peek().is_some_and(|next| next.is_uppercase()) {
                    end(&mut word);
                }
            } else {
                end(&mut word);
                if !matches!(char, ' ' | '_' | '-') {
                    end(&mut "\0".to_owned());
                }
            }
        }
        end(&mut word);
    }
    words
}

/// Where a text has a phrase, by the number of the line.
pub fn find(words: &[(usize, String)], phrase: &str) -> Vec<usize> {
    let phrase: Vec<String> = phrase.split(' ').map(str::to_lowercase).collect();
    let starts = words.iter().enumerate().filter(|(_, (_, word))| *word == phrase[0]).map(|(at, _)| at);
    let is_phrase = |at: &usize| {
        let following = words[*at..].iter().map(|(_, word)| word);
        following.take(phrase.len()).eq(&phrase)
    };
    starts.filter(is_phrase).map(|at| words[at].0).collect()
}

/// Every use of a word in place of a term.
pub fn synonyms(terms: &[Term], files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        // The glossary itself names the words.
        let text = file.text.split("\n## Glossary\n").next().expect("a split has a first part");
        let words = words(text);
        for term in terms {
            for phrase in &term.not {
                let found = find(&words, phrase);
                problems.extend(found.iter().map(|line| {
                    format!("{}:{line} says `{phrase}`: the glossary's term is `{}`", file.path, term.name)
                }));
            }
        }
    }
    problems
}
