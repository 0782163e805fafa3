//! The parameters of a database URL: those of libpq 17, and those that other drivers and providers add.
//!
//! Each is used, ignored with a note, or refused with a hint: `specs/database/url_parameters.md` is the table.

use std::collections::BTreeMap;

const TABLE: &str = include_str!("../../specs/database/url_parameters.md");

/// What a URL says, and what there is to say about it.
#[derive(Default)]
pub struct Parameters {
    /// By the first name in the table's row: the name as written in the query (empty for other parts of the
    /// URL), and the value.
    pub values: BTreeMap<&'static str, (String, String)>,
    /// Command-line options of the session that other parameters mean, such as `search_path`.
    pub options: Vec<String>,
    /// What is ignored.
    pub notes: Vec<String>,
    /// What is wrong, to be read after the name of the URL's variable.
    pub mistakes: Vec<String>,
}

impl Parameters {
    /// Reads a part of the URL that stands before the query. Empty is as good as not there.
    pub fn add_part(&mut self, key: &'static str, raw: &str) {
        match decode(raw) {
            Some(value) if value.is_empty() => {}
            Some(value) => drop(self.values.insert(key, (String::new(), value))),
            None => self.mistakes.push(format!("has a {key} that is not percent-encoded: write `%` as %25")),
        }
    }

    /// Reads the URL's query. Its parameters replace the parts before the query, as in libpq.
    pub fn add_query(&mut self, query: &str) {
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            // HTML writes `&` as `&amp;`.
            let parameter = parameter.strip_prefix("amp;").unwrap_or(parameter);
            let Some((name, raw)) = parameter.split_once('=') else {
                self.mistakes.push("has a parameter without `=`".to_owned());
                continue;
            };
            let is_plain = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.[]".contains(&b));
            let name = decode(name).filter(is_plain).unwrap_or_default();
            match decode(raw).filter(|_| !raw.contains('=')) {
                Some(value) => self.add(&name, value),
                None => self.mistakes.push(format!(
                    "has a value of{} that is not percent-encoded: write `=` as %3D, `&` as %26, `%` as %25",
                    self.quoted(&name)
                )),
            }
        }
    }

    fn add(&mut self, name: &str, value: String) {
        // sqlx
        if let Some(setting) = name.strip_prefix("options[").and_then(|rest| rest.strip_suffix(']')) {
            return self.options.push(format!("-c {setting}={}", escape_option(&value)));
        }
        let Some((key, handling, text)) = find(name) else {
            return self.mistakes.push(format!("has the unknown parameter{}: remove it", self.quoted(name)));
        };
        let value = plain_value(key, value);
        match (key, handling) {
            ("search_path" | "schema", _) => self.options.push(format!("-c search_path={}", escape_option(&value))),
            (_, "used") => match self.values.get(key) {
                Some((earlier, other)) if !earlier.is_empty() && *other != value => {
                    self.mistakes.push(format!("has `{name}` twice with different values: keep one"));
                }
                _ => drop(self.values.insert(key, (name.to_owned(), value))),
            },
            (_, "ignored") => self.notes.push(format!("`{name}` is ignored: {text}")),
            (_, only) if only.split('`').any(|accepted| accepted.eq_ignore_ascii_case(&value)) => {}
            _ => self.mistakes.push(format!("has the parameter `{name}`: {text}")),
        }
    }

    /// A name for a message. Behind a password none is shown: where a raw `&` is in the password, it is the rest of it.
    fn quoted(&self, name: &str) -> String {
        let is_password = self.values.get("password").is_some_and(|(name, _)| !name.is_empty());
        if is_password || name.is_empty() { String::new() } else { format!(" `{name}`") }
    }

    /// The value of a parameter, or empty.
    pub fn get(&self, key: &str) -> &str {
        self.values.get(key).map_or("", |(_, value)| value)
    }

    /// The mistake that the value of a parameter is wrong.
    pub fn invalid(&self, key: &str) -> String {
        let name = self.values.get(key).map_or("", |(name, _)| name);
        let (name, text) = (if name.is_empty() { key } else { name }, find(key).map_or("", |(_, _, text)| text));
        format!("has an invalid `{name}`: give {text}")
    }
}

/// The row of a parameter: its first name, what is done with it, and values, reason or hint.
fn find(name: &str) -> Option<(&'static str, &'static str, &'static str)> {
    let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
    let name = plain(name);
    rows()
        .find(|(names, ..)| names.iter().any(|known| plain(known) == name))
        .map(|(names, is, text)| (names[0], is, text))
}

