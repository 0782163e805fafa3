//! The database is down, restarts, stops answering, or has a table that cannot be served: nothing hangs, and the server
//! recovers.

mod support;

use std::time::{Duration, Instant};

use support::locks::{lock_tasks, wait_until_blocked};
use support::{Cluster, Response, Server, signal, token, wait_until};

/// The longest that a request may take: a statement's timeout (6 s), and tolerance for a noisy machine.
const LONGEST: Duration = Duration::from_secs(8);
/// How soon after the database's return the first request must succeed.
const RECOVERY: Duration = Duration::from_secs(1);
/// What is instant, on a noisy machine.
const INSTANT: Duration = Duration::from_millis(500);

fn timed(work: impl FnOnce() -> Response) -> (Response, Duration) {
    let begun = Instant::now();
    let response = work();
    (response, begun.elapsed())
}

fn list(server: &Server) -> Response {
    server.request("GET", "/api/tasks", Some(&token("ada")), None)
}

fn assert_unavailable(response: &Response) {
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.json()["error_code"], "SERVICE_UNAVAILABLE");
    assert_eq!(response.header("retry-after"), Some("1"));
}

fn assert_alive(server: &Server) {
    let (health, took) = timed(|| server.request("GET", "/health", None, None));
    assert_eq!(health.status, 200);
    assert!(took < INSTANT, "/health took {took:?}");
}

fn assert_recovers(server: &Server) {
    let begun = Instant::now();
    wait_until("a first success", || list(server).status == 200);
    println!("first success {:?} after the return", begun.elapsed());
    assert!(begun.elapsed() < RECOVERY, "took {:?}", begun.elapsed());
    wait_until("/ready", || server.request("GET", "/ready", None, None).status == 200);
}

#[test]
fn server_when_the_database_is_down_at_the_start_recovers() {
    let mut cluster = Cluster::start();
    cluster.stop();
    let server = Server::start(&cluster.url());
    assert_alive(&server);
    assert_unavailable(&server.request("GET", "/ready", None, None));
    for _ in 0..20 {
        let (response, took) = timed(|| list(&server));
        assert_unavailable(&response);
        assert!(took < LONGEST, "took {took:?}");
    }
    cluster.resume();
    assert_recovers(&server);
}

#[test]
fn server_when_the_database_restarts_recovers_within_a_second() {
    let mut cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    assert_eq!(list(&server).status, 200);
    cluster.stop();
    for _ in 0..20 {
        let (response, took) = timed(|| list(&server));
        assert_unavailable(&response);
        assert!(took < LONGEST, "took {took:?}");
        assert_alive(&server);
    }
    cluster.resume();
    assert_recovers(&server);
}

#[test]
fn request_when_all_idle_connections_were_ended_succeeds() {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    for round in 0..10 {
        assert_eq!(list(&server).status, 200, "round {round}");
        let end_all = "select pg_terminate_backend(pid, 5000) from pg_stat_activity \
                       where application_name = 'todo-backend'";
        assert!(!cluster.client().query(end_all, &[]).unwrap().is_empty());
    }
}

#[test]
fn requests_when_the_database_is_stopped_by_sigstop_are_answered_in_time() {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    assert_eq!(list(&server).status, 200);
    cluster.signal_all("STOP");
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let (response, took) = timed(|| list(&server));
                assert_unavailable(&response);
                assert!(took < LONGEST, "took {took:?}");
            });
        }
        for _ in 0..20 {
            assert_alive(&server);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    cluster.signal_all("CONT");
    assert_recovers(&server);
}

#[test]
fn request_in_flight_when_sigterm_comes_is_answered() {
    let cluster = Cluster::start();
    let mut server = Server::start(&cluster.url());
    let mut locker = cluster.client();
    assert_eq!(list(&server).status, 200);
    let transaction = lock_tasks(&mut locker);
    let under_way = server.send("GET", "/api/tasks", &token("ada"));
    wait_until_blocked(&mut cluster.client(), "a statement that waits", 1);
    signal(server.id(), "TERM");
    transaction.rollback().unwrap();
    assert_eq!(Response::read(under_way).status, 200);
    assert_eq!(server.wait(), Some(0));
}

/// No connection is made, the log names column and type once, and the server recovers when the table is mended.
#[test]
fn server_when_the_table_cannot_be_served_says_why_and_recovers() {
    let cluster = Cluster::start();
    let mut owner = cluster.client();
    owner.batch_execute(include_str!("../schema.sql")).unwrap();
    owner.batch_execute("alter table tasks alter completed drop default, alter completed type text").unwrap();
    let log = cluster.server_log();
    let server = Server::start_telling(log.create(), &cluster.url(), &[("RUST_LOG", "info")]);
    let why = "the database refused the connection: ";
    log.wait_until("the cause", |log| log.contains(why) && log.contains("`completed` is text, not boolean"));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let (response, took) = timed(|| list(&server));
        assert_unavailable(&response);
        assert!(took < LONGEST, "took {took:?}");
        assert_unavailable(&server.request("GET", "/ready", None, None));
        assert_alive(&server);
    }
    owner.batch_execute("alter table tasks alter completed type boolean using false").unwrap();
    assert_recovers(&server);
    let log = log.wait_until("the recovery", |log| log.contains("connected to the database"));
    assert_eq!(log.matches("WARN").count() + log.matches("ERROR").count(), 1, "{log}");
}
