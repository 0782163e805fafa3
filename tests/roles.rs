//! Roles as people have them: settings that must not change a response, and rights that are missing.

mod support;

use serde_json::json;
use support::Cluster;
use support::compatibility::{Service, check, columns_without, connect, database, failures, in_parallel, table};

const GRANTS: &str =
    "grant select, insert, update, delete on tasks to app; grant usage on all sequences in schema public to app;";

/// Databases and roles that are called by a number, so that cases can run at once.
fn prepare(cluster: &Cluster, number: usize, sql: &str) -> String {
    let (name, role) = (format!("role{number}"), format!("app{number}"));
    let url = database(cluster, &name, "", &format!("create role {role} login; {}", sql.replace("app", &role)));
    url.replace("todo@", &format!("{role}@"))
}

#[test]
fn setting_of_the_role_does_not_change_a_response() {
    let cluster = Cluster::start();
    let settings = [
        "timezone to 'Asia/Tokyo'",
        "timezone to '<-13>+13'",
        "datestyle to 'German'",
        "datestyle to 'SQL, DMY'",
        "intervalstyle to 'sql_standard'",
        "extra_float_digits to -15",
        "bytea_output to 'escape'",
        "standard_conforming_strings to off",
        "default_transaction_isolation to 'serializable'",
        "default_transaction_isolation to 'repeatable read'",
        "default_transaction_deferrable to on",
        "client_encoding to 'LATIN1'",
        "client_min_messages to debug5",
        "quote_all_identifiers to on",
        "transform_null_equals to on",
        "array_nulls to off",
        "plan_cache_mode to force_generic_plan",
        "enable_indexscan to off",
        "row_security to off",
        "statement_timeout to '1h'",
        "lock_timeout to '50ms'",
        "search_path to nowhere, public",
        "synchronous_commit to off",
        "role to todo",
    ];
    in_parallel(&settings, |number, setting| {
        // Without a time zone in the column the session's counts.
        let table = table(&[("created_at", "timestamp not null"), ("updated_at", "timestamp not null")]);
        let grants = if setting.starts_with("role") { "grant todo to app;" } else { GRANTS };
        let url = prepare(&cluster, number, &format!("{table}{grants} alter role app set {setting}"));
        let service = Service::start(&cluster, &url);
        service.assert_serves(setting, &["ada", "ADA"]);
        let created = service.create("ada", json!({"title": "☑ \\ '' é", "description": "\\x00"}));
        assert_eq!(created.json()["title"], "☑ \\ '' é", "{setting}");
        let moment = created.json()["created_at"].as_str().unwrap().replace('Z', "+00");
        let age = "select abs(extract(epoch from now() - $1::text::timestamptz))::float8";
        let age: f64 = connect(&cluster.url()).query_one(age, &[&moment]).unwrap().get(0);
        assert!(age < 60.0, "{setting}: {moment} is {age} s away");
        assert_eq!(failures(&check(&url)), Vec::<String>::new(), "{setting}");
        assert_eq!(
            service.log().matches("WARN").count() + service.log().matches("ERROR").count(),
            0,
            "{}",
            service.log()
        );
    });
}

