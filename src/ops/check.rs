//! `--check`: whether the server could run with this configuration. Changes nothing and serves nobody.

use std::io::{self, Write};
use std::net::TcpListener;
use std::sync::Arc;

use crate::auth::KeySource;
use crate::config::Config;
use crate::db::Database;
use crate::ops::check_database;
use crate::ops::finding::Finding;
use crate::server::key_source;

/// Checks everything and writes one line about each. Returns whether the server could run.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(out: &mut dyn Write) -> io::Result<bool> {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(errors) => {
            let hint = "see `todo-backend --help`; nothing else was checked";
            return print(out, errors.0.into_iter().map(|error| Finding::fail("settings", error, hint)).collect());
        }
    };
    let has_valid_settings = print(out, inspect_settings(&config))?;
    let has_addresses = print(out, inspect_addresses(&config)?)?;
    let has_database = print(out, check_database::inspect(&config.database, &config.database_limits))?;
    let has_url = config.key_source.is_some();
    let database = Arc::new(Database::new(config.database, config.database_limits, false));
    let has_keys = print(out, inspect_keys(&key_source(config.key_source, &database), has_url))?;
    Ok(has_valid_settings && has_addresses && has_database && has_keys)
}

/// Writes a line about each finding: `ok`, `FAIL`, or `note` where something could be better. Returns whether none
/// failed.
fn print(out: &mut dyn Write, findings: Vec<Finding>) -> io::Result<bool> {
    for Finding { name, ok, message, hint } in &findings {
        let (passed, separator) = if hint.is_empty() { ("ok", "") } else { ("note", "; ") };
        let status = if *ok { passed } else { "FAIL" };
        writeln!(out, "{status:<4} {name}: {message}{separator}{hint}")?;
    }
    Ok(findings.iter().all(|finding| finding.ok))
}

fn inspect_settings(config: &Config) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("settings", "all are valid")];
    let warnings = config.warnings.iter();
    findings.extend(warnings.map(|warning| Finding::note("settings", warning, "the server starts nevertheless")));
    findings.push(Finding::ok("secret", format!("{} configured", config.auth.secrets.len())));
    findings
}

/// Binds all addresses at once, as the server does, and releases them.
fn inspect_addresses(config: &Config) -> io::Result<Vec<Finding>> {
    let addresses = std::iter::once(&config.address).chain(&config.admin_address);
    let listeners: Vec<_> = addresses.map(|address| address.bind()).collect();
    let finding = |listener: &Result<TcpListener, String>| match listener {
        Ok(listener) => Ok(Finding::ok("address", format!("can listen on {}", listener.local_addr()?))),
        Err(error) => Ok(Finding::fail("address", error, "")),
    };
    listeners.iter().map(finding).collect()
}

/// `has_url`: the operator named the key set, so that it must have a usable key.
fn inspect_keys(source: &KeySource, has_url: bool) -> Vec<Finding> {
    let name = source.name();
    let keys = match source.fetch() {
        Ok(keys) => keys,
        Err(error) => return vec![Finding::fail("keys", format!("{name}: {error}"), "")],
    };
    let rejected = keys.rejected.iter();
    let hint = "tokens signed with it get 401";
    let mut findings: Vec<_> =
        rejected.map(|key| Finding::note("keys", format!("rejected from {name}: {key}"), hint)).collect();
    findings.push(if keys.count() > 0 {
        Finding::ok("keys", format!("{} from {name}", keys.count()))
    } else if !keys.rejected.is_empty() {
        Finding::fail("keys", format!("{name}: no key is usable"), "see the causes above")
    } else if has_url {
        let hint = "is it the URL of your Better Auth, and does that use the jwt() plugin?";
        Finding::fail("keys", format!("{name}: the key set is empty"), hint)
    } else {
        Finding::note("keys", format!("none in {name}"), "if your frontend uses the jwt() plugin, set BETTER_AUTH_URL")
    });
    findings
}
