//! Behind PgBouncer 1.18, which knows nothing of prepared statements: more clients than backends, two servers, and
//! another client with statements of the same names. No request fails or gets another's response.

mod support;

use std::thread;

use postgres::{Client, NoTls};
use serde_json::json;
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