#[test]
fn role_when_it_lacks_a_right_is_refused_with_the_statement_that_gives_it() {
    let cluster = Cluster::start();
    let cases = [
        (table(&[]), "grant select, insert, update, delete on tasks to app"),
        (table(&[]) + "grant select on tasks to app", "grant insert, update, delete on tasks to app"),
        (table(&[]) + "grant select, insert, update on tasks to app", "grant delete on tasks to app"),
        (
            table(&[("id", "serial primary key")]) + "grant select, insert, update, delete on tasks to app",
            "grant usage on sequence public.tasks_id_seq to app",
        ),
        (table(&[]) + GRANTS + "revoke usage on schema public from public", "grant usage on schema public to app"),
        (
            table(&[]) + GRANTS + "alter table tasks enable row level security",
            "create policy todo_backend on tasks to app using (true)",
        ),
        (
            table(&[])
                + GRANTS
                + "create role other_app; alter table tasks enable row level security; \
             create policy p on tasks to other_app using (true)",
            "create policy todo_backend on tasks to app using (true)",
        ),
        (
            table(&[])
                + "create role group_app; grant all on tasks to group_app; grant group_app to app; \
             alter role app noinherit",
            "grant select, insert, update, delete on tasks to app",
        ),
        ("revoke create on schema public from public".to_owned(), "permission denied for schema public"),
        (table(&[]) + GRANTS + "alter role app nologin", "is not permitted to log in"),
        (table(&[]) + GRANTS + "alter role app connection limit 0", "too many connections for role"),
    ];
    in_parallel(&cases, |number, (sql, hint)| {
        let url = prepare(&cluster, number, sql);
        let hint = hint.replace("app", &format!("app{number}"));
        Service::start(&cluster, &url).assert_unavailable(sql, &hint);
        let failed = failures(&check(&url));
        let is_told = failed.iter().any(|line| line.contains(&hint) || line.contains("this role may not create one"));
        assert!(is_told, "{hint}: {failed:?}");
        // What is said to mend it does.
        if hint.starts_with("grant") || hint.starts_with("create") {
            let owner = url.replace(&format!("app{number}@"), "todo@");
            connect(&owner).batch_execute(&hint).unwrap();
            assert_eq!(failures(&check(&url)), Vec::<String>::new(), "{hint}");
            Service::start(&cluster, &url).assert_serves(&hint, &["ada"]);
        }
    });
}

/// What only trying shows: the request's status, a line of the log, and what `--check` says.
#[test]
fn role_when_a_write_is_refused_is_found_by_the_check_and_told_in_the_log() {
    let cluster = Cluster::start();
    let rls = "alter table tasks enable row level security;";
    let own_policy = "create policy p on tasks using (user_id = current_setting('own.user', true));";
    let cases = [
        (
            "create sequence s;".to_owned()
                + &table(&[("id", "int primary key default nextval('s')")])
                + "grant all on tasks to app",
            503,
            "permission denied for sequence s",
            "insert: gets 503: ERROR: permission denied for sequence s (42501); \
             grant to this role what the message names",
        ),
        (
            table(&[]) + "grant insert (user_id), select, update, delete on tasks to app",
            503,
            "permission denied for table tasks",
            "insert: gets 503: ERROR: permission denied for table tasks (42501); grant",
        ),
        (
            table(&[]) + GRANTS + rls + own_policy,
            503,
            "new row violates row-level security policy",
            "correct the policy for row-level security, or run: alter role app bypassrls",
        ),
        (
            table(&[])
                + GRANTS
                + rls
                + "create policy p on tasks for insert with check (true); \
             create policy q on tasks for select using (true);",
            201,
            "row-level security hides the tasks that no policy shows",
            "update: finds no task: row-level security or a trigger hides it, so requests get 404; correct the policy",
        ),
        (
            table(&[]) + GRANTS + "alter role app set default_transaction_read_only to on",
            503,
            "read-only transaction",
            "refuses writes, which get 503: a standby or a read-only role; give the address of the primary, or run: \
             alter role current_user reset default_transaction_read_only",
        ),
        (
            table(&[])
                + GRANTS
                + "insert into tasks (id, user_id, title) select n, 'eve', 't' from generate_series(1, 9) n",
            503,
            "duplicate key value",
            "insert: gets 503, because the sequence is behind: ERROR: duplicate key value violates unique constraint \
             \"tasks_pkey\" (23505); select setval('public.tasks_id_seq', (select max(id) from tasks))",
        ),
        (
            "create table teams (id int primary key);".to_owned()
                + &table(&[("team", "int default 7 references teams")])
                + GRANTS,
            503,
            "a column of a new task refers to data that does not exist",
            "insert: gets 503, because a column refers to data that does not exist: ERROR: insert or update on table",
        ),
        (
            table(&[("id", "smallserial primary key")]) + GRANTS + "select setval('tasks_id_seq', 32767)",
            503,
            "reached maximum value of sequence",
            "alter table tasks alter id type bigint; alter sequence public.tasks_id_seq as bigint no maxvalue",
        ),
    ];
    in_parallel(&cases, |number, (sql, status, logged, found)| {
        let url = prepare(&cluster, number, sql);
        let found = found.replace("role app ", &format!("role app{number} "));
        let service = Service::start(&cluster, &url);
        let created = service.create("ada", json!({"title": "a"}));
        assert_eq!(created.status, *status, "{sql}: {created:?}");
        assert!(service.count_logged(logged) > 0, "{sql}");
        let failed = failures(&check(&url));
        assert!(failed.iter().any(|line| line.contains(&found)), "{found}: {failed:?}");
        let owner = url.replace(&format!("app{number}@"), "todo@");
        if let Some((_, hint)) =
            failed[0].split_once("; ").filter(|(_, hint)| hint.starts_with("select") || hint.starts_with("alter"))
        {
            connect(&owner).batch_execute(hint).unwrap();
            assert_eq!(failures(&check(&url)), Vec::<String>::new(), "{hint}");
        }
    });
}

