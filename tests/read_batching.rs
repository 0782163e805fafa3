//! Reads that wait for a worker share a round trip and nothing else: each is a transaction of its own. One that fails,
//! is slow or is abandoned costs no other its response.

mod support;

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use support::locks::{lock_tasks, wait_until_blocked};
use support::proxy::{Distance, for_each_piece, listen};
use support::{Cluster, Response, Server, ServerLog, token, wait_until};

/// The most reads of a batch.
const MAX_BATCH: usize = 16;
/// The most lists of a batch.
const MAX_LIST_BATCH: usize = 8;

/// Waits until the requests that were sent are in the queue.
fn let_them_queue() {
    thread::sleep(Duration::from_millis(200));
}

#[test]
fn reads_when_queued_share_a_round_trip_and_get_their_own_responses() {
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
        let response = Response::read(stream);
        match expected {
            200 => {
                assert_eq!((response.status, &response.json()["user_id"]), (200, &user.as_str().into()));
                assert_eq!(response.json()["title"], format!("of {user}"));
            }
            206 => {
                let list = response.json();
                assert_eq!((response.status, list.as_array().map(Vec::len)), (200, Some(1)), "{user}");
                assert_eq!(list[0]["user_id"], user.as_str());
                assert_eq!(response.header("x-total-count"), Some("1"));
            }
            status => assert_eq!(response.status, status, "{user}: {response:?}"),
        }
    }
    let sent = distance.sent() - before;
    println!("{reads} reads in {sent} round trips of one connection");
    // Some go alone while there are few.
    assert!(sent >= reads / MAX_BATCH && sent <= reads / 3, "{sent}");
}

#[test]
fn reads_when_their_connection_is_lost_are_retried() {
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
    sent.extend((1..MAX_BATCH).map(|_| server.send("GET", &target, &token("ada"))));
    let_them_queue();
    lock.rollback().unwrap();
    assert_eq!(Response::read(sent.remove(0)).status, 200);
    wait_until_blocked(&mut watcher, "the others", 1);
    assert_eq!(cluster.end_connections(), 1);
    wait_until_blocked(&mut watcher, "the others on another connection", 1);
    release.send(()).unwrap();
    next.join().unwrap();
    for stream in sent {
        let response = Response::read(stream);
        assert_eq!((response.status, &response.json()["id"]), (200, &id.into()));
    }
}

#[test]
fn reads_when_another_users_write_is_blocked_are_answered() {
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
    // What follows is queued, in this order, until one of the workers is free. Eve's write then blocks one of them.
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
        assert_eq!(Response::read(stream).status, status);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "another's request held her up for {took:?}");
    own.rollback().unwrap();
    for stream in of_eve {
        assert_eq!(Response::read(stream).status, 200);
    }
}

#[test]
fn lists_when_many_are_queued_go_in_batches_of_at_most_eight() {
    const LISTS: usize = 24;
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let server = Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "2")]);
    let task = format!("/api/tasks/{}", server.create("ada", "of ada"));
    for target in [&*task, "/api/tasks"] {
        server.request("GET", target, Some(&token("ada")), None); // prepares the statement
    }
    let (mut locker, mut watcher) = (cluster.client(), cluster.client());
    let lock = lock_tasks(&mut locker);
    let before = distance.sent();
    let mut sent = vec![server.send("GET", &task, &token("ada"))];
    wait_until_blocked(&mut watcher, "the first read", 1);
    // She has one of the two workers. So these run one batch after the other, half of what is queued each time.
    sent.extend((0..LISTS).map(|_| server.send("GET", "/api/tasks", &token("ada"))));
    let_them_queue();
    lock.rollback().unwrap();
    for stream in sent {
        assert_eq!(Response::read(stream).status, 200);
    }
    let batches = [MAX_LIST_BATCH, MAX_LIST_BATCH, 4, 2, 1, 1];
    assert_eq!(batches.iter().sum::<usize>(), LISTS);
    assert_eq!(distance.sent() - before, 1 + batches.len());
}

