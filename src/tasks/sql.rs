//! The SQL statements on tasks. In each, `$1` is the user: every public function takes a [`UserId`] first.
//!
//! A request is one atomic statement, and `returning` tells what it did. No check precedes it that could be outdated.

use std::sync::LazyLock;

use postgres::types::Type;

use super::body::{Completion, Description, NewTask, TaskPatch, Title};
use super::list_query::{Cursor, ListQuery, Sort, Window};
use super::task::{TASK_COLUMNS, TaskId};
use crate::auth::UserId;
use crate::db::Statement;
use crate::db::statement::{Param, Raw, param, text};
use crate::http::preconditions::Preconditions;

/// The entity tag of a row without its quotes: `xmin`, the transaction that wrote the row, and `updated_at`. `xmin`
/// alone tells the states of a row in this database apart, but a restored database uses its numbers again. A time that
/// is infinite, or too many microseconds for a bigint, is left out.
const ENTITY_TAG: &str = "concat(xmin, '-', (case when updated_at between '0001-01-01' and '9999-12-31' \
     then extract(epoch from updated_at) * 1000000 end)::bigint)";

static READ: LazyLock<String> =
    LazyLock::new(|| format!("select {TASK_COLUMNS}, {ENTITY_TAG} from tasks where user_id = $1 and id = $2"));

/// Creates a task. It sets every column, because a table made by SQLModel has no defaults. The last column makes the
/// statement fail if the type of `user_id` or a trigger makes the task another user's: there is no such setting.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "insert into tasks (user_id, title, description, completed, created_at, updated_at) \
         values ($1, $2, $3, $4, now(), now()) returning {TASK_COLUMNS}, {ENTITY_TAG}, \
         case when user_id::text is distinct from $1 then current_setting('the database changes user_id') end"
    )
});

/// The beginnings of the statements that change one task. Their own parameters begin with `$3`.
const UPDATE: &str = "update tasks set title = coalesce($3, title), \
     description = case when $4 then $5 else description end, \
     completed = coalesce($6, completed), updated_at = now()";
const SET_COMPLETED: &str = "update tasks set completed = $3, updated_at = now()";
const TOGGLE_COMPLETED: &str = "update tasks set completed = not coalesce(completed, false), updated_at = now()";
const DELETE: &str = "delete from tasks";

/// Such a statement without preconditions. No row: no such task.
fn plain_sql(change: &str) -> String {
    format!("{change} where user_id = $1 and id = $2 returning {TASK_COLUMNS}, {ENTITY_TAG}")
}

/// The same with preconditions: `if_match` and `if_none_match` are the numbers of the two lists of entity tags. The row
/// is locked before it is compared, so that nobody can change it in between. A row of nulls: a precondition failed.
fn conditional_sql(change: &str, if_match: usize, if_none_match: usize) -> String {
    format!(
        "with found as (select coalesce({ENTITY_TAG} = any(${if_match}), true) \
         and coalesce({ENTITY_TAG} <> all(${if_none_match}), true) as holds \
         from tasks where user_id = $1 and id = $2 for update), changed as ({change} \
         where user_id = $1 and id = $2 and (select holds from found) returning {TASK_COLUMNS}, {ENTITY_TAG}) \
         select changed.* from found left join changed on true"
    )
}

/// With the filters. A search compares texts in lower case, and as the bytes that a client gets, because `position` on
/// characters is slow for repetitive texts. `position` takes `%` and `_` literally. Both sides use the default
/// collation: `lower` depends on the collation, and `$3` has no column's.
fn from_matching() -> String {
    let folded = |text| format!("textsend(lower({text}::text collate \"default\"))");
    let (needle, title, description) = (folded("$3"), folded("title"), folded("description"));
    format!(
        "from tasks where user_id = $1 and ($2 is null or coalesce(completed, false) = $2) and \
         ($3 is null or position((select {needle}) in {title}) > 0 or position((select {needle}) in {description}) > 0)"
    )
}

fn params(user: &str, others: impl IntoIterator<Item = Param>) -> Vec<Param> {
    std::iter::once(text(Some(user))).chain(others).collect()
}

/// Reads a task.
pub fn read(user: &UserId, id: TaskId) -> Statement {
    read_for(user.as_str(), id.get())
}

fn read_for(user: &str, id: i64) -> Statement {
    Statement::read(READ.as_str(), params(user, [param(id, Type::INT8)]))
}

/// Creates a task.
pub fn create(user: &UserId, task: &NewTask) -> Statement {
    create_for(user.as_str(), task)
}

fn create_for(user: &str, task: &NewTask) -> Statement {
    let TaskPatch { title, description, completed } = task.fields();
    let values = [
        text(title.as_ref().map(Title::as_str)),
        text(description.iter().flatten().map(Description::as_str).next()),
        param(completed.unwrap_or(false), Type::BOOL),
    ];
    Statement::write(INSERT.as_str(), params(user, values), None)
}

