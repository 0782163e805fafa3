//! Reads that wait for a worker share a round trip, and nothing else: each gets what is its own, and none is lost with another.

mod support;

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use support::locks::{lock_tasks, wait_until_blocked};
use support::proxy::{Distance, for_each_piece, listen};
use support::{Answer, Cluster, Server, token};

/// The most reads that share a round trip, and the most lists.
const MOST: usize = 16;
const MOST_LISTS: usize = 8;

/// Time enough for what was sent to be in the queue.
fn let_them_queue() {
    thread::sleep(Duration::from_millis(200));
}

#[test]
fn reads_that_wait_share_a_round_trip_and_each_gets_its_own() {
    const USERS: usize = 24;
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let server = Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "1")]);
    let near = Server::start(&cluster.url());
    let users: Vec<_> = (0..USERS).map(|number| format!("user-{number}")).collect();
    let ids: Vec<_> = users.iter().map(|user| near.create(user, &format!("of {user}"))).collect();
    for target in [format!("/api/tasks/{}", ids[0]), "/api/tasks?limit=5".to_owned()] {
        server.request("GET", &target, Some(&token(&users[0])), None); // prepares the statement
    }

    let before = distance.sent();
    let mut asked = Vec::new();
    for (number, user) in users.iter().enumerate() {
        let (own, another) = (ids[number], ids[(number + 1) % USERS]);
        let token = token(user);
        asked.push((user, 200, server.send("GET", &format!("/api/tasks/{own}"), &token)));
        asked.push((user, 404, server.send("GET", &format!("/api/tasks/{another}"), &token)));
        asked.push((user, 422, server.send("GET", "/api/tasks/abc", &token)));
        let stale = format!("{token}\r\nIf-Match: \"00\"");
        asked.push((user, 412, server.send("GET", &format!("/api/tasks/{own}"), &stale)));
        let known = format!("{token}\r\nIf-None-Match: *");
        asked.push((user, 304, server.send("GET", &format!("/api/tasks/{own}"), &known)));
        asked.push((user, 401, server.send("GET", &format!("/api/tasks/{own}"), "no.such.token")));
        asked.push((user, 206, server.send("GET", "/api/tasks?limit=5", &token)));
    }
    let reads = USERS * 5; // those with 401 and 422 ask nothing
    for (user, expected, stream) in asked {
        let answer = Answer::read(stream);
        match expected {
            200 => {
                assert_eq!((answer.status, &answer.json()["user_id"]), (200, &user.as_str().into()));
                assert_eq!(answer.json()["title"], format!("of {user}"));
            }
            206 => {
                let list = answer.json();
                assert_eq!((answer.status, list.as_array().map(Vec::len)), (200, Some(1)), "{user}");
                assert_eq!(list[0]["user_id"], user.as_str());
                assert_eq!(answer.header("x-total-count"), Some("1"));
            }
            status => assert_eq!(answer.status, status, "{user}: {answer:?}"),
        }
    }
    let sent = distance.sent() - before;
    println!("{reads} reads in {sent} round trips of one connection");
    // Some go alone while there are few.
    assert!(sent >= reads / MOST && sent <= reads / 3, "{sent}");
}

#[test]
fn what_is_lost_together_is_asked_again() {
    let cluster = Cluster::start();
    let server = Server::start_with(&cluster.url(), &[("DB_POOL_SIZE", "1")]);
    let id = server.create("ada", "of ada");
    let target = format!("/api/tasks/{id}");
    server.request("GET", &target, Some(&token("ada")), None); // prepares the statement
    let (mut first, mut second, mut watcher) = (cluster.client(), cluster.client(), cluster.client());
    let lock = lock_tasks(&mut first);
    let mut sent = vec![server.send("GET", &target, &token("ada"))];
    wait_until_blocked(&mut watcher, "the first read", 1);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let next = thread::spawn(move || {
        let _lock = lock_tasks(&mut second);
        released.recv().unwrap();
    });
    wait_until_blocked(&mut watcher, "the next lock", 2);
    sent.extend((1..MOST).map(|_| server.send("GET", &target, &token("ada"))));
    let_them_queue();
    lock.rollback().unwrap();
    assert_eq!(Answer::read(sent.remove(0)).status, 200);
    wait_until_blocked(&mut watcher, "the others", 1);
    assert_eq!(cluster.end_connections(), 1);
    wait_until_blocked(&mut watcher, "the others on another connection", 1);
    release.send(()).unwrap();
    next.join().unwrap();
    for stream in sent {
        let answer = Answer::read(stream);
        assert_eq!((answer.status, &answer.json()["id"]), (200, &id.into()));
    }
}

