//! Load shedding when the database is slow, and closing of connections when nobody uses it.
//!
//! Runs alone: it measures time and memory.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use support::locks::{lock_tasks, wait_until_blocked};
use support::proxy::{Proxy, Way};
use support::{Cluster, Response, Server, raise_descriptor_limit, token, wait_until};

/// More than the queue holds and the workers take.
const REQUESTS: usize = 1_300;
const QUEUE: usize = 1_024;
const WORKERS: usize = 8;
/// The most lists of a batch.
const BATCH: usize = 8;
/// How long a job may be queued.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is instant, on a noisy machine.
const INSTANT: Duration = Duration::from_millis(500);
/// So many that no limit of a single user matters.
const USERS: usize = 100;
/// The longest that a request may take: 5 s in the queue, then a batch whose statements PostgreSQL cancels one after
/// the other (11 s in all), and tolerance for a noisy machine.
const LONGEST: Duration = Duration::from_secs(5 + 11 + 2);

#[test]
fn requests_when_the_queue_is_full_are_shed_at_once() {
    raise_descriptor_limit();
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    let token = token("ada");
    assert_eq!(server.request("GET", "/api/tasks", Some(&token), None).status, 200);
    let mut locker = cluster.client();
    let transaction = lock_tasks(&mut locker);

    let users: Vec<String> = (0..USERS).map(|number| support::token(&format!("user-{number}"))).collect();
    let begun = Instant::now();
    let streams: Vec<TcpStream> =
        (0..REQUESTS).map(|number| server.send("GET", "/api/tasks", &users[number % USERS])).collect();
    let sent = begun.elapsed();
    // No job expires before 5 s: what is answered by now was shed.
    let health = Instant::now();
    assert_eq!(server.request("GET", "/health", None, None).status, 200);
    assert!(health.elapsed() < INSTANT, "/health took {:?}", health.elapsed());
    let mut responses: Vec<(Response, Duration)> = thread::scope(|scope| {
        let reading: Vec<_> =
            streams.into_iter().map(|stream| scope.spawn(move || (Response::read(stream), begun.elapsed()))).collect();
        while begun.elapsed() < Duration::from_secs(4) {
            assert_eq!(server.request("GET", "/health", None, None).status, 200);
            thread::sleep(Duration::from_millis(50));
        }
        reading.into_iter().map(|response| response.join().unwrap()).collect()
    });
    responses.sort_by_key(|(_, took)| *took);
    for (response, _) in &responses {
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{response:?}");
    }
    let shed = responses.iter().filter(|(_, took)| *took < Duration::from_secs(4)).count();
    let last = responses.last().unwrap().1;
    println!("{REQUESTS} requests sent in {sent:?}: {shed} shed at once, the last one answered after {last:?}");
    assert!(shed >= REQUESTS - QUEUE - WORKERS * BATCH, "{shed} were shed at once");
    assert!(last < LONGEST, "took {last:?}");

    transaction.rollback().unwrap();
    wait_until("a success", || server.request("GET", "/api/tasks", Some(&token), None).status == 200);
}

#[test]
fn connections_when_idle_are_closed_and_none_is_opened() {
    let cluster = Cluster::start();
    let proxy = Proxy::start(Way::To(cluster.port));
    let server = Server::start_with(&proxy.url(), &[("DB_IDLE_TIMEOUT_MS", "1000")]);
    let list = || server.request("GET", "/api/tasks", Some(&token("ada")), None).status;
    thread::scope(|scope| (0..16).for_each(|_| drop(scope.spawn(|| assert_eq!(list(), 200)))));
    let mut watcher = cluster.client();
    let mut connections = || {
        let ours = "select count(*) from pg_stat_activity where application_name = 'todo-backend'";
        watcher.query_one(ours, &[]).unwrap().get::<_, i64>(0)
    };
    let begun = Instant::now();
    assert!(connections() > 0);
    // The pool looks every 30 s.
    while connections() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(40), "{} are still there", connections());
        thread::sleep(Duration::from_millis(100));
    }
    let arrived = proxy.arrived();
    println!("{arrived} connections were gone after {:?}", begun.elapsed());
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(2) {
        assert_eq!((connections(), proxy.arrived()), (0, arrived));
        thread::sleep(Duration::from_millis(100));
    }
    let abandoned = "select sessions_abandoned from pg_stat_database where datname = current_database()";
    assert_eq!(watcher.query_one(abandoned, &[]).unwrap().get::<_, i64>(0), 0, "each was ended by a Terminate");
    assert_eq!(list(), 200, "the first request after that");
}

