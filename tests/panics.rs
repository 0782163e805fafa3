//! A panic costs the requests of its batch a 500, and nothing else: no worker, no connection, no later request.
//!
//! A debug build panics where the id of a request says so (`enter` in `src/dispatch/job.rs`).

mod support;

use std::thread;
use std::time::Duration;

use support::locks::{lock_tasks, wait_until_blocked};
use support::{Cluster, Response, Server, ServerLog, token};

const WORKERS: usize = 4;
const ORIGIN: &str = "http://localhost:3000";

/// A server with its log, over a cluster of its own, and the id of a task of ada.
struct Stage {
    cluster: Cluster,
    log: ServerLog,
    server: Server,
    id: i64,
}

impl Stage {
    fn start(workers: usize) -> Self {
        let cluster = Cluster::start();
        let log = cluster.server_log();
        let settings = [("DB_POOL_SIZE", &*workers.to_string()), ("RUST_LOG", "info")];
        let server = Server::start_telling(log.create(), &cluster.url(), &settings);
        let id = server.create("ada", "of ada");
        Self { cluster, log, server, id }
    }

    /// What makes a request of this user panic in this stage: the token, and headers behind it.
    fn faulty(stage: &str, user: &str) -> String {
        format!("{}\r\nOrigin: {ORIGIN}\r\nX-Request-Id: panic-in-{stage}", token(user))
    }

