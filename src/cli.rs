//! Command line: at most one option.

use std::ffi::OsString;

use crate::config::settings::{self, GROUPS};

/// Maximum width of a line of `--help`, in characters.
const HELP_WIDTH: usize = 80;
/// Width of the first column of `--help`: the longest name of a setting, with spaces around it.
const NAME_WIDTH: usize = 26;

/// What the program is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Run the server.
    Serve,
    /// Check whether the server could run.
    Check,
    /// Check whether the server is alive.
    HealthCheck,
    /// Print the version.
    Version,
    /// Print the help.
    Help,
}

#[rustfmt::skip] // one row an option
const OPTIONS: [(&str, Command, &str); 4] = [
    ("--check", Command::Check,
        "check settings, addresses, database and keys; changes nothing; exits with 1 if the server could not run"),
    ("--healthcheck", Command::HealthCheck,
        "check that the server at HOST and PORT is alive; exits with 1 if it is not"),
    ("-V, --version", Command::Version, "print the version"),
    ("-h, --help", Command::Help, "print this help"),
];

impl Command {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// The first unknown or surplus argument.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let Some(argument) = arguments.next() else { return Ok(Command::Serve) };
        let option = OPTIONS.iter().find(|(names, ..)| names.split(", ").any(|name| argument == name));
        let error = |argument| Err(format!("unknown argument {argument:?}; see `todo-backend --help`"));
        match (option, arguments.next()) {
            (Some((_, command, _)), None) => Ok(*command),
            (Some(_), Some(surplus)) => error(surplus),
            (None, _) => error(argument),
        }
    }
}

/// The text of `--help`, in two columns.
pub fn help() -> String {
    let options: String = OPTIONS.iter().map(|(name, _, text)| row(name, text)).collect();
    let settings = GROUPS.iter().map(|(title, settings)| {
        let rows: String = settings.iter().map(|setting| row(setting.name, &setting.description())).collect();
        format!("\n{title}:\n{rows}")
    });
    format!(
        "todo-backend {}\n\nUsage: todo-backend [OPTION]\n\n\
         Without an option, it serves until SIGTERM or SIGINT.\n\nOptions:\n{options}\n\
         Settings are environment variables, read once at the start.\n{}\n\
         *{} names a file that contains the secret. API: see /docs.\n",
        env!("CARGO_PKG_VERSION"),
        settings.collect::<String>(),
        settings::FILE_SUFFIX
    )
}

/// A row of two columns; the second one is wrapped at spaces.
fn row(name: &str, text: &str) -> String {
    let mut rows = String::new();
    let mut line = format!("  {name:<NAME_WIDTH$}");
    for word in text.split(' ') {
        if line.len() + word.len() > HELP_WIDTH {
            rows = rows + line.trim_end() + "\n";
            line = " ".repeat(2 + NAME_WIDTH);
        }
        line = line + word + " ";
    }
    rows + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        Command::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn argument_when_known_selects_its_command() {
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
    fn argument_when_unknown_or_surplus_is_named() {
        for arguments in [&["help"][..], &[""], &["--check", "me"], &["--check=me"], &["--", "--help"]] {
            let error = parse(arguments).unwrap_err();
            assert!(arguments.iter().any(|argument| error.contains(&format!("{argument:?}"))), "{error}");
        }
    }

    #[test]
    fn help_is_in_two_columns() {
        let help = help();
        let mut rows = 0;
        for line in help.lines() {
            assert!(!line.ends_with(' ') && line.is_ascii(), "{line:?}");
            assert!(line.len() <= HELP_WIDTH, "{line:?}");
            if line.starts_with("  ") {
                let (name, text) = line.split_at(2 + NAME_WIDTH);
                assert!(name.ends_with("  "), "{line}");
                assert!(!text.starts_with(' ') && !text.is_empty(), "{line}");
                rows += usize::from(!name.trim().is_empty());
            }
        }
        assert_eq!(rows, OPTIONS.len() + settings::all().count());
    }

    #[test]
    fn help_contains_each_setting_with_range_and_default() {
        let help = help().split_whitespace().collect::<Vec<_>>().join(" ");
        for (title, group) in GROUPS {
            assert!(help.contains(&format!("{title}: {} ", group[0].name)), "{title}");
        }
        for setting in settings::all() {
            assert!(help.contains(&format!("{} {}", setting.name, setting.description())), "{}", setting.name);
        }
        for part in ["[1 to 128; default: 8]", "[required; or NEON_DATABASE_URL_FILE]", "[default: 0.0.0.0]"] {
            assert!(help.contains(part), "{part}");
        }
    }
}
