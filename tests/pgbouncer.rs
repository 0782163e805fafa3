//! Behind PgBouncer 1.18, which knows nothing of prepared statements: more clients than backends, two servers, and
//! another client with statements of the same names. No request fails or gets another's response.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use postgres::{Client, NoTls};
use serde_json::json;
use support::compatibility::{Service, check, connect, database, failures, in_parallel, table};
use support::pgbouncer::{BACKENDS, PgBouncer};
use support::{Cluster, Server, token};

/// PgBouncer passes no start-up option on. By default it refuses a client that sends one; with this it ignores them.
const IGNORE_OPTIONS: &str = "ignore_startup_parameters = options";
/// Both, with their names.
const OPTION_SETTINGS: [(&str, &str); 2] = [("options refused", ""), ("options ignored", IGNORE_OPTIONS)];
/// How many statements another client has prepared on each backend: `s0`, `s1` and so on, as the library calls ours.
const FOREIGN_STATEMENTS: i64 = 100;

#[test]
fn requests_when_pooled_by_transaction_are_all_served_without_named_statements() {
    const CLIENTS: usize = 16;
    const REQUESTS_PER_CLIENT: usize = 300;
    for (name, settings) in OPTION_SETTINGS {
        let cluster = Cluster::start();
        let bouncer = PgBouncer::start_with(&cluster, "transaction", settings);
        let backends = prepare_on_each_backend(&bouncer);
        let servers = [Server::start(&bouncer.url()), Server::start(&bouncer.url())];
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let server = &servers[client % servers.len()];
                scope.spawn(move || keep_tasks(server, &format!("user-{client}"), REQUESTS_PER_CLIENT));
            }
        });
        assert_eq!(statements_of_each_backend(&bouncer), backends, "{name}: a server has prepared a statement");
        println!("{name}: {CLIENTS} clients, {BACKENDS} backends, {} requests", CLIENTS * REQUESTS_PER_CLIENT);
    }
}

/// There a connection has a backend for itself. Nothing is prepared all the same, and everything works.
#[test]
fn requests_when_pooled_by_session_are_all_served() {
    for (name, settings) in OPTION_SETTINGS {
        let cluster = Cluster::start();
        let bouncer = PgBouncer::start_with(&cluster, "session", settings);
        let backends = BACKENDS.to_string();
        let server = Server::start_with(&bouncer.url(), &[("DB_POOL_SIZE", &backends)]);
        thread::scope(|scope| {
            for client in 0..BACKENDS {
                let server = &server;
                scope.spawn(move || keep_tasks(server, &format!("user-{client}"), 100));
            }
        });
        println!("{name}: {} requests", BACKENDS * 100);
    }
}

/// A server finds a connection that the pooler ended before a request gets it.
#[test]
fn requests_when_the_pooler_restarts_are_all_served() {
    for (_, settings) in OPTION_SETTINGS {
        let cluster = Cluster::start();
        let mut bouncer = PgBouncer::start_with(&cluster, "transaction", settings);
        let server = Server::start(&bouncer.url());
        for _ in 0..3 {
            keep_tasks(&server, "ada", 10);
            bouncer.restart();
        }
    }
}

