//! `--check`, the database: tries what requests do, in a transaction that is rolled back, and says what would go wrong.
//!
//! It changes nothing by construction: it uses a connection of its own, which creates no table, and never commits.

use std::sync::mpsc::channel;
use std::thread;

use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Client, Transaction};
use r2d2::ManageConnection;
use r2d2_postgres::PostgresConnectionManager;
use tokio_postgres::Error as PgError;
use tokio_postgres::config::SslMode;

use crate::auth::MAX_USER_ID_CHARS;
use crate::db::schema;
use crate::db::url::{DatabaseUrl, HostConfig};
use crate::db::{Limits, tls};
use crate::tasks::sql;
use crate::tasks::task::{MAX_DESCRIPTION_CHARS, MAX_TITLE_CHARS};

const SESSION: &str = "select current_setting('todo_backend.session', true)";
const MAY_CREATE: &str = "select has_schema_privilege(current_schema(), 'create')";
const PRIVILEGES: &str = "select string_agg(name, ', ') from unnest(array['select', 'insert', 'update', 'delete']) as name \
                          where not has_table_privilege('tasks', name)";
const INDEX: &str = "select indexrelid::regclass::text from pg_index join pg_attribute on attrelid = indrelid \
                     and attnum = indkey[0] where indrelid = to_regclass('tasks') and attname = 'user_id' and indisvalid \
                     and indpred is null limit 1";
const CREATE_INDEX: &str =
    "create index concurrently if not exists tasks_of_user on tasks (user_id, created_at desc, id desc)";

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

/// Inspects the database, within the time that `limits` give to connecting and to a few statements.
pub fn inspect(url: &DatabaseUrl, limits: &Limits) -> Vec<Finding> {
    let (sender, receiver) = channel();
    let (hosts, tls, timeout) = (url.hosts().to_vec(), url.tls().clone(), limits.statement_timeout);
    let inspect = move || drop(sender.send(inspect_hosts(&hosts, &tls, timeout.as_millis())));
    if let Err(error) = thread::Builder::new().name("check".to_owned()).spawn(inspect) {
        return vec![Finding::fail("database", format!("cannot start a thread: {error}"), "free some memory")];
    }
    // The client has no deadline for an answer: whoever asks has one.
    let deadline = limits.connect_timeout + 4 * limits.statement_timeout;
    receiver.recv_timeout(deadline).unwrap_or_else(|_| {
        let message = format!("no answer within {} s", deadline.as_secs());
        vec![Finding::fail("database", message, "see that the database runs and can be reached from here")]
    })
}

fn inspect_hosts(hosts: &[HostConfig], tls: &tls::Tls, timeout_ms: u128) -> Vec<Finding> {
    let mut findings = Vec::new();
    for host in hosts {
        match connect(host, tls, timeout_ms, &mut findings) {
            Ok(mut client) => {
                findings.push(Finding::ok("database", format!("{}: connected and logged in", host.address)));
                if let Err(error) = inspect_client(&mut client, &mut findings) {
                    let message = format!("{}: {}", host.address, describe(&error));
                    findings.push(Finding::fail("database", message, "see the log of PostgreSQL"));
                }
                return findings;
            }
            Err(error) => {
                let message = format!("{}: no connection: {}", host.address, describe(&error));
                let hint = "see NEON_DATABASE_URL, and that the database runs and can be reached from here";
                findings.push(Finding::fail("database", message, hint));
            }
        }
    }
    findings
}

/// Connects as the service does: with start-up options where the server takes them, without TLS where `sslmode` allows it.
fn connect(
    host: &HostConfig,
    tls: &tls::Tls,
    timeout_ms: u128,
    findings: &mut Vec<Finding>,
) -> Result<Client, PgError> {
    let mut config = host.config.clone();
    let own = config.get_options().unwrap_or_default().to_owned();
    config.options(format!("{own} -c todo_backend.session=check -c statement_timeout={timeout_ms}"));
    let open = |config: &tokio_postgres::Config| {
        PostgresConnectionManager::new(config.clone().into(), tls.connector()).connect()
    };
    let mut result = open(&config);
    if let Err(error) = &result
        && tls::is_tls_error(error)
        && tls.allows_fallback()
    {
        let hint = "give the certificate as DATABASE_CA_FILE, or sslmode=require to insist on TLS";
        findings.push(Finding::note("TLS", format!("not used, because it failed: {}", describe(error)), hint));
        config.ssl_mode(SslMode::Disable);
        result = open(&config);
    } else if config.get_ssl_mode() == SslMode::Disable {
        let hint = "add ?sslmode=require to NEON_DATABASE_URL, unless the database is on this machine";
        findings.push(Finding::note("TLS", "off: everything, the password too, is readable on the way", hint));
    }
    match &result {
        Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => {
            config.options(own);
            open(&config)
        }
        _ => result,
    }
}