/// Changes what the patch names.
pub fn update(user: &UserId, id: TaskId, patch: &TaskPatch, preconditions: &Preconditions) -> Statement {
    change(user.as_str(), id.get(), UPDATE, values(patch), preconditions)
}

/// The parameters of [`UPDATE`].
fn values(patch: &TaskPatch) -> Vec<Param> {
    let TaskPatch { title, description, completed } = patch;
    vec![
        text(title.as_ref().map(Title::as_str)),
        param(description.is_some(), Type::BOOL),
        text(description.iter().flatten().map(Description::as_str).next()),
        param(*completed, Type::BOOL),
    ]
}

/// Sets or toggles whether a task is completed.
pub fn complete(user: &UserId, id: TaskId, completion: Completion, preconditions: &Preconditions) -> Statement {
    let (sql, values) = match completion {
        Completion::Set(value) => (SET_COMPLETED, vec![param(value, Type::BOOL)]),
        Completion::Toggle => (TOGGLE_COMPLETED, Vec::new()),
    };
    change(user.as_str(), id.get(), sql, values, preconditions)
}

/// Deletes a task.
pub fn delete(user: &UserId, id: TaskId, preconditions: &Preconditions) -> Statement {
    change(user.as_str(), id.get(), DELETE, Vec::new(), preconditions)
}

fn change(user: &str, id: i64, change: &str, values: Vec<Param>, preconditions: &Preconditions) -> Statement {
    let mut params = params(user, [param(id, Type::INT8)].into_iter().chain(values));
    let sql = match preconditions.for_write() {
        None => plain_sql(change),
        Some((if_match, if_none_match)) => {
            params.extend([if_match, if_none_match].map(|tags| param(tags, Type::TEXT_ARRAY)));
            conditional_sql(change, params.len() - 1, params.len())
        }
    };
    Statement::write(sql, params, Some(id))
}

/// What `--check` tries, in a transaction that it rolls back.
#[derive(Debug)]
#[allow(missing_docs)] // as the endpoints
pub enum CheckStep {
    Create(NewTask),
    Read(i64),
    Update(i64, TaskPatch),
    Delete(i64),
}

/// The statement that a request would send, for a user without a token. Only `ops/check_probe.rs` may use this.
pub(crate) fn for_check(user: &str, step: &CheckStep) -> Statement {
    let unconditional = Preconditions::default();
    match step {
        CheckStep::Create(task) => create_for(user, task),
        CheckStep::Read(id) => read_for(user, *id),
        CheckStep::Update(id, patch) => change(user, *id, UPDATE, values(patch), &unconditional),
        CheckStep::Delete(id) => change(user, *id, DELETE, Vec::new(), &unconditional),
    }
}

/// What a list is sorted by, and the type of a parameter that is compared with it. Equal keys are told apart by `id`,
/// so that pages neither repeat nor skip a task.
fn key(sort: Sort) -> (&'static str, Type) {
    match sort {
        Sort::CreatedAt => ("created_at", Type::TIMESTAMPTZ),
        Sort::UpdatedAt => ("updated_at", Type::TIMESTAMPTZ),
        Sort::Title => ("lower(title::text)", Type::TEXT),
    }
}

/// The clauses of a list: its columns with the sort key, its rows, its order. The order names `tasks.id`: `id` alone
/// would be the output column with its cast, which no index sorts by.
fn clauses(query: &ListQuery) -> (String, String, String) {
    let (key, direction) = (key(query.sort).0, if query.descending { " desc" } else { "" });
    (
        format!("{TASK_COLUMNS}, {key} as key"),
        // With the filters no generic plan could count by the index alone.
        if query.is_filtered() { from_matching() } else { "from tasks where user_id = $1".to_owned() },
        format!("order by {key}{direction}, tasks.id{direction}"),
    )
}

/// The first `rows` tasks of a list that has no window.
fn first_page_sql(query: &ListQuery, rows: i64) -> String {
    let (columns, from, order) = clauses(query);
    format!("select {columns} {from} {order} limit {rows}")
}

/// A window from the start of a list, and in each row how long the whole list is.
fn window_sql(query: &ListQuery) -> String {
    let (columns, from, order) = clauses(query);
    format!("select {columns}, (select count(*) {from}) as total {from} {order} limit $4")
}

/// A window with an offset. An empty window is one row without a task, so that it still has the total.
fn window_offset_sql(query: &ListQuery) -> String {
    let (columns, from, order) = clauses(query);
    let order_of_page = if query.descending { "order by key desc, id desc" } else { "order by key, id" };
    format!(
        "with page as (select {columns} {from} {order} limit $4 offset $5) \
         select page.*, total from (select count(*) as total {from}) as counted left join page on true {order_of_page}"
    )
}

