//! A database that is slow, and one that nobody uses: load is shed at once, and every connection let go.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::locks::{lock_tasks, wait_until_blocked};
use support::proxy::{Proxy, Way};
use support::{Answer, Cluster, Server, token, wait_until};

/// More than the queue holds and the workers take.
const REQUESTS: usize = 1_300;
const QUEUE: usize = 1_024;
const WORKERS: usize = 8;
/// So many that none of them has a worker more than is theirs.
const USERS: usize = 100;

#[test]
fn a_slow_database_fills_a_bounded_queue_and_the_rest_is_shed_at_once() {
    // A descriptor for each, in both processes.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
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
    // The queue gives nobody up before 5 s: what is answered by now was shed.
    let health = Instant::now();
    assert_eq!(server.request("GET", "/health", None, None).status, 200);
    assert!(health.elapsed() < Duration::from_millis(500), "/health took {:?}", health.elapsed());
    let mut answers: Vec<(Answer, Duration)> = thread::scope(|scope| {
        let reading: Vec<_> =
            streams.into_iter().map(|stream| scope.spawn(move || (Answer::read(stream), begun.elapsed()))).collect();
        while begun.elapsed() < Duration::from_secs(4) {
            assert_eq!(server.request("GET", "/health", None, None).status, 200);
            thread::sleep(Duration::from_millis(50));
        }
        reading.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    answers.sort_by_key(|(_, took)| *took);
    for (answer, _) in &answers {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    }
    let shed = answers.iter().filter(|(_, took)| *took < Duration::from_secs(4)).count();
    let last = answers.last().unwrap().1;
    println!("{REQUESTS} requests sent in {sent:?}: {shed} shed at once, the last one answered after {last:?}");
    assert!(shed >= REQUESTS - QUEUE - 2 * WORKERS, "{shed} were shed at once");
    assert!(last < Duration::from_secs(13), "took {last:?}");

    transaction.rollback().unwrap();
    wait_until("a success", || server.request("GET", "/api/tasks", Some(&token), None).status == 200);
}

#[test]
fn without_traffic_every_connection_goes_and_none_is_made() {
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
    assert_eq!(list(), 200, "the first request after that");
}

#[test]
fn a_preflight_that_nobody_has_time_for_still_lets_the_page_ask() {
    let cluster = Cluster::start();
    let page = "http://localhost:3000";
    let variables = [("DB_POOL_SIZE", "1"), ("DB_STATEMENT_TIMEOUT_MS", "20000"), ("ALLOWED_ORIGINS", page)];
    let server = Server::start_with(&cluster.url(), &variables);
    assert_eq!(server.request("GET", "/api/tasks", Some(&token("ada")), None).status, 200);
    let mut locker = cluster.client();
    let lock = lock_tasks(&mut locker);
    let list = server.send("GET", "/api/tasks", &token("ada"));
    wait_until_blocked(&mut cluster.client(), "the only worker", 1);
    let headers = format!("Connection: close\r\nOrigin: {page}\r\nAccess-Control-Request-Method: POST");
    let request = format!("OPTIONS /api/tasks HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n");
    let mut preflight = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    preflight.write_all(request.as_bytes()).unwrap();
    let answer = Answer::read(preflight);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some(page)), "{answer:?}");
    lock.rollback().unwrap();
    assert_eq!(Answer::read(list).status, 200);
}