fn describe(error: &PgError) -> String {
    let own = || error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned());
    tls::explain(error).unwrap_or_else(own)
}

/// A text of the first row; empty where there is none.
fn text(client: &mut Client, sql: &str) -> Result<String, PgError> {
    Ok(texts(client, sql)?.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default())
}

/// All rows as texts, by the simple protocol, which every pooler understands.
fn texts(client: &mut Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, PgError> {
    let row = |message| match message {
        postgres::SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    };
    Ok(client.simple_query(sql)?.into_iter().filter_map(row).collect())
}

fn inspect_client(client: &mut Client, findings: &mut Vec<Finding>) -> Result<(), PgError> {
    findings.push(match text(client, SESSION)?.as_str() {
        "check" => Finding::ok("pooler", "none: statements are prepared once a connection"),
        _ => Finding::ok("pooler", "there is one: statements are sent as text"),
    });
    let version = text(client, "show server_version")?;
    findings.push(if text(client, "show transaction_read_only")? == "on" {
        Finding::fail("server", format!("PostgreSQL {version} takes no writes"), "give the address of the primary")
    } else {
        Finding::ok("server", format!("PostgreSQL {version}"))
    });
    let encoding = text(client, "show server_encoding")?;
    if encoding != "UTF8" {
        let message = format!("{encoding}: a text with a character that it lacks is refused with 422");
        findings.push(Finding::note("encoding", message, "use a database with the encoding UTF8"));
    }
    let columns = schema::read_columns(&texts(client, schema::COLUMNS)?);
    if columns.is_empty() {
        findings.push(missing_table(client)?);
        return Ok(());
    }
    let incompatible = schema::incompatibilities(&columns);
    let hint = "change the table, see specs/database/schema.md";
    findings.extend(incompatible.iter().map(|line| Finding::fail("table", line.as_str(), hint)));
    if schema::is_ordinary_table(&columns) {
        findings.push(match text(client, INDEX)?.as_str() {
            "" => Finding::note("index", "none begins with user_id: slower with every task", CREATE_INDEX),
            name => Finding::ok("index", format!("`{name}` begins with user_id")),
        });
    }
    if !incompatible.is_empty() {
        return Ok(());
    }
    findings.push(Finding::ok("table", "every column of `tasks` is compatible"));
    let missing = text(client, PRIVILEGES)?;
    if !missing.is_empty() {
        let message = format!("this role may not {missing}");
        findings.push(Finding::fail("privileges", message, format!("grant {missing} on tasks to this role")));
        return Ok(());
    }
    let mut transaction = client.transaction()?;
    probe(&mut transaction, findings)?;
    transaction.rollback()
}

fn missing_table(client: &mut Client) -> Result<Finding, PgError> {
    let elsewhere = text(client, schema::ELSEWHERE)?;
    if !elsewhere.is_empty() {
        let hint = format!("add ?search_path={elsewhere} to NEON_DATABASE_URL");
        return Ok(Finding::fail("table", schema::elsewhere(&elsewhere), hint));
    }
    if text(client, MAY_CREATE)? == "t" {
        return Ok(Finding::ok("table", "there is no table `tasks` yet: the first start creates it"));
    }
    let hint = "run schema.sql as a role that may create tables, or grant this one `create` on the schema";
    Ok(Finding::fail("table", "there is no table `tasks`, and this role may not create one", hint))
}

/// Creates, reads, changes and deletes a task of a user who does not exist, as requests do. Uses up a number of the sequence.
fn probe(transaction: &mut Transaction, findings: &mut Vec<Finding>) -> Result<(), PgError> {
    let user = "u".repeat(MAX_USER_ID_CHARS);
    let mut title = "t".repeat(MAX_TITLE_CHARS);
    let mut description = "d".repeat(MAX_DESCRIPTION_CHARS);
    let none: Option<bool> = None;
    let mut created = insert(transaction, &user, &title, &description)?;
    if created.as_ref().is_err_and(|error| error.code() == Some(&SqlState::STRING_DATA_RIGHT_TRUNCATION)) {
        let message = "a text column is shorter than the API's limit: longer texts are refused with 422";
        findings.push(Finding::note("length", message, "make it `text`"));
        (title, description) = ("t".to_owned(), "d".to_owned());
        created = insert(transaction, "u", &title, &description)?;
    }
    let (id, user) = match created {
        Ok(row) => (row.get::<_, i64>(0), row.get::<_, String>(1)),
        Err(error) => {
            findings.push(explain("insert", &error));
            return Ok(());
        }
    };
    let [read, update, delete] = sql::PROBE;
    let statements: [(&'static str, &str, Vec<(&(dyn ToSql + Sync), Type)>); 3] = [
        ("select", read, vec![]),
        (
            "update",
            update,
            vec![(&title, Type::TEXT), (&false, Type::BOOL), (&description, Type::TEXT), (&none, Type::BOOL)],
        ),
        ("delete", delete, vec![]),
    ];
    for (name, sql, values) in statements {
        let mut params: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&user, Type::TEXT), (&id, Type::INT8)];
        params.extend(values);
        let mut savepoint = transaction.savepoint("probe")?;
        findings.push(match savepoint.query_typed(sql, &params) {
            Ok(rows) if rows.is_empty() => {
                let message = "does nothing: row-level security or a trigger keeps a user from the own task";
                Finding::fail(name, message, "change the policy or the trigger, or use a role with bypassrls")
            }
            Ok(_) => Finding::ok(name, "tried, and rolled back"),
            Err(error) => explain(name, &error),
        });
        savepoint
            .commit()
            .or_else(|error| if findings.last().is_some_and(|last| last.ok) { Err(error) } else { Ok(()) })?;
    }
    findings.push(Finding::ok("insert", "tried, and rolled back"));
    Ok(())
}

