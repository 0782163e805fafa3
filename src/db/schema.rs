//! The table `tasks`: created where there is none, checked where there is one.
//!
//! A table that is there is served as it is (`specs/database/schema.md`). What cannot be served is found before any
//! statement of a request is sent: then there is no connection, and requests are answered 503.

use std::time::Instant;

use log::info;
use tokio_postgres::Config;

use super::connection::Connection;
use super::error::DbError;
use super::statement::TextRow;

/// Servers that start at the same time take turns by this advisory lock.
const LOCK: i64 = 0x746f_646f;
const SCHEMA: &str = include_str!("../../schema.sql");

/// The columns of `tasks`, none where there is no such table. For a domain, its base type. A text type is one of
/// category `S`, such as `citext`, but not `name`, which truncates. With a nondeterministic collation `a` may equal
/// `A`.
pub const COLUMNS: &str = "with recursive kinds as ( \
         select attname, atttypid as type, attnotnull, atthasdef or attidentity <> '' as has_default, \
         attgenerated <> '' as generated, relkind, \
         case when not collisdeterministic then format(' collate %I (nondeterministic)', collname) end as collating \
         from pg_attribute join pg_class on pg_class.oid = attrelid \
         left join pg_collation on pg_collation.oid = attcollation \
         where attrelid = to_regclass('tasks') and attnum > 0 and not attisdropped \
         union all \
         select attname, typbasetype, attnotnull or typnotnull, has_default or typdefault is not null, \
         generated, relkind, collating from kinds join pg_type on oid = type where typtype = 'd') \
     select attname, concat(format_type(type, null), collating), typcategory = 'S' and typname <> 'name' \
     and (collating is null or attname <> 'user_id'), attnotnull, has_default, generated, relkind \
     from kinds join pg_type on oid = type where typtype <> 'd'";

/// The schema of a table `tasks` outside the search path, and how to reach it. One without `user_id` is another
/// program's.
pub const ELSEWHERE: &str = "select \
     format('the table `tasks` is in the schema `%s`, which this session does not search: ', nspname) \
     || case when has_schema_privilege(pg_namespace.oid, 'usage') \
     then format('add ?search_path=%I to NEON_DATABASE_URL', nspname) \
     else format('grant usage on schema %I to %I', nspname, current_user) end \
     from pg_class join pg_namespace on pg_namespace.oid = relnamespace join pg_attribute on attrelid = pg_class.oid \
     where relname = 'tasks' and relkind in ('r', 'p') and attname = 'user_id' and nspname !~ '^pg_' \
     order by nspname limit 1";

/// The statements that give this role what it lacks. A policy that exists may still hide tasks: only trying shows that.
pub const MISSING_RIGHTS: &str = "select format('grant %s on tasks to %I', string_agg(name, ', '), current_user) \
     from unnest(array['select', 'insert', 'update', 'delete']) as name \
     where not case name when 'delete' then has_table_privilege('tasks', name) \
     else has_any_column_privilege('tasks', name) end having count(*) > 0 \
     union all \
     select format('grant usage on sequence %s to %I', name, current_user) \
     from pg_get_serial_sequence('tasks', 'id') as name, pg_attribute \
     where attrelid = to_regclass('tasks') and attname = 'id' and attidentity = '' \
     and not has_sequence_privilege(name, 'usage, update') \
     union all \
     select format('create policy todo_backend on tasks to %I using (true)', current_user) \
     where row_security_active('tasks') and not exists (select from pg_policy where polrelid = to_regclass('tasks') \
     and (polroles = '{0}' or exists (select from unnest(polroles) as role where pg_has_role(role, 'usage'))))";

/// What to do where the search path is not one that the session asked for: `tasks` would be in another schema.
pub const LOST_SEARCH_PATH: &str = "select \
     'search_path: set it for the role instead of in NEON_DATABASE_URL, or connect without the pooler' \
     from pg_settings where name = 'search_path' and source not in ('client', 'session')";

const TIME: &[&str] = &["timestamp with time zone", "timestamp without time zone"];
/// The columns that this program uses, the types that each may have (none: any text type), and whether it sets null.
const REQUIRED: [(&str, &[&str], bool); 7] = [
    ("id", &["bigint", "integer", "smallint"], false),
    ("user_id", &[], false),
    ("title", &[], false),
    ("description", &[], true),
    ("completed", &["boolean"], false),
    ("created_at", TIME, false),
    ("updated_at", TIME, false),
];

/// A column as it is.
#[derive(Debug, Clone)]
pub struct Column {
    name: String,
    kind: String,
    is_text: bool,
    not_null: bool,
    has_default: bool,
    is_generated: bool,
    /// `relkind`: `r` is an ordinary table.
    relation: String,
}

