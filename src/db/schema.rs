//! The table: made where there is none, looked over where there is one.

use log::{error, info};

use super::client::Client;
use super::error::Fault;
use super::rows::Texts;

/// Any number that is always the same: starts that race for the schema meet here.
const LOCK: i64 = 0x746f_646f;
const SCHEMA: &str = include_str!("../../schema.sql");
/// What can be said of each column, and of what it is a column.
pub const COLUMNS: &str = "select attname, format_type(atttypid, null), attnotnull, atthasdef or attidentity <> '', relkind \
                       from pg_attribute join pg_class on pg_class.oid = attrelid \
                       where attrelid = to_regclass('tasks') and attnum > 0 and not attisdropped";

/// What a column must be for this program to use it.
struct Needed {
    name: &'static str,
    types: &'static [&'static str],
    /// Whether the program writes null into it.
    nullable: bool,
}

const TEXT: &[&str] = &["text", "character varying"];
const TIME: &[&str] = &["timestamp with time zone", "timestamp without time zone"];
const NEEDED: [Needed; 7] = [
    Needed { name: "id", types: &["integer"], nullable: false },
    Needed { name: "user_id", types: TEXT, nullable: false },
    Needed { name: "title", types: TEXT, nullable: false },
    Needed { name: "description", types: TEXT, nullable: true },
    Needed { name: "completed", types: &["boolean"], nullable: false },
    Needed { name: "created_at", types: TIME, nullable: false },
    Needed { name: "updated_at", types: TIME, nullable: false },
];

/// A column as it is.
#[derive(Debug, Clone)]
pub struct Column {
    name: String,
    kind: String,
    not_null: bool,
    has_default: bool,
    /// `relkind` of what has it: `r` is an ordinary table.
    relation: String,
}

/// Makes the table where there is none. One that is there is served as it is: a role that may not create one will do, and
/// somebody else's migrations stay theirs; what does not fit is said in the log, column by column.
///
/// Only the simple protocol: behind a pooler a named statement may meet one of the same name.
///
/// `is_first` says whether nobody has done this before in this process; of several at once, one speaks.
///
/// # Errors
/// When the database refuses, or cannot be asked.
pub fn apply(client: &mut Client, is_first: impl FnOnce() -> bool) -> Result<(), Fault> {
    // Where this ends early the connection does, too, and with it the transaction.
    client.simple_query(&format!("begin; select pg_advisory_xact_lock({LOCK})"))?;
    let columns = read_columns(&client.simple_query(COLUMNS)?);
    if columns.is_empty() {
        client.simple_query(SCHEMA)?;
        info!("created the table `tasks`");
    }
    client.simple_query("commit")?;
    if is_first() && !columns.is_empty() {
        misfits(&columns).iter().for_each(|misfit| error!("the table `tasks` does not fit: {misfit}"));
    }
    Ok(())
}

/// The answer to [`COLUMNS`]; nothing where there is no table.
pub fn read_columns(rows: &[Texts]) -> Vec<Column> {
    let column = |row: &Texts| {
        let text = |index: usize| row.get(index).cloned().flatten().unwrap_or_default();
        Column {
            name: text(0),
            kind: text(1),
            not_null: text(2) == "t",
            has_default: text(3) == "t",
            relation: text(4),
        }
    };
    rows.iter().map(column).collect()
}

/// What of a table this program cannot use, a line each.
pub fn misfits(columns: &[Column]) -> Vec<String> {
    let mut misfits = Vec::new();
    if let [column, ..] = columns
        && !is_ordinary(columns)
    {
        let other = relation_name(&column.relation);
        return vec![format!("it is {other}, and only an ordinary table has `xmin`, which tags are made of")];
    }
    for needed in &NEEDED {
        let name = needed.name;
        let Some(column) = columns.iter().find(|column| column.name == name) else {
            misfits.push(format!("it has no column `{name}` ({})", needed.types[0]));
            continue;
        };
        if !needed.types.contains(&column.kind.as_str()) {
            misfits.push(format!("`{name}` is {}, not {}", column.kind, needed.types.join(" or ")));
        }
        if needed.nullable && column.not_null {
            misfits.push(format!("`{name}` is not null, and may have to be null"));
        }
        if name == "id" && !column.has_default {
            misfits.push("`id` has no default, so no task can be created".to_owned());
        }
    }
    let unknown = columns.iter().filter(|column| NEEDED.iter().all(|needed| needed.name != column.name));
    for column in unknown.filter(|column| column.not_null && !column.has_default) {
        misfits.push(format!("`{}` is not null without a default, so no task can be created", column.name));
    }
    misfits
}

/// Whether the columns are those of an ordinary table. Of a partitioned one PostgreSQL does not say `xmin` in `returning`.
pub fn is_ordinary(columns: &[Column]) -> bool {
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

    fn fitting() -> Vec<Column> {
        let column = |needed: &Needed| Column {
            name: needed.name.to_owned(),
            kind: needed.types[needed.types.len() - 1].to_owned(),
            not_null: !needed.nullable,
            has_default: needed.name == "id",
            relation: "r".to_owned(),
        };
        NEEDED.iter().map(column).collect()
    }

    #[test]
    fn a_table_that_fits_is_not_complained_of() {
        assert_eq!(misfits(&fitting()), Vec::<String>::new());
        let extra = Column { name: "priority".into(), not_null: false, ..fitting().remove(2) };
        assert_eq!(misfits(&[fitting(), vec![extra]].concat()), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_fit_is_named_column_by_column() {
        let mut columns = fitting();
        columns[0].kind = "bigint".to_owned();
        columns[0].has_default = false;
        columns[3].not_null = true;
        columns.remove(4);
        columns.push(Column { name: "team".into(), ..fitting().remove(2) });
        assert_eq!(
            misfits(&columns),
            [
                "`id` is bigint, not integer",
                "`id` has no default, so no task can be created",
                "`description` is not null, and may have to be null",
                "it has no column `completed` (boolean)",
                "`team` is not null without a default, so no task can be created",
            ]
        );
    }
}
