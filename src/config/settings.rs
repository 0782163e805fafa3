//! Every environment variable there is, in one table: `config.rs` takes its defaults from here, `--help` prints it, and tests
//! hold the README and the specifications to it.

use std::fmt::{self, Write};

/// An environment variable.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What stands for it when it is not set.
    pub default: Fallback,
    /// What it decides, with its unit and range, in a line.
    pub meaning: &'static str,
    /// Whether it may be a secret: then a variable of this name with [`FILE_SUFFIX`] can name a file that holds it.
    pub is_secret: bool,
}

/// What stands for a variable that is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// It has to be set.
    Required,
    /// Nothing: what it would decide is left undone.
    Nothing,
    /// This value.
    Value(&'static str),
    /// No single value; says which.
    Words(&'static str),
}

/// What is added to the name of a secret for a file that holds it.
pub const FILE_SUFFIX: &str = "_FILE";

use Fallback::{Nothing, Required, Value, Words};

/// All of them, in the order of `--help`.
pub const VARIABLES: &[Variable] = &[
    secret("NEON_DATABASE_URL", Required, "the database: postgresql://user:password@host/database"),
    secret(
        "BETTER_AUTH_SECRET",
        Words("required without BETTER_AUTH_SECRETS"),
        "the one of your frontend's Better Auth, at least 32 bytes",
    ),
    secret("BETTER_AUTH_SECRETS", Nothing, "several of them instead, the current one first: 2:new,1:old"),
    variable("BETTER_AUTH_URL", Nothing, "where Better Auth is, for the keys of its jwt() plugin"),
    variable(
        "BETTER_AUTH_JWKS_URL",
        Nothing,
        "where those keys are, if not at the usual path of BETTER_AUTH_URL",
    ),
    variable("BETTER_AUTH_ISSUER", Nothing, "what `iss` of a token must be"),
    variable("BETTER_AUTH_AUDIENCE", Nothing, "what `aud` of a token must be"),
    variable("HOST", Value("0.0.0.0"), "the address it listens on"),
    variable("PORT", Value("8000"), "the port it listens on, 0 to 65535; 0 takes any that is free"),
    variable(
        "ALLOWED_ORIGINS",
        Value("http://localhost:3000,http://127.0.0.1:3000"),
        "pages that may call it, comma-separated; https://my-app-*.vercel.app for previews",
    ),
    variable("DATABASE_CA_FILE", Nothing, "certificates (PEM) to trust for the database beside Mozilla's"),
    variable("DB_POOL_SIZE", Value("8"), "connections to the database, and workers, 1 to 128"),
    variable(
        "DB_CONNECT_TIMEOUT_MS",
        Words("default: what connect_timeout in the URL says, or 5000"),
        "how long connecting to the database may take, 100 to 60000",
    ),
    variable(
        "DB_CHECKOUT_TIMEOUT_MS",
        Value("5000"),
        "how long a request waits for a connection, 100 to 60000",
    ),
    variable("DB_STATEMENT_TIMEOUT_MS", Value("5000"), "how long a statement may take, 100 to 600000"),
    variable(
        "DB_IDLE_TIMEOUT_MS",
        Value("240000"),
        "how long an unused connection is kept, 1000 to 86400000",
    ),
    variable("MAX_CONNECTIONS", Value("16384"), "HTTP connections, 1 to 1000000"),
    variable("MAX_BODY_BYTES", Value("1048576"), "the longest request body in bytes, 1024 to 16777216"),
    variable(
        "REQUEST_TIMEOUT_MS",
        Words("default: 10000 for the head, 20000 for the body"),
        "how long each of the two may take to arrive, 100 to 600000",
    ),
    variable("IDLE_TIMEOUT_MS", Value("75000"), "a connection's time without a request, 100 to 3600000"),
    variable("DRAIN_TIMEOUT_MS", Value("10000"), "the time to finish what was begun at the end, 0 to 600000"),
    variable(
        "RUST_LOG",
        Value("info"),
        "what is logged: error, warn, info, debug, trace, or as env_logger has it",
    ),
    variable("LOG_FORMAT", Value("text"), "text or json, a line each"),
    variable("ADMIN_ADDR", Nothing, "where Prometheus finds /metrics, as 127.0.0.1:9090; not for strangers"),
];

const fn variable(name: &'static str, default: Fallback, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, is_secret: false }
}

const fn secret(name: &'static str, default: Fallback, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, is_secret: true }
}

/// The variable of this name.
pub fn find(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// The value that stands for the variable of this name when it is not set.
pub fn default(name: &str) -> Option<&'static str> {
    match find(name)?.default {
        Value(value) => Some(value),
        Required | Nothing | Words(_) => None,
    }
}

/// The table as `--help` shows it.
pub struct Table;

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Variable { name, default, meaning, is_secret } in VARIABLES {
            write!(f, "  {name:<20} {meaning}\n{:23}", "")?;
            match default {
                Required => f.write_str("required")?,
                Nothing => f.write_str("default: none")?,
                Value(text) => write!(f, "default: {text}")?,
                Words(text) => f.write_str(text)?,
            }
            if *is_secret {
                write!(f, "; or {name}{FILE_SUFFIX}, a file that holds it")?;
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_each_variable_and_its_default() {
        let table = Table.to_string();
        for variable in VARIABLES {
            assert!(
                table.contains(&format!("\n  {} ", variable.name))
                    || table.starts_with(&format!("  {} ", variable.name))
            );
            if let Value(default) = variable.default {
                assert!(table.contains(default), "{}", variable.name);
            }
        }
    }

    #[test]
    fn readme_and_specifications_name_each_variable_and_its_default() {
        for (file, text) in [
            ("README.md", include_str!("../../README.md")),
            ("specs/api/service.md", include_str!("../../specs/api/service.md")),
        ] {
            for Variable { name, default, is_secret, .. } in VARIABLES {
                assert!(text.contains(&format!("`{name}`")), "{file} does not name {name}");
                let with_file = format!("`{name}{FILE_SUFFIX}`");
                assert!(!is_secret || text.contains(&with_file), "{file} does not name {with_file}");
                // The limits' defaults stand in limits.md, with thousands separated.
                if let (Value(default), false) = (default, default_is_number(default)) {
                    assert!(text.contains(&format!("`{default}`")), "{file} does not name {name}'s default");
                }
            }
        }
    }

    fn default_is_number(default: &Fallback) -> bool {
        matches!(default, Value(text) if text.parse::<u64>().is_ok())
    }
}
