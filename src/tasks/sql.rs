//! The SQL statements on tasks. In each, `$1` is the user: every function takes a [`UserId`] first.
//!
//! A request is one atomic statement, and `returning` tells what it did. No check precedes it that could be outdated.

use postgres::types::Type;

use super::list_query::{ListQuery, Sort, Window};
use super::row::{Cursor, task_columns};
use super::task::{Completion, Description, NewTask, TaskId, TaskPatch, Title};
use crate::auth::UserId;
use crate::db::Statement;
use crate::db::statement::{Param, Raw, param, text};
use crate::http::preconditions::Preconditions;

/// The entity tag of a row without its quotes: `xmin`, the transaction that wrote the row, and `updated_at`. `xmin`
/// alone tells the states of a row in this database apart, but a restored database uses its numbers again. A time that
/// is infinite, or too many microseconds for a bigint, is left out.
macro_rules! entity_tag {
    () => {
        "concat(xmin, '-', (case when updated_at between '0001-01-01' and '9999-12-31' \
         then extract(epoch from updated_at) * 1000000 end)::bigint)"
    };
}

/// What a statement about a single task returns.
macro_rules! task_and_tag {
    () => {
        concat!(task_columns!(), ", ", entity_tag!())
    };
}

/// A statement that changes one task, without and with preconditions. `$if_match` and `$if_none_match` are the numbers
/// of the two lists of entity tags. The row is locked before it is compared, so that nobody can change it in between.
/// No row: no such task. A row of nulls: a precondition failed.
macro_rules! change {
    ($change:literal, $if_match:literal, $if_none_match:literal) => {
        Change {
            plain: concat!($change, " where user_id = $1 and id = $2 returning ", task_and_tag!()),
            conditional: concat!(
                "with found as (select coalesce(",
                entity_tag!(),
                " = any(",
                $if_match,
                "), true) and coalesce(",
                entity_tag!(),
                " <> all(",
                $if_none_match,
                "), true) as holds from tasks where user_id = $1 and id = $2 for update), changed as (",
                $change,
                " where user_id = $1 and id = $2 and (select holds from found) returning ",
                task_and_tag!(),
                ") select changed.* from found left join changed on true"
            ),
        }
    };
}

/// The two texts of a statement that changes one task.
struct Change {
    plain: &'static str,
    conditional: &'static str,
}

const READ: &str = concat!("select ", task_and_tag!(), " from tasks where user_id = $1 and id = $2");

/// Creates a task. It sets every column, because a table made by SQLModel has no defaults. The last column makes the
/// statement fail if the type of `user_id` or a trigger makes the task another user's: there is no such setting.
pub const INSERT: &str = concat!(
    "insert into tasks (user_id, title, description, completed, created_at, updated_at) ",
    "values ($1, $2, $3, $4, now(), now()) returning ",
    task_and_tag!(),
    ", case when user_id::text is distinct from $1 then current_setting('the database changes user_id') end"
);

const UPDATE: Change = change!(
    "update tasks set title = coalesce($3, title), description = case when $4 then $5 else description end, \
     completed = coalesce($6, completed), updated_at = now()",
    "$7",
    "$8"
);
const SET_COMPLETED: Change = change!("update tasks set completed = $3, updated_at = now()", "$4", "$5");
const TOGGLE_COMPLETED: Change =
    change!("update tasks set completed = not coalesce(completed, false), updated_at = now()", "$3", "$4");
const DELETE: Change = change!("delete from tasks", "$3", "$4");

/// What `--check` tries after [`INSERT`], in a transaction that it rolls back: read, update, delete.
pub const PROBE: [&str; 3] = [READ, UPDATE.plain, DELETE.plain];

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

fn params(user: &UserId, others: impl IntoIterator<Item = Param>) -> Vec<Param> {
    std::iter::once(text(Some(user.as_str()))).chain(others).collect()
}

/// Reads a task.
pub fn read(user: &UserId, id: TaskId) -> Statement {
    Statement::read(READ, params(user, [param(id.get(), Type::INT8)]))
}

/// Creates a task.
pub fn create(user: &UserId, task: &NewTask) -> Statement {
    let NewTask { title, description, completed } = task;
    let description = description.as_ref().map(Description::as_str);
    let values = [text(Some(title.as_str())), text(description), param(*completed, Type::BOOL)];
    Statement::write(INSERT, params(user, values), None)
}