#[test]
fn reads_when_not_preparable_fail_alone_under_their_own_request_id() {
    const READS: usize = 4;
    let cluster = Cluster::start();
    let log = cluster.server_log();
    let settings = [("DB_POOL_SIZE", "1"), ("RUST_LOG", "info")];
    let server = Server::start_telling(log.create(), &cluster.url(), &settings);
    assert_eq!(server.request("GET", "/api/tasks?limit=1", Some(&token("carol")), None).status, 200);
    // A view has no `xmin`, so that lists can be read from it and single tasks cannot. A server that connects later
    // refuses it.
    let (mut owner, mut watcher) = (cluster.client(), cluster.client());
    owner.batch_execute("alter table tasks rename to things; create view tasks as select * from things").unwrap();
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
        assert_eq!(Response::read(stream).status, 503);
    }
    for stream in lists {
        assert_eq!(Response::read(stream).status, 200);
    }
    let log = log.wait_until("the lines in the log", |log| log.matches("the table was altered").count() == READS);
    for number in 0..READS {
        let whose = format!("request_id=of-user-{number}");
        let lines = log.lines().filter(|line| line.contains("the table was altered") && line.ends_with(&whose));
        assert_eq!(lines.count(), 1, "{log}");
    }
}

/// A network that mixes up whose rows are whose: what the database says of `ada` arrives as of `eve`. Its port.
fn rename_ada_in_responses(database: u16) -> u16 {
    listen(move |client| {
        let database = TcpStream::connect(("127.0.0.1", database)).unwrap();
        let (mut asked, mut asking) = (client.try_clone().unwrap(), database.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut asked, &mut asking));
        for_each_piece(database, |piece| {
            let mut piece = piece.to_vec();
            for at in 0..piece.len().saturating_sub(2) {
                if piece[at..].starts_with(b"ada") {
                    piece[at..at + 3].copy_from_slice(b"eve");
                }
            }
            let _ = (&client).write_all(&piece);
        });
    })
}

#[test]
fn row_when_it_is_another_users_is_never_shown() {
    let cluster = Cluster::start();
    let near = Server::start(&cluster.url());
    let id = near.create("ada", "of ada");
    let port = rename_ada_in_responses(cluster.port);
    let log = cluster.server_log();
    let url = format!("postgresql://todo@127.0.0.1:{port}/postgres");
    let server = Server::start_telling(log.create(), &url, &[("RUST_LOG", "info")]);
    for (method, target) in [
        ("GET", format!("/api/tasks/{id}")),
        ("GET", "/api/tasks?limit=5".to_owned()),
        ("GET", "/api/tasks".to_owned()),
        ("GET", "/api/tasks?sort=title".to_owned()),
        ("PATCH", format!("/api/tasks/{id}/complete")),
    ] {
        let response = server.request(method, &target, Some(&token("ada")), None);
        assert_eq!(response.status, 500, "{method} {target}: {response:?}");
        assert!(!response.body.contains("of "), "{response:?}");
    }
    let log = log.wait_until("all responses", |log| log.matches("answered").count() == 5);
    assert_eq!(log.matches("another user's task").count(), 5, "{log}");
}

#[test]
fn connections_when_they_end_together_are_logged_once() {
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
            assert_eq!(Response::read(stream).status, 404);
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
fn reads_when_batched_have_a_statement_timeout_each() {
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
        assert_eq!(Response::read(stream).status, 200);
    }
}

#[test]
fn database_when_it_cancels_statements_is_not_taken_for_down() {
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
    let sent: Vec<_> = (0..MAX_BATCH).map(|_| server.send("GET", &target, &token("ada"))).collect();
    for stream in sent {
        assert_eq!(Response::read(stream).status, 503);
    }
    lock.rollback().unwrap();
    assert_eq!(server.request("GET", &target, Some(&token("ada")), None).status, 200);
    let log = log.wait_until("the last line", |log| log.matches("answered").count() == 3 + MAX_BATCH);
    let count = |text: &str| log.matches(text).count();
    assert_eq!((count("does not answer"), count("is cancelling statements")), (0, 1), "{log}");
}

