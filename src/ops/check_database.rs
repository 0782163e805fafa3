//! `--check`, the database: tries what requests do, in a transaction that is rolled back, and says what would go wrong.
//!
//! It changes nothing by construction: its connection is its own, creates no table, and never commits. Only the number that
//! PostgreSQL takes from a sequence is not given back.

use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::thread;

use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Client, SimpleQueryMessage, Transaction};
use r2d2::ManageConnection;
use r2d2_postgres::PostgresConnectionManager;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, Error as PgError, Row};

use crate::auth::MAX_USER_ID_CHARS;
use crate::db::url::{DatabaseUrl, HostConfig};
use crate::db::{DbError, Limits, schema, tls};
use crate::tasks::sql;
use crate::tasks::task::{MAX_DESCRIPTION_CHARS, MAX_TITLE_CHARS};

const SESSION: &str = "select current_setting('todo_backend.session', true)";
const USES_TLS: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
const MAY_CREATE: &str = "select has_schema_privilege(current_schema(), 'create')";
const INDEX: &str = "select indexrelid::regclass from pg_index join pg_attribute on attrelid = indrelid \
                     and attnum = indkey[0] where indrelid = to_regclass('tasks') and attname = 'user_id' and indisvalid \
                     and indpred is null limit 1";
const CREATE_INDEX: &str =
    "create index concurrently if not exists tasks_of_user on tasks (user_id, created_at desc, id desc)";
/// What stands for `ROLE` and `SEQUENCE` in hints.
const NAMES: &str = "select quote_ident(current_user), pg_get_serial_sequence('tasks', 'id')";
const SOME_USER: &str = "select user_id::text from tasks where user_id is not null limit 1";
/// Deferred constraints, too, are to fail at once: there is no commit.
const PREPARE: &str = "set constraints all immediate";

/// One thing that was inspected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was inspected: `database`, `TLS`, `server`, `pooler`, `table`, `insert`, …
    pub name: &'static str,
    /// Whether the service works with it as it is.
    pub ok: bool,
    /// What was found. Holds no secret.
    pub message: String,
    /// What to do; empty where nothing need be done.
    pub hint: String,
}

impl Finding {
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, ok: true, message: message.into(), hint: String::new() }
    }

    pub(super) fn note(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..Self::ok(name, message) }
    }

    pub(super) fn fail(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { ok: false, ..Self::note(name, message, hint) }
    }
}

/// Inspects the first host of the URL that can be reached. Nothing is awaited longer than `limits` say for connecting and for
/// a statement.
pub fn inspect(url: &DatabaseUrl, limits: &Limits) -> Vec<Finding> {
    let mut findings = Vec::new();
    let patience = limits.connect_timeout + limits.statement_timeout;
    for host in url.hosts() {
        let (report, receiver) = channel();
        let (own, tls, timeout) = (host.clone(), url.tls().clone(), limits.statement_timeout);
        // The client has no deadline for an answer: whoever asks has one.
        thread::spawn(move || inspect_host(&own, &tls, timeout.as_millis(), &report));
        while let Ok(finding) = receiver.recv_timeout(patience) {
            findings.push(finding);
        }
        if receiver.try_recv() == Err(TryRecvError::Empty) {
            let message = format!("{}: no answer within {} s", host.address, patience.as_secs());
            findings.push(Finding::fail(
                "database",
                message,
                "see that the database runs and can be reached from here",
            ));
        }
        if findings.iter().any(|finding| finding.name == "database" && finding.ok) {
            break;
        }
    }
    findings
}

fn inspect_host(host: &HostConfig, tls: &tls::Tls, timeout_ms: u128, report: &Sender<Finding>) {
    let tell = |finding| drop(report.send(finding)); // nobody may wait for it any more
    let inspected = connect(host, tls, timeout_ms, &tell).and_then(|mut client| {
        tell(Finding::ok("database", format!("{}: connected and logged in", host.address)));
        inspect_client(&mut client, &tell)
    });
    if let Err(error) = inspected {
        let message = format!("{}: {}", host.address, DbError::from(error));
        let hint = "correct NEON_DATABASE_URL, or see that the database can be reached from here, and its log";
        tell(Finding::fail("database", message, hint));
    }
}

