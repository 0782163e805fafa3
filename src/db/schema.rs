//! The table `tasks`: created where there is none, checked where there is one.
//!
//! A table that is there is served as it is (`specs/database/schema.md`). What cannot be served is found before any
//! statement of a request is sent: then there is no connection, and requests are answered 503.

use std::time::Instant;

use log::info;
use tokio_postgres::Config;

use super::connection::Connection;
use super::error::DbError;

/// Servers that start at the same time take turns by this advisory lock.
const LOCK: i64 = 0x746f_646f;
const SCHEMA: &str = include_str!("../../schema.sql");

/// Returns a row where there is a table `tasks`, or anything else of that name.
pub const EXISTS: &str = "select oid from pg_class where oid = to_regclass('tasks')";

/// The subject of each problem, its summary, and the query for its causes, which returns a row for each.
const PROBLEMS: [(&str, &str, &str); 4] = [
    ("pooler", "the pooler cannot be used", LOST_SEARCH_PATH),
    ("table", "the table is not found", ELSEWHERE),
    ("table", "the table `tasks` cannot be served", include_str!("schema/incompatibilities.sql")),
    ("rights", "this role lacks rights on the table `tasks`", include_str!("schema/missing_rights.sql")),
];

/// For a URL that names a search path: `tasks` would be in another schema.
const LOST_SEARCH_PATH: &str = "select \
     'it ignores search_path: set it for the role instead of in NEON_DATABASE_URL, or connect without the pooler' \
     from pg_settings where name = 'search_path' and source not in ('client', 'session')";

/// A table `tasks` outside the search path, and how to reach it. One without `user_id` is another program's.
const ELSEWHERE: &str = "select \
     format('the table `tasks` is in the schema `%s`, which this session does not search: ', nspname) \
     || case when has_schema_privilege(pg_namespace.oid, 'usage') \
     then format('add ?search_path=%I to NEON_DATABASE_URL', nspname) \
     else format('grant usage on schema %I to %I', nspname, current_user) end \
     from pg_class join pg_namespace on pg_namespace.oid = relnamespace join pg_attribute on attrelid = pg_class.oid \
     where relname = 'tasks' and relkind in ('r', 'p') and attname = 'user_id' and nspname !~ '^pg_' \
     and to_regclass('tasks') is null order by nspname limit 1";

/// What keeps the program from serving the table.
pub struct Problem {
    /// `pooler`, `table` or `rights`.
    pub subject: &'static str,
    /// What is wrong, in a few words.
    pub summary: &'static str,
    /// At least one: what is wrong, or the statement that mends it.
    pub causes: Vec<String>,
}

/// Looks for the first problem of a table, if there is one. `config` is the URL's. `texts` runs a query by the simple
/// protocol: behind a pooler a named statement may meet another's.
///
/// # Errors
/// Those of `texts`.
pub fn find_problem<E>(
    config: &Config,
    mut texts: impl FnMut(&str) -> Result<Vec<String>, E>,
) -> Result<Option<Problem>, E> {
    let names_search_path = config.get_options().is_some_and(|options| options.contains("search_path"));
    for (subject, summary, sql) in PROBLEMS {
        if sql == LOST_SEARCH_PATH && !names_search_path {
            continue;
        }
        let causes = texts(sql)?;
        if !causes.is_empty() {
            return Ok(Some(Problem { subject, summary, causes }));
        }
    }
    Ok(None)
}

/// Creates the table where there is none. `config` is the URL's. Returns whether row-level security applies to this
/// role.
///
/// # Errors
/// When the table cannot be served as it is, or PostgreSQL refuses.
pub fn apply(connection: &mut Connection, config: &Config, deadline: Instant) -> Result<bool, DbError> {
    let mut texts = |sql: &str| connection.simple(sql, deadline);
    // On an error the connection is dropped, and with it the transaction.
    texts(&format!("begin; select pg_advisory_xact_lock({LOCK})"))?;
    if let Some(Problem { summary, causes, .. }) = find_problem(config, &mut texts)? {
        return Err(DbError::Unusable(format!("{summary}: {}", causes.join("; "))));
    }
    if texts(EXISTS)?.is_empty() {
        texts(SCHEMA)?;
        info!("created the table `tasks`");
    }
    Ok(texts("commit; select row_security_active('tasks')")? == ["t"])
}
