//! `--check`: whether the server could run with this configuration. Changes nothing and serves nobody.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use crate::auth::{JwksCache, JwksStatus};
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
    let cache = JwksCache::<()>::new(key_source(config.jwks_url, &database), |_| {});
    report.keys(&cache.refresh(Instant::now()), has_url)?;
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
    fn keys(&mut self, status: &JwksStatus, has_url: bool) -> io::Result<()> {
        let JwksStatus { source, keys, rejected, last_error, .. } = status;
        for rejected in rejected {
            self.ok("keys", &format!("rejected from {source}: {rejected}"), "tokens signed with it get 401")?;
        }
        match (keys, last_error) {
            (_, Some(error)) => self.fail("keys", &format!("{source}: {error}"), ""),
            (0, None) if !rejected.is_empty() => {
                self.fail("keys", &format!("{source}: no key is usable"), "see the causes above")
            }
            (0, None) if has_url => {
                let hint = "is it the URL of your Better Auth, and does that use the jwt() plugin?";
                self.fail("keys", &format!("{source}: the key set is empty"), hint)
            }
            (0, None) => {
                let hint = "if your frontend uses the jwt() plugin, set BETTER_AUTH_URL";
                self.ok("keys", &format!("none in {source}"), hint)
            }
            (_, None) => self.ok("keys", &format!("{keys} from {source}"), ""),
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