#[test]
fn what_is_slow_holds_up_nobody_elses_turn() {
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let server = Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "2")]);
    let near = Server::start(&cluster.url());
    let [carol, dave, eve, ada] = ["carol", "dave", "eve", "ada"].map(|user| near.create(user, &format!("of {user}")));
    let (mut first, mut second, mut watcher) = (cluster.client(), cluster.client(), cluster.client());
    let lock_row = "select from tasks where user_id = any(string_to_array($1, ',')) for update";
    let mut both = first.transaction().unwrap();
    both.execute(lock_row, &[&"carol,dave"]).unwrap();
    let mut own = second.transaction().unwrap();
    own.execute(lock_row, &[&"eve"]).unwrap();
    let complete = |user: &str, id| server.send("PATCH", &format!("/api/tasks/{id}/complete"), &token(user));
    let get = |user: &str, id| server.send("GET", &format!("/api/tasks/{id}"), &token(user));
    let mut sent = vec![complete("carol", carol), complete("dave", dave)];
    wait_until_blocked(&mut watcher, "both workers", 2);
    // One worker takes the first three. The other takes the rest while it waits for the answers, and finds that they have to wait.
    let mut of_eve = vec![get("eve", eve)];
    sent.extend([get("ada", ada), get("bob", ada)]);
    let_them_queue();
    of_eve.push(complete("eve", eve));
    let_them_queue();
    sent.push(get("ada", ada));
    let_them_queue();
    let begun = Instant::now();
    both.rollback().unwrap();
    for (stream, status) in sent.into_iter().zip([200, 200, 200, 404, 200]) {
        assert_eq!(Answer::read(stream).status, status);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "another's request held her up for {took:?}");
    own.rollback().unwrap();
    for stream in of_eve {
        assert_eq!(Answer::read(stream).status, 200);
    }
}

#[test]
fn no_more_than_eight_lists_share_a_round_trip() {
    const LISTS: usize = 16;
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let server = Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "2")]);
    let task = format!("/api/tasks/{}", server.create("ada", "of ada"));
    for target in [&*task, "/api/tasks?limit=1"] {
        server.request("GET", target, Some(&token("ada")), None); // prepares the statement
    }
    let (mut locker, mut watcher) = (cluster.client(), cluster.client());
    let lock = lock_tasks(&mut locker);
    let before = distance.sent();
    let mut sent = vec![server.send("GET", &task, &token("ada"))];
    wait_until_blocked(&mut watcher, "the first read", 1);
    // The other worker finds that they have to wait for her turn, of which she has one.
    sent.extend((0..LISTS).map(|_| server.send("GET", "/api/tasks?limit=1", &token("ada"))));
    let_them_queue();
    lock.rollback().unwrap();
    for stream in sent {
        assert_eq!(Answer::read(stream).status, 200);
    }
    assert_eq!(distance.sent() - before, 1 + LISTS / MOST_LISTS);
}

