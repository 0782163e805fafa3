//! Looks the database over for an operator, and changes nothing.

use std::time::Instant;

use postgres::Client;

use super::failure::{Cause, is_tls_error};
use super::session::{PING_TIMEOUT, connect};
use super::url::DatabaseUrl;
use super::{Limits, schema};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `database`, `table`, `index`.
    pub name: &'static str,
    /// Whether the service can do with it as it is.
    pub ok: bool,
    /// What was found. Holds no secret.
    pub what: String,
    /// What to do; empty where nothing need be done.
    pub remedy: String,
}

const INDEX: &str = "select indexrelid::regclass from pg_index join pg_attribute on attrelid = indrelid and attnum = indkey[0] \
                     where indrelid = to_regclass('tasks') and attname = 'user_id' and indisvalid and indpred is null";
const CREATE_INDEX: &str =
    "create index concurrently if not exists tasks_of_user on tasks (user_id, created_at desc, id desc)";

/// Looks the database over, within the time that connecting and a statement may take.
pub fn check(url: &DatabaseUrl, limits: &Limits) -> Vec<Finding> {
    let connected = connect(url, &url.tls, limits.connect_timeout).or_else(|error| match url.without_tls() {
        Some(plain) if is_tls_error(&error) => connect(url, &plain, limits.connect_timeout),
        _ => Err(error),
    });
    let (mut client, deadline, _) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            let remedy =
                "see to NEON_DATABASE_URL, that the database runs, and that it can be reached from here";
            return vec![finding("database", false, format!("no connection: {}", Cause(&error)), remedy)];
        }
    };
    deadline.set(Instant::now() + limits.statement_timeout);
    let mut findings = vec![finding("database", true, "reached, and logged in", "")];
    if let Err(error) = look_over(&mut client, &mut findings) {
        let remedy = "try again; if it stays so, look into the log of PostgreSQL";
        findings.push(finding("database", false, format!("does not answer: {}", Cause(&error)), remedy));
    }
    deadline.set(Instant::now() + PING_TIMEOUT);
    findings
}

fn look_over(client: &mut Client, findings: &mut Vec<Finding>) -> Result<(), postgres::Error> {
    let columns = schema::read_columns(&client.simple_query(schema::COLUMNS)?);
    if columns.is_empty() {
        findings.push(finding("table", true, "there is no table `tasks` yet: the first start makes it", ""));
        return Ok(());
    }
    let misfits = schema::misfits(&columns);
    if misfits.is_empty() {
        findings.push(finding("table", true, "`tasks` fits, column by column", ""));
    }
    let remedy = "change the table, see specs/database/schema.md";
    findings.extend(misfits.into_iter().map(|misfit| finding("table", false, misfit, remedy)));
    let indexes = client.simple_query(INDEX)?;
    let has_index = indexes.iter().any(|answer| matches!(answer, postgres::SimpleQueryMessage::Row(_)));
    findings.push(if has_index {
        finding("index", true, "there is one that begins with user_id", "")
    } else {
        finding("index", true, "none begins with user_id: slower with every task", CREATE_INDEX)
    });
    Ok(())
}

fn finding(name: &'static str, ok: bool, what: impl Into<String>, remedy: &str) -> Finding {
    Finding { name, ok, what: what.into(), remedy: remedy.to_owned() }
}
