//! `--check`, the database: tries what requests do, in a transaction that is rolled back, and says what would go wrong.
//!
//! It changes nothing by construction: its connection is its own, creates no table, and never commits. Only the number
//! that PostgreSQL takes from a sequence is not given back.

use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::thread;

use postgres::Client;
use postgres::error::SqlState;
use r2d2::ManageConnection;
use r2d2_postgres::PostgresConnectionManager;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, Error as PgError};

use super::check_probe;
use super::finding::Finding;
use crate::db::url::{DatabaseUrl, HostConfig};
use crate::db::{DbError, Limits, TextRow, schema, text_rows, tls};

const SESSION: &str = "select current_setting('todo_backend.session', true)";
const USES_TLS: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
const MAY_CREATE: &str = "select has_schema_privilege(current_schema(), 'create')";
const INDEX: &str = "select indexrelid::regclass from pg_index join pg_attribute on attrelid = indrelid \
                     and attnum = indkey[0] where indrelid = to_regclass('tasks') and attname = 'user_id' \
                     and indisvalid and indpred is null limit 1";
const CREATE_INDEX: &str =
    "create index concurrently if not exists tasks_of_user on tasks (user_id, created_at desc, id desc)";
/// What stands for `ROLE` and `SEQUENCE` in hints.
const NAMES: &str = "select quote_ident(current_user), pg_get_serial_sequence('tasks', 'id')";
/// Makes deferred constraints fail at once, because there is no commit.
const PREPARE: &str = "set constraints all immediate";

/// Inspects the hosts of the URL until one can be reached, as the server does. Nothing is awaited longer than `limits`
/// say for connecting and for a statement.
pub fn inspect(url: &DatabaseUrl, limits: &Limits) -> Vec<Finding> {
    let mut findings = Vec::new();
    let max_wait = limits.connect_timeout + limits.statement_timeout;
    for host in url.hosts() {
        let start = findings.len();
        let (report, receiver) = channel();
        let (own, url, timeout) = (host.clone(), url.clone(), limits.statement_timeout);
        // The client has no deadline for a response, so the receiver below has one.
        thread::spawn(move || inspect_host(&own, &url, timeout.as_millis(), &report));
        while let Ok(finding) = receiver.recv_timeout(max_wait) {
            findings.push(finding);
        }
        if receiver.try_recv() == Err(TryRecvError::Empty) {
            let message = format!("{}: no response within {} s", host.address, max_wait.as_secs());
            findings.push(Finding::fail(
                "database",
                message,
                "see that the database runs and can be reached from here",
            ));
        }
        if findings[start..].iter().any(|finding| finding.name == "database" && finding.ok) {
            // The server goes on to the next host, too.
            findings[..start].iter_mut().for_each(|finding| finding.ok = true);
            break;
        }
    }
    findings
}

fn inspect_host(host: &HostConfig, url: &DatabaseUrl, timeout_ms: u128, report: &Sender<Finding>) {
    let tell = |finding| drop(report.send(finding)); // nobody may wait for it any more
    let inspected = connect(host, url, timeout_ms, &tell).and_then(|mut client| {
        tell(Finding::ok("database", format!("{}: connected and logged in", host.address)));
        inspect_client(&mut client, &host.config, &tell)
    });
    if let Err(error) = inspected {
        let message = format!("{}: {}", host.address, DbError::from(error));
        let hint = "correct NEON_DATABASE_URL, or see that the database can be reached from here, and its log";
        tell(Finding::fail("database", message, hint));
    }
}

/// Connects as the service does: with start-up options where the server takes them, without TLS where `sslmode` allows
/// it.
fn connect(host: &HostConfig, url: &DatabaseUrl, timeout_ms: u128, tell: &impl Fn(Finding)) -> Result<Client, PgError> {
    let mut config = host.config.clone();
    let open = |config: &Config| {
        let own = config.get_options().unwrap_or_default();
        let mut direct = config.clone();
        direct.options(format!("{own} -c todo_backend.session=check -c statement_timeout={timeout_ms}"));
        let open = |config: Config| PostgresConnectionManager::new(config.into(), url.tls()).connect();
        match open(direct) {
            Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => open(config.clone()),
            result => result,
        }
    };
    match open(&config) {
        Err(error) if tls::is_tls_error(&error) && config.get_ssl_mode() == SslMode::Prefer => {
            let hint = "give the certificate as DATABASE_CA_FILE, or write ?sslmode=disable if that is meant";
            let message = format!("failed, and the server goes on without: {}", DbError::from(error));
            tell(Finding::note("TLS", message, hint));
            config.ssl_mode(SslMode::Disable);
            open(&config)
        }
        result => result,
    }
}