#[test]
fn what_cannot_be_prepared_together_fails_one_by_one() {
    const READS: usize = 4;
    let cluster = Cluster::start();
    // A view has no `xmin`, so that lists can be read from it and single tasks cannot.
    let mut owner = cluster.client();
    owner.batch_execute(include_str!("../schema.sql")).unwrap();
    owner.batch_execute("alter table tasks rename to things; create view tasks as select * from things").unwrap();
    let log = cluster.server_log();
    let settings = [("DB_POOL_SIZE", "1"), ("RUST_LOG", "info")];
    let server = Server::start_telling(log.create(), &cluster.url(), &settings);
    let mut watcher = cluster.client();
    let mut lock = owner.transaction().unwrap();
    lock.batch_execute("lock table things").unwrap();
    let mut lists = vec![server.send("GET", "/api/tasks?limit=1", &token("carol"))];
    wait_until_blocked(&mut watcher, "the first read", 1);
    let read = |number| {
        let user = format!("user-{number}");
        server.send("GET", "/api/tasks/1", &format!("{}\r\nX-Request-Id: of-{user}", token(&user)))
    };
    let refused: Vec<_> = (0..READS).map(read).collect();
    lists.push(server.send("GET", "/api/tasks?limit=1", &token("ada")));
    let_them_queue();
    lock.rollback().unwrap();
    for stream in refused {
        assert_eq!(Answer::read(stream).status, 500);
    }
    for stream in lists {
        assert_eq!(Answer::read(stream).status, 200);
    }
    let log = log.wait_until("the lines in the log", |log| log.matches("a statement failed").count() == READS);
    for number in 0..READS {
        let whose = format!("request_id=of-user-{number}");
        let lines = log.lines().filter(|line| line.contains("a statement failed") && line.ends_with(&whose));
        assert_eq!(lines.count(), 1, "{log}");
    }
}

#[test]
fn what_is_another_users_is_never_shown() {
    let cluster = Cluster::start();
    let near = Server::start(&cluster.url());
    let id = near.create("ada", "of ada");
    // A network that mixes up whose answer is whose.
    let database = cluster.port;
    let port = listen(move |client| {
        let database = TcpStream::connect(("127.0.0.1", database)).unwrap();
        let (mut asked, mut asking) = (client.try_clone().unwrap(), database.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut asked, &mut asking));
        for_each_piece(database, |piece| {
            let mut piece = piece.to_vec();
            while let Some(at) = piece.windows(3).position(|name| name == b"ada") {
                piece[at..at + 3].copy_from_slice(b"eve");
            }
            (&client).write_all(&piece).unwrap();
        });
    });
    let log = cluster.server_log();
    let url = format!("postgresql://todo@127.0.0.1:{port}/postgres");
    let server = Server::start_telling(log.create(), &url, &[("RUST_LOG", "info")]);
    for (method, target) in [
        ("GET", format!("/api/tasks/{id}")),
        ("GET", "/api/tasks?limit=5".to_owned()),
        ("GET", "/api/tasks".to_owned()),
        ("PATCH", format!("/api/tasks/{id}/complete")),
    ] {
        let answer = server.request(method, &target, Some(&token("ada")), None);
        assert_eq!(answer.status, 500, "{method} {target}: {answer:?}");
        assert!(!answer.body.contains("of "), "{answer:?}");
    }
    let log = log.wait_until("all answers", |log| log.matches("answered").count() == 4);
    assert_eq!(log.matches("another user's task").count(), 4, "{log}");
}

