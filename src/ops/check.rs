//! `--check`: whether the service could serve as it is configured. Looks, changes nothing, and serves nobody.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use crate::auth::{JwksCache, JwksStatus};
use crate::config::Config;
use crate::db::Database;
use crate::ops::check_database;
use crate::server::key_source;

/// Looks at everything, and says each on a line of `out`; whether all of it will do.
///
/// # Errors
/// When nothing can be said.
pub fn run(out: &mut dyn Write) -> io::Result<bool> {
    let mut report = Report { out, all_is_well: true };
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(mistakes) => {
            for mistake in mistakes.lines() {
                report.bad("settings", mistake, "see `todo-backend --help`; the rest was not looked at")?;
            }
            return Ok(false);
        }
    };
    report.good("settings", "every variable holds", "")?;
    let secrets = config.trust.secrets.len();
    for warning in &config.warnings {
        report.good("secret", warning, "give frontend and backend one of `openssl rand -base64 32`")?;
    }
    report.good("secret", &format!("tokens are verified with {secrets}"), "")?;
    let findings = check_database::inspect(&config.database, &config.database_limits);
    for finding in &findings {
        report.say(finding.ok, finding.name, &finding.message, &finding.hint)?;
    }
    // The index is looked for where there is a table. Where there is none, a connection of the service would make it.
    let may_connect = findings.iter().any(|finding| finding.name == "index");
    let has_url = config.jwks_url.is_some();
    if has_url || may_connect {
        let database = Arc::new(Database::new(config.database, config.database_limits));
        let cache = JwksCache::<()>::new(key_source(config.jwks_url, &database), |_| {});
        report.keys(&cache.refresh(Instant::now()), has_url)?;
    } else {
        report.good("keys", "not looked for, for they would be in the database", "")?;
    }
    Ok(report.all_is_well)
}

struct Report<'o> {
    out: &'o mut dyn Write,
    all_is_well: bool,
}

impl Report<'_> {
    /// `has_url`: the operator named the key set, so that it must have a usable key.
    fn keys(&mut self, status: &JwksStatus, has_url: bool) -> io::Result<()> {
        let JwksStatus { source, keys, rejected, .. } = status;
        for rejected in rejected {
            self.good(
                "keys",
                &format!("rejected from {source}: {rejected}"),
                "tokens signed with it get 401",
            )?;
        }
        match (keys, &status.last_error) {
            (_, Some(error)) => {
                self.bad("keys", &format!("{source}: {error}"), "must be reachable from here")
            }
            (0, None) if !rejected.is_empty() => {
                self.bad("keys", &format!("{source}: no key is usable"), "see the causes above")
            }
            (0, None) if has_url => self.bad(
                "keys",
                &format!("{source}: the key set is empty"),
                "is it the URL of your Better Auth?",
            ),
            (0, None) => {
                let remedy = "if your frontend uses the jwt() plugin, set BETTER_AUTH_URL";
                self.good("keys", &format!("none in {source}"), remedy)
            }
            (_, None) => self.good("keys", &format!("{keys} from {source}"), ""),
        }
    }

    fn good(&mut self, name: &str, what: &str, remedy: &str) -> io::Result<()> {
        self.say(true, name, what, remedy)
    }

    fn bad(&mut self, name: &str, what: &str, remedy: &str) -> io::Result<()> {
        self.say(false, name, what, remedy)
    }

    /// A line: whether it will do, what was looked at, what was found, and what to do about it.
    fn say(&mut self, ok: bool, name: &str, what: &str, remedy: &str) -> io::Result<()> {
        self.all_is_well &= ok;
        let mark = match (ok, remedy) {
            (false, _) => "FAIL",
            (true, "") => "ok",
            (true, _) => "note",
        };
        let link = if remedy.is_empty() { "" } else { "; " };
        writeln!(self.out, "{mark:<4} {name}: {what}{link}{remedy}")
    }
}