#[test]
fn reads_when_a_long_response_before_them_was_abandoned_are_answered() {
    const READS: usize = 5;
    let cluster = Cluster::start();
    let id = Server::start_with(&cluster.url(), &[("DB_POOL_SIZE", "1")]).create("bob", "of bob");
    let fill = "insert into tasks (user_id, title, description)
                select 'ada', 'of ada', repeat('x', 1000) from generate_series(1, 900)";
    cluster.client().batch_execute(fill).unwrap();
    let url = format!("postgresql://todo@127.0.0.1:{}/postgres", rename_ada_in_responses(cluster.port));
    let server = Server::start_with(&url, &[("DB_POOL_SIZE", "1"), ("RUST_LOG", "off")]);
    assert_eq!(server.request("GET", "/api/tasks", Some(&token("bob")), None).status, 200);
    let connections = || {
        let sql = "select pid from pg_stat_activity where application_name = 'todo-backend'";
        cluster.client().query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect::<Vec<i32>>()
    };
    wait_until("the end of the other server's connection", || connections().len() == 1);
    let before = connections();
    for _ in 0..3 {
        // Her first row is refused. The others are still to come, on the only connection.
        let abandoned = server.send("GET", "/api/tasks?sort=title", &token("ada"));
        let reads: Vec<_> =
            (0..READS).map(|_| server.send("GET", &format!("/api/tasks/{id}"), &token("bob"))).collect();
        assert_eq!(Response::read(abandoned).status, 500);
        for stream in reads {
            let response = Response::read(stream);
            assert_eq!((response.status, &response.json()["title"]), (200, &"of bob".into()), "{response:?}");
        }
    }
    assert_eq!(connections(), before, "the connection was kept");
}

#[test]
fn list_when_its_few_tasks_are_long_is_whole() {
    const TASKS: usize = 60;
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    assert_eq!(server.request("GET", "/api/tasks", Some(&token("ada")), None).status, 200);
    // Together more than a page has bytes.
    let fill = format!(
        "insert into tasks (user_id, title, description)
             select 'ada', n::text, repeat('x', 10000) from generate_series(1, {TASKS}) as n"
    );
    cluster.client().batch_execute(&fill).unwrap();
    for (target, expected, total) in [
        ("/api/tasks", TASKS, None),
        ("/api/tasks?limit=100", TASKS, Some("60")),
        ("/api/tasks?limit=40&offset=5", 40, Some("60")),
        ("/api/tasks?limit=1000", TASKS, Some("60")),
    ] {
        let response = server.request("GET", target, Some(&token("ada")), None);
        assert_eq!((response.status, response.header("x-total-count")), (200, total), "{target}");
        let tasks = response.json();
        let ids: Vec<_> = tasks.as_array().unwrap().iter().map(|task| task["id"].as_i64().unwrap()).collect();
        assert_eq!(ids.len(), expected, "{target}");
        assert!(ids.is_sorted_by(|one, next| one > next), "{target}: {ids:?}");
    }
}

/// A server with one connection, where each read of a task runs SQL of the test: row-level security calls a function.
/// `user-3` has the task 4, `of user-3`.
struct FaultyRows {
    cluster: Cluster,
    owner: Client,
    log: ServerLog,
    server: Server,
}

impl FaultyRows {
    /// How many reads are queued. The first batch is half of them, the next half of the rest, and so on.
    const READS: usize = 12;

    /// `on_read` is PL/pgSQL; `title` is the task's.
    fn start(on_read: &str, settings: &[(&str, &str)]) -> Self {
        let cluster = Cluster::start();
        let mut owner = cluster.client();
        owner.batch_execute(include_str!("../schema.sql")).unwrap();
        let sql = format!(
            "create sequence tries;
             create function on_read(title text) returns boolean language plpgsql security definer
                 as $$ begin {on_read}; return true; end $$;
             create role app login;
             grant select, insert, update, delete on tasks to app;
             alter table tasks enable row level security;
             create policy each_row on tasks using (on_read(title));
             insert into tasks (user_id, title)
                 select 'user-' || n, 'of user-' || n from generate_series(0, {} - 1) as n",
            Self::READS
        );
        owner.batch_execute(&sql).unwrap();
        let log = cluster.server_log();
        let settings = [&[("DB_POOL_SIZE", "1"), ("RUST_LOG", "info")], settings].concat();
        let server = Server::start_telling(log.create(), &cluster.url().replacen("todo@", "app@", 1), &settings);
        Self { cluster, owner, log, server }
    }

