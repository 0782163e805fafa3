//! Reading variables: where a value comes from, what stands for one that is not set, and what is wrong with it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::config::settings::{self, FILE_SUFFIX};

/// The longest file that a variable may name, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A variable of this process.
pub fn process_variable(name: &str) -> Option<Result<String, ()>> {
    std::env::var_os(name).map(|value| value.into_string().map_err(drop))
}

/// Where variables come from: a value, none, or `Err` for one that is not UTF-8.
pub trait Lookup: Fn(&str) -> Option<Result<String, ()>> {}
impl<F: Fn(&str) -> Option<Result<String, ()>>> Lookup for F {}

/// Reads variables, and collects what is wrong with them.
pub struct Environment<F> {
    lookup: F,
    /// A line for each mistake so far, which begins with the variable's name.
    pub mistakes: Vec<String>,
}

impl<F: Lookup> Environment<F> {
    /// Variables are read from `lookup`.
    pub fn new(lookup: F) -> Self {
        Self { lookup, mistakes: Vec::new() }
    }

    /// A variable, or what the file holds that stands for it. `Err` when there is something wrong with it.
    fn get(&mut self, name: &str) -> Result<Option<String>, ()> {
        let value = self.get_plain(name)?;
        if !settings::find(name).is_some_and(|variable| variable.is_secret) {
            return Ok(value);
        }
        let file = format!("{name}{FILE_SUFFIX}");
        match (value, self.get_plain(&file)?.filter(|path| !path.is_empty())) {
            (value, None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => {
                self.refuse(name, format!("and {file} are both set: which of them is meant?"))
            }
            (_, Some(path)) => read_secret_file(&path).map(Some).or_else(|why| self.refuse(&file, why)),
        }
    }

    fn get_plain(&mut self, name: &str) -> Result<Option<String>, ()> {
        match (self.lookup)(name) {
            Some(Err(())) => self.refuse(name, "is not UTF-8"),
            value => Ok(value.and_then(Result::ok)),
        }
    }

    fn refuse<T>(&mut self, name: &str, why: impl fmt::Display) -> Result<T, ()> {
        self.mistakes.push(format!("{name} {why}"));
        Err(())
    }

    /// What `parse` makes of a variable; of its default, or else an empty text, if it is not set.
    pub fn parse<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.get(name).ok()?;
        let value = value.as_deref().or_else(|| settings::default(name)).unwrap_or_default();
        parse(value).or_else(|why| self.refuse(name, why)).ok()
    }

    /// The same where empty is as good as not set, and nothing is parsed when there is no default either.
    pub fn parse_if_set<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(name).ok()?.filter(|value| !value.is_empty());
        let value = value.as_deref().or_else(|| settings::default(name))?;
        parse(value).or_else(|why| self.refuse(name, why)).ok()
    }

    /// A number in this range.
    pub fn number<T>(&mut self, name: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: PartialOrd + FromStr + fmt::Display,
    {
        self.parse_if_set(name, |text| match text.trim().parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("is `{text}`: give a number from {} to {}", range.start(), range.end())),
        })
    }

    /// A number in this range, as milliseconds.
    pub fn milliseconds(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<Duration> {
        self.number(name, range).map(Duration::from_millis)
    }
}

/// What is in a file that a variable names.
///
/// # Errors
/// What is wrong with it, to be read after the variable's name.
pub fn read_file(path: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > MAX_FILE_BYTES => {
            Err(format!("is `{path}`, which is longer than {MAX_FILE_BYTES} bytes"))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("is `{path}`, which cannot be read: {error}")),
    }
}

/// Docker and Kubernetes mount a secret as it is; whoever writes such a file by hand ends it with a line break.
fn read_secret_file(path: &str) -> Result<String, String> {
    let text = String::from_utf8(read_file(path)?).map_err(|_| format!("is `{path}`, which is not UTF-8"))?;
    let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(line.unwrap_or(&text).to_owned())
}
