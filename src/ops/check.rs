//! `--check`: whether the server could run with this configuration. Changes nothing and serves nobody.

use std::io::{self, Write};
use std::sync::Arc;

use crate::auth::KeySource;
use crate::config::Config;
use crate::db::Database;
use crate::ops::check_database::{self, Finding};
use crate::server::key_source;

/// Checks everything and writes one line about each. Returns whether the server could run.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(out: &mut dyn Write) -> io::Result<bool> {
    let mut report = Report { out, passed: true };
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(errors) => {
            for error in &errors.0 {
                report.fail("settings", error, "see `todo-backend --help`; nothing else was checked")?;
            }
            return Ok(false);
        }
    };
    report.ok("settings", "all are valid", "")?;
    for warning in &config.warnings {
        report.line("note", "settings", warning, "")?;
    }
    report.ok("secret", &format!("{} configured", config.auth.secrets.len()), "")?;
    report.addresses(&config)?;
    for Finding { name, ok, message, hint } in check_database::inspect(&config.database, &config.database_limits) {
        if ok { report.ok(name, &message, &hint)? } else { report.fail(name, &message, &hint)? }
    }
    let has_url = config.jwks_url.is_some();
    let database = Arc::new(Database::without_schema(config.database, config.database_limits));
    report.keys(&key_source(config.jwks_url, &database), has_url)?;
    Ok(report.passed)
}

struct Report<'o> {
    out: &'o mut dyn Write,
    passed: bool,
}

impl Report<'_> {
    /// Binds all addresses at once, as the server does, and releases them.
    fn addresses(&mut self, config: &Config) -> io::Result<()> {
        let mut listeners = Vec::new();
        for address in [Some(&config.address), config.admin_address.as_ref()].into_iter().flatten() {
            match address.bind() {
                Ok(listener) => {
                    self.ok("address", &format!("can listen on {}", listener.local_addr()?), "")?;
                    listeners.push(listener);
                }
                Err(error) => self.fail("address", &error, "")?,
            }
        }
        Ok(())
    }

    /// `has_url`: the operator named the key set, so that it must have a usable key.
    fn keys(&mut self, source: &KeySource, has_url: bool) -> io::Result<()> {
        let name = source.name();
        let keys = match source.fetch() {
            Ok(keys) => keys,
            Err(error) => return self.fail("keys", &format!("{name}: {error}"), ""),
        };
        for rejected in &keys.rejected {
            self.ok("keys", &format!("rejected from {name}: {rejected}"), "tokens signed with it get 401")?;
        }
        if keys.count() > 0 {
            self.ok("keys", &format!("{} from {name}", keys.count()), "")
        } else if !keys.rejected.is_empty() {
            self.fail("keys", &format!("{name}: no key is usable"), "see the causes above")
        } else if has_url {
            let hint = "is it the URL of your Better Auth, and does that use the jwt() plugin?";
            self.fail("keys", &format!("{name}: the key set is empty"), hint)
        } else {
            let hint = "if your frontend uses the jwt() plugin, set BETTER_AUTH_URL";
            self.ok("keys", &format!("none in {name}"), hint)
        }
    }

    /// A check that passed. With a hint, something could be better.
    fn ok(&mut self, name: &str, message: &str, hint: &str) -> io::Result<()> {
        self.line(if hint.is_empty() { "ok" } else { "note" }, name, message, hint)
    }

    /// A check that failed: the server could not run.
    fn fail(&mut self, name: &str, message: &str, hint: &str) -> io::Result<()> {
        self.passed = false;
        self.line("FAIL", name, message, hint)
    }

    fn line(&mut self, status: &str, name: &str, message: &str, hint: &str) -> io::Result<()> {
        let separator = if hint.is_empty() { "" } else { "; " };
        writeln!(self.out, "{status:<4} {name}: {message}{separator}{hint}")
    }
}