#[test]
fn connections_that_end_together_are_one_line_in_the_log() {
    const USERS: usize = 4;
    let cluster = Cluster::start();
    // Through it the server hears why a connection ends before it hears that it has.
    let distance = Distance::start(cluster.port);
    let log = cluster.server_log();
    let settings = [("DB_POOL_SIZE", "4"), ("RUST_LOG", "info")];
    let server = Server::start_telling(log.create(), &distance.url(), &settings);
    let id = server.create("ada", "of ada");
    let (mut locker, mut watcher) = (cluster.client(), cluster.client());
    let mut lock_out = |watcher: &mut postgres::Client, meanwhile: &mut dyn FnMut(&mut postgres::Client)| {
        let lock = lock_tasks(&mut locker);
        let mut sent = Vec::new();
        for number in 0..USERS {
            sent.push(server.send("GET", &format!("/api/tasks/{id}"), &token(&format!("user-{number}"))));
            // One after the other, so that each has a connection to itself.
            wait_until_blocked(watcher, "all of them", number as i64 + 1);
        }
        meanwhile(watcher);
        lock.rollback().unwrap();
        for stream in sent {
            assert_eq!(Answer::read(stream).status, 404);
        }
    };
    lock_out(&mut watcher, &mut |_| {}); // prepares the statement on each connection
    lock_out(&mut watcher, &mut |watcher| {
        assert_eq!(cluster.end_connections(), USERS);
        wait_until_blocked(watcher, "all of them on other connections", USERS as i64);
    });
    let log = log.wait_until("the last line", |log| log.matches("status=404").count() == 2 * USERS);
    let count = |text: &str| log.matches(text).count();
    assert_eq!((count("does not answer"), count("answers again")), (1, 1), "{log}");
}

#[test]
fn each_has_the_time_of_a_statement() {
    const READS: usize = 4;
    let cluster = Cluster::start();
    let settings = [("DB_POOL_SIZE", "1"), ("DB_STATEMENT_TIMEOUT_MS", "1000")];
    let server = Server::start_with(&cluster.url(), &settings);
    let target = format!("/api/tasks/{}", server.create("ada", "of ada"));
    let mut watcher = cluster.client();
    let lock = || {
        let mut client = cluster.client();
        thread::spawn(move || {
            client.batch_execute("begin; lock table tasks").unwrap();
            client
        })
    };
    let mut holder = lock().join().unwrap();
    let mut sent = vec![server.send("GET", &target, &token("ada"))];
    wait_until_blocked(&mut watcher, "the first read", 1);
    let mut next = lock();
    wait_until_blocked(&mut watcher, "the next lock", 2);
    sent.extend((0..READS).map(|_| server.send("GET", &target, &token("ada"))));
    let_them_queue();
    // Between any two of them the table is locked, for less than the time that one of them has.
    for _ in 0..READS {
        holder.batch_execute("commit").unwrap();
        holder = next.join().unwrap();
        wait_until_blocked(&mut watcher, "the next read", 1);
        next = lock();
        wait_until_blocked(&mut watcher, "the next lock", 2);
        thread::sleep(Duration::from_millis(700));
    }
    holder.batch_execute("commit").unwrap();
    next.join().unwrap().batch_execute("commit").unwrap();
    for stream in sent {
        assert_eq!(Answer::read(stream).status, 200);
    }
}

#[test]
fn a_database_that_gives_statements_up_is_not_taken_for_one_that_is_away() {
    let cluster = Cluster::start();
    let log = cluster.server_log();
    let settings = [
        ("DB_POOL_SIZE", "1"),
        ("DB_STATEMENT_TIMEOUT_MS", "500"),
        ("DB_CHECKOUT_TIMEOUT_MS", "500"),
        ("RUST_LOG", "info"),
    ];
    let server = Server::start_telling(log.create(), &cluster.url(), &settings);
    let target = format!("/api/tasks/{}", server.create("ada", "of ada"));
    assert_eq!(server.request("GET", &target, Some(&token("ada")), None).status, 200);
    let mut locker = cluster.client();
    let lock = lock_tasks(&mut locker);
    let sent: Vec<_> = (0..MOST).map(|_| server.send("GET", &target, &token("ada"))).collect();
    for stream in sent {
        assert_eq!(Answer::read(stream).status, 503);
    }
    lock.rollback().unwrap();
    assert_eq!(server.request("GET", &target, Some(&token("ada")), None).status, 200);
    let log = log.wait_until("the last line", |log| log.matches("answered").count() == 3 + MOST);
    let count = |text: &str| log.matches(text).count();
    assert_eq!((count("does not answer"), count("gives statements up")), (0, 1), "{log}");
}