/// Row-level security hides which columns a refused key has.
#[test]
fn key_when_row_level_security_hides_its_columns_has_the_same_answer() {
    let cluster = Cluster::start();
    let rls = "alter table tasks enable row level security; create policy p on tasks using (true);";
    let row = |id| format!("insert into tasks (id, user_id, title) values ({id}, 'eve', 't');");
    let users = "create table users (id text primary key); insert into users values ('eve');";
    let unique = "create unique index on tasks (title);";
    let referring = users.to_owned() + &table(&[("title", "text references users")]);
    let owned = users.to_owned() + &table(&[("user_id", "text references users")]);
    let cases = [
        ("a sequence that is a little behind", table(&[]) + &row(1) + GRANTS + rls, 201, ""),
        ("a sequence far behind", table(&[]) + &(1..9).map(row).collect::<String>() + GRANTS + rls, 503, ""),
        ("a text that must be unique", table(&[]) + unique + &row(9) + GRANTS + rls, 422, "unique_violation"),
        ("a user who is gone", owned + GRANTS + rls, 401, "INVALID_TOKEN"),
        ("a text that refers to nothing", referring + GRANTS + rls, 422, "foreign_key_violation"),
    ];
    in_parallel(&cases, |number, (case, sql, status, told)| {
        let service = Service::start(&cluster, &prepare(&cluster, number, sql));
        let created = service.create("ada", json!({"title": "t"}));
        assert_eq!(created.status, *status, "{case}: {created:?}");
        assert!(created.body.contains(told), "{case}: {created:?}");
    });
}

/// Nothing that a client sends with a read can be wrong in this way.
#[test]
fn read_when_a_policy_raises_an_error_is_a_503_and_logged() {
    let cluster = Cluster::start();
    let raises = ["", "using errcode = 'check_violation'", "using errcode = '22001'", "using errcode = '23503'"];
    in_parallel(&raises, |number, how| {
        let policy = format!(
            "create function f() returns boolean as $$ begin raise exception 'no session' {how}; end $$ \
             language plpgsql; create policy p on tasks using (f());"
        );
        let rls = "insert into tasks (user_id, title) values ('ada', 'a'); \
                   alter table tasks enable row level security;";
        let url = prepare(&cluster, number, &(table(&[]) + GRANTS + rls + &policy));
        let service = Service::start(&cluster, &url);
        for target in ["/api/tasks", "/api/tasks/1", "/api/tasks?search=a"] {
            let answer = service.send("ada", "GET", target, None);
            assert_eq!(answer.status, 503, "{how}: {target} {answer:?}");
        }
        let answer = service.send("ada", "PUT", "/api/tasks/1", Some(&json!({})));
        assert_eq!(answer.status, 503, "{how}: {answer:?}");
        let logged = "a rule of the database prevents reading: SQLSTATE ";
        support::wait_until("each to be logged", || service.log().matches(logged).count() == 4);
    });
}