/// Any further page, from the row of the cursor on. Null keys come first in descending order, last in ascending order.
/// There they have a query of their own, because no index serves both conditions at once.
fn next_page_sql(query: &ListQuery, key_is_null: bool) -> String {
    let (columns, from, order) = clauses(query);
    let (key, _) = key(query.sort);
    let rows = |rest: String| format!("select {columns} {from} and {rest} {order} limit $6");
    match (query.descending, key_is_null) {
        (true, false) => rows(format!("({key}, id) <= ($4, $5)")),
        (true, true) => rows(format!("({key} is null and id <= $5 or {key} is not null)")),
        (false, false) => {
            let (keyed, keyless) = (rows(format!("({key}, id) >= ($4, $5)")), rows(format!("{key} is null")));
            format!("select * from (({keyed}) union all ({keyless})) as page order by key, id limit $6")
        }
        (false, true) => rows(format!("{key} is null and id >= $5")),
    }
}

/// The first page of a list, of at most `rows` tasks where it has no window.
pub fn first_page(user: &UserId, query: &ListQuery, rows: i64) -> Statement {
    let (sql, window) = match query.window {
        None => (first_page_sql(query, rows), vec![]),
        Some(Window { limit, offset: 0 }) => (window_sql(query), vec![limit.unwrap_or(rows)]),
        Some(Window { limit, offset }) => (window_offset_sql(query), vec![limit.unwrap_or(rows), offset]),
    };
    let filters = [param(query.completed, Type::BOOL), text(query.search.as_deref())];
    let window = window.into_iter().map(|number| param(number, Type::INT8));
    Statement::read(sql, params(user.as_str(), filters.into_iter().chain(window)))
}

/// The page that begins at the cursor, of at most `rows` tasks.
pub fn next_page(user: &UserId, query: &ListQuery, cursor: &Cursor, rows: i64) -> Statement {
    let others = [
        param(query.completed, Type::BOOL),
        text(query.search.as_deref()),
        param(cursor.key.clone().map(Raw), key(query.sort).1),
        param(cursor.id, Type::INT8),
        param(rows, Type::INT8),
    ];
    Statement::read(next_page_sql(query, cursor.key.is_none()), params(user.as_str(), others))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every statement there is, with its name.
    fn all() -> Vec<(String, String)> {
        let mut all = vec![("READ".to_owned(), READ.clone()), ("INSERT".to_owned(), INSERT.clone())];
        for change in [UPDATE, SET_COMPLETED, TOGGLE_COMPLETED, DELETE] {
            all.push((change.to_owned(), plain_sql(change)));
            all.push((format!("{change} with preconditions"), conditional_sql(change, 9, 10)));
        }
        for sort in Sort::ALL {
            for (descending, completed) in [(false, None), (false, Some(true)), (true, None), (true, Some(true))] {
                let query = ListQuery { sort, descending, completed, ..ListQuery::default() };
                let lists = [
                    first_page_sql(&query, 101),
                    window_sql(&query),
                    window_offset_sql(&query),
                    next_page_sql(&query, false),
                    next_page_sql(&query, true),
                ];
                all.extend(lists.map(|sql| (format!("{query:?}"), sql)));
            }
        }
        all
    }

    #[test]
    fn statement_when_made_has_a_value_for_each_parameter() {
        let body = r#"{"title":"a"}"#;
        for step in [
            CheckStep::Create(NewTask::parse(body).unwrap()),
            CheckStep::Read(1),
            CheckStep::Update(1, TaskPatch::parse(body).unwrap()),
            CheckStep::Delete(1),
        ] {
            let Statement { sql, params, .. } = for_check("ada", &step);
            let is_used = |number: &usize| sql.contains(&format!("${number}"));
            assert_eq!((1..).take_while(is_used).count(), params.len(), "{sql}");
        }
    }

    #[test]
    fn statement_when_it_names_the_table_is_bound_to_the_user() {
        let code = include_str!("sql.rs").split("#[cfg(test)]").next().unwrap();
        let uses = |text: &str| -> usize {
            ["from tasks", "update tasks", "into tasks"].map(|table| text.matches(table).count()).iter().sum()
        };
        // Each text occurs once; what puts preconditions around a change occurs once for all of them.
        assert_eq!(uses(code), 9, "a statement that this test does not know");
        for (name, sql) in all() {
            let sql = sql.replace("$10", "$ten"); // not `$1`
            let inserts = sql.starts_with("insert into tasks (user_id, ") && sql.contains("values ($1, ");
            let bound = sql.matches("user_id = $1").count() + usize::from(inserts);
            assert!(bound > 0 && bound == uses(&sql), "{name} is not bound to the user: {sql}");
            assert!(!sql.contains("$1 or ") && !sql.contains(" or user_id"), "{name}");
            // Nothing that follows can widen it: `or` only occurs inside further parentheses.
            let (mut depth, mut from) = (0, 0);
            for (at, character) in sql.char_indices() {
                depth += i32::from(character == '(') - i32::from(character == ')');
                if sql[at..].starts_with("from tasks") {
                    from = depth;
                }
                assert!(depth > from || !sql[at..].starts_with(" or "), "{name}: {sql}");
            }
        }
    }
}
