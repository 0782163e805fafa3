//! What one user may take from the others: whatever some ask for, and however often, everybody else is served.
//!
//! Runs alone: it measures time. `FAIRNESS_TASKS=100000 FAIRNESS_SECONDS=20` measures at full size.

mod support;

use std::collections::VecDeque;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use support::locks::{blocked_statements, lock_tasks, wait_until_blocked};
use support::{Cluster, Response, Server, raise_descriptor_limit, token, wait_until};

/// As many as the server has by default.
const WORKERS: i64 = 8;
/// The workers that one user's requests may hold, and that slow work may hold.
const HALF: i64 = WORKERS / 2;
/// Connections that pages of long lists may take.
const PAGES: i64 = WORKERS / 4;
/// How many requests of one user may be queued while nobody else's are.
const MAX_QUEUED_PER_USER: usize = 512;

/// Holds up the other tests of this file while it lives.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner) // another test failed
}

/// Sends so many requests that cannot end while the row is locked, and leaves their responses for later.
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
fn user_when_another_ones_requests_hang_is_served() {
    let _alone = alone();
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    let id = server.create("ada", "a");
    let (mut locker, mut watcher) = (cluster.client(), cluster.client());
    let mut lock = locker.transaction().unwrap();
    lock.query("select from tasks for update", &[]).unwrap();
    // What is too much is refused, to her alone.
    let excess = 40;
    let first = send_toggles(&server, "ada", id, HALF as usize);
    wait_until_blocked(&mut watcher, "half of the workers", HALF);
    let more = send_toggles(&server, "ada", id, MAX_QUEUED_PER_USER + excess);
    let responses: Vec<_> =
        first.into_iter().chain(more).map(|stream| thread::spawn(|| Response::read(stream))).collect();
    wait_until("the refusal of what is too much", || {
        responses.iter().filter(|response| response.is_finished()).count() == excess
    });
    let slowest = slowest_list(&server, "bob");
    assert_eq!(blocked_statements(&mut watcher), HALF);
    println!("beside {} requests of another that hang, the slowest list took {slowest:?}", responses.len());
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    lock.rollback().unwrap();
    let (mut shed, mut done) = (0, 0);
    for response in responses {
        match response.join().unwrap() {
            Response { status: 200, .. } => done += 1,
            response => {
                assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{response:?}");
                shed += 1;
            }
        }
    }
    assert_eq!((done, shed), (HALF as usize + MAX_QUEUED_PER_USER, excess));
}

/// Percentile 99 of these.
fn p99(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() * 99 / 100]
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Whether the response has begun to come before it is over.
fn await_response(stream: &TcpStream, is_over: &AtomicBool) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while stream.peek(&mut [0]).is_err() {
        if is_over.load(Ordering::SeqCst) {
            return false;
        }
    }
    true
}

/// Keeps so many searches of this user waiting until it is over. How many were answered 200, and how many 503.
/// Counts itself in `ready` once all of them wait.
fn keep_searching(
    server: &Server,
    user: &str,
    searches: usize,
    ready: &AtomicUsize,
    is_over: &AtomicBool,
) -> (usize, usize) {
    /// Before a search takes the place of one that was refused, and between the first ones.
    const PAUSE: Duration = Duration::from_millis(5);
    let token = token(user);
    let send = || server.send("GET", "/api/tasks?search=nowhere", &token);
    let mut waiting = VecDeque::new();
    let (mut answered, mut refused, mut is_ready) = (0, 0, false);
    while !is_over.load(Ordering::SeqCst) {
        if waiting.len() < searches {
            waiting.push_back(send());
            thread::sleep(PAUSE);
            continue;
        }
        if !std::mem::replace(&mut is_ready, true) {
            ready.fetch_add(1, Ordering::SeqCst);
        }
        let Some(stream) = waiting.pop_front().filter(|stream| await_response(stream, is_over)) else { break };
        match Response::read(stream) {
            Response { status: 200, .. } => {
                answered += 1;
                waiting.push_back(send());
            }
            response => {
                assert_eq!(response.status, 503, "{response:?}");
                refused += 1;
            }
        }
    }
    (answered, refused)
}

/// What another user's requests cost beside heavy users.
struct Bystander<'s> {
    cluster: &'s Cluster,
    token: String,
    task: String,
    duration: Duration,
}

