//! What one user may take from the others: whatever they ask for, and however often, everybody else is still served.
//!
//! Runs alone: it measures time and memory.

mod support;

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use support::locks::{blocked_statements, lock_tasks, wait_until_blocked};
use support::{Answer, Cluster, Server, token, wait_until};

/// As many as the server has by default.
const WORKERS: i64 = 8;
/// Connections that pages of long lists may take.
const PAGES: i64 = WORKERS / 4;
/// What a user has who is alone.
const ALONE: i64 = WORKERS - 1 - PAGES;
/// How many requests of one user may wait.
const LINE: usize = 512;

/// Sends so many requests that cannot end while the row is locked, and leaves their answers for later.
fn send_toggles(server: &Server, user: &str, id: i64, count: usize) -> Vec<TcpStream> {
    let token = token(user);
    (0..count).map(|_| server.send("PATCH", &format!("/api/tasks/{id}/complete"), &token)).collect()
}

/// Lists the user's tasks for a while, and how long the slowest list took.
fn slowest_list(server: &Server, user: &str) -> Duration {
    let token = token(user);
    let list = || {
        let begun = Instant::now();
        assert_eq!(server.request("GET", "/api/tasks", Some(&token), None).status, 200);
        begun.elapsed()
    };
    (0..100).map(|_| list()).max().unwrap()
}

