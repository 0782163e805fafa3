//! The table of all settings: name, range, default and help of each. The reader, its messages and `--help` use it.

use std::ops::RangeInclusive;

use DefaultValue::{Note, Value};
use Kind::{List, Number, Secret, Text, Verbatim};

/// A setting: an environment variable that the program reads.
#[derive(Debug)]
pub struct Setting {
    /// Name of the variable.
    pub name: &'static str,
    /// What a valid value is.
    pub kind: Kind,
    /// What applies when the variable is not set.
    pub default: DefaultValue,
    /// What it controls, for `--help`.
    pub help: &'static str,
}

/// What a valid value is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text; an empty one counts as not set. White space at its ends is dropped.
    Text,
    /// Text that is used byte for byte.
    Verbatim,
    /// A list, which may be empty.
    List,
    /// As [`Kind::Verbatim`], and never shown; the variable with [`FILE_SUFFIX`] may name a file that contains it.
    Secret,
    /// An integer in this range.
    Number(RangeInclusive<u64>),
}

/// What applies when a variable is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// This value.
    Value(&'static str),
    /// No single value. The text says what applies; it is empty where the feature is off.
    Note(&'static str),
}

/// Added to the name of a secret, it names the variable with the path of a file that contains the secret.
pub const FILE_SUFFIX: &str = "_FILE";

/// All settings in the order of `--help`, each group with its title.
#[rustfmt::skip] // one row a setting
pub const GROUPS: &[(&str, &[Setting])] = &[
    ("Database", &[
        setting("NEON_DATABASE_URL", Secret, Note("required"), "postgresql://user:password@host/database"),
        setting("DATABASE_CA_FILE", Text, Note(""), "PEM file of certificates to trust in addition to Mozilla's"),
        setting("DB_POOL_SIZE", Number(1..=128), Value("8"), "connections, and as many workers"),
        setting("DB_CONNECT_TIMEOUT_MS", Number(100..=60_000),
            Note("default: connect_timeout in the URL, or 5000"), "time to open a connection"),
        setting("DB_CHECKOUT_TIMEOUT_MS", Number(100..=60_000), Value("5000"), "time a request waits for a connection"),
        setting("DB_STATEMENT_TIMEOUT_MS", Number(100..=600_000), Value("5000"), "time a statement may take"),
        setting("DB_IDLE_TIMEOUT_MS", Number(1_000..=86_400_000), Value("240000"),
            "time until an idle connection is closed"),
    ]),
    ("Tokens", &[
        setting("BETTER_AUTH_SECRET", Secret, Note("required without BETTER_AUTH_SECRETS"),
            "the secret of your frontend's Better Auth, at least 32 bytes"),
        setting("BETTER_AUTH_SECRETS", Secret, Note(""), "several secrets, the current one first: 2:new,1:old"),
        setting("BETTER_AUTH_URL", Text, Note(""), "URL of Better Auth, to fetch the keys of its jwt() plugin"),
        setting("BETTER_AUTH_JWKS_URL", Text, Note(""),
            "URL of its key set, if that is not at the usual path of BETTER_AUTH_URL"),
        setting("BETTER_AUTH_ISSUER", Verbatim, Note(""), "`iss` that a token must have"),
        setting("BETTER_AUTH_AUDIENCE", Verbatim, Note(""), "`aud` that a token must have"),
    ]),
    ("HTTP", &[
        setting("HOST", Text, Value("0.0.0.0"), "address to listen on"),
        setting("PORT", Number(0..=65_535), Value("8000"), "port to listen on; 0 takes a free one"),
        setting("ALLOWED_ORIGINS", List, Value("http://localhost:3000,http://127.0.0.1:3000"),
            "origins of pages that may call the API, separated by commas, such as https://my-app-*.vercel.app"),
    ]),
    ("Limits", &[
        setting("MAX_CONNECTIONS", Number(1..=1_000_000), Value("16384"), "HTTP connections"),
        setting("MAX_BODY_BYTES", Number(1_024..=16_777_216), Value("1048576"), "size of a request body"),
        setting("REQUEST_TIMEOUT_MS", Number(100..=600_000),
            Note("default: 10000 for the head, 20000 for the body"),
            "time to receive the head of a request, and its body"),
        setting("IDLE_TIMEOUT_MS", Number(100..=3_600_000), Value("75000"),
            "time until an idle HTTP connection is closed"),
        setting("DRAIN_TIMEOUT_MS", Number(0..=600_000), Value("10000"), "time to finish open requests at shutdown"),
    ]),
    ("Operations", &[
        setting("RUST_LOG", Text, Value("info"),
            "log level (error, warn, info, debug, trace, off) or filter of env_logger"),
        setting("LOG_FORMAT", Text, Value("text"), "text or json"),
        setting("ADMIN_ADDR", Text, Note(""), "private address for Prometheus' /metrics, such as 127.0.0.1:9464"),
    ]),
];

const fn setting(name: &'static str, kind: Kind, default: DefaultValue, help: &'static str) -> Setting {
    Setting { name, kind, default, help }
}

/// All settings.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|(_, settings)| *settings)
}

/// The setting with this name, which must be in the table.
pub fn get(name: &str) -> &'static Setting {
    all().find(|setting| setting.name == name).expect("a test reads every setting, so each is in the table")
}

impl Setting {
    /// Help, range and default, as `--help` shows them.
    pub fn description(&self) -> String {
        let mut facts = match self.default {
            Value(value) => vec![format!("default: {value}")],
            Note("") => Vec::new(),
            Note(text) => vec![text.to_owned()],
        };
        match &self.kind {
            Number(range) => facts.insert(0, format!("{} to {}", range.start(), range.end())),
            Secret => facts.push(format!("or {}{FILE_SUFFIX}", self.name)),
            Text | Verbatim | List => {}
        }
        let facts = facts.join("; ");
        if facts.is_empty() { self.help.to_owned() } else { format!("{} [{facts}]", self.help) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_of_a_number_is_in_its_range() {
        for Setting { name, kind, default, .. } in all() {
            if let (Kind::Number(range), Value(default)) = (kind, default) {
                assert!(range.contains(&default.parse().unwrap()), "{name}");
            }
        }
    }

    #[test]
    fn readme_and_specs_name_each_setting_and_its_default() {
        for (file, text) in [
            ("README.md", include_str!("../../README.md")),
            ("specs/api/service.md", include_str!("../../specs/api/service.md")),
        ] {
            for Setting { name, kind, default, .. } in all() {
                assert!(text.contains(&format!("`{name}`")), "{file} does not name {name}");
                let with_file = format!("`{name}{FILE_SUFFIX}`");
                assert!(*kind != Kind::Secret || text.contains(&with_file), "{file} does not name {with_file}");
                // The defaults of limits are in limits.md, with separators.
                if let (Kind::Text | Kind::List, Value(default)) = (kind, default) {
                    assert!(text.contains(&format!("`{default}`")), "{file} lacks the default of {name}");
                }
            }
        }
    }
}