/// All rows as texts, by the simple protocol, which every pooler understands.
fn rows(client: &mut Client, sql: &str) -> Result<Vec<TextRow>, PgError> {
    client.simple_query(sql).map(text_rows)
}

/// The first text of all rows; empty where there is none.
fn text(client: &mut Client, sql: &str) -> Result<String, PgError> {
    Ok(rows(client, sql)?.into_iter().flatten().flatten().next().unwrap_or_default())
}

fn inspect_client(client: &mut Client, config: &Config, tell: &impl Fn(Finding)) -> Result<(), PgError> {
    let is_direct = text(client, SESSION)? == "check";
    if is_direct && text(client, USES_TLS)? == "f" {
        let hint = "add ?sslmode=require to NEON_DATABASE_URL, unless the database is on this machine";
        tell(Finding::note("TLS", "off: everything, the password too, can be read on the way", hint));
    }
    let pooler = if is_direct { "none: statements are prepared" } else { "there is one: statements are sent as text" };
    tell(Finding::ok("pooler", pooler));
    let version = text(client, "show server_version")?;
    if text(client, "show transaction_read_only")? == "on" {
        let message = format!("PostgreSQL {version} refuses writes, which get 503: a standby or a read-only role");
        let hint =
            "give the address of the primary, or run: alter role current_user reset default_transaction_read_only";
        tell(Finding::fail("server", message, hint));
        return Ok(());
    }
    tell(Finding::ok("server", format!("PostgreSQL {version}")));
    let lost = if schema::names_search_path(config) { text(client, schema::LOST_SEARCH_PATH)? } else { String::new() };
    if !lost.is_empty() {
        tell(Finding::fail("pooler", format!("ignores {lost}"), "until then requests get 503"));
        return Ok(());
    }
    let columns = schema::read_columns(&rows(client, schema::COLUMNS)?);
    if columns.is_empty() {
        tell(missing_table(client)?);
        return Ok(());
    }
    let change = "requests get 503: change the table (specs/database/schema.md)";
    let incompatible = schema::incompatibilities(&columns).into_iter();
    let mut problems: Vec<Finding> = incompatible.map(|line| Finding::fail("table", line, change)).collect();
    if problems.is_empty() {
        let missing = rows(client, schema::MISSING_RIGHTS)?.into_iter().flatten().flatten();
        problems.extend(missing.map(|sql| Finding::fail("rights", "this role lacks a right: requests get 503", sql)));
    }
    if !problems.is_empty() {
        problems.into_iter().for_each(tell);
        return Ok(());
    }
    match text(client, INDEX)?.as_str() {
        "" => tell(Finding::note("index", "none begins with user_id: slower with every task", CREATE_INDEX)),
        name => tell(Finding::ok("index", format!("`{name}` begins with user_id"))),
    }
    let names = rows(client, NAMES)?.concat();
    let name = |at: usize| names.get(at).and_then(Option::as_deref).unwrap_or_default();
    let tell = |finding: Finding| {
        tell(Finding { hint: finding.hint.replace("ROLE", name(0)).replace("SEQUENCE", name(1)), ..finding });
    };
    let mut transaction = client.transaction()?;
    transaction.batch_execute(PREPARE)?;
    if check_probe::run(&mut transaction, &tell)? {
        tell(Finding::ok("table", "compatible: a task was created, read, changed and deleted, and rolled back"));
    }
    transaction.rollback()
}

fn missing_table(client: &mut Client) -> Result<Finding, PgError> {
    let elsewhere = text(client, schema::ELSEWHERE)?;
    if !elsewhere.is_empty() {
        return Ok(Finding::fail("table", elsewhere, "until then requests get 503"));
    }
    if text(client, MAY_CREATE)? == "t" {
        return Ok(Finding::ok("table", "there is no table `tasks` yet: the first start creates it"));
    }
    let hint = "run schema.sql as a role that may create tables, or grant this one `create` on the schema";
    Ok(Finding::fail("table", "there is no table `tasks`, and this role may not create one: requests get 503", hint))
}
