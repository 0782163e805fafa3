//! Conditional requests: whether a task is still as a client saw it (RFC 9110, section 13).
//!
//! Pure. A condition on a write is decided by the statement that writes, never before it.

use crate::http::error::Error;
use crate::tasks::seal::{Seal, Tag};
use crate::tasks::task::Task;

/// A task, and what tells this state of it from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The task.
    pub task: Task,
    /// Its tag.
    pub tag: Tag,
}

/// What a client demands of a task before anything is done. By default nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// The task must have one of these tags (`If-Match`).
    wanted: Option<Vec<String>>,
    /// The task must have none of these (`If-None-Match`).
    unwanted: Option<Unwanted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Unwanted {
    Any,
    Of(Vec<String>),
}

impl Conditions {
    /// Reads the values of `If-Match` and `If-None-Match`. What `seal` has not closed is the tag of no task.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a value that is neither `*` nor a list of tags: done all the same, it would be done
    /// without the client's condition.
    pub fn parse(if_match: Option<&str>, if_none_match: Option<&str>, seal: &Seal) -> Result<Self, Error> {
        let wanted = read(if_match, "If-Match is neither * nor a list of quoted tags")?;
        let unwanted = read(if_none_match, "If-None-Match is neither * nor a list of quoted tags")?;
        Ok(Self {
            // Any state will do: a task that is not there is a 404 in any case.
            wanted: wanted.filter(|tags| *tags != Tags::Any).map(|tags| tags.strong(seal)),
            unwanted: unwanted.map(|tags| match tags {
                Tags::Any => Unwanted::Any,
                Tags::Of(tags) => Unwanted::Of(open(seal, tags.into_iter())),
            }),
        })
    }

    /// Whether `If-Match` does not hold for a task with this tag.
    pub fn refuse(&self, tag: Tag) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(&tag.text()))
    }

    /// Whether `If-None-Match` does not hold for it: the client has it already.
    pub fn know(&self, tag: Tag) -> bool {
        match &self.unwanted {
            None => false,
            Some(Unwanted::Any) => true,
            Some(Unwanted::Of(unwanted)) => unwanted.contains(&tag.text()),
        }
    }

    /// The same for a statement that writes. `None` when there is no condition.
    pub fn for_write(&self) -> Option<TagLists<'_>> {
        match (&self.wanted, &self.unwanted) {
            (None, None) => None,
            // One of no tags: no task that is there has that.
            (_, Some(Unwanted::Any)) => Some((Some(&[]), None)),
            (wanted, None) => Some((wanted.as_deref(), None)),
            (wanted, Some(Unwanted::Of(unwanted))) => Some((wanted.as_deref(), Some(unwanted))),
        }
    }
}

/// The tags of which a task must have one, and those of which it must have none.
pub type TagLists<'c> = (Option<&'c [String]>, Option<&'c [String]>);

/// The value of either header. Of each tag: whether it is weak, and the text between its quotes.
#[derive(Debug, PartialEq, Eq)]
enum Tags<'v> {
    Any,
    Of(Vec<(bool, &'v str)>),
}

impl Tags<'_> {
    /// The strong ones. A weak tag stands for several states, so it never shows that nothing was changed (section 13.1.1).
    fn strong(self, seal: &Seal) -> Vec<String> {
        match self {
            Tags::Any => Vec::new(),
            Tags::Of(tags) => open(seal, tags.into_iter().filter(|(weak, _)| !weak)),
        }
    }
}

/// The texts of those that are tags of ours.
fn open<'v>(seal: &Seal, tags: impl Iterator<Item = (bool, &'v str)>) -> Vec<String> {
    tags.filter_map(|(_, text)| seal.open(text)).map(Tag::text).collect()
}

fn read<'v>(value: Option<&'v str>, complaint: &'static str) -> Result<Option<Tags<'v>>, Error> {
    value.map(|value| parse_tags(value).ok_or(Error::BadRequest(complaint))).transpose()
}

/// `*`, or tags with commas between; a comma may stand in a tag, too, and an entry may be empty (section 5.6.1).
fn parse_tags(value: &str) -> Option<Tags<'_>> {
    let blank = [' ', '\t'];
    if value.trim_matches(blank) == "*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = value.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let strong = rest.strip_prefix("W/");
        let (text, behind) = strong.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        if text.contains(|character: char| character.is_ascii_control() || character == ' ') {
            return None;
        }
        tags.push((strong.is_some(), text));
        rest = behind.trim_start_matches(blank);
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start_matches([' ', '\t', ',']);
        }
    }
    (!tags.is_empty()).then_some(Tags::Of(tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_star_or_a_list_of_tags() {
        let table: [(&str, Option<Tags>); 18] = [
            ("*", Some(Tags::Any)),
            (" * ", Some(Tags::Any)),
            ("\"a\"", Some(Tags::Of(vec![(false, "a")]))),
            ("\"\"", Some(Tags::Of(vec![(false, "")]))),
            ("W/\"a\"", Some(Tags::Of(vec![(true, "a")]))),
            ("\"a,b\", W/\"*\" ,\"é\"", Some(Tags::Of(vec![(false, "a,b"), (true, "*"), (false, "é")]))),
            (", ,\"a\",,\"b\",", Some(Tags::Of(vec![(false, "a"), (false, "b")]))),
            ("", None),
            (",", None),
            ("a", None),
            ("\"a", None),
            ("\"a\" \"b\"", None),
            ("\"a\"b", None),
            ("w/\"a\"", None),
            ("W/ \"a\"", None),
            ("*, \"a\"", None),
            ("\"a b\"", None),
            ("'a'", None),
        ];
        for (value, expected) in table {
            assert_eq!(parse_tags(value), expected, "{value}");
        }
    }

    #[test]
    fn each_condition_holds_or_does_not() {
        let seal = Seal::new(&["a secret".to_owned()]);
        let own = Tag { writer: 1, updated_at: 2 };
        let shown = |value: Option<&str>| value.map(|value| value.replace("1-2", &seal.close(own)));
        // The two headers; whether the first refuses, whether the client knows it; whether a write has to decide.
        for (if_match, if_none_match, refuse, know, decide) in [
            (None, None, false, false, false),
            (Some("*"), None, false, false, false),
            (Some("\"1-2\""), None, false, false, true),
            (Some("\"x\", \"1-2\""), None, false, false, true),
            (Some("\"x\""), None, true, false, true),
            (Some("W/\"1-2\""), None, true, false, true),
            (None, Some("*"), false, true, true),
            (None, Some("\"x\", W/\"1-2\""), false, true, true),
            (None, Some("\"x\""), false, false, true),
            (Some("\"x\""), Some("\"1-2\""), true, true, true),
        ] {
            let (if_match, if_none_match) = (shown(if_match), shown(if_none_match));
            let conditions = Conditions::parse(if_match.as_deref(), if_none_match.as_deref(), &seal).unwrap();
            let found = (conditions.refuse(own), conditions.know(own), conditions.for_write().is_some());
            assert_eq!(found, (refuse, know, decide), "{if_match:?} {if_none_match:?}");
        }
        assert!(matches!(Conditions::parse(Some("x"), None, &seal), Err(Error::BadRequest(_))));
        assert!(matches!(Conditions::parse(None, Some("x"), &seal), Err(Error::BadRequest(_))));
    }
}
