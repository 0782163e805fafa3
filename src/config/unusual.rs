//! Detection of values that are probably not what the operator meant, such as a secret in quotes. Tools disagree on
//! `.env` files: `docker run --env-file` keeps the quotes and comments that the frontend's `dotenv` removes.

/// Characters that are used as quotes.
const QUOTES: [char; 9] = ['"', '\'', '`', '“', '”', '‘', '’', '«', '»'];
/// Delimiters of a placeholder that a tool should have replaced.
const PLACEHOLDERS: [(&str, &str); 5] = [("${", "}"), ("$(", ")"), ("{{", "}}"), ("%", "%"), ("<", ">")];

/// What is unusual in a value of the setting `name`: phrases without any part of the value. Empty if nothing is.
pub fn unusual_traits(name: &str, value: &str) -> Vec<&'static str> {
    let text = value.trim_start_matches('\u{feff}').trim();
    let inner = text.trim_matches(QUOTES);
    let (opens, closes) = (text.starts_with(QUOTES), text.ends_with(QUOTES));
    let is_placeholder = |(start, end): &(&str, &str)| inner.starts_with(start) && inner.ends_with(end);
    [
        (value.starts_with('\u{feff}'), "begins with a byte-order mark"),
        (value.starts_with(char::is_whitespace), "begins with white space"),
        (value.ends_with(['\n', '\r']), "ends with a line end"),
        (value.trim_end_matches(['\n', '\r']).ends_with(char::is_whitespace), "ends with white space"),
        (opens && closes, "is in quotes"),
        (opens && !closes, "begins with a quote"),
        (!opens && closes, "ends with a quote"),
        (text.ends_with([',', ';']), "ends with a comma or semicolon"),
        (["\\n", "\\r", "\\t"].iter().any(|end| inner.ends_with(end)), "ends with a written `\\n`, `\\r` or `\\t`"),
        (is_assignment(name, inner), "looks like NAME=value"),
        (has_comment(text), "contains a comment (`#`)"),
        (PLACEHOLDERS.iter().any(is_placeholder) || is_variable(inner), "looks like a placeholder"),
        (text.contains(char::is_control), "contains a control character"),
        (text.contains(is_invisible), "contains an invisible character"),
        (text.contains('\u{fffd}'), "contains U+FFFD, the sign of a wrong encoding"),
    ]
    .into_iter()
    .filter_map(|(is_so, phrase)| is_so.then_some(phrase))
    .collect()
}

/// `NAME=value`, `export NAME=value` and `NAME: value`. A `=` at the end alone is the padding of Base64.
fn is_assignment(name: &str, text: &str) -> bool {
    let text = ["export ", "set ", "$env:"].iter().find_map(|word| text.strip_prefix(word)).unwrap_or(text);
    [": ", "="].into_iter().filter_map(|separator| text.split_once(separator)).any(|(left, right)| {
        let left = left.trim().trim_matches(QUOTES);
        !right.trim_start_matches('=').is_empty() && (left.eq_ignore_ascii_case(name) || is_variable_name(left))
    })
}

fn is_variable_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn is_variable(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(is_variable_name)
}

fn has_comment(text: &str) -> bool {
    text.starts_with('#') || text.split_whitespace().skip(1).any(|word| word.starts_with('#'))
}

/// Soft hyphens, zero-width characters, and marks of writing direction.
fn is_invisible(character: char) -> bool {
    let is_mark = matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    is_mark || matches!(character, '\u{ad}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_with_an_unusual_trait_is_reported_by_that_trait() {
        for (value, traits) in [
            ("\"secret\"", &["is in quotes"][..]),
            ("'secret'", &["is in quotes"]),
            ("“secret”", &["is in quotes"]),
            ("`openssl rand -base64 32`", &["is in quotes"]),
            ("\"secret", &["begins with a quote"]),
            ("secret'", &["ends with a quote"]),
            (" secret", &["begins with white space"]),
            ("\u{a0}secret", &["begins with white space"]),
            ("secret\t", &["ends with white space"]),
            ("secret\n", &["ends with a line end"]),
            ("secret\r", &["ends with a line end"]),
            ("\n secret \r\n", &["begins with white space", "ends with a line end", "ends with white space"]),
            ("\u{feff}secret", &["begins with a byte-order mark"]),
            ("\u{feff}\"secret\" ", &["begins with a byte-order mark", "ends with white space", "is in quotes"]),
            ("BETTER_AUTH_SECRET=secret", &["looks like NAME=value"]),
            ("better_auth_secret = secret", &["looks like NAME=value"]),
            ("BETTER_AUTH_SECRET: secret", &["looks like NAME=value"]),
            ("AUTH_SECRET=secret", &["looks like NAME=value"]),
            ("export BETTER_AUTH_SECRET=secret", &["looks like NAME=value"]),
            ("$env:BETTER_AUTH_SECRET=secret", &["looks like NAME=value"]),
            (
                "\"BETTER_AUTH_SECRET\": \"secret\",",
                &["begins with a quote", "ends with a comma or semicolon", "looks like NAME=value"],
            ),
            ("BETTER_AUTH_SECRET=\"secret\"", &["ends with a quote", "looks like NAME=value"]),
            ("secret # of production", &["contains a comment (`#`)"]),
            ("secret\t#of production", &["contains a comment (`#`)", "contains a control character"]),
            ("# secret", &["contains a comment (`#`)"]),
            ("secret;", &["ends with a comma or semicolon"]),
            ("secret\\n", &["ends with a written `\\n`, `\\r` or `\\t`"]),
            ("\"secret\\n\"", &["is in quotes", "ends with a written `\\n`, `\\r` or `\\t`"]),
            ("${BETTER_AUTH_SECRET}", &["looks like a placeholder"]),
            ("$BETTER_AUTH_SECRET", &["looks like a placeholder"]),
            ("$(openssl rand -hex 32)", &["looks like a placeholder"]),
            ("{{ secret }}", &["looks like a placeholder"]),
            ("%BETTER_AUTH_SECRET%", &["looks like a placeholder"]),
            ("<your secret>", &["looks like a placeholder"]),
            ("sec\0ret", &["contains a control character"]),
            ("sec\nret", &["contains a control character"]),
            ("secret\u{200b}", &["contains an invisible character"]),
            ("sec\u{fffd}ret", &["contains U+FFFD, the sign of a wrong encoding"]),
        ] {
            assert_eq!(unusual_traits("BETTER_AUTH_SECRET", value), traits, "{value:?}");
        }
    }

    #[test]
    fn ordinary_value_is_not_reported() {
        for value in [
            "0123456789abcdef0123456789abcdef",
            "K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "ABCDEF==",
            "https://app.example/",
            "https://app.example/#fragment",
            "https://app.example/?A=b",
            "correct horse battery staple",
            "it's a#b=c, $5 & 50%",
            "schlüssel 🔑",
            "",
        ] {
            assert!(unusual_traits("BETTER_AUTH_SECRET", value).is_empty(), "{value:?}");
        }
    }
}
