//! What `--check` tells an operator of a database: each thing that would hinder the service, with a hint.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::compatibility::{check, connect, database, failures, in_parallel, table};
use support::proxy::{Proxy, Way};
use support::{Cluster, SECRET, free_port, pgbouncer::PgBouncer};
use todo_backend::ops::finding::Finding;

fn named<'f>(findings: &'f [Finding], name: &str) -> Vec<(bool, &'f str)> {
    let named = findings.iter().filter(|finding| finding.name == name);
    named.map(|finding| (finding.ok, finding.message.as_str())).collect()
}

/// Everything that a database consists of: its catalogue and the rows of the table.
fn dump(url: &str) -> String {
    let dump = Command::new("pg_dump").args(["--no-sync", "-d", url]).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let text = String::from_utf8(dump.stdout).unwrap();
    // A number of the sequence is used up. Newer versions put a key of their own into each dump.
    let is_content = |line: &&str| !line.contains("pg_catalog.setval") && !line.contains("restrict");
    text.lines().filter(is_content).collect::<Vec<_>>().join("\n")
}

#[test]
fn check_when_the_database_works_says_so_and_changes_nothing() {
    let cluster = Cluster::start();
    let empty = database(&cluster, "empty", "", "");
    let before = dump(&empty);
    let found = check(&empty);
    assert_eq!(failures(&found), Vec::<String>::new());
    assert_eq!(named(&found, "table"), [(true, "there is no table `tasks` yet: the first start creates it")]);
    assert!(named(&found, "server")[0].1.starts_with("PostgreSQL "));
    assert!(named(&found, "TLS")[0].1.starts_with("off"));
    assert_eq!(dump(&empty), before);

    let sql = format!("{} insert into tasks (user_id, title) values ('ada', 'a');", include_str!("../schema.sql"));
    let full = database(&cluster, "filled", "", &sql);
    let before = dump(&full);
    let found = check(&full);
    assert_eq!(failures(&found), Vec::<String>::new());
    let compatible = "compatible: a task was created, read, changed and deleted, and rolled back";
    assert_eq!(named(&found, "table"), [(true, compatible)]);
    assert_eq!(named(&found, "index"), [(true, "`tasks_of_user` begins with user_id")]);
    assert!(named(&found, "pooler")[0].1.starts_with("none"));
    assert_eq!(dump(&full), before);

    let pooled = check(&PgBouncer::start(&cluster, "transaction").url());
    assert!(named(&pooled, "pooler")[0].1.starts_with("there is one"));
}

/// The SQL of a table, the name of the finding, whether the service works with it, and what is said.
#[test]
fn check_when_the_table_is_peculiar_names_the_consequence() {
    let cluster = Cluster::start();
    let function = |body: &str, when: &str| {
        format!(
            "{} create function f() returns trigger as '{body}' language plpgsql; \
             create trigger t before {when} on tasks for each row execute function f();",
            table(&[])
        )
    };
    let users =
        |definition: &str| "create table users (id text primary key);".to_owned() + &table(&[("user_id", definition)]);
    let cases = [
        (table(&[]), "index", true, "none begins with user_id: slower with every task"),
        (
            table(&[("title", "varchar(100)")]),
            "title",
            true,
            "gets 422: ERROR: value too long for type character varying(100)",
        ),
        (table(&[("description", "text check (length(description) < 9999)")]), "description", true, "gets 422"),
        (table(&[("user_id", "varchar(36)")]), "user_id", true, "a user whose id is too long gets 401"),
        (users("text references users"), "user_id", true, "a user who is not in the other table gets 401"),
        (users("varchar(36) references users"), "user_id", true, "a user who is not in the other table gets 401"),
        (
            users("text references users deferrable initially deferred"),
            "insert",
            true,
            "not tried, because no user has",
        ),
        (
            users("text references users")
                + "insert into users values ('ada'); insert into tasks (user_id, title) values ('ada', 'a')",
            "table",
            true,
            "compatible: a task was created",
        ),
        (function("begin return null; end", "insert"), "insert", false, "a new task is not kept, so requests get 503"),
        (function("begin return null; end", "update"), "update", false, "finds no task"),
        (function("begin return null; end", "delete"), "delete", false, "finds no task"),
        (
            function("begin new.user_id := 1; return new; end", "insert"),
            "insert",
            false,
            "\"the database changes user_id\" (42704)",
        ),
        (function("begin raise exception ''no''; end", "insert"), "insert", false, "gets 422: ERROR: no (P0001)"),
        (function("begin raise exception ''no''; end", "delete"), "delete", false, "gets 422: ERROR: no (P0001)"),
        (
            function("begin raise query_canceled; end", "insert"),
            "insert",
            false,
            "gets 503: ERROR: query_canceled (57014)",
        ),
        (
            table(&[])
                + "create table history (task bigint references tasks); \
                   create function f() returns trigger as $$ \
                   begin insert into history values (new.id); return new; end $$ language plpgsql; \
                   create trigger t after insert on tasks for each row execute function f()",
            "delete",
            false,
            "gets 422: ERROR: update or delete on table \"tasks\" violates foreign key",
        ),
        (table(&[]) + "create rule r as on insert to tasks do instead nothing", "insert", false, "gets 500"),
        (
            "create function f() returns int as 'select 1/0' language sql;".to_owned()
                + &table(&[("id", "int primary key default f()")]),
            "insert",
            false,
            "gets 500: ERROR: division by zero",
        ),
        (table(&[("id", "uuid primary key default gen_random_uuid()")]), "table", false, "`id` is uuid, not"),
    ];
    in_parallel(&cases, |number, (sql, name, ok, message)| {
        let url = database(&cluster, &format!("peculiar{number}"), "", sql);
        let before = dump(&url);
        let found = check(&url);
        let is_told = named(&found, name).iter().any(|(own_ok, own)| own_ok == ok && own.contains(message));
        assert!(is_told, "{sql}: {message}: {found:?}");
        assert_eq!(failures(&found).is_empty(), *ok, "{sql}: {found:?}");
        assert_eq!(dump(&url), before, "{sql}");
    });
    let latin = database(&cluster, "latin", "encoding 'LATIN1' locale 'C' template template0", &table(&[]));
    assert!(named(&check(&latin), "encoding")[0].1.starts_with("a value that the API allows gets 422"));
}