/// Creates the table where there is none. `config` is the URL's. Uses the simple protocol only: behind a pooler a named
/// statement may meet another's. Returns whether row-level security applies to this role.
///
/// # Errors
/// When the table cannot be served as it is, or PostgreSQL refuses.
pub fn apply(connection: &mut Connection, config: &Config, deadline: Instant) -> Result<bool, DbError> {
    // On an error the connection is dropped, and with it the transaction.
    connection.simple(&format!("begin; select pg_advisory_xact_lock({LOCK})"), deadline)?;
    let columns = read_columns(&connection.simple(COLUMNS, deadline)?);
    let mut texts = |sql: &str| {
        Ok::<Vec<String>, DbError>(connection.simple(sql, deadline)?.into_iter().flatten().flatten().collect())
    };
    if names_search_path(config) {
        refuse_if("the pooler ignores a parameter", &texts(LOST_SEARCH_PATH)?)?;
    }
    if columns.is_empty() {
        refuse_if("the table is not found", &texts(ELSEWHERE)?)?;
        texts(SCHEMA)?;
        info!("created the table `tasks`");
    } else {
        refuse_if("the table `tasks` cannot be served", &incompatibilities(&columns))?;
    }
    texts("commit")?;
    refuse_if("this role lacks rights on the table `tasks`", &texts(MISSING_RIGHTS)?)?;
    Ok(texts("select row_security_active('tasks')")? == ["t"])
}

fn refuse_if(what: &str, reasons: &[String]) -> Result<(), DbError> {
    if reasons.is_empty() { Ok(()) } else { Err(DbError::Unusable(format!("{what}: {}", reasons.join("; ")))) }
}

/// Whether the URL names a search path.
pub fn names_search_path(config: &Config) -> bool {
    config.get_options().is_some_and(|options| options.contains("search_path"))
}

/// The response to [`COLUMNS`].
pub fn read_columns(rows: &[TextRow]) -> Vec<Column> {
    let column = |row: &TextRow| {
        let mut texts = row.iter().cloned().map(Option::unwrap_or_default);
        let mut next = || texts.next().unwrap_or_default();
        Column {
            name: next(),
            kind: next(),
            is_text: next() == "t",
            not_null: next() == "t",
            has_default: next() == "t",
            is_generated: next() == "t",
            relation: next(),
        }
    };
    rows.iter().map(column).collect()
}

/// Why this program cannot use a table, a line for each cause. `returning` on a partitioned table gives no `xmin`.
pub fn incompatibilities(columns: &[Column]) -> Vec<String> {
    let relation = match columns.first().map_or("r", |column| &column.relation) {
        "r" => "",
        "p" => "a partitioned table",
        "v" | "m" => "a view",
        "f" => "a foreign table",
        _ => "no table",
    };
    if !relation.is_empty() {
        return vec![format!("it is {relation}, and only an ordinary table has `xmin`, which ETags are made of")];
    }
    let mut lines = Vec::new();
    for (name, types, sets_null) in REQUIRED {
        let expected = if types.is_empty() { "text or another text type".to_owned() } else { types.join(" or ") };
        let Some(column) = columns.iter().find(|column| column.name == name) else {
            lines.push(format!("it has no column `{name}` ({expected})"));
            continue;
        };
        let fits = if types.is_empty() { column.is_text } else { types.contains(&&*column.kind) };
        let problems = [
            (!fits, format!("is {}, not {expected}", column.kind)),
            (sets_null && column.not_null, "is not null, and may have to be null".to_owned()),
            (name != "id" && column.is_generated, "is a generated column, so no task can be created".to_owned()),
            (name == "id" && !column.has_default, "has no default, so no task can be created".to_owned()),
            (name == "id" && !column.not_null, "may be null: make it the primary key".to_owned()),
        ];
        lines.extend(problems.into_iter().filter(|(is_so, _)| *is_so).map(|(_, what)| format!("`{name}` {what}")));
    }
    let others = columns.iter().filter(|column| REQUIRED.iter().all(|(name, ..)| *name != column.name));
    for column in others.filter(|column| column.not_null && !column.has_default) {
        lines.push(format!("`{}` is not null without a default, so no task can be created", column.name));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compatible() -> Vec<Column> {
        let column = |(name, types, sets_null): &(&str, &[&str], bool)| Column {
            name: (*name).to_owned(),
            kind: (*types.last().unwrap_or(&"citext")).to_owned(),
            is_text: types.is_empty(),
            not_null: !sets_null,
            has_default: *name == "id",
            is_generated: false,
            relation: "r".to_owned(),
        };
        REQUIRED.iter().map(column).collect()
    }

    #[test]
    fn table_when_compatible_has_no_complaint() {
        assert_eq!(incompatibilities(&compatible()), Vec::<String>::new());
        let extra = Column { name: "priority".into(), not_null: false, ..compatible().remove(2) };
        assert_eq!(incompatibilities(&[compatible(), vec![extra]].concat()), Vec::<String>::new());
    }

    #[test]
    fn table_when_incompatible_is_explained_column_by_column() {
        let mut columns = compatible();
        columns[0].kind = "uuid".to_owned();
        columns[0].has_default = false;
        columns[0].not_null = false;
        columns[2].is_generated = true;
        columns[3].not_null = true;
        columns.remove(4);
        columns.push(Column { name: "team".into(), ..compatible().remove(2) });
        assert_eq!(
            incompatibilities(&columns),
            [
                "`id` is uuid, not bigint or integer or smallint",
                "`id` has no default, so no task can be created",
                "`id` may be null: make it the primary key",
                "`title` is a generated column, so no task can be created",
                "`description` is not null, and may have to be null",
                "it has no column `completed` (boolean)",
                "`team` is not null without a default, so no task can be created",
            ]
        );
    }
}