    /// Every endpoint answers, and as many requests at once as there are workers.
    fn assert_serves(&self, workers: usize) {
        let ada = token("ada");
        let mut watcher = self.cluster.client();
        for (method, target, body, status) in [
            ("GET", "/api/tasks".to_owned(), None, 200),
            ("GET", "/api/tasks?sort=title".to_owned(), None, 200),
            ("GET", format!("/api/tasks/{}", self.id), None, 200),
            ("PUT", format!("/api/tasks/{}", self.id), Some(r#"{"title":"changed"}"#), 200),
            ("GET", "/ready".to_owned(), None, 200),
            ("GET", "/health".to_owned(), None, 200),
        ] {
            let response = self.server.request(method, &target, Some(&ada), body);
            assert_eq!(response.status, status, "{method} {target}: {response:?}");
        }
        let mut locker = self.cluster.client();
        let lock = lock_tasks(&mut locker);
        let mut sent = Vec::new();
        for number in 0..workers {
            sent.push(self.server.send("GET", "/api/tasks/1", &token(&format!("user-{number}"))));
            wait_until_blocked(&mut watcher, "a worker for each", number as i64 + 1);
        }
        lock.rollback().unwrap();
        for stream in sent {
            assert_eq!(Response::read(stream).status, 404);
        }
    }
}

/// A 500 that the page can read.
fn assert_internal_error(response: &Response, stage: &str) {
    assert_eq!(response.status, 500, "{stage}: {response:?}");
    assert_eq!(response.header("access-control-allow-origin"), Some(ORIGIN), "{stage}: {response:?}");
    assert_eq!(response.header("access-control-allow-credentials"), Some("true"), "{stage}: {response:?}");
    assert_eq!(response.header("x-request-id"), Some(&*format!("panic-in-{stage}")));
    assert_eq!(response.json()["error_code"], "INTERNAL_ERROR", "{stage}: {response:?}");
}

#[test]
fn request_when_it_panics_in_any_stage_is_answered_500_and_nothing_else_is_lost() {
    const REQUESTS: usize = 2 * WORKERS + 1;
    let stage_and_target = |id: i64| {
        [
            ("admission", format!("/api/tasks/{id}")),
            ("plan", format!("/api/tasks/{id}")),
            ("render", format!("/api/tasks/{id}")),
            ("list", "/api/tasks?sort=title".to_owned()),
            ("response", format!("/api/tasks/{id}")),
        ]
    };
    let test = Stage::start(WORKERS);
    for (stage, target) in stage_and_target(test.id) {
        // More than there are workers: none of them is lost.
        let sent: Vec<_> = (0..REQUESTS)
            .map(|number| test.server.send("GET", &target, &Stage::faulty(stage, &format!("user-{number}"))))
            .collect();
        for stream in sent {
            assert_internal_error(&Response::read(stream), stage);
        }
        test.assert_serves(WORKERS);
        let logged = |line: &str| line.contains("status=500") && line.contains(&format!("request_id=panic-in-{stage}"));
        test.log.wait_until("a line for each", |log| log.lines().filter(|line| logged(line)).count() == REQUESTS);
    }
}

#[test]
fn public_request_when_it_panics_is_answered_500() {
    let test = Stage::start(1);
    for stage in ["admission", "response"] {
        for target in ["/health", "/", "/api/none"] {
            assert_internal_error(
                &Response::read(test.server.send("GET", target, &Stage::faulty(stage, "ada"))),
                stage,
            );
        }
    }
    test.assert_serves(1);
}

#[test]
fn write_when_it_panics_after_its_commit_is_answered_500_and_done_once() {
    let test = Stage::start(1);
    for (stage, is_done) in [("plan", false), ("render", true), ("response", true)] {
        let body = format!(r#"{{"title":"{stage}"}}"#);
        let response = test.server.send_json("POST", "/api/tasks", &Stage::faulty(stage, "ada"), &body);
        assert_internal_error(&Response::read(response), stage);
        let sql = "select count(*) from tasks where title = $1";
        let count: i64 = test.cluster.client().query_one(sql, &[&stage]).unwrap().get(0);
        assert_eq!(count, i64::from(is_done), "{stage}");
    }
    test.assert_serves(1);
}

#[test]
fn request_when_another_of_its_batch_panics_is_answered_or_fails_and_other_batches_are_served() {
    const OTHERS: usize = 8;
    let test = Stage::start(1);
    let target = format!("/api/tasks/{}", test.id);
    for stage in ["plan", "render", "response"] {
        let (mut locker, mut watcher) = (test.cluster.client(), test.cluster.client());
        let lock = lock_tasks(&mut locker);
        let before = test.server.send("GET", &target, &token("ada"));
        wait_until_blocked(&mut watcher, "the batch before", 1);
        // The faulty request is of the next batch, which is half of what is queued. Writes are of another.
        let faulty = test.server.send("GET", &target, &Stage::faulty(stage, "ada"));
        let with_origin = format!("{}\r\nOrigin: {ORIGIN}", token("ada"));
        let reads: Vec<_> = (0..OTHERS).map(|_| test.server.send("GET", &target, &with_origin)).collect();
        let writes: Vec<_> = (0..OTHERS)
            .map(|_| test.server.send_json("POST", "/api/tasks", &token("bob"), r#"{"title":"of bob"}"#))
            .collect();
        thread::sleep(Duration::from_millis(200)); // until they are queued
        lock.rollback().unwrap();
        assert_eq!(Response::read(before).status, 200);
        assert_internal_error(&Response::read(faulty), stage);
        let mut failed = 0;
        for response in reads.into_iter().map(Response::read) {
            assert!([200, 500].contains(&response.status), "{stage}: {response:?}");
            assert_eq!(response.header("access-control-allow-origin"), Some(ORIGIN), "{stage}: {response:?}");
            failed += usize::from(response.status == 500);
        }
        assert!(failed < OTHERS.div_ceil(2) + 1, "{stage}: {failed} of {OTHERS} were of the same batch");
        for stream in writes {
            assert_eq!(Response::read(stream).status, 201, "{stage}");
        }
        test.assert_serves(1);
    }
}

#[test]
fn request_when_it_panics_as_it_is_shed_costs_no_other() {
    let test = Stage::start(1);
    let (mut locker, mut watcher) = (test.cluster.client(), test.cluster.client());
    let lock = lock_tasks(&mut locker);
    let target = format!("/api/tasks/{}", test.id);
    let first = test.server.send("GET", &target, &token("ada"));
    wait_until_blocked(&mut watcher, "the first", 1);
    // These are queued until their time is up, and are then shed.
    let faulty = test.server.send("GET", &target, &Stage::faulty("response", "bob"));
    let others: Vec<_> = (0..3).map(|_| test.server.send("GET", &target, &token("bob"))).collect();
    assert_internal_error(&Response::read(faulty), "response");
    for stream in others {
        assert_eq!(Response::read(stream).status, 503);
    }
    lock.rollback().unwrap();
    assert!([200, 503].contains(&Response::read(first).status));
    test.assert_serves(1);
}