/// The rows of the table.
fn rows() -> impl Iterator<Item = (Vec<&'static str>, &'static str, &'static str)> {
    TABLE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').split("`, `").collect(), cells.next()?, cells.next()?))
    })
}

/// The values of node-postgres, asyncpg and JDBC as those of the library. Every `sslmode` with TLS verifies
/// chain and name, but for `verify-ca`.
fn plain_value(key: &str, value: String) -> String {
    match (key, value.to_ascii_lowercase().as_str()) {
        ("sslmode", "1" | "true" | "on" | "require" | "verify-full" | "no-verify") => "require".to_owned(),
        ("sslmode", "0" | "false" | "off") => "disable".to_owned(),
        ("sslmode", "allow") => "prefer".to_owned(),
        ("schema", _) => format!("\"{}\"", value.replace('"', "\"\"")),
        ("keepalives", "true") => "1".to_owned(),
        ("keepalives", "false") => "0".to_owned(),
        ("target_session_attrs", "primary" | "master" | "read-write") => "read-write".to_owned(),
        ("target_session_attrs", "read-only") => String::new(), // refused: tasks are written
        ("tcp_user_timeout", text) => text.parse().map_or(value, |ms: u64| ms.div_ceil(1000).to_string()),
        ("sslmode" | "sslnegotiation" | "channel_binding", text) => text.to_owned(),
        _ => value,
    }
}

/// In PostgreSQL's `options` a space separates, and a backslash escapes.
fn escape_option(value: &str) -> String {
    value.replace('\\', "\\\\").replace(' ', "\\ ")
}

/// A text without its percent-encoding; none where there is a mistake in that, or a NUL.
fn decode(raw: &str) -> Option<String> {
    let mut parts = raw.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(hex, 16).ok().filter(|byte| *byte != 0 && !hex.starts_with('+'))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PQconndefaults` of libpq 17.
    const LIBPQ: &str = "service user password passfile channel_binding connect_timeout dbname host \
                         hostaddr port client_encoding options application_name fallback_application_name \
                         keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout \
                         sslmode sslnegotiation sslcompression sslcert sslkey sslcertmode sslpassword \
                         sslrootcert sslcrl sslcrldir sslsni requirepeer require_auth \
                         ssl_min_protocol_version ssl_max_protocol_version gssencmode krbsrvname gsslib \
                         gssdelegation replication target_session_attrs load_balance_hosts";

    #[test]
    fn table_has_each_parameter_of_libpq() {
        for name in LIBPQ.split_whitespace() {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn table_row_is_well_formed_and_its_names_are_unique() {
        let lines = TABLE.lines().filter(|line| line.starts_with('|')).count();
        assert_eq!(rows().count() + 2, lines, "each row is read");
        for (names, handling, text) in rows() {
            assert!(["used", "ignored", "refused"].contains(&handling) || handling.starts_with("only `"), "{handling}");
            assert!(!text.is_empty());
            for name in &names {
                assert_eq!(find(name).map(|(key, ..)| key), Some(names[0]), "{name} stands in one row");
            }
        }
    }

    #[test]
    fn parameter_is_handled_as_its_row_says() {
        for (names, handling, text) in rows() {
            for name in names {
                let mut parameters = Parameters::default();
                parameters.add_query(&format!("{}=some", name.to_ascii_uppercase()));
                let Parameters { values, options, notes, mistakes, .. } = parameters;
                let said = [notes.concat(), mistakes.concat()];
                let counts = (values.len() + options.len(), notes.len(), mistakes.len());
                match handling {
                    "used" => assert_eq!(counts, (1, 0, 0), "{name}"),
                    "ignored" => assert!(counts == (0, 1, 0) && said[0].contains(text), "{name}: {said:?}"),
                    _ => assert!(counts == (0, 0, 1) && said[1].contains(text), "{name}: {said:?}"),
                }
                assert!(handling == "used" || said.concat().contains(&name.to_ascii_uppercase()), "{said:?}");
                for accepted in handling.split('`').skip(1).step_by(2) {
                    let mut parameters = Parameters::default();
                    parameters.add_query(&format!("{name}={accepted}"));
                    assert!(parameters.mistakes.is_empty(), "{name}={accepted}");
                }
            }
        }
    }
}
