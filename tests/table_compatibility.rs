//! Tables that something else has made: served as they are, or refused before anything is written.

mod support;

use support::Cluster;
use support::compatibility::{Service, check, connect, database, failures, in_parallel, table};

/// A name, SQL to run before, the columns that differ, and SQL to run after.
type Case<'c> = (&'c str, &'c str, Vec<(&'c str, &'c str)>, &'c str);

#[test]
fn table_when_its_columns_are_compatible_is_served() {
    let cluster = Cluster::start();
    let citext = "create extension citext;";
    let domains = "create domain short as varchar(300); create domain shorter as short check (length(value) < 290); \
                   create domain flag as boolean; create domain moment as timestamptz; create domain number as bigint;";
    let collation = "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);";
    let pair = |name, definition: &'static str| vec![(name, definition)];
    let cases: Vec<Case> = vec![
        ("smallint serial", "", pair("id", "smallserial primary key"), ""),
        ("integer serial", "", pair("id", "serial primary key"), ""),
        ("bigint serial", "", pair("id", "bigserial primary key"), ""),
        (
            "bigint beyond 2^32",
            "",
            pair("id", "bigint generated always as identity (start 9007199254740900) primary key"),
            "",
        ),
        ("smallint identity", "", pair("id", "smallint generated always as identity primary key"), ""),
        ("id by an expression", "create sequence s;", pair("id", "bigint default nextval('s') + 1 primary key"), ""),
        ("id is a domain", domains, pair("id", "number primary key default floor(random() * 1e12)::bigint"), ""),
        (
            "varchar",
            "",
            vec![("user_id", "varchar not null"), ("title", "varchar(255)"), ("description", "varchar")],
            "",
        ),
        ("char", "", vec![("user_id", "char(64)"), ("title", "char(300)"), ("description", "char(300)")], ""),
        ("citext", citext, vec![("user_id", "citext"), ("title", "citext"), ("description", "citext")], ""),
        (
            "citext in another schema",
            "create schema ext; create extension citext schema ext;",
            vec![("user_id", "ext.citext"), ("title", "ext.citext")],
            "",
        ),
        (
            "domains",
            domains,
            vec![("user_id", "shorter"), ("title", "shorter"), ("completed", "flag"), ("created_at", "moment")],
            "",
        ),
        (
            "domain not null with default",
            "create domain d as text not null default 'x';",
            vec![("title", "d"), ("team", "d")],
            "",
        ),
        ("title in a collation without case", collation, pair("title", "text collate ci"), ""),
        ("timestamp without zone", "", vec![("created_at", "timestamp"), ("updated_at", "timestamp(0)")], ""),
        (
            "everything nullable",
            "",
            vec![("user_id", "text"), ("title", "text"), ("completed", "boolean"), ("updated_at", "timestamptz")],
            "",
        ),
        (
            "more columns",
            "create type mood as enum ('good');",
            vec![
                ("mood", "mood not null default 'good'"),
                ("tags", "text[]"),
                ("length", "integer generated always as (length(title)) stored"),
                ("v", "tsvector"),
            ],
            "",
        ),
        (
            "column order and dropped columns",
            "",
            vec![("user_id", ""), ("x", "int")],
            "alter table tasks drop x; alter table tasks add user_id text;",
        ),
        (
            "unlogged with children",
            "",
            vec![],
            "alter table tasks set unlogged; create unlogged table child () inherits (tasks);",
        ),
        (
            "id by a trigger",
            "create function f() returns trigger as 'begin new.updated_at := now(); return new; end' \
            language plpgsql;",
            vec![],
            "create trigger t before insert or update on tasks for each row execute function f();",
        ),
    ];
    for (number, (case, before, changes, after)) in cases.iter().enumerate() {
        let url = database(&cluster, &format!("served{number}"), "", &format!("{before}{}{after}", table(changes)));
        println!("{case}:");
        assert_eq!(failures(&check(&url)), Vec::<String>::new(), "{case}");
        let service = Service::start(&cluster, &url);
        service.assert_serves(case, &["ada", "ADA"]);
        assert_eq!(service.server.request("GET", "/ready", None, None).status, 200, "{case}");
        for gone in ["32768", "2147483648", "9223372036854775807"] {
            assert_eq!(service.send("ada", "GET", &format!("/api/tasks/{gone}"), None).status, 404, "{case}: {gone}");
        }
    }
}