impl Bystander<'_> {
    /// Sends a read or a write, which must succeed; how long it took.
    fn request(&self, server: &Server, number: usize) -> Duration {
        let begun = Instant::now();
        let (method, target, body) = match number % 3 {
            0 => ("GET", "/api/tasks", None),
            1 => ("GET", &*self.task, None),
            _ => ("PUT", &*self.task, Some(r#"{"title":"changed"}"#)),
        };
        let response = server.request(method, target, Some(&self.token), body);
        assert_eq!(response.status, 200, "{method} {target}: {response:?}");
        begun.elapsed()
    }

    /// Percentile 99 of requests beside so many users, each of whom keeps 200 searches waiting, or as many as the limit
    /// of descriptors lets them.
    fn p99_beside(&self, users: usize) -> Duration {
        const OTHER_DESCRIPTORS: usize = 200;
        let searches_each = (raise_descriptor_limit().saturating_sub(OTHER_DESCRIPTORS) / users).min(200);
        let server = &Server::start(&self.cluster.url());
        let (ready, is_over) = (&AtomicUsize::new(0), &AtomicBool::new(false));
        let (durations, searches) = thread::scope(|scope| {
            let search = |user| move || keep_searching(server, &format!("heavy-{user}"), searches_each, ready, is_over);
            let heavy: Vec<_> = (1..=users).map(|user| scope.spawn(search(user))).collect();
            let measure = || {
                let is_one_over = || heavy.iter().any(ScopedJoinHandle::is_finished);
                wait_until("all searches", || ready.load(Ordering::SeqCst) == users || is_one_over());
                let until = Instant::now() + self.duration;
                let requests = (0..).take_while(|_| Instant::now() < until).map(|number| {
                    thread::sleep(Duration::from_millis(2));
                    self.request(server, number)
                });
                requests.collect::<Vec<_>>()
            };
            // Whatever the outcome, the others stop.
            let durations = catch_unwind(AssertUnwindSafe(measure));
            is_over.store(true, Ordering::SeqCst);
            let searches: Vec<_> = heavy.into_iter().map(|thread| thread.join().unwrap()).collect();
            (durations.unwrap_or_else(|panic| resume_unwind(panic)), searches)
        });
        let (count, p99) = (durations.len(), p99(durations));
        println!("beside {users} users: {count} requests, p99 {p99:.1?}; searches answered and refused: {searches:?}");
        p99
    }
}

#[test]
fn user_when_many_others_search_without_pause_is_served_as_beside_one() {
    /// Rounds of which one must do: what else the machine does makes a round longer, and never shorter.
    const ROUNDS: usize = 3;
    /// A shorter time than this is noise.
    const FLOOR: Duration = Duration::from_millis(10);
    let _alone = alone();
    let (tasks, seconds) = (setting("FAIRNESS_TASKS", 10_000), setting("FAIRNESS_SECONDS", 2));
    let cluster = Cluster::start();
    let id = Server::start(&cluster.url()).create("light", "of mine");
    let fill = format!(
        "insert into tasks (user_id, title, description) select 'heavy-' || u, 'title ' || n, repeat('some words ', 8)
             from generate_series(1, 16) as u, generate_series(1, {tasks}) as n;
         analyze tasks"
    );
    cluster.client().batch_execute(&fill).unwrap();
    let duration = Duration::from_secs(seconds as u64);
    let light = Bystander { cluster: &cluster, token: token("light"), task: format!("/api/tasks/{id}"), duration };
    let limit = light.p99_beside(1).max(FLOOR) * 4;
    for users in [2, 4, 16] {
        let is_served = (0..ROUNDS).any(|_| light.p99_beside(users) <= limit);
        assert!(is_served, "p99 beside {users} users is more than {limit:?}");
    }
}

#[test]
fn user_when_anothers_pages_and_requests_hang_finds_a_connection() {
    let _alone = alone();
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
    let reading: Vec<_> = lists.into_iter().map(|list| thread::spawn(|| Response::try_read(list))).collect();
    wait_until_blocked(&mut watcher, "all the pages at once", PAGES);
    // Her requests take as many workers as one user's may.
    let more: Vec<_> = (0..LISTS).map(|_| server.send("GET", "/api/tasks?limit=1", &ada)).collect();
    wait_until_blocked(&mut watcher, "her requests", PAGES + HALF);
    assert_eq!(server.request("GET", "/ready", None, None).status, 200);
    let another = server.send("GET", "/api/tasks", &bob);
    wait_until_blocked(&mut watcher, "another's list", PAGES + HALF + 1);
    lock.rollback().unwrap();
    for response in more.into_iter().chain([another]) {
        assert_eq!(Response::read(response).status, 200);
    }
    for list in reading {
        let whole = list.join().unwrap().unwrap();
        assert_eq!(whole.json().as_array().map(Vec::len), Some(3000));
    }
}

#[test]
fn request_when_queued_for_too_long_is_answered_503() {
    let _alone = alone();
    let cluster = Cluster::start();
    let server = Server::start_with(&cluster.url(), &[("DB_POOL_SIZE", "2"), ("DB_STATEMENT_TIMEOUT_MS", "3000")]);
    let created = server.request("POST", "/api/tasks", Some(&token("ada")), Some(r#"{"title":"a"}"#));
    let id = created.json()["id"].as_i64().unwrap();
    let mut locker = cluster.client();
    let mut lock = locker.transaction().unwrap();
    lock.query("select from tasks for update", &[]).unwrap();
    let begun = Instant::now();
    for stream in send_toggles(&server, "ada", id, 50) {
        assert_eq!(Response::read(stream).status, 503);
    }
    // One or two are blocked for 3 s each, one after the other; by then the others have been queued for 5 s.
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    lock.rollback().unwrap();
    assert_eq!(Response::read(send_toggles(&server, "ada", id, 1).remove(0)).status, 200);
}

#[test]
fn single_worker_when_several_users_ask_serves_all() {
    let _alone = alone();
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
fn search_when_its_text_is_repetitive_is_cheap() {
    let _alone = alone();
    let cluster = Cluster::start();
    // Ten times what the slowest of these takes.
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
        let response = list(&format!("search={text}&limit=1"));
        assert_eq!((response.status, response.header("x-total-count")), (200, Some(found)), "{response:?}");
    }
}