#[test]
fn role_when_rights_come_another_way_is_served() {
    let cluster = Cluster::start();
    let cases = [
        (table(&[]) + GRANTS, false),
        (table(&[]) + "create role group_app; grant all on tasks to group_app; grant group_app to app", false),
        (table(&[]) + GRANTS + "alter table tasks enable row level security; alter role app bypassrls", false),
        (
            table(&[]) + GRANTS + "alter table tasks enable row level security; create policy p on tasks using (true)",
            true,
        ),
        (table(&[]) + "alter table tasks owner to app; alter table tasks enable row level security", false),
        (
            format!(
                "{} grant select ({}, xmin), insert ({}), update ({}), delete on tasks to app",
                table(&[]),
                columns_without(&[]),
                columns_without(&["id"]),
                columns_without(&["id", "user_id", "created_at"])
            ),
            false,
        ),
        ("grant create on schema public to app".to_owned(), false),
    ];
    in_parallel(&cases, |number, (sql, warns)| {
        let url = prepare(&cluster, number, sql);
        let service = Service::start(&cluster, &url);
        service.assert_serves(sql, &["ada", "eve"]);
        assert_eq!(failures(&check(&url)), Vec::<String>::new(), "{sql}");
        let warnings = service.log().matches("row-level security hides the tasks").count();
        assert_eq!(warnings, usize::from(*warns), "{sql}");
    });
}

/// Each state of the database is logged once, as what it is.
#[test]
fn log_when_the_database_refuses_or_does_not_answer_tells_the_difference() {
    let mut cluster = Cluster::start_with(&[], |data| {
        let rules = "host all secret all scram-sha-256\nhost all all all trust\n";
        Cluster::write_private(&data.join("pg_hba.conf"), rules);
    });
    cluster.client().batch_execute("create role secret login password 'right'").unwrap();
    let url = cluster.url();
    for (url, why) in [
        (url.replace("todo@", "secret:wrong@"), "password authentication failed"),
        (url.replace("todo@", "secret@"), "password missing"),
        (url.replace("todo@", "nobody@"), "role \"nobody\" does not exist"),
        (url.replace("/postgres", "/later"), "database \"later\" does not exist"),
    ] {
        let service = Service::start(&cluster, &url);
        service.assert_unavailable(&url, why);
        assert_eq!(service.count_logged("the database refused the connection"), 1, "{why}: {}", service.log());
        assert_eq!(service.log().matches("unreachable").count(), 0, "{why}: {}", service.log());
        assert!(!service.log().contains("wrong"), "the password is in the log");
    }

    let service = Service::start(&cluster, &url.replace("/postgres", "/later"));
    service.count_logged("the database refused the connection");
    cluster.stop();
    service.count_logged("the database is unreachable");
    cluster.resume();
    database(&cluster, "later", "", "");
    support::wait_until("the database to be used", || service.send("ada", "GET", "/api/tasks", None).status == 200);
    cluster.stop();
    support::wait_until("the end to be noticed", || service.send("ada", "GET", "/api/tasks", None).status == 503);
    let log = service.log();
    for (text, times) in [("refused the connection", 2), ("connected to the database", 1)] {
        assert!(log.matches(text).count() <= times, "{text}: {log}");
    }
}

/// The database answers some connections and refuses others: what can be served is, and the log says so once.
#[test]
fn connection_limit_of_the_role_when_reached_is_logged_and_requests_are_served() {
    let cluster = Cluster::start();
    let url = prepare(&cluster, 0, &format!("{}{GRANTS} alter role app connection limit 1", table(&[])));
    let service = Service::start(&cluster, &url);
    service.count_logged("connected to the database");
    in_parallel(&["ada", "eve", "kim", "joe", "sue", "tom"], |_, user| {
        for number in 0..200 {
            let created = service.create(user, json!({"title": "a"}));
            assert_eq!(created.status, 201, "request {number}: {created:?} {}", service.log());
        }
    });
    assert_eq!(service.count_logged("too many connections for role"), 1, "{}", service.log());
    service.count_logged("the database answers, but refuses another connection");
}
