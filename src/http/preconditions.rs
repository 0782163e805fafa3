//! Conditional requests: `If-Match` and `If-None-Match` (RFC 9110, section 13).
//!
//! Pure: no I/O. The statement that writes checks the condition of a write; nothing is checked before it.

use super::error::ApiError;

/// The preconditions of a request. By default there are none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Preconditions {
    /// `If-Match`: the task must have one of these entity tags.
    if_match: Option<EntityTags>,
    /// `If-None-Match`: the task must have none of these.
    if_none_match: Option<EntityTags>,
}

/// The value of either header. Of each tag: whether it is weak, and the text between its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum EntityTags {
    Any,
    Of(Vec<(bool, String)>),
}

/// The entity tags of which a task must have one, and those of which it must have none.
pub type EntityTagLists = (Option<Vec<String>>, Option<Vec<String>>);

impl Preconditions {
    /// Reads the values of `If-Match` and `If-None-Match`.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] for a value that is neither `*` nor a list of entity tags: to ignore it would be to
    /// carry out the request without its condition.
    pub fn parse(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Self, ApiError> {
        Ok(Self {
            if_match: read(if_match, "If-Match is neither * nor a list of quoted entity tags")?,
            if_none_match: read(if_none_match, "If-None-Match is neither * nor a list of quoted entity tags")?,
        })
    }

    /// The tags of `If-Match`; `None` when it holds for any state: a task that does not exist is a 404 in any case. A
    /// weak tag stands for several states, so it never shows that nothing was changed (section 13.1.1).
    fn required(&self) -> Option<impl Iterator<Item = &String>> {
        let Some(EntityTags::Of(tags)) = &self.if_match else { return None };
        Some(tags.iter().filter(|(is_weak, _)| !is_weak).map(|(_, tag)| tag))
    }

    /// Whether `If-Match` fails for a task with this entity tag.
    pub fn fails_if_match(&self, tag: &str) -> bool {
        self.required().is_some_and(|mut tags| tags.all(|own| own != tag))
    }

    /// Whether `If-None-Match` fails for it: the client has this state already.
    pub fn fails_if_none_match(&self, tag: &str) -> bool {
        match &self.if_none_match {
            None => false,
            Some(EntityTags::Any) => true,
            Some(EntityTags::Of(tags)) => tags.iter().any(|(_, own)| own == tag),
        }
    }

    /// The entity tags of which a task must have one, and those of which it must have none, for a statement that
    /// writes. `None` when there is no condition.
    pub fn for_write(&self) -> Option<EntityTagLists> {
        let if_match = self.required().map(ascii);
        match &self.if_none_match {
            None => if_match.map(|tags| (Some(tags), None)),
            // An empty list for `If-Match`: no existing task has a tag in it.
            Some(EntityTags::Any) => Some((Some(Vec::new()), None)),
            Some(EntityTags::Of(tags)) => Some((if_match, Some(ascii(tags.iter().map(|(_, tag)| tag))))),
        }
    }
}

/// The tags that a task can have. They are ASCII: the database's encoding may lack other characters.
fn ascii<'t>(tags: impl Iterator<Item = &'t String>) -> Vec<String> {
    tags.filter(|tag| tag.is_ascii()).cloned().collect()
}

fn read(value: Option<&str>, message: &'static str) -> Result<Option<EntityTags>, ApiError> {
    value.map(|value| parse_tags(value).ok_or(ApiError::BadRequest(message))).transpose()
}

/// `*`, or tags with commas between; a comma may be part of a tag, and an entry may be empty (section 5.6.1).
fn parse_tags(value: &str) -> Option<EntityTags> {
    let blank = [' ', '\t'];
    if value.trim_matches(blank) == "*" {
        return Some(EntityTags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = value.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let weak = rest.strip_prefix("W/");
        let (text, behind) = weak.unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        if text.contains(|character: char| character.is_ascii_control() || character == ' ') {
            return None;
        }
        tags.push((weak.is_some(), text.to_owned()));
        rest = behind.trim_start_matches(blank);
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start_matches([' ', '\t', ',']);
        }
    }
    (!tags.is_empty()).then_some(EntityTags::Of(tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_when_parsed_is_a_star_or_a_list_of_tags() {
        let of = |tags: &[(bool, &str)]| {
            Some(EntityTags::Of(tags.iter().map(|(is_weak, tag)| (*is_weak, (*tag).to_owned())).collect()))
        };
        let table: [(&str, Option<EntityTags>); 18] = [
            ("*", Some(EntityTags::Any)),
            (" * ", Some(EntityTags::Any)),
            ("\"a\"", of(&[(false, "a")])),
            ("\"\"", of(&[(false, "")])),
            ("W/\"a\"", of(&[(true, "a")])),
            ("\"a,b\", W/\"*\" ,\"é\"", of(&[(false, "a,b"), (true, "*"), (false, "é")])),
            (", ,\"a\",,\"b\",", of(&[(false, "a"), (false, "b")])),
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
    fn precondition_when_compared_holds_or_fails() {
        // The two headers; whether the first fails, whether the second fails; whether a write has a condition.
        for (if_match, if_none_match, fails_first, fails_second, decides) in [
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
            let parsed = Preconditions::parse(if_match, if_none_match).unwrap();
            let found = (parsed.fails_if_match("1-2"), parsed.fails_if_none_match("1-2"), parsed.for_write().is_some());
            assert_eq!(found, (fails_first, fails_second, decides), "{if_match:?} {if_none_match:?}");
        }
        let lists = |if_match, if_none_match| Preconditions::parse(if_match, if_none_match).unwrap().for_write();
        let some = |tags: &[&str]| Some(tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
        assert_eq!(lists(Some("\"é\", \"1-2\""), None), Some((some(&["1-2"]), None)), "a tag of a task is ASCII");
        assert_eq!(lists(None, Some("*")), Some((some(&[]), None)));
        assert_eq!(lists(Some("\"a\""), Some("\"b\"")), Some((some(&["a"]), some(&["b"]))));
        assert!(matches!(Preconditions::parse(Some("x"), None), Err(ApiError::BadRequest(_))));
        assert!(matches!(Preconditions::parse(None, Some("x")), Err(ApiError::BadRequest(_))));
    }
}