/// A pooler passes no start-up option on, so what the role or the database sets holds.
#[test]
fn setting_of_the_role_when_pooled_does_not_change_a_response() {
    let settings = [
        vec!["timezone to 'Asia/Tokyo'", "datestyle to 'German'", "intervalstyle to 'sql_standard'"],
        vec!["timezone to '<-13>+13'", "datestyle to 'SQL, DMY'", "extra_float_digits to -15"],
        vec!["standard_conforming_strings to off", "bytea_output to 'escape'", "quote_all_identifiers to on"],
        vec!["default_transaction_isolation to 'serializable'", "default_transaction_deferrable to on"],
        vec!["default_transaction_isolation to 'repeatable read'", "transform_null_equals to on"],
        vec!["client_encoding to 'LATIN1'", "client_min_messages to debug5", "synchronous_commit to off"],
        vec!["client_encoding to 'SQL_ASCII'", "session_replication_role to replica", "lc_messages to 'C.UTF-8'"],
        vec!["plan_cache_mode to force_generic_plan", "array_nulls to off", "row_security to off"],
        vec!["statement_timeout to '20s'", "lock_timeout to '5s'", "idle_in_transaction_session_timeout to '5s'"],
        vec!["search_path to nowhere, public"],
    ];
    let cluster = Cluster::start();
    let columns = table(&[("created_at", "timestamp not null"), ("updated_at", "timestamp not null")]);
    for mode in ["transaction", "session"] {
        for (name, options) in OPTION_SETTINGS {
            let bouncer = PgBouncer::start_with(&cluster, mode, options);
            in_parallel(&settings, |number, settings| {
                let case = format!("{mode}, {name}: {settings:?}");
                let name = format!("{mode}{}{number}", options.len());
                let sets = if number % 2 == 0 { "alter role todo in database" } else { "alter database" };
                let set: String = settings.iter().map(|setting| format!("{sets} {name} set {setting};")).collect();
                let url = database(&cluster, &name, "", &format!("{columns} {set}"));
                let pooled = bouncer.url().replace("/postgres", &format!("/{name}"));
                let service = Service::start(&cluster, &pooled);
                service.assert_serves(&case, &["ada", "ADA"]);
                let created = service.create("ada", json!({"title": "☑ \\ '' é", "description": "\\x00"}));
                assert_eq!(created.json()["title"], "☑ \\ '' é", "{case}");
                assert_eq!(service.list("ada", "?search=%E2%98%91%20%5C").len(), 1, "{case}");
                let age =
                    "select abs(extract(epoch from now() at time zone 'UTC' - max(created_at)))::float8 from tasks";
                let age: f64 = connect(&url).query_one(age, &[]).unwrap().get(0);
                assert!(age < 60.0, "{case}: {age} s away");
                for level in ["WARN", "ERROR"] {
                    assert_eq!(service.log().matches(level).count(), 0, "{case}: {}", service.log());
                }
            });
        }
    }
}

/// At a stricter isolation level of the role, statements that meet are tried again. Each toggle counts, or is a 503.
#[test]
fn writes_when_pooled_at_a_stricter_isolation_level_are_done_once_or_not_at_all() {
    let cluster = Cluster::start();
    for level in ["serializable", "repeatable read"] {
        let name = level.replace(' ', "_");
        let url = database(&cluster, &name, "", &table(&[]));
        let set = format!("alter database {name} set default_transaction_isolation to '{level}'");
        connect(&url).batch_execute(&set).unwrap();
        let bouncer = PgBouncer::start_with(&cluster, "transaction", IGNORE_OPTIONS);
        let service = Service::start(&cluster, &bouncer.url().replace("/postgres", &format!("/{name}")));
        let path = format!("/api/tasks/{}/complete", service.create("ada", json!({"title": "a"})).json()["id"]);
        let done = AtomicUsize::new(0);
        in_parallel(&[(); 6], |_, ()| {
            for _ in 0..20 {
                let status = service.send("ada", "PATCH", &path, None).status;
                assert!([200, 503].contains(&status), "{level}: {status}");
                done.fetch_add(usize::from(status == 200), Ordering::Relaxed);
            }
        });
        let done = done.into_inner();
        println!("{level}: {done} of 120 toggles are done");
        assert!(done > 0, "{level}");
        assert_eq!(service.list("ada", "")[0]["completed"], json!(done % 2 == 1), "{level}: {done}");
    }
}

/// A role that may only read behind a pooler: reads are served, writes are 503 and change nothing.
#[test]
fn role_when_pooled_and_read_only_reads() {
    let cluster = Cluster::start();
    let url = database(&cluster, "reads", "", &(table(&[]) + "insert into tasks (user_id, title) values ('ada', 'a')"));
    connect(&url).batch_execute("alter database reads set default_transaction_read_only to on").unwrap();
    let bouncer = PgBouncer::start_with(&cluster, "transaction", IGNORE_OPTIONS);
    let service = Service::start(&cluster, &bouncer.url().replace("/postgres", "/reads"));
    assert_eq!(service.create("ada", json!({"title": "b"})).status, 503);
    assert_eq!(service.list("ada", "").len(), 1);
}