#[test]
fn table_when_it_cannot_be_served_is_refused_before_anything_is_written() {
    let cluster = Cluster::start();
    let own = |changes: &[(&str, &str)]| table(changes);
    let renamed = |sql: &str| format!("{} alter table tasks rename to own; {sql}", table(&[]));
    let cases = [
        (own(&[("id", "uuid primary key default gen_random_uuid()")]), "`id` is uuid, not"),
        (own(&[("id", "numeric primary key default 1")]), "`id` is numeric, not"),
        (own(&[("id", "text primary key default '1'")]), "`id` is text, not"),
        (own(&[("id", "bigint primary key")]), "`id` has no default"),
        (own(&[("id", "integer default 1")]), "`id` may be null"),
        (own(&[("user_id", "uuid")]), "`user_id` is uuid, not"),
        (own(&[("user_id", "integer")]), "`user_id` is integer, not"),
        (own(&[("user_id", "name")]), "`user_id` is name, not"),
        (
            format!(
                "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); {}",
                own(&[("user_id", "text collate ci")])
            ),
            "`user_id` is text collate ci (nondeterministic), not",
        ),
        (own(&[("title", "json")]), "`title` is json, not"),
        (own(&[("title", "text[]")]), "`title` is text[], not"),
        (own(&[("title", "bytea")]), "`title` is bytea, not"),
        (format!("create type e as enum ('a'); {}", own(&[("title", "e")])), "`title` is e, not"),
        (own(&[("title", "text generated always as ('x') stored")]), "`title` is a generated column"),
        (own(&[("description", "text not null")]), "`description` is not null"),
        (format!("create domain d as text not null; {}", own(&[("description", "d")])), "`description` is not null"),
        (own(&[("completed", "integer")]), "`completed` is integer, not"),
        (own(&[("completed", "")]), "no column `completed`"),
        (own(&[("created_at", "date")]), "`created_at` is date, not"),
        (own(&[("updated_at", "bigint")]), "`updated_at` is bigint, not"),
        (own(&[("team", "integer not null")]), "`team` is not null without a default"),
        (renamed("create view tasks as select * from own"), "it is a view"),
        (renamed("create materialized view tasks as select * from own"), "it is a view"),
        (renamed("create table tasks (like own) partition by hash (user_id)"), "it is a partitioned table"),
        (
            renamed(
                "create extension file_fdw; create server s foreign data wrapper file_fdw; \
                 create foreign table tasks (id int, user_id text) server s options (filename '/dev/null')",
            ),
            "it is a foreign table",
        ),
        ("create sequence tasks".to_owned(), "it is no table"),
        (
            format!("create schema app; set search_path = app; {}", own(&[])),
            "is in the schema `app`, which this session does not search: add ?search_path=app to NEON_DATABASE_URL",
        ),
        (
            format!("create schema \"My App\"; set search_path = \"My App\"; {}", own(&[])),
            "add ?search_path=\"My App\" to NEON_DATABASE_URL",
        ),
    ];
    // Most of the time is spent waiting for a connection that does not come.
    let each = |number: usize, (sql, why): &(String, &str)| {
        let url = database(&cluster, &format!("refused{number}"), "", sql);
        let relations = || -> i64 {
            connect(&url).query_one("select count(*) from pg_class where oid >= 16384", &[]).unwrap().get(0)
        };
        let before = relations();
        let failed = failures(&check(&url));
        assert!(failed.iter().any(|line| line.contains(why)), "{why}: {failed:?}");
        Service::start(&cluster, &url).assert_unavailable(sql, why);
        assert_eq!(relations(), before, "{sql}");
    };
    in_parallel(&cases, each);
}

#[test]
fn table_when_incompatible_is_explained_column_by_column() {
    let cluster = Cluster::start();
    let sql = table(&[
        ("id", "uuid"),
        ("title", "text generated always as ('x') stored"),
        ("description", "text not null"),
        ("completed", ""),
        ("created_at", "date"),
        ("team", "text not null"),
        ("priority", "integer"),
    ]);
    let failed = failures(&check(&database(&cluster, "incompatible", "", &sql)));
    let causes: Vec<_> = failed.iter().map(|line| line.split("; ").next().unwrap()).collect();
    assert_eq!(
        causes,
        [
            "table: `id` is uuid, not bigint or integer or smallint",
            "table: `id` has no default, so no task can be created",
            "table: `id` may be null: make it the primary key",
            "table: `title` is a generated column, so no task can be created",
            "table: `description` is not null, and may have to be null",
            "table: it has no column `completed` (boolean)",
            "table: `created_at` is date, not timestamp with time zone or timestamp without time zone",
            "table: `team` is not null without a default, so no task can be created",
        ]
    );
}

#[test]
fn table_in_another_schema_when_the_url_names_it_is_served() {
    let cluster = Cluster::start();
    let sql = format!("create schema app; set search_path = app; {}", table(&[]));
    let url = database(&cluster, "elsewhere", "", &sql);
    Service::start(&cluster, &format!("{url}?search_path=app")).assert_serves("search_path", &["ada"]);
    Service::start(&cluster, &format!("{url}?schema=app")).assert_serves("schema", &["ada"]);
    // A table of this name that another program has for something else does not hinder the first start.
    let url = database(&cluster, "other", "", "create schema jobs; create table jobs.tasks (id int, payload json)");
    Service::start(&cluster, &url).assert_serves("other program", &["ada"]);
}
