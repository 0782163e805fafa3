//! `--check`: whether the service could serve as it is configured. Looks, changes nothing, and serves nobody.

use std::io::{self, Write};
use std::sync::Arc;

use crate::auth::{KeyStatus, Verifier};
use crate::config::Config;
use crate::db::{self as database, Database};
use crate::server::key_source;
use crate::tasks::store::Store;

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
    let findings = database::check(&config.database, &config.database_limits);
    for finding in &findings {
        report.say(finding.ok, finding.name, &finding.what, &finding.remedy)?;
    }
    // The index is looked for where there is a table. Where there is none, a connection of the service would make it.
    let may_connect = findings.iter().any(|finding| finding.name == "index");
    if config.jwks_url.is_some() || may_connect {
        let store = Arc::new(Store::new(Database::new(config.database, config.database_limits)));
        let verifier = Verifier::new(config.trust, key_source(config.jwks_url, &store), 1);
        report.keys(&verifier.refresh_keys())?;
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
    fn keys(&mut self, status: &KeyStatus) -> io::Result<()> {
        let KeyStatus { source, keys, last_error, .. } = status;
        match (keys, last_error) {
            (_, Some(error)) => {
                let remedy =
                    "see to BETTER_AUTH_JWKS_URL or BETTER_AUTH_URL, and that it can be reached from here";
                self.bad("keys", &format!("{source}: {error}"), remedy)
            }
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
