//! Behind PgBouncer in transaction mode, which gives each statement whatever backend is free: more clients than backends,
//! two servers, and no request fails or gets another's answer.

mod support;

use std::thread;

use serde_json::json;
use support::pgbouncer::{BACKENDS, PgBouncer};
use support::{Cluster, Server, token};

const CLIENTS: usize = 16;
const REQUESTS_PER_CLIENT: usize = 625;

#[test]
fn no_request_fails_behind_a_pooler_without_named_statements() {
    let cluster = Cluster::start();
    let bouncer = PgBouncer::start(&cluster, "transaction");
    let servers = [Server::start(&bouncer.url()), Server::start(&bouncer.url())];
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let server = &servers[client % servers.len()];
            scope.spawn(move || keep_tasks(server, &format!("user-{client}"), REQUESTS_PER_CLIENT));
        }
    });
    println!("{CLIENTS} clients, {BACKENDS} backends, {} requests: none failed", CLIENTS * REQUESTS_PER_CLIENT);
}

/// There a connection has one backend for itself, and PgBouncer still announces a number of its own: nothing is prepared,
/// and everything works.
#[test]
fn a_pooler_in_session_mode_is_served_as_well() {
    let cluster = Cluster::start();
    let bouncer = PgBouncer::start(&cluster, "session");
    let backends = BACKENDS.to_string();
    let server = Server::start_with(&bouncer.url(), &[("DB_POOL_SIZE", &backends)]);
    thread::scope(|scope| {
        for client in 0..BACKENDS {
            let server = &server;
            scope.spawn(move || keep_tasks(server, &format!("user-{client}"), 100));
        }
    });
}

/// The connections that it ended are noticed before a request gets one.
#[test]
fn a_pooler_that_restarts_is_reconnected_to() {
    let cluster = Cluster::start();
    let mut bouncer = PgBouncer::start(&cluster, "transaction");
    let server = Server::start(&bouncer.url());
    for _ in 0..3 {
        keep_tasks(&server, "ada", 10);
        bouncer.restart();
    }
}

/// Creates, reads, changes, toggles and deletes, and compares each answer.
fn keep_tasks(server: &Server, user: &str, requests: usize) {
    let token = token(user);
    let send = |method: &str, target: &str, body: Option<&str>, status: u16| {
        let answer = server.request(method, target, Some(&token), body);
        assert_eq!(answer.status, status, "{user}: {method} {target}: {answer:?}");
        answer
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