/// Creates a task in a savepoint, which is undone where that fails.
fn insert(
    transaction: &mut Transaction,
    user: &str,
    title: &str,
    description: &str,
) -> Result<Result<tokio_postgres::Row, PgError>, PgError> {
    let mut savepoint = transaction.savepoint("probe")?;
    let params: [(&(dyn ToSql + Sync), Type); 4] =
        [(&user, Type::TEXT), (&title, Type::TEXT), (&description, Type::TEXT), (&false, Type::BOOL)];
    let created = savepoint.query_typed_one(sql::INSERT, &params);
    if created.is_ok() {
        savepoint.commit()?
    } else {
        savepoint.rollback()?
    }
    Ok(created)
}

/// What a statement that failed means for requests, and what mends it.
fn explain(name: &'static str, error: &PgError) -> Finding {
    let said = error.as_db_error();
    let message = said.map_or_else(|| error.to_string(), |said| format!("{} ({})", said.message(), said.code().code()));
    let is_code = |code: &SqlState| error.code() == Some(code);
    if is_code(&SqlState::FOREIGN_KEY_VIOLATION) {
        let message = format!("only users in the referenced table can have tasks, others get 401: {message}");
        return Finding::ok(name, message);
    }
    let hint = if is_code(&SqlState::UNIQUE_VIOLATION) {
        "the sequence is behind: select setval(pg_get_serial_sequence('tasks', 'id'), (select max(id) from tasks))"
            .to_owned()
    } else if is_code(&SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED) {
        "the sequence is at its end: make `id` bigint, and the sequence too".to_owned()
    } else if message.contains("row-level security") {
        "create a policy that lets this role write, or use a role with bypassrls".to_owned()
    } else if let Some((_, sequence)) = message.split_once("permission denied for sequence ") {
        let sequence = sequence.split(' ').next().unwrap_or_default();
        format!("grant usage on sequence {sequence} to this role")
    } else if is_code(&SqlState::INSUFFICIENT_PRIVILEGE) {
        "grant the privilege to this role".to_owned()
    } else {
        "requests are answered with an error: change the table, its triggers or its rules".to_owned()
    };
    Finding::fail(name, message, hint)
}
