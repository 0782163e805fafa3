//! The table `tasks`: created where there is none, checked where there is one.
//!
//! A table that is there is served as it is (`specs/database/schema.md`). What cannot be served is found before any statement
//! of a request is sent: then there is no connection, and requests are answered 503.

use std::time::Instant;

use log::info;

use super::connection::{Connection, TextRow};
use super::error::DbError;

/// Starts of several servers at once take turns at this advisory lock.
const LOCK: i64 = 0x746f_646f;
const SCHEMA: &str = include_str!("../../schema.sql");

/// The columns of `tasks`, none where there is no such table. Of a domain the type below it. Texts are what PostgreSQL has in
/// category `S`, such as `citext`, but not `name`, which cuts texts off. With a nondeterministic collation `a` may equal `A`.
pub const COLUMNS: &str = "with recursive kinds as ( \
         select attname, atttypid as type, attnotnull, atthasdef or attidentity <> '' as has_default, \
         attgenerated <> '' as generated, relkind, \
         case when not collisdeterministic then format(' collate %I (nondeterministic)', collname) end as collating \
         from pg_attribute join pg_class on pg_class.oid = attrelid left join pg_collation on pg_collation.oid = attcollation \
         where attrelid = to_regclass('tasks') and attnum > 0 and not attisdropped \
         union all \
         select attname, typbasetype, attnotnull or typnotnull, has_default or typdefault is not null, \
         generated, relkind, collating from kinds join pg_type on oid = type where typtype = 'd') \
     select attname, concat(format_type(type, null), collating), typcategory = 'S' and typname <> 'name' \
     and (collating is null or attname <> 'user_id'), attnotnull, has_default, generated, relkind \
     from kinds join pg_type on oid = type where typtype <> 'd'";

/// A table of this name that the session does not find: its schema, and how to reach it. Another program's has no `user_id`.
pub const ELSEWHERE: &str = "select nspname, case when has_schema_privilege(pg_namespace.oid, 'usage') \
     then format('add ?search_path=%I to NEON_DATABASE_URL', nspname) \
     else format('grant usage on schema %I to %I', nspname, current_user) end \
     from pg_class join pg_namespace on pg_namespace.oid = relnamespace join pg_attribute on attrelid = pg_class.oid \
     where relname = 'tasks' and relkind in ('r', 'p') and attname = 'user_id' and nspname !~ '^pg_' order by nspname limit 1";

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
const ROW_SECURITY: &str = "select row_security_active('tasks')";

/// What a column must be for this program to use it.
struct RequiredColumn {
    name: &'static str,
    kind: Kind,
    /// Whether the program writes null into it.
    must_allow_null: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// One of these types.
    OneOf(&'static [&'static str]),
}

const TIME: Kind = Kind::OneOf(&["timestamp with time zone", "timestamp without time zone"]);
const REQUIRED: [RequiredColumn; 7] = [
    RequiredColumn { name: "id", kind: Kind::OneOf(&["bigint", "integer", "smallint"]), must_allow_null: false },
    RequiredColumn { name: "user_id", kind: Kind::Text, must_allow_null: false },
    RequiredColumn { name: "title", kind: Kind::Text, must_allow_null: false },
    RequiredColumn { name: "description", kind: Kind::Text, must_allow_null: true },
    RequiredColumn { name: "completed", kind: Kind::OneOf(&["boolean"]), must_allow_null: false },
    RequiredColumn { name: "created_at", kind: TIME, must_allow_null: false },
    RequiredColumn { name: "updated_at", kind: TIME, must_allow_null: false },
];

impl Kind {
    fn fits(self, column: &Column) -> bool {
        match self {
            Kind::Text => column.is_text,
            Kind::OneOf(types) => types.contains(&column.kind.as_str()),
        }
    }

    fn name(self) -> String {
        match self {
            Kind::Text => "text or another text type".to_owned(),
            Kind::OneOf(types) => types.join(" or "),
        }
    }
}

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