    /// Has carol's request wait for a lock, and queues a read of each user behind it. The response to hers, and to
    /// theirs.
    fn request(&mut self, target: &str) -> (Response, Vec<Response>) {
        let target_of = |number: usize| format!("/api/tasks/{}", number + 1);
        let prepare = self.server.request("GET", &target_of(0), Some(&token("carol")), None);
        assert_eq!(prepare.status, 404);
        let mut watcher = self.cluster.client();
        let lock = lock_tasks(&mut self.owner);
        let first = self.server.send("GET", target, &token("carol"));
        wait_until_blocked(&mut watcher, "the first", 1);
        let read = |number| self.server.send("GET", &target_of(number), &token(&format!("user-{number}")));
        let sent: Vec<_> = (0..Self::READS).map(read).collect();
        let_them_queue();
        lock.rollback().unwrap();
        (Response::read(first), sent.into_iter().map(Response::read).collect())
    }

    /// The log once it has all of [`Self::request`].
    fn log(&self) -> String {
        self.log.wait_until("all responses", |log| log.matches("answered").count() == 2 + Self::READS)
    }
}

/// Each of these is its user's task.
fn assert_own<'a>(responses: impl IntoIterator<Item = (usize, &'a Response)>) {
    for (number, response) in responses {
        assert_eq!(response.status, 200, "{number}: {response:?}");
        let task = response.json();
        assert_eq!(task["user_id"], format!("user-{number}"));
        assert_eq!(task["title"], format!("of user-{number}"));
    }
}

#[test]
fn read_when_it_fails_in_a_batch_fails_alone() {
    const BAD: usize = 2;
    // One that fails when it is tried first, with a serialization failure, and one that always does.
    let mut rows = FaultyRows::start(
        "if title = 'of user-2' or title = 'of user-8' and nextval('tries') = 1 then
             raise exception using errcode = case title when 'of user-8' then '40001' else '22012' end;
         end if",
        &[],
    );
    let (first, responses) = rows.request("/api/tasks/1");
    assert_eq!((first.status, responses[BAD].status), (404, 500));
    assert_own(responses.iter().enumerate().filter(|(number, _)| *number != BAD));
    let tries: i64 = rows.owner.query_one("select last_value from tries", &[]).unwrap().get(0);
    assert_eq!(tries, 2, "the serialization failure was retried once");
    let log = rows.log();
    assert_eq!(log.matches("a statement failed").count(), 1, "{log}");
    assert!(!log.contains("does not answer"), "{log}");
}

#[test]
fn reads_when_the_statement_before_them_failed_are_answered() {
    let mut rows = FaultyRows::start("if title = 'bad' then raise data_exception; end if", &[]);
    rows.owner.batch_execute("insert into tasks (user_id, title) values ('carol', 'bad')").unwrap();
    // PostgreSQL reports the failure before it is ready for the next statement.
    for round in 0..5 {
        let (first, responses) = rows.request(&format!("/api/tasks/{}", FaultyRows::READS + 1));
        assert_eq!(first.status, 500, "{round}");
        assert_own(responses.iter().enumerate());
    }
}

#[test]
fn reads_when_each_is_slow_are_all_answered() {
    // A batch takes longer than a statement may take.
    let mut rows = FaultyRows::start("perform pg_sleep(0.4)", &[("DB_STATEMENT_TIMEOUT_MS", "1000")]);
    let (_, responses) = rows.request("/api/tasks/1");
    assert_own(responses.iter().enumerate());
    let log = rows.log();
    assert!(!log.contains("does not answer") && !log.contains("is cancelling statements"), "{log}");
}

#[test]
fn reads_when_notices_and_parameter_changes_arrive_between_are_answered() {
    // A notice longer than one read of the socket, and a parameter of the session that changes.
    let on_read = "raise notice '%', repeat('n', 70000); perform set_config('application_name', title, false)";
    let mut rows = FaultyRows::start(on_read, &[]);
    let (_, responses) = rows.request("/api/tasks?limit=5");
    assert_own(responses.iter().enumerate());
    let log = rows.log();
    let is_expected = |line: &str| !line.contains("WARN") || line.contains("row-level security");
    assert!(log.lines().all(is_expected) && !log.contains("a statement failed"), "{log}");
}
