//! Looks the database over for an operator, and changes nothing: what would hinder the service, and what to do about it.

use std::sync::Arc;
use std::time::Instant;

use postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::error::{Fault, is_tls_error};
use super::rows::Texts;
use super::session::connect;
use super::stream::Peer;
use super::transport::{Deadline, Tls};
use super::url::DatabaseUrl;
use super::{Limits, schema};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `database`, `TLS`, `server`, `pooler`, `table`, `rights`, `index`.
    pub name: &'static str,
    /// Whether the service can do with it as it is.
    pub ok: bool,
    /// What was found. Holds no secret.
    pub what: String,
    /// What to do; empty where nothing need be done.
    pub remedy: String,
}

impl Finding {
    fn good(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, ok: true, what: what.into(), remedy: String::new() }
    }

    fn bad(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, ok: false, what: what.into(), remedy: remedy.into() }
    }

    fn advise(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

const SERVER: &str = "select current_setting('server_version'), current_setting('transaction_read_only')";
const RIGHTS: &str = "select string_agg(name, ', ') from unnest(array['select', 'insert', 'update', 'delete']) as name \
                      where not has_table_privilege('tasks', name)";
const MAY_CREATE: &str = "select has_schema_privilege(current_schema(), 'create')";
const INDEX: &str = "select indexrelid::regclass from pg_index join pg_attribute on attrelid = indrelid and attnum = indkey[0] \
                     where indrelid = to_regclass('tasks') and attname = 'user_id' and indisvalid and indpred is null limit 1";
const CREATE_INDEX: &str =
    "create index concurrently if not exists tasks_of_user on tasks (user_id, created_at desc, id desc)";

/// Looks the database over, within `limits.connect_timeout` and `limits.statement_timeout`.
pub fn check(url: &DatabaseUrl, limits: &Limits) -> Vec<Finding> {
    let until = || Instant::now() + limits.connect_timeout;
    let connected = connect(url, &Tls::of(url), until()).or_else(|error| match Tls::fallback(url) {
        Some(plain) if is_tls_error(&error) => connect(url, &plain, until()),
        _ => Err(error),
    });
    let (mut client, deadline, peer) = match connected {
        Ok(connected) => connected,
        Err(error) => {
            let remedy =
                "see to NEON_DATABASE_URL, that the database runs, and that it can be reached from here";
            return vec![Finding::bad("database", format!("no connection: {error}"), remedy)];
        }
    };
    deadline.set(Instant::now() + limits.statement_timeout);
    let mut findings = vec![Finding::good("database", "reached, and logged in"), tls(&peer)];
    let outcome = look_over(&mut client, &peer, &mut findings);
    if let Err(error) = outcome {
        let remedy = "try again; if it stays so, look into the log of PostgreSQL";
        findings.push(Finding::bad("database", format!("does not answer: {error}"), remedy));
    }
    end(client, &deadline);
    findings
}

fn end(client: Client, deadline: &Arc<Deadline>) {
    deadline.set(Instant::now() + super::PING_TIMEOUT);
    drop(client);
}

fn tls(peer: &Peer) -> Finding {
    if peer.is_encrypted() {
        Finding::good("TLS", "spoken, and the server's certificate holds")
    } else {
        Finding::good("TLS", "not spoken: everything, the password too, can be read on the way")
            .advise("add ?sslmode=require to NEON_DATABASE_URL, unless the database is on this machine")
    }
}

fn look_over(client: &mut Client, peer: &Peer, findings: &mut Vec<Finding>) -> Result<(), Fault> {
    findings.push(server(&row(client, SERVER)?));
    let backend = row(client, "select pg_backend_pid()")?.first().and_then(|backend| backend.parse().ok());
    findings.push(if backend.is_some_and(|backend| peer.is_backend(backend)) {
        Finding::good("pooler", "none: statements are prepared once a connection")
    } else {
        Finding::good("pooler", "one is in between: statements go unnamed")
    });
    let columns = schema::read_columns(&rows(client, schema::COLUMNS)?);
    if columns.is_empty() {
        let may_create = row(client, MAY_CREATE)?.first().is_some_and(|may| may == "t");
        findings.push(if may_create {
            Finding::good("table", "there is no table `tasks` yet: the first start makes it")
        } else {
            let remedy =
                "run schema.sql as a role that may create tables, or grant this one `create` on the schema";
            Finding::bad("table", "there is no table `tasks`, and this role may not make one", remedy)
        });
        return Ok(());
    }
    let misfits = schema::misfits(&columns);
    if misfits.is_empty() {
        findings.push(Finding::good("table", "`tasks` fits, column by column"));
    }
    let remedy = "change the table, see specs/database/schema.md";
    findings.extend(misfits.into_iter().map(|misfit| Finding::bad("table", misfit, remedy)));
    findings.push(match row(client, RIGHTS)?.first() {
        Some(missing) if !missing.is_empty() => {
            let remedy = format!("grant {missing} on tasks to this role");
            Finding::bad("rights", format!("this role may not {missing}"), remedy)
        }
        _ => Finding::good("rights", "this role may select, insert, update and delete"),
    });
    if !schema::is_ordinary(&columns) {
        return Ok(());
    }
    findings.push(match row(client, INDEX)?.first() {
        Some(name) => Finding::good("index", format!("`{name}` begins with user_id")),
        None => {
            Finding::good("index", "none begins with user_id: slower with every task").advise(CREATE_INDEX)
        }
    });
    Ok(())
}

fn server(columns: &[String]) -> Finding {
    let version = columns.first().map_or("", String::as_str);
    if columns.get(1).is_some_and(|read_only| read_only == "on") {
        let remedy = "give the address of the primary";
        return Finding::bad("server", format!("PostgreSQL {version}, which takes no writes"), remedy);
    }
    Finding::good("server", format!("PostgreSQL {version}"))
}

/// The first row, null as an empty text; empty where there is none.
fn row(client: &mut Client, sql: &str) -> Result<Vec<String>, Fault> {
    let first = rows(client, sql)?.into_iter().next().unwrap_or_default();
    Ok(first.into_iter().map(Option::unwrap_or_default).collect())
}

/// All rows. By the simple protocol, which any pooler understands.
fn rows(client: &mut Client, sql: &str) -> Result<Vec<Texts>, Fault> {
    let answers = client.simple_query(sql)?;
    let texts =
        |row: &SimpleQueryRow| (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect();
    Ok(answers
        .iter()
        .filter_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(texts(row)),
            _ => None,
        })
        .collect())
}
