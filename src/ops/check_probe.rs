//! `--check`, the probe: creates, reads, changes and deletes a task as requests do. Whoever calls it rolls that back.

use postgres::Transaction;
use postgres::error::SqlState;
use serde_json::json;
use tokio_postgres::{Error as PgError, Row};

use super::finding::Finding;
use crate::auth::MAX_USER_ID_CHARS;
use crate::db::{DbError, Statement};
use crate::tasks::body::{MAX_DESCRIPTION_CHARS, MAX_TITLE_CHARS, NewTask, TaskPatch};
use crate::tasks::sql::{self, CheckStep};

const SOME_USER: &str = "select user_id::text from tasks where user_id is not null limit 1";

/// Creates, reads, changes and deletes a task as requests do. Returns whether all of it works.
pub(super) fn run(transaction: &mut Transaction, tell: &impl Fn(Finding)) -> Result<bool, PgError> {
    let Some(row) = insert(transaction, tell)? else { return Ok(false) };
    let (id, user): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let update = |title: &str, description: &str| {
        let body = json!({ "title": title, "description": description }).to_string();
        CheckStep::Update(id, TaskPatch::parse(&body).expect("the API allows these texts"))
    };
    let mut works = true;
    for (name, step) in [
        ("select", CheckStep::Read(id)),
        ("update", update("title", "description")),
        ("title", update(&"t".repeat(MAX_TITLE_CHARS), "")),
        ("description", update("title", &"d".repeat(MAX_DESCRIPTION_CHARS))),
        ("encoding", update("☑ 😀", "")),
        ("delete", CheckStep::Delete(id)),
    ] {
        let is_limit = !["select", "update", "delete"].contains(&name);
        match attempt(transaction, &sql::for_check(&user, &step))? {
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
fn insert(transaction: &mut Transaction, tell: &impl Fn(Finding)) -> Result<Option<Row>, PgError> {
    let mut user = "u".repeat(MAX_USER_ID_CHARS);
    let mut is_invented = true;
    let task = CheckStep::Create(NewTask::parse(r#"{"title":"title"}"#).expect("the API allows this task"));
    loop {
        let error = match attempt(transaction, &sql::for_check(&user, &task))? {
            Ok(mut rows) if !rows.is_empty() => return Ok(Some(rows.swap_remove(0))),
            Ok(_) => {
                let hint = "drop the trigger or the rule that discards it";
                tell(Finding::fail("insert", "a new task is not kept, so requests get 503", hint));
                return Ok(None);
            }
            Err(error) => error,
        };
        let code = error.code().cloned();
        let error = DbError::from(error);
        if code == Some(SqlState::STRING_DATA_RIGHT_TRUNCATION) && user.len() == MAX_USER_ID_CHARS {
            let message = format!("a user whose id is too long gets 401: {error}");
            tell(Finding::note("user_id", message, "alter table tasks alter user_id type text"));
            user = "probe".to_owned();
        } else if code == Some(SqlState::FOREIGN_KEY_VIOLATION) && is_invented && error.may_concern("user_id") {
            let message = format!("a user who is not in the other table gets 401: {error}");
            tell(Finding::ok("user_id", message));
            let Some(row) = transaction.query_typed(SOME_USER, &[])?.pop() else {
                let hint = "create a task, and check again";
                tell(Finding::note("insert", "not tried, because no user has a task yet", hint));
                return Ok(None);
            };
            (user, is_invented) = (row.try_get(0)?, false);
        } else {
            tell(explain("insert", &error));
            return Ok(None);
        }
    }
}

/// Runs a statement in a savepoint, which is undone where the statement fails.
fn attempt(transaction: &mut Transaction, statement: &Statement) -> Result<Result<Vec<Row>, PgError>, PgError> {
    let mut savepoint = transaction.savepoint("attempt")?;
    let result = savepoint.query_typed(&statement.sql, &statement.typed_params().collect::<Vec<_>>());
    if result.is_ok() {
        savepoint.commit()?
    } else {
        savepoint.rollback()?
    }
    Ok(result)
}

/// What a failed statement means for requests, and how to fix the cause. Messages may be in any language, routines are
/// not.
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
        "23503" if name == "delete" => ("422", "add `on delete cascade` to the foreign key of the other table"),
        "23503" if !["title", "description"].iter().any(|column| error.may_concern(column)) => {
            ("503, because a column refers to data that does not exist", "change the default of that column")
        }
        "22001" | "22P05" | "22021" | "23503" | "23514" | "P0001" => {
            ("422", "change the rule or the trigger of the table")
        }
        _ if error.is_transient() => ("503", "try again: another session may hold a lock, or a trigger take too long"),
        _ => (if error.is_schema_mismatch() { "503" } else { "500" }, "change the table, its rules or its triggers"),
    };
    Finding::fail(name, format!("gets {outcome}: {error}"), hint)
}
