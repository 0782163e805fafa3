//! `--check`: whether the server could run with this configuration. Changes nothing and serves nobody.

use std::io::{self, Write};
use std::sync::Arc;

use crate::auth::{KeyStatus, Verifier};
use crate::config::Config;
use crate::db::{self, Database};
use crate::server::key_source;
use crate::tasks::store::Store;

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
    report.ok("secret", &format!("{} configured", config.trust.secrets.len()), "")?;
    report.addresses(&config)?;
    let findings = db::check(&config.database, &config.database_limits);
    for finding in &findings {
        let print = if finding.ok { Report::ok } else { Report::fail };
        print(&mut report, finding.name, &finding.what, &finding.remedy)?;
    }
    // The index is looked for where there is a table. Where there is none, a connection of the service would make it.
    let may_connect = findings.iter().any(|finding| finding.name == "index");
    let has_url = config.jwks_url.is_some();
    if has_url || may_connect {
        let store = Arc::new(Store::new(Database::new(config.database, config.database_limits)));
        let verifier = Verifier::new(config.trust, key_source(config.jwks_url, &store), 1);
        report.keys(&verifier.refresh_keys(), has_url)?;
    } else {
        report.ok("keys", "not checked: they would be in the database", "")?;
    }
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

    fn keys(&mut self, status: &KeyStatus, has_url: bool) -> io::Result<()> {
        let KeyStatus { source, keys, last_error, .. } = status;
        match (keys, last_error) {
            (_, Some(error)) if has_url => {
                let hint = "see that this URL is the one of your Better Auth, and can be reached from here";
                self.fail("keys", &format!("{source}: {error}"), hint)
            }
            (_, Some(error)) => self.fail("keys", &format!("{source}: {error}"), ""),
            (0, None) if has_url => {
                let hint = "see that Better Auth uses its jwt() plugin and serves keys there";
                self.fail("keys", &format!("{source} has no usable key"), hint)
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
