//! The command line: one word at most, so there is no parser but a table.

use std::ffi::OsString;
use std::fmt;

use crate::config::settings;

/// What the program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Serve,
    /// Look whether it could.
    Check,
    /// Ask the one that serves whether it is alive.
    HealthCheck,
    /// Say the version.
    Version,
    /// Say what can be asked.
    Help,
}

impl Command {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    /// Names the argument that is none.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Misuse> {
        let mut arguments = arguments.into_iter();
        let command = match arguments.next() {
            None => return Ok(Command::Serve),
            Some(argument) => match argument.to_str() {
                Some("--check") => Command::Check,
                Some("--healthcheck") => Command::HealthCheck,
                Some("--version" | "-V") => Command::Version,
                Some("--help" | "-h") => Command::Help,
                _ => return Err(Misuse(argument)),
            },
        };
        arguments.next().map_or(Ok(command), |more| Err(Misuse(more)))
    }
}

/// An argument that is none, or one too many.
#[derive(Debug, PartialEq, Eq)]
pub struct Misuse(OsString);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what is {:?}? `todo-backend --help` says what there is", self.0)
    }
}

/// The text of `--help`.
pub fn help() -> String {
    format!(
        "\
todo-backend {version}
{description}.

Usage: todo-backend [OPTION]

Without an option it serves until SIGTERM or SIGINT.

Options:
  --check        looks at settings, secrets, database, table, index and keys, says each on a line with a remedy, and
                 changes nothing; ends with 1 if anything will not do
  --healthcheck  asks the server that listens on HOST and PORT whether it is alive; ends with 1 if it is not
  -V, --version  says the version
  -h, --help     says this

Environment variables, each read once at the start:
{variables}
What it answers: specs/api in its source, and /openapi.json.
",
        version = env!("CARGO_PKG_VERSION"),
        description = env!("CARGO_PKG_DESCRIPTION"),
        variables = settings::Table,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, Misuse> {
        Command::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn each_word_has_its_meaning() {
        for (arguments, command) in [
            (&[][..], Command::Serve),
            (&["--check"], Command::Check),
            (&["--healthcheck"], Command::HealthCheck),
            (&["--version"], Command::Version),
            (&["-V"], Command::Version),
            (&["--help"], Command::Help),
            (&["-h"], Command::Help),
        ] {
            assert_eq!(parse(arguments), Ok(command), "{arguments:?}");
        }
    }

    #[test]
    fn what_is_no_argument_is_named() {
        for arguments in [&["help"][..], &[""], &["--check", "me"], &["--check=me"], &["--", "--help"]] {
            let misuse = parse(arguments).unwrap_err().to_string();
            assert!(arguments.iter().any(|argument| misuse.contains(&format!("{argument:?}"))), "{misuse}");
        }
    }
}