/// Connects as the service does: with start-up options where the server takes them, without TLS where `sslmode` allows it.
fn connect(host: &HostConfig, tls: &tls::Tls, timeout_ms: u128, tell: &impl Fn(Finding)) -> Result<Client, PgError> {
    let mut config = host.config.clone();
    let open = |config: &Config| {
        let own = config.get_options().unwrap_or_default();
        let mut direct = config.clone();
        direct.options(format!("{own} -c todo_backend.session=check -c statement_timeout={timeout_ms}"));
        let open = |config: Config| PostgresConnectionManager::new(config.into(), tls.connector()).connect();
        match open(direct) {
            Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => open(config.clone()),
            result => result,
        }
    };
    match open(&config) {
        Err(error) if tls::is_tls_error(&error) && tls.allows_fallback() => {
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
fn rows(client: &mut Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, PgError> {
    let texts = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(client.simple_query(sql)?.into_iter().filter_map(texts).collect())
}

/// The first text of all rows; empty where there is none.
fn text(client: &mut Client, sql: &str) -> Result<String, PgError> {
    Ok(rows(client, sql)?.into_iter().flatten().flatten().next().unwrap_or_default())
}

fn inspect_client(client: &mut Client, tell: &impl Fn(Finding)) -> Result<(), PgError> {
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
    let columns = schema::read_columns(&rows(client, schema::COLUMNS)?);
    if columns.is_empty() {
        tell(missing_table(client)?);
        return Ok(());
    }
    let incompatible = schema::incompatibilities(&columns);
    for line in &incompatible {
        tell(Finding::fail("table", line, "requests get 503: change the table (specs/database/schema.md)"));
    }
    if !incompatible.is_empty() {
        return Ok(());
    }
    match text(client, INDEX)?.as_str() {
        "" => tell(Finding::note("index", "none begins with user_id: slower with every task", CREATE_INDEX)),
        name => tell(Finding::ok("index", format!("`{name}` begins with user_id"))),
    }
    let missing: Vec<String> = rows(client, schema::MISSING_RIGHTS)?.into_iter().flatten().flatten().collect();
    for statement in &missing {
        tell(Finding::fail("rights", "this role lacks a right, so requests get 503", statement));
    }
    if !missing.is_empty() {
        return Ok(());
    }
    let names = rows(client, NAMES)?.concat();
    let tell = |finding: Finding| {
        let mut names = names.iter().map(|name| name.as_deref().unwrap_or("…"));
        let hint = ["ROLE", "SEQUENCE"].iter().fold(finding.hint.clone(), |hint, placeholder| {
            hint.replace(placeholder, names.next().unwrap_or_default())
        });
        tell(Finding { hint, ..finding });
    };
    let mut transaction = client.transaction()?;
    transaction.batch_execute(PREPARE)?;
    if probe(&mut transaction, &tell)? {
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

type Params<'a> = [(&'a (dyn ToSql + Sync), Type)];

/// Creates, reads, changes and deletes a task as requests do. Whether all of it works.
fn probe(transaction: &mut Transaction, tell: &impl Fn(Finding)) -> Result<bool, PgError> {
    let Some(row) = probe_insert(transaction, tell)? else { return Ok(false) };
    let (id, user): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let [read, update, delete] = sql::PROBE;
    let of_task: [(&(dyn ToSql + Sync), Type); 2] = [(&user, Type::TEXT), (&id, Type::INT8)];
    let mut works = true;
    for (name, sql, title, description) in [
        ("select", read, "", String::new()),
        ("update", update, "title", "description".to_owned()),
        ("title", update, &"t".repeat(MAX_TITLE_CHARS), String::new()),
        ("description", update, "title", "d".repeat(MAX_DESCRIPTION_CHARS)),
        ("encoding", update, "☑ 😀", String::new()),
        ("delete", delete, "", String::new()),
    ] {
        let none: Option<bool> = None;
        let changes: [(&(dyn ToSql + Sync), Type); 4] =
            [(&title, Type::TEXT), (&true, Type::BOOL), (&description, Type::TEXT), (&none, Type::BOOL)];
        let values = if sql == update { &changes[..] } else { &[] };
        let is_limit = !["select", "update", "delete"].contains(&name);
        match attempt(transaction, sql, &[&of_task, values].concat())? {
            Ok(rows) if rows.is_empty() => {
                let message = "finds no task: row-level security or a trigger hides it, so requests get 404";
                let hint = "correct the policy or the trigger, or run: alter role ROLE bypassrls";
                tell(Finding::fail(name, message, hint));
                works = false;
            }
            Ok(_) => {}
            Err(error) if is_limit => {
                let message = format!("a value that the API allows gets 422: {}", DbError::from(error));
                let hint = "make the column `text` without a rule, in a database with the encoding UTF8";
                tell(Finding::note(name, message, hint));
            }
            Err(error) => {
                tell(explain(name, &error.into()));
                works = false;
            }
        }
    }
    Ok(works)
}

/// Creates a task: of a user with the longest id, else with a short one, else of one who has a task.
fn probe_insert(transaction: &mut Transaction, tell: &impl Fn(Finding)) -> Result<Option<Row>, PgError> {
    let mut user = "u".repeat(MAX_USER_ID_CHARS);
    let mut is_invented = true;
    loop {
        let none: Option<&str> = None;
        let values: [(&(dyn ToSql + Sync), Type); 4] =
            [(&user, Type::TEXT), (&"title", Type::TEXT), (&none, Type::TEXT), (&false, Type::BOOL)];
        let error = match attempt(transaction, sql::INSERT, &values)? {
            Ok(mut rows) if !rows.is_empty() => return Ok(Some(rows.swap_remove(0))),
            Ok(_) => {
                let hint = "drop the trigger or the rule that discards it";
                tell(Finding::fail("insert", "a new task is not kept, so requests get 503", hint));
                return Ok(None);
            }
            Err(error) => error,
        };
        let code = error.code().cloned();
        if code == Some(SqlState::STRING_DATA_RIGHT_TRUNCATION) && user.len() == MAX_USER_ID_CHARS {
            let message = format!("a user whose id is too long gets 401: {}", DbError::from(error));
            tell(Finding::note("user_id", message, "alter table tasks alter user_id type text"));
            user = "probe".to_owned();
        } else if code == Some(SqlState::FOREIGN_KEY_VIOLATION) && is_invented {
            let message = format!("a user who is not in the other table gets 401: {}", DbError::from(error));
            tell(Finding::ok("user_id", message));
            let Some(row) = transaction.query_typed(SOME_USER, &[])?.pop() else {
                let hint = "create a task, and check again";
                tell(Finding::note("insert", "not tried, because no user has a task yet", hint));
                return Ok(None);
            };
            (user, is_invented) = (row.try_get(0)?, false);
        } else {
            tell(explain("insert", &error.into()));
            return Ok(None);
        }
    }
}

/// Runs a statement in a savepoint, which is undone where the statement fails.
fn attempt(transaction: &mut Transaction, sql: &str, params: &Params) -> Result<Result<Vec<Row>, PgError>, PgError> {
    let mut savepoint = transaction.savepoint("attempt")?;
    let result = savepoint.query_typed(sql, params);
    if result.is_ok() {
        savepoint.commit()?
    } else {
        savepoint.rollback()?
    }
    Ok(result)
}

/// What a statement that failed means for requests, and what mends it. Messages may be in any language, routines are not.
fn explain(name: &'static str, error: &DbError) -> Finding {
    let (outcome, hint) = match error.code().map_or("", SqlState::code) {
        "23505" if error.is_duplicate_id() => {
            ("503, because the sequence is behind", "select setval('SEQUENCE', (select max(id) from tasks))")
        }
        "2200H" | "22003" => (
            "503, because the sequence is at its end",
            "alter table tasks alter id type bigint; alter sequence SEQUENCE as bigint no maxvalue",
        ),
        "42501" if error.server().and_then(|said| said.routine()) == Some("ExecWithCheckOptions") => {
            ("503", "correct the policy for row-level security, or run: alter role ROLE bypassrls")
        }
        "42501" => ("503", "grant to this role what the message names"),
        "22001" | "22P05" | "22021" | "23514" | "P0001" => ("422", "change the rule or the trigger of the table"),
        _ => ("500", "change the table, its rules or its triggers"),
    };
    Finding::fail(name, format!("gets {outcome}: {error}"), hint)
}