#[test]
fn whatever_one_user_asks_for_another_is_served() {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    let created = server.request("POST", "/api/tasks", Some(&token("ada")), Some(r#"{"title":"a"}"#));
    let id = created.json()["id"].as_i64().unwrap();
    let (mut locker, mut watcher) = (cluster.client(), cluster.client());

    // Alone, a user has every worker but one and as many as pages of lists may take.
    let mut lock = locker.transaction().unwrap();
    lock.query("select from tasks for update", &[]).unwrap();
    let sent = send_toggles(&server, "ada", id, 20);
    wait_until_blocked(&mut watcher, "all workers that are hers", ALONE);
    let slowest = slowest_list(&server, "bob");
    assert_eq!(blocked_statements(&mut watcher), ALONE);
    println!("beside {} requests of another that hang, the slowest list took {slowest:?}", sent.len());
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    lock.rollback().unwrap();
    for stream in sent {
        assert_eq!(Answer::read(stream).status, 200, "it only had to wait");
    }

    // Beside another who was here a moment ago, half of them, and what is too much is refused to nobody else.
    let mut lock = locker.transaction().unwrap();
    lock.query("select from tasks for update", &[]).unwrap();
    let excess = 40;
    let begun = Instant::now();
    let sent = send_toggles(&server, "ada", id, WORKERS as usize / 2 + LINE + excess);
    let (mut shed, mut waited) = (0, 0);
    let answers: Vec<_> = sent.into_iter().map(|stream| thread::spawn(|| Answer::read(stream))).collect();
    wait_until("the refusal of what is too much", || {
        answers.iter().filter(|answer| answer.is_finished()).count() == excess
    });
    assert_eq!(blocked_statements(&mut watcher), WORKERS / 2);
    let slowest = slowest_list(&server, "bob");
    assert_eq!(blocked_statements(&mut watcher), WORKERS / 2);
    println!("beside {} of them, {slowest:?}, {:?} after the first", answers.len(), begun.elapsed());
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    lock.rollback().unwrap();
    for answer in answers {
        match answer.join().unwrap() {
            Answer { status: 200, .. } => waited += 1,
            answer => {
                assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
                shed += 1;
            }
        }
    }
    assert_eq!((waited, shed), (WORKERS as usize / 2 + LINE, excess));
}

#[test]
fn pages_of_long_lists_and_requests_of_one_user_leave_connections_to_the_others() {
    const LISTS: i64 = 2 * WORKERS;
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    let (ada, bob) = (token("ada"), token("bob"));
    assert_eq!(server.request("GET", "/api/tasks", Some(&ada), None).status, 200);
    let (mut locker, mut watcher) = (cluster.client(), cluster.client());
    // More of each list than the sockets hold for a client that does not read.
    let many = "insert into tasks (user_id, title, description) \
                select 'ada', 'x', repeat('a', 5000) from generate_series(1, 3000)";
    locker.batch_execute(many).unwrap();
    let lists: Vec<_> = (0..LISTS).map(|_| server.send("GET", "/api/tasks", &ada)).collect();
    wait_until("the beginning of each list", || lists.iter().all(|list| list.peek(&mut [0]).unwrap() == 1));
    let lock = lock_tasks(&mut locker);
    let reading: Vec<_> = lists.into_iter().map(|list| thread::spawn(|| Answer::try_read(list))).collect();
    wait_until_blocked(&mut watcher, "all the pages at once", PAGES);
    // Nobody else was here, so her requests take as much as one user can.
    let more: Vec<_> = (0..LISTS).map(|_| server.send("GET", "/api/tasks?limit=1", &ada)).collect();
    wait_until_blocked(&mut watcher, "her requests", PAGES + ALONE);
    assert_eq!(server.request("GET", "/ready", None, None).status, 200);
    let another = server.send("GET", "/api/tasks", &bob);
    wait_until_blocked(&mut watcher, "another's list", PAGES + ALONE + 1);
    lock.rollback().unwrap();
    for answer in more.into_iter().chain([another]) {
        assert_eq!(Answer::read(answer).status, 200);
    }
    for list in reading {
        let whole = list.join().unwrap().unwrap();
        assert_eq!(whole.json().as_array().map(Vec::len), Some(3000));
    }
}

#[test]
fn who_waits_for_too_long_is_told_so() {
    let cluster = Cluster::start();
    let server = Server::start_with(&cluster.url(), &[("DB_POOL_SIZE", "2"), ("DB_STATEMENT_TIMEOUT_MS", "3000")]);
    let created = server.request("POST", "/api/tasks", Some(&token("ada")), Some(r#"{"title":"a"}"#));
    let id = created.json()["id"].as_i64().unwrap();
    let mut locker = cluster.client();
    let mut lock = locker.transaction().unwrap();
    lock.query("select from tasks for update", &[]).unwrap();
    let begun = Instant::now();
    for stream in send_toggles(&server, "ada", id, 50) {
        assert_eq!(Answer::read(stream).status, 503);
    }
    // Two have their turn and lose it after 3 s, one after the other; by then the others have waited for 5 s.
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    lock.rollback().unwrap();
    assert_eq!(Answer::read(send_toggles(&server, "ada", id, 1).remove(0)).status, 200);
}

#[test]
fn a_single_worker_serves_several_requests_of_several_users() {
    let cluster = Cluster::start();
    let server = Server::start_with(&cluster.url(), &[("DB_POOL_SIZE", "1")]);
    thread::scope(|scope| {
        for user in ["ada", "bob", "ada", "ada", "bob", "ada"] {
            let server = &server;
            scope.spawn(move || slowest_list(server, user));
        }
    });
}

#[test]
fn a_search_is_cheap_whatever_is_searched_for() {
    let cluster = Cluster::start();
    // Ten times what the dearest of these takes.
    let server = Server::start_with(&cluster.url(), &[("DB_STATEMENT_TIMEOUT_MS", "3000")]);
    let token = token("ada");
    let list = |query: &str| server.request("GET", &format!("/api/tasks?{query}"), Some(&token), None);
    assert_eq!(list("").status, 200);
    let long = "insert into tasks (user_id, title, description) \
                select 'ada', 'x', repeat('a', 10000) from generate_series(1, 300)";
    cluster.client().batch_execute(long).unwrap();
    let many = "a".repeat(4_000);
    for (text, found) in [
        (format!("b{many}"), "0"),
        (format!("{many}b"), "0"),
        (format!("{0}b{0}", &many[2_000..]), "0"),
        (many.clone(), "300"),
    ] {
        let answer = list(&format!("search={text}&limit=1"));
        assert_eq!((answer.status, answer.header("x-total-count")), (200, Some(found)), "{answer:?}");
    }
}