/// Changes what the patch names.
pub fn update(user: &UserId, id: TaskId, patch: &TaskPatch, preconditions: &Preconditions) -> Statement {
    let TaskPatch { title, description, completed } = patch;
    let values = [
        text(title.as_ref().map(Title::as_str)),
        param(description.is_some(), Type::BOOL),
        text(description.as_ref().and_then(Option::as_ref).map(Description::as_str)),
        param(*completed, Type::BOOL),
    ];
    change(user, id, &UPDATE, values, preconditions)
}

/// Sets or toggles whether a task is completed.
pub fn complete(user: &UserId, id: TaskId, completion: Completion, preconditions: &Preconditions) -> Statement {
    match completion {
        Completion::Set(value) => change(user, id, &SET_COMPLETED, [param(value, Type::BOOL)], preconditions),
        Completion::Toggle => change(user, id, &TOGGLE_COMPLETED, [], preconditions),
    }
}

/// Deletes a task.
pub fn delete(user: &UserId, id: TaskId, preconditions: &Preconditions) -> Statement {
    change(user, id, &DELETE, [], preconditions)
}

fn change(
    user: &UserId,
    id: TaskId,
    change: &Change,
    values: impl IntoIterator<Item = Param>,
    preconditions: &Preconditions,
) -> Statement {
    let mut params = params(user, [param(id.get(), Type::INT8)]);
    params.extend(values);
    let sql = match preconditions.for_write() {
        None => change.plain,
        Some((if_match, if_none_match)) => {
            params.extend([if_match, if_none_match].map(|tags| param(tags, Type::TEXT_ARRAY)));
            change.conditional
        }
    };
    Statement::write(sql, params, Some(id.get()))
}

/// What a list is sorted by. Equal keys are told apart by `id`, so that pages neither repeat nor skip a task.
fn key(sort: Sort) -> &'static str {
    match sort {
        Sort::CreatedAt => "created_at",
        Sort::UpdatedAt => "updated_at",
        Sort::Title => "lower(title::text)",
    }
}

/// The clauses of a list: its columns with the sort key, its rows, its order. The order names `tasks.id`: `id` alone
/// would be the output column with its cast, which no index sorts by.
fn clauses(query: &ListQuery) -> (String, String, String) {
    let (key, direction) = (key(query.sort), if query.descending { " desc" } else { "" });
    (
        format!(concat!(task_columns!(), ", {} as key"), key),
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
    let key = key(query.sort);
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
    let mut others = vec![param(query.completed, Type::BOOL), text(query.search.as_deref())];
    others.extend(query.window.map(|window| param(window.limit.unwrap_or(rows), Type::INT8)));
    others.extend(query.window.filter(|window| window.offset > 0).map(|window| param(window.offset, Type::INT8)));
    let sql = match query.window {
        None => first_page_sql(query, rows),
        Some(Window { offset: 0, .. }) => window_sql(query),
        Some(_) => window_offset_sql(query),
    };
    Statement::read(sql, params(user, others))
}

/// The page that begins at the cursor, of at most `rows` tasks.
pub fn next_page(user: &UserId, query: &ListQuery, cursor: &Cursor, rows: i64) -> Statement {
    let key_type = if query.sort == Sort::Title { Type::TEXT } else { Type::TIMESTAMPTZ };
    let others = [
        param(query.completed, Type::BOOL),
        text(query.search.as_deref()),
        param(cursor.key.clone().map(Raw), key_type),
        param(cursor.id, Type::INT8),
        param(rows, Type::INT8),
    ];
    Statement::read(next_page_sql(query, cursor.key.is_none()), params(user, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every statement there is, with its name.
    fn all() -> Vec<(String, String)> {
        let mut all = vec![("READ".to_owned(), READ.to_owned()), ("INSERT".to_owned(), INSERT.to_owned())];
        for (name, Change { plain, conditional }) in
            [("UPDATE", UPDATE), ("SET_COMPLETED", SET_COMPLETED), ("TOGGLE", TOGGLE_COMPLETED), ("DELETE", DELETE)]
        {
            all.push((name.to_owned(), plain.to_owned()));
            all.push((format!("{name} under preconditions"), conditional.to_owned()));
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
