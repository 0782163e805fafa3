//! Reader of settings from environment variables and files. It collects all errors, so that they are reported at once.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use super::settings::{self, DefaultValue, FILE_SUFFIX, Kind, Setting};
use super::unusual::unusual_traits;

/// Maximum size of a file that a variable names, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Reader of settings.
pub struct EnvReader<'l> {
    lookup: &'l dyn Fn(&str) -> Option<OsString>,
    /// What is wrong. Each message begins with the variable's name and contains no secret.
    pub errors: Vec<String>,
    /// What is valid and probably a mistake, in the same form.
    pub warnings: Vec<String>,
}

impl<'l> EnvReader<'l> {
    /// A reader of the variables that `lookup` returns.
    pub fn new(lookup: &'l dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { lookup, errors: Vec::new(), warnings: Vec::new() }
    }

    /// Parses a setting, or its default. After an error the default, too, so that the other settings are read. `None`
    /// without a default. The error of `parse` is a text to follow the name.
    pub fn parse<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let setting = settings::get(name);
        let parse_named = |value: String| parse(&value).map_err(|why| format!("{name} {why}"));
        let parsed = self.value(setting).and_then(|value| value.map(parse_named).transpose());
        let value = parsed.unwrap_or_else(|error| {
            self.errors.push(error);
            None
        });
        let DefaultValue::Value(default) = setting.default else { return value };
        value.or_else(|| parse(default).ok())
    }

    /// Reports a setting that the server cannot run without, unless its error is reported already.
    pub fn report_unset(&mut self, name: &str) {
        if !self.errors.iter().any(|error| error.starts_with(name)) {
            self.errors.push(format!("{name} is not set; it must be {}", settings::get(name).help));
        }
    }

    /// A text whose bytes are used as they are. Warns of what is probably not part of it, such as quotes.
    pub fn verbatim(&mut self, name: &str) -> Option<String> {
        let text = self.parse(name, |text| Ok(text.to_owned()))?;
        self.warn_if_unusual(name, name, &text);
        Some(text)
    }

    /// Warns of what is probably not part of `text`, which belongs to the setting `name` and is called `label`.
    pub fn warn_if_unusual(&mut self, name: &str, label: &str, text: &str) {
        let traits = unusual_traits(name, text);
        if !traits.is_empty() {
            self.warnings.push(format!(
                "{label} {}: it is used as it is, and must be the same in the frontend",
                traits.join(", ")
            ));
        }
    }

    /// A number in the range of its setting.
    pub fn number<T: TryFrom<u64>>(&mut self, name: &str) -> Option<T> {
        let Kind::Number(range) = &settings::get(name).kind else { return None };
        self.parse(name, |text| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number
                .and_then(|number| T::try_from(number).ok())
                .ok_or_else(|| format!("is `{text}`: it must be an integer from {} to {}", range.start(), range.end()))
        })
    }

    /// A number of milliseconds in the range of its setting.
    pub fn milliseconds(&mut self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    /// The value of a variable, or the content of its file. `None` if it is not set or empty.
    fn value(&self, Setting { name, kind, .. }: &Setting) -> Result<Option<String>, String> {
        // A file of variables may have Windows' line ends.
        let trimmed = |text: String| text.trim().to_owned();
        let is_verbatim = matches!(kind, Kind::Secret | Kind::Verbatim);
        let value = self.variable(name)?.map(|value| if is_verbatim { value } else { trimmed(value) });
        let value = value.filter(|value| !value.is_empty() || *kind == Kind::List);
        if *kind != Kind::Secret {
            return Ok(value);
        }
        let file = format!("{name}{FILE_SUFFIX}");
        match (value, self.variable(&file)?.map(trimmed).filter(|path| !path.is_empty())) {
            (value, None) => Ok(value),
            (None, Some(path)) => {
                let secret = read_secret_file(&path).map_err(|why| format!("{file} {why}"))?;
                Ok(Some(secret).filter(|secret| !secret.is_empty()))
            }
            (Some(_), Some(_)) => Err(format!("{name} and {file} are both set: set only one of them")),
        }
    }

    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        let value = (self.lookup)(name).map(OsString::into_string).transpose();
        value.map_err(|_| format!("{name} is not UTF-8"))
    }
}

/// Reads a file that a variable names.
///
/// # Errors
/// A message to follow the variable's name: the file cannot be read, or is longer than [`MAX_FILE_BYTES`].
pub fn read_file(path: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)) {
        Ok(length) if length as u64 > MAX_FILE_BYTES => {
            Err(format!("is `{path}`, which is longer than {MAX_FILE_BYTES} bytes"))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("is `{path}`, which cannot be read: {error}")),
    }
}

/// One line end is removed: editors add it. Docker and Kubernetes mount a secret as it is.
fn read_secret_file(path: &str) -> Result<String, String> {
    let text = String::from_utf8(read_file(path)?).map_err(|_| format!("is `{path}`, which is not UTF-8"))?;
    let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(line.unwrap_or(&text).to_owned())
}
