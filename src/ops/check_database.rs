//! `--check`, the database: tries what requests do, in a transaction that is rolled back, and says what would go wrong.
//!
//! It changes nothing by construction: its connection is its own, creates no table, and never commits. Only the number
//! that PostgreSQL takes from a sequence is not given back.

use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::thread;

use postgres::Client;
use r2d2::ManageConnection;
use r2d2_postgres::PostgresConnectionManager;
use tokio_postgres::{Config, Error as PgError};

use super::check_probe;
use super::finding::Finding;
use crate::db::url::{DatabaseUrl, HostConfig};
use crate::db::{DbError, Limits, schema, texts};

const SESSION: &str = "select current_setting('todo_backend.session', true)";
const USES_TLS: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
const MAY_CREATE: &str = "select has_schema_privilege(current_schema(), 'create')";
const INDEX: &str = "select indexrelid::regclass from pg_index join pg_attribute on attrelid = indrelid \
                     and attnum = indkey[0] where indrelid = to_regclass('tasks') and attname = 'user_id' \
                     and indisvalid and indpred is null limit 1";
const CREATE_INDEX: &str =
    "create index concurrently if not exists tasks_of_user on tasks (user_id, created_at desc, id desc)";
/// What stands for `ROLE` and `SEQUENCE` in hints.
const ROLE: &str = "select quote_ident(current_user)";
const SEQUENCE: &str = "select pg_get_serial_sequence('tasks', 'id')";
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
        Ok(inspect_client(&mut client, &host.config, &tell)?)
    });
    if let Err(error) = inspected {
        let message = format!("{}: {error}", host.address);
        let hint = "correct NEON_DATABASE_URL, or see that the database can be reached from here, and its log";
        tell(Finding::fail("database", message, hint));
    }
}

/// Connects as the service does.
fn connect(host: &HostConfig, url: &DatabaseUrl, timeout_ms: u128, tell: &impl Fn(Finding)) -> Result<Client, DbError> {
    let options = format!("-c todo_backend.session=check -c statement_timeout={timeout_ms}");
    let open = |config: Config| Ok(PostgresConnectionManager::new(config.into(), url.tls()).connect()?);
    host.connect(Some(&options), open, |error| {
        if error.is_tls_error() {
            let hint = "give the certificate as DATABASE_CA_FILE, or write ?sslmode=disable if that is meant";
            tell(Finding::note("TLS", format!("failed, and the server goes on without: {error}"), hint));
        }
    })
}

/// All values as texts, by the simple protocol, which every pooler understands.
fn all_texts(client: &mut Client, sql: &str) -> Result<Vec<String>, PgError> {
    client.simple_query(sql).map(texts)
}

/// The first of them; empty where there is none.
fn text(client: &mut Client, sql: &str) -> Result<String, PgError> {
    Ok(all_texts(client, sql)?.into_iter().next().unwrap_or_default())
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
    if let Some(problem) = schema::find_problem(config, |sql| all_texts(client, sql))? {
        let hint = format!("{}, and requests get 503 (specs/database/schema.md)", problem.summary);
        problem.causes.into_iter().for_each(|cause| tell(Finding::fail(problem.subject, cause, &*hint)));
        return Ok(());
    }
    if text(client, schema::EXISTS)?.is_empty() {
        tell(missing_table(client)?);
        return Ok(());
    }
    match text(client, INDEX)?.as_str() {
        "" => tell(Finding::note("index", "none begins with user_id: slower with every task", CREATE_INDEX)),
        name => tell(Finding::ok("index", format!("`{name}` begins with user_id"))),
    }
    let [role, sequence] = [text(client, ROLE)?, text(client, SEQUENCE)?];
    let tell = |finding: Finding| {
        tell(Finding { hint: finding.hint.replace("ROLE", &role).replace("SEQUENCE", &sequence), ..finding });
    };
    let mut transaction = client.transaction()?;
    transaction.batch_execute(PREPARE)?;
    if check_probe::run(&mut transaction, &tell)? {
        tell(Finding::ok("table", "compatible: a task was created, read, changed and deleted, and rolled back"));
    }
    transaction.rollback()
}

fn missing_table(client: &mut Client) -> Result<Finding, PgError> {
    if text(client, MAY_CREATE)? == "t" {
        return Ok(Finding::ok("table", "there is no table `tasks` yet: the first start creates it"));
    }
    let hint = "run schema.sql as a role that may create tables, or grant this one `create` on the schema";
    Ok(Finding::fail("table", "there is no table `tasks`, and this role may not create one: requests get 503", hint))
}