/// A search path of the URL that a pooler drops would mean another table `tasks`.
#[test]
fn search_path_of_the_url_when_the_pooler_drops_it_is_not_lost() {
    let cluster = Cluster::start();
    let sql = format!("{} create schema app; set search_path = app; {}", table(&[]), table(&[]));
    let url = database(&cluster, "paths", "", &sql);
    for mode in ["transaction", "session"] {
        for (name, options) in OPTION_SETTINGS {
            let bouncer = PgBouncer::start_with(&cluster, mode, options);
            let pooled = bouncer.url().replace("/postgres", "/paths?search_path=app");
            let service = Service::start(&cluster, &pooled);
            assert_eq!(service.create("ada", json!({"title": "a"})).status, 503, "{mode} {name}");
            let why = ["unsupported startup parameter: options", "search_path: set it for the role"];
            let why = why[usize::from(!options.is_empty())];
            service.count_logged(why);
            let failed = failures(&check(&pooled));
            assert!(failed.len() == 1 && failed[0].contains(why), "{mode} {name}: {failed:?}");
            let written: i64 = connect(&url).query_one("select count(*) from public.tasks", &[]).unwrap().get(0);
            assert_eq!(written, 0, "{mode} {name}: another table was written");
        }
    }
}

/// Runs `work` with a client of each backend at the same time: an open transaction keeps a backend to itself.
fn with_each_backend<T>(bouncer: &PgBouncer, mut work: impl FnMut(&mut Client) -> T) -> Vec<T> {
    let mut clients: Vec<_> = (0..BACKENDS).map(|_| Client::connect(&bouncer.url(), NoTls).unwrap()).collect();
    clients.iter_mut().for_each(|client| client.batch_execute("begin").unwrap());
    let results = clients.iter_mut().map(&mut work).collect();
    clients.iter_mut().for_each(|client| client.batch_execute("commit").unwrap());
    results
}

/// Prepares statements of another program on each backend; which backends there are, and how many statements each has.
fn prepare_on_each_backend(bouncer: &PgBouncer) -> Vec<(i64, i64)> {
    let prepare = |number| format!("prepare s{number} as select 'of another program' as id;");
    let all: String = (0..FOREIGN_STATEMENTS).map(prepare).collect();
    with_each_backend(bouncer, |client| client.batch_execute(&all).unwrap());
    let backends = statements_of_each_backend(bouncer);
    assert_eq!(backends.len(), BACKENDS);
    assert!(backends.iter().all(|(_, statements)| *statements == FOREIGN_STATEMENTS), "{backends:?}");
    backends
}

/// The process of each backend, and how many statements are prepared there.
fn statements_of_each_backend(bouncer: &PgBouncer) -> Vec<(i64, i64)> {
    let count = "select pg_backend_pid(), (select count(*) from pg_prepared_statements)";
    let mut backends = with_each_backend(bouncer, |client| {
        let messages = client.simple_query(count).unwrap();
        let row = messages.iter().find_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let number = |column| row.unwrap().get(column).unwrap().parse().unwrap();
        (number(0), number(1))
    });
    backends.sort_unstable();
    backends
}

/// Creates, reads, changes, lists and deletes tasks, and compares each response.
fn keep_tasks(server: &Server, user: &str, requests: usize) {
    let token = token(user);
    let send = |method: &str, target: &str, body: Option<&str>, status: u16| {
        let response = server.request(method, target, Some(&token), body);
        assert_eq!(response.status, status, "{user}: {method} {target}: {response:?}");
        response
    };
    for round in 0..requests / 5 {
        let title = format!("{user}, {round}");
        let created = send("POST", "/api/tasks", Some(&json!({ "title": title }).to_string()), 201).json();
        assert_eq!((created["title"].as_str(), created["user_id"].as_str()), (Some(title.as_str()), Some(user)));
        let path = format!("/api/tasks/{}", created["id"]);
        assert_eq!(send("GET", &path, None, 200).json(), created);
        assert_eq!(send("PATCH", &format!("{path}/complete"), None, 200).json()["completed"], true);
        assert_eq!(send("GET", "/api/tasks?status=completed&limit=10", None, 200).json()[0]["title"], *title);
        send("DELETE", &path, None, 204);
    }
}