/// What needs no worker is answered on the accept thread, however busy the database is.
#[test]
fn requests_that_need_no_worker_when_every_worker_is_blocked_are_answered() {
    const POOL: usize = 4;
    const PAGE: &str = "http://localhost:3000";
    let cluster = Cluster::start();
    let variables = [("DB_POOL_SIZE", "4"), ("DB_STATEMENT_TIMEOUT_MS", "20000"), ("ALLOWED_ORIGINS", PAGE)];
    let server = Server::start_with(&cluster.url(), &variables);
    assert_eq!(server.request("GET", "/api/tasks", Some(&token("ada")), None).status, 200);
    let mut locker = cluster.client();
    let lock = lock_tasks(&mut locker);
    let mut lists = Vec::new();
    for number in 0..POOL {
        lists.push(server.send("GET", "/api/tasks", &token(&format!("user-{number}"))));
        wait_until_blocked(&mut cluster.client(), "a worker to be blocked", number as i64 + 1);
    }
    // One more would have to wait.
    lists.push(server.send("GET", "/api/tasks", &token("ada")));

    let preflight = "Access-Control-Request-Method: POST\r\n".to_owned();
    let valid = format!("Authorization: Bearer {}\r\n", token("ada"));
    for (method, target, headers, status) in [
        ("OPTIONS", "/api/tasks", preflight.as_str(), 204),
        ("GET", "/health", "", 200),
        ("GET", "/", "", 200),
        ("GET", "/docs", "", 200),
        ("GET", "/openapi.json", "", 200),
        ("GET", "/nowhere", "", 404),
        ("DELETE", "/health", "", 405),
        ("GET", "/api/tasks", "", 401),
        ("GET", "/api/tasks", "Authorization: Bearer forged\r\n", 401),
        // Also with a valid token, as far as the head tells.
        ("GET", "/api/nowhere", &valid, 404),
        ("PATCH", "/api/tasks", &valid, 405),
        ("GET", "/api/tasks/none", &valid, 422),
    ] {
        let begun = Instant::now();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {PAGE}\r\n{headers}\r\n"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let response = Response::read(stream);
        assert_eq!(response.status, status, "{method} {target}: {response:?}");
        assert_eq!(response.header("access-control-allow-origin"), Some(PAGE), "{method} {target}: {response:?}");
        assert!(begun.elapsed() < INSTANT, "{method} {target} took {:?}", begun.elapsed());
    }
    lock.rollback().unwrap();
    lists.into_iter().for_each(|list| assert_eq!(Response::read(list).status, 200));
}

/// What expires is shed whether or not requests come.
#[test]
fn queued_request_when_no_other_comes_expires_in_time() {
    let cluster = Cluster::start();
    let variables = [("DB_POOL_SIZE", "1"), ("DB_STATEMENT_TIMEOUT_MS", "20000")];
    let server = Server::start_with(&cluster.url(), &variables);
    assert_eq!(server.request("GET", "/api/tasks", Some(&token("ada")), None).status, 200);
    let mut locker = cluster.client();
    let lock = lock_tasks(&mut locker);
    let running = server.send("GET", "/api/tasks", &token("ada"));
    wait_until_blocked(&mut cluster.client(), "the only worker to be blocked", 1);
    let begun = Instant::now();
    let queued = Response::read(server.send("GET", "/api/tasks", &token("eve")));
    let took = begun.elapsed();
    assert_eq!((queued.status, queued.header("retry-after")), (503, Some("1")), "{queued:?}");
    assert!(took >= QUEUE_TIMEOUT && took < QUEUE_TIMEOUT + INSTANT, "took {took:?}");
    lock.rollback().unwrap();
    assert_eq!(Response::read(running).status, 200);
}