#[test]
fn check_when_the_database_does_not_answer_fails_in_time() {
    for way in [Way::Refused, Way::Nowhere] {
        let found = check(&Proxy::start(way).url().replace("todo@", "todo:s3cr3t@"));
        assert_eq!((found.len(), found[0].ok, found[0].name), (1, false, "database"), "{found:?}");
        assert!(!format!("{found:?}").contains("s3cr3t"));
    }
    // The next host is tried, as the service does. It runs, so that the first one is a note.
    let cluster = Cluster::start();
    let silent = Proxy::start(Way::Nowhere).port;
    let url = format!("postgresql://todo@127.0.0.1:{silent},127.0.0.1:{}/postgres", cluster.port);
    let found = check(&url);
    let hosts = named(&found, "database");
    assert!(matches!(hosts[..], [(true, first), (true, _)] if first.contains(&silent.to_string())), "{found:?}");
}

#[test]
fn check_when_tls_fails_tells_the_cause_beside_the_second_try() {
    let cluster = Cluster::start_with(&["ssl=on"], |data| {
        let key = rcgen::generate_simple_self_signed(vec!["elsewhere".to_owned()]).unwrap();
        Cluster::write_private(&data.join("server.crt"), &key.cert.pem());
        Cluster::write_private(&data.join("server.key"), &key.signing_key.serialize_pem());
    });
    let found = check(&cluster.url());
    assert!(named(&found, "TLS")[0].1.contains("failed, and the server goes on without: the database's certificate"));
    assert!(named(&found, "database")[0].0);
    cluster.require_password();
    support::wait_until("the new rules", || failures(&check(&cluster.url().replace("todo@", "guest@"))).len() == 1);
    let found = check(&cluster.url().replace("todo@", "guest@"));
    assert!(named(&found, "TLS")[0].1.contains("its CA is unknown"), "{found:?}");
    assert!(named(&found, "database")[0].1.contains("pg_hba.conf"), "{found:?}");
}

#[test]
fn command_when_the_table_cannot_be_served_fails_and_creates_nothing() {
    let cluster = Cluster::start();
    let secret_keys =
        "create role guest login; create table jwks (id text, \"publicKey\" text, \"createdAt\" timestamptz);";
    for (name, sql, line) in [
        ("good", "", ""),
        ("bad", "create table tasks (id int)", "FAIL table: it has no column `user_id` (text or another text type)"),
        ("keys", secret_keys, "this role may not read the table `jwks`: grant select on jwks to it"),
    ] {
        let url = database(&cluster, name, "", sql);
        let url = if name == "keys" { url.replace("todo@", "guest@") } else { url };
        let began_at = Instant::now();
        let run = Command::new(env!("CARGO_BIN_EXE_todo-backend"))
            .arg("--check")
            .env("NEON_DATABASE_URL", &url)
            .env("BETTER_AUTH_SECRET", SECRET)
            .env("HOST", "127.0.0.1")
            .env("PORT", free_port().to_string())
            .output()
            .unwrap();
        let output = String::from_utf8(run.stdout).unwrap();
        assert_eq!(run.status.success(), line.is_empty(), "{output}");
        assert!(began_at.elapsed() < Duration::from_secs(20));
        assert!(output.contains(line), "{output}");
        let count = "select count(*) from pg_class where relname = 'tasks'";
        let tables: i64 = connect(&url).query_one(count, &[]).unwrap().get(0);
        assert_eq!(tables, i64::from(name == "bad"), "{output}");
    }
}