/// Creates the table where there is none. Uses the simple protocol only: behind a pooler a named statement may meet another's.
/// Returns whether row-level security applies to this role.
///
/// # Errors
/// When the table cannot be served as it is, or PostgreSQL refuses.
pub fn apply(connection: &mut Connection, deadline: Instant) -> Result<bool, DbError> {
    // On an error the connection is dropped, and with it the transaction.
    connection.simple(&format!("begin; select pg_advisory_xact_lock({LOCK})"), deadline)?;
    let columns = read_columns(&connection.simple(COLUMNS, deadline)?);
    if columns.is_empty() {
        if let Some(row) = connection.simple(ELSEWHERE, deadline)?.first() {
            return Err(DbError::Unusable(elsewhere(row)));
        }
        connection.simple(SCHEMA, deadline)?;
        info!("created the table `tasks`");
    }
    connection.simple("commit", deadline)?;
    let incompatible = if columns.is_empty() { Vec::new() } else { incompatibilities(&columns) };
    if !incompatible.is_empty() {
        return Err(DbError::Unusable(format!("the table `tasks` cannot be served: {}", incompatible.join("; "))));
    }
    let missing: Vec<String> = connection.simple(MISSING_RIGHTS, deadline)?.into_iter().flatten().flatten().collect();
    if !missing.is_empty() {
        return Err(DbError::Unusable(format!("this role lacks rights on the table `tasks`: {}", missing.join("; "))));
    }
    Ok(connection.simple(ROW_SECURITY, deadline)?.concat() == [Some("t".to_owned())])
}

/// Says where the table of a row of [`ELSEWHERE`] is, and how to reach it.
pub fn elsewhere(row: &TextRow) -> String {
    let text = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
    format!("the table `tasks` is in the schema `{}`, which this session does not search: {}", text(0), text(1))
}

/// The answer to [`COLUMNS`].
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

/// What of a table this program cannot use, a line each.
pub fn incompatibilities(columns: &[Column]) -> Vec<String> {
    if let Some(column) = columns.first().filter(|_| !is_ordinary_table(columns)) {
        let relation = relation_name(&column.relation);
        return vec![format!("it is {relation}, and only an ordinary table has `xmin`, which ETags are made of")];
    }
    let mut lines = Vec::new();
    for RequiredColumn { name, kind, must_allow_null } in &REQUIRED {
        let Some(column) = columns.iter().find(|column| column.name == *name) else {
            lines.push(format!("it has no column `{name}` ({})", kind.name()));
            continue;
        };
        if !kind.fits(column) {
            lines.push(format!("`{name}` is {}, not {}", column.kind, kind.name()));
        }
        if *must_allow_null && column.not_null {
            lines.push(format!("`{name}` is not null, and may have to be null"));
        }
        if *name != "id" && column.is_generated {
            lines.push(format!("`{name}` is a generated column, so no task can be created"));
        }
        if *name == "id" && !column.has_default {
            lines.push("`id` has no default, so no task can be created".to_owned());
        }
        if *name == "id" && !column.not_null {
            lines.push("`id` may be null: make it the primary key".to_owned());
        }
    }
    let others = columns.iter().filter(|column| REQUIRED.iter().all(|required| required.name != column.name));
    for column in others.filter(|column| column.not_null && !column.has_default) {
        lines.push(format!("`{}` is not null without a default, so no task can be created", column.name));
    }
    lines
}

/// Whether the columns are those of an ordinary table. Of a partitioned one PostgreSQL does not give `xmin` in `returning`.
pub fn is_ordinary_table(columns: &[Column]) -> bool {
    columns.iter().all(|column| column.relation == "r")
}

fn relation_name(relkind: &str) -> &'static str {
    match relkind {
        "p" => "a partitioned table",
        "v" | "m" => "a view",
        "f" => "a foreign table",
        _ => "no table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compatible() -> Vec<Column> {
        let column = |required: &RequiredColumn| Column {
            name: required.name.to_owned(),
            kind: match required.kind {
                Kind::Text => "citext".to_owned(),
                Kind::OneOf(types) => types[types.len() - 1].to_owned(),
            },
            is_text: matches!(required.kind, Kind::Text),
            not_null: !required.must_allow_null,
            has_default: required.name == "id",
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
