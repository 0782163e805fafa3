//! Writes that wait for a worker share a transaction and nothing else: each gets its own response. One that fails, or
//! waits for a lock, is done alone; the others are done all the same.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::locks::{blocked_statements, wait_until_blocked};
use support::proxy::{Distance, for_each_piece, listen, listen_before};
use support::{Cluster, Response, Server, token, wait_until};

/// The most writes of a transaction.
const MAX_BATCH: usize = 16;

fn count(cluster: &Cluster, sql: &str) -> i64 {
    cluster.client().query_one(sql, &[]).unwrap().get(0)
}

/// A trigger that sleeps for so many seconds on each of these events of the table.
fn slow_down(cluster: &Cluster, seconds: f64, events: &str) {
    let slow = format!(
        "create function wait() returns trigger language plpgsql as \
         $$ begin perform pg_sleep({seconds}); return new; end $$; \
         create trigger wait before {events} execute function wait()"
    );
    cluster.client().batch_execute(&slow).unwrap();
}

#[test]
fn writes_when_queued_share_a_transaction_and_get_their_own_responses() {
    const USERS: usize = 16;
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let server = Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "1")]);
    let near = Server::start(&cluster.url());
    let users: Vec<_> = (0..USERS).map(|number| format!("user-{number}")).collect();
    let ids: Vec<_> = users.iter().map(|user| near.create(user, "first")).collect();
    let [doomed, changed, foreign] = ["doomed", "changed", "foreign"].map(|title| {
        let owner = |user: &String| if title == "foreign" { "eve".to_owned() } else { user.clone() };
        users.iter().map(|user| near.create(&owner(user), title)).collect::<Vec<_>>()
    });
    let prepare = [("POST", "/api/tasks".to_owned(), r#"{"title":"first of all"}"#)].into_iter().chain(
        [("PATCH", "/complete", "{}"), ("PUT", "", r#"{"title":"x"}"#), ("DELETE", "", "")]
            .map(|(method, rest, body)| (method, format!("/api/tasks/2147483647{rest}"), body)),
    );
    for (method, target, body) in prepare {
        server.request(method, &target, Some(&token("nobody")), Some(body));
    }

    let before = distance.sent();
    let mut asked = Vec::new();
    for (number, user) in users.iter().enumerate() {
        let [own, doomed, changed, foreign] = [&ids, &doomed, &changed, &foreign].map(|ids| ids[number]);
        let token = token(user);
        let mut ask = |status, method, target: &str, token: &str, body: &str| {
            asked.push((user, status, server.send_json(method, target, token, body)));
        };
        ask(201, "POST", "/api/tasks", &token, r#"{"title":"second","description":"of mine"}"#);
        ask(200, "PATCH", &format!("/api/tasks/{own}/complete"), &token, r#"{"completed":true}"#);
        ask(404, "PATCH", &format!("/api/tasks/{foreign}/complete"), &token, r#"{"completed":true}"#);
        ask(422, "POST", "/api/tasks", &token, r#"{"title":""}"#);
        ask(401, "POST", "/api/tasks", "no.such.token", r#"{"title":"of nobody"}"#);
        let stale = format!("{token}\r\nIf-Match: \"00\"");
        ask(412, "PUT", &format!("/api/tasks/{changed}"), &stale, r#"{"title":"stale"}"#);
        ask(204, "DELETE", &format!("/api/tasks/{doomed}"), &token, "");
    }
    for (user, expected, stream) in asked {
        let response = Response::read(stream);
        assert_eq!(response.status, expected, "{user}: {response:?}");
        if let 200 | 201 = expected {
            let task = response.json();
            let (title, completed) = if expected == 200 { ("first", true) } else { ("second", false) };
            assert_eq!((&task["user_id"], &task["title"]), (&user.as_str().into(), &title.into()));
            assert_eq!(task["completed"], completed);
            assert!(response.header("etag").is_some());
        }
    }
    let (writes, sent) = (USERS * 5, distance.sent() - before); // those with 401 and 422 ask nothing
    println!("{writes} writes in {sent} round trips of one connection");
    // The first ones go alone, before others are queued.
    assert!(sent >= writes / MAX_BATCH && sent <= writes / 2, "{sent}");
    assert_eq!(count(&cluster, "select count(*) from tasks where title = 'doomed' or title = 'stale'"), 0);
    assert_eq!(count(&cluster, "select count(*) from tasks where title = 'first' and completed"), USERS as i64);
    let created = "from tasks where title = 'second' and description = 'of mine'";
    assert_eq!(count(&cluster, &format!("select count(*) {created}")), USERS as i64);
    let transactions = count(&cluster, &format!("select count(distinct xmin::text) {created}"));
    assert!(transactions < USERS as i64, "{transactions}");
}

#[test]
fn write_when_it_fails_in_a_batch_fails_alone() {
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let log = cluster.server_log();
    let settings = [("DB_POOL_SIZE", "1"), ("RUST_LOG", "info")];
    let server = Server::start_telling(log.create(), &distance.url(), &settings);
    server.create("ada", "so that there is a table");
    let rules = "create function refuse() returns trigger language plpgsql as \
                 $$ begin raise data_exception; end $$; \
                 create trigger at_once before insert on tasks for each row when (new.title = 'bad') \
                 execute function refuse(); \
                 create constraint trigger at_the_end after insert on tasks deferrable initially deferred \
                 for each row when (new.title = 'worse') execute function refuse()";
    cluster.client().batch_execute(rules).unwrap();
    for bad in ["bad", "worse"] {
        let titles: Vec<_> = (0..8).map(|number| format!("{bad} {number}")).collect();
        let mut sent = Vec::new();
        for (number, title) in titles.iter().enumerate() {
            let title = if number == 5 { bad } else { title };
            let token = format!("{}\r\nX-Request-Id: the-{title}", token(&format!("user-{number}")));
            sent.push(server.send_json("POST", "/api/tasks", &token, &format!(r#"{{"title":"{title}"}}"#)));
        }
        for (number, stream) in sent.into_iter().enumerate() {
            let response = Response::read(stream);
            assert_eq!(response.status, if number == 5 { 500 } else { 201 }, "{bad} {number}: {response:?}");
        }
        let made = format!("select count(*) from tasks where title like '{bad}%'");
        assert_eq!(count(&cluster, &made), 7, "each once");
    }
    let log = log.wait_until("both failures", |log| log.matches("a statement failed").count() == 2);
    let failures: Vec<_> = log.lines().filter(|line| line.contains("a statement failed")).collect();
    assert!(failures[0].ends_with("request_id=the-bad"), "{failures:?}");
    assert!(failures[1].ends_with("request_id=the-worse"), "{failures:?}");
    assert_eq!((log.matches("does not answer").count(), log.matches("is cancelling statements").count()), (0, 0));
}

#[test]
fn writes_when_one_waits_for_a_lock_are_done_without_it() {
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let log = cluster.server_log();
    let settings = [("DB_POOL_SIZE", "2"), ("RUST_LOG", "warn")];
    let server = Server::start_telling(log.create(), &distance.url(), &settings);
    let users = ["ada", "bob", "carol", "eve", "dave", "frank", "grace"];
    let ids = users.map(|user| server.create(user, "a task"));
    let (mut locker, mut watcher) = (cluster.client(), cluster.client());
    let mut lock = locker.transaction().unwrap();
    lock.execute("select from tasks where user_id = 'eve' for update", &[]).unwrap();
    // The first two keep the workers busy while the others come in.
    let toggle = |user: &str, id| server.send("PATCH", &format!("/api/tasks/{id}/complete"), &token(user));
    let begun = Instant::now();
    let mut others = vec![toggle("ada", ids[0]), toggle("bob", ids[1])];
    let of_eve = toggle("eve", ids[3]);
    others.extend(users.iter().zip(ids).filter(|(user, _)| **user != "eve").map(|(user, id)| toggle(user, id)));
    for stream in others {
        assert_eq!(Response::read(stream).status, 200);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "a lock held others up for {took:?}");
    wait_until_blocked(&mut watcher, "the one that waits for the lock, alone", 1);
    lock.rollback().unwrap();
    assert_eq!(Response::read(of_eve).status, 200);
    assert_eq!(blocked_statements(&mut watcher), 0);
    assert_eq!(log.wait_until("", |_| true), "", "a lock is nothing to log");
}

#[test]
fn task_when_toggled_by_queued_writes_has_an_etag_for_each_state() {
    const TOGGLES: usize = 21;
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let server = Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "2")]);
    let id = server.create("ada", "on and off");
    let target = format!("/api/tasks/{id}/complete");
    let sent: Vec<_> = (0..TOGGLES).map(|_| server.send("PATCH", &target, &token("ada"))).collect();
    let responses: Vec<_> = sent.into_iter().map(Response::read).collect();
    let tags: BTreeSet<_> = responses.iter().map(|response| response.header("etag").unwrap().to_owned()).collect();
    assert_eq!(tags.len(), TOGGLES, "{responses:?}");
    let completed = responses.iter().filter(|response| response.json()["completed"] == true).count();
    assert_eq!(completed, TOGGLES.div_ceil(2), "one after the other, it is on every second time");
}

#[test]
fn transactions_when_they_change_the_same_tasks_do_not_deadlock() {
    const USERS: usize = 8;
    let cluster = Cluster::start_with(&["deadlock_timeout=10ms"], |_| {});
    let distance = Distance::start(cluster.port);
    let servers = [1, 2].map(|_| Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "2")]));
    let ids: Vec<_> = (0..USERS).map(|user| servers[0].create(&format!("user-{user}"), "a task")).collect();
    slow_down(&cluster, 0.003, "update on tasks for each row");
    for round in 0..5 {
        let mut sent = Vec::new();
        for number in 0..USERS * 4 {
            let user = (number + round) % USERS;
            for (server, user) in servers.iter().zip([user, USERS - 1 - user]) {
                let target = format!("/api/tasks/{}/complete", ids[user]);
                sent.push(server.send("PATCH", &target, &token(&format!("user-{user}"))));
            }
        }
        for stream in sent {
            assert_eq!(Response::read(stream).status, 200);
        }
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = 'postgres'";
    assert_eq!(count(&cluster, deadlocks), 0);
    assert_eq!(count(&cluster, "select count(*) from tasks where completed"), 0, "each was toggled 40 times");
}

#[test]
fn writes_when_their_connection_is_lost_before_the_commit_are_retried() {
    const USERS: usize = 9;
    /// In the middle of the batch: the first request goes alone.
    const SLOW: usize = 2;
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let server = Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "1")]);
    server.create("ada", "so that there is a table");
    slow_down(&cluster, 1.0, "insert on tasks for each row when (new.title = 'slow')");
    let sent: Vec<_> = (0..USERS)
        .map(|number| {
            let title = if number == SLOW { "slow" } else { "quick" };
            let body = format!(r#"{{"title":"{title}"}}"#);
            server.send_json("POST", "/api/tasks", &token(&format!("user-{number}")), &body)
        })
        .collect();
    let mut watcher = cluster.client();
    let sleeping = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    wait_until("the slow one", || watcher.query_one(sleeping, &[]).unwrap().get::<_, i64>(0) == 1);
    assert_eq!(cluster.end_connections(), 1);
    for stream in sent {
        let response = Response::read(stream);
        assert_eq!(response.status, 201, "{response:?}");
    }
    let created = "select count(*) from tasks where title in ('quick', 'slow')";
    assert_eq!(count(&cluster, created), USERS as i64, "each once");
}

#[test]
fn transaction_when_it_arrives_by_half_is_rolled_back_soon() {
    const USERS: usize = 8;
    let cluster = Cluster::start();
    let (is_narrow, is_cut) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let flags = (Arc::clone(&is_narrow), Arc::clone(&is_cut));
    let port = listen_before(cluster.port, move |server, database| {
        let (is_narrow, is_cut) = &flags;
        for_each_piece(server, |piece| {
            thread::sleep(Duration::from_millis(30));
            // Half of the first large piece gets through, and nothing after it.
            let is_last = is_narrow.load(Ordering::SeqCst) && piece.len() > 250;
            let length = if is_last { piece.len() / 2 } else { piece.len() };
            if !is_cut.fetch_or(is_last, Ordering::SeqCst) {
                (&database).write_all(&piece[..length]).unwrap();
            }
        });
    });
    let url = format!("postgresql://todo@127.0.0.1:{port}/postgres?sslmode=disable");
    let server = Server::start_with(&url, &[("DB_POOL_SIZE", "1"), ("DB_STATEMENT_TIMEOUT_MS", "1000")]);
    let ids: Vec<_> = (0..USERS).map(|user| server.create(&format!("user-{user}"), "a task")).collect();
    let complete = || {
        let send = |user: usize| {
            let target = format!("/api/tasks/{}/complete", ids[user]);
            server.send_json("PATCH", &target, &token(&format!("user-{user}")), r#"{"completed":true}"#)
        };
        (0..USERS).map(send).collect::<Vec<TcpStream>>()
    };
    complete().into_iter().for_each(|stream| assert_eq!(Response::read(stream).status, 200)); // prepares all that
    cluster.client().batch_execute("update tasks set completed = false").unwrap();
    is_narrow.store(true, Ordering::SeqCst);
    let sent = complete();
    let mut watcher = cluster.client();
    let open = "select count(*) from pg_stat_activity where state = 'idle in transaction'";
    wait_until("half a transaction", || watcher.query_one(open, &[]).unwrap().get::<_, i64>(0) == 1);
    let begun = Instant::now();
    watcher.batch_execute("set lock_timeout = '10s'").unwrap();
    watcher.execute("update tasks set title = 'free again'", &[]).unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "rows were locked for {took:?}");
    let statuses: Vec<_> = sent.into_iter().map(|stream| Response::read(stream).status).collect();
    let done = count(&cluster, "select count(*) from tasks where completed");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count() as i64, done, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
}

#[test]
fn writes_when_each_is_slow_run_on_all_workers() {
    const WORKERS: usize = 4;
    const USERS: usize = 6 * WORKERS;
    let cluster = Cluster::start();
    let server = Server::start_with(&cluster.url(), &[("DB_POOL_SIZE", &WORKERS.to_string())]);
    server.create("ada", "so that there is a table");
    slow_down(&cluster, 0.5, "insert on tasks for each row");
    let begun = Instant::now();
    let post = |user| server.send_json("POST", "/api/tasks", &token(&format!("user-{user}")), r#"{"title":"slow"}"#);
    let sent: Vec<_> = (0..USERS).map(post).collect();
    for stream in sent {
        assert_eq!(Response::read(stream).status, 201);
    }
    // It takes 3 s where each goes alone from the beginning.
    assert!(begun.elapsed() < Duration::from_millis(4_500), "{:?}", begun.elapsed());
}

#[test]
fn task_when_changed_as_it_is_created_has_an_etag_for_each_state() {
    const ROUNDS: i64 = 8;
    const TASKS: i64 = 4;
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let server = Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "1")]);
    let mut next = server.create("ada", "prepares the statements") + 1;
    server.request("PATCH", "/api/tasks/2147483647/complete", Some(&token("ada")), None);
    let (mut tags, mut changed) = (BTreeSet::new(), 0);
    for _ in 0..ROUNDS {
        let mut sent = vec![server.send_json("POST", "/api/tasks", &token("bob"), r#"{"title":"first"}"#)];
        for guessed in next..=next + TASKS {
            sent.push(server.send("PATCH", &format!("/api/tasks/{guessed}/complete"), &token("ada")));
            sent.push(server.send_json("POST", "/api/tasks", &token("ada"), r#"{"title":"guessed"}"#));
        }
        for response in sent.into_iter().map(Response::read).filter(|response| response.status != 404) {
            let task = response.json();
            next = next.max(task["id"].as_i64().unwrap() + 1);
            changed += u32::from(response.status == 200);
            let tag = (task["id"].as_i64(), response.header("etag").unwrap().to_owned());
            assert!(tags.insert(tag), "another state has this tag: {response:?}");
        }
    }
    println!("{changed} of {} tasks were changed as they were made", ROUNDS * (TASKS + 1));
}

#[test]
fn writes_when_cancelled_are_not_done_twice() {
    const CLIENTS: usize = 24;
    let cluster = Cluster::start();
    let log = cluster.server_log();
    let settings = [("DB_POOL_SIZE", "2"), ("RUST_LOG", "error")];
    let server = Server::start_telling(log.create(), &cluster.url(), &settings);
    server.create("ada", "so that there is a table");
    let is_over = AtomicBool::new(false);
    let cancel = "do $$ declare backends int[]; begin \
                  select array_agg(pid) into backends from pg_stat_activity \
                  where application_name = 'todo-backend'; \
                  for turn in 1..1000 loop \
                  perform pg_cancel_backend(backend) from unnest(backends) as backend; perform pg_sleep(0.0002); \
                  end loop; end $$";
    let acknowledged: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (server, is_over) = (&server, &is_over);
                scope.spawn(move || {
                    let token = token(&format!("user-{client}"));
                    let post = |number| {
                        let body = format!(r#"{{"title":"{client} {number}"}}"#);
                        server.request("POST", "/api/tasks", Some(&token), Some(&body)).status == 201
                    };
                    (0..).take_while(|_| !is_over.load(Ordering::SeqCst)).filter(|number| post(*number)).count()
                })
            })
            .collect();
        let begun = Instant::now();
        let mut canceller = cluster.client();
        while begun.elapsed() < Duration::from_secs(8) {
            canceller.batch_execute(cancel).unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let twice = "select count(*) from (select from tasks group by title having count(*) > 1) as twice";
    assert_eq!(count(&cluster, twice), 0, "of {acknowledged}");
    assert!(count(&cluster, "select count(*) from tasks") > acknowledged as i64);
    assert_eq!(log.wait_until("", |_| true), "", "no connection was left in the middle of a transaction");
}

#[test]
fn writes_when_postgresql_panics_at_the_commit_are_not_retried() {
    const USERS: usize = 9;
    let cluster = Cluster::start();
    let is_armed = Arc::new(AtomicBool::new(false));
    let (armed, database) = (Arc::clone(&is_armed), cluster.port);
    let port = listen(move |server| {
        let database = TcpStream::connect(("127.0.0.1", database)).unwrap();
        let (responses, client, armed) =
            (database.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&armed));
        thread::spawn(move || {
            for_each_piece(responses, |piece| {
                // In place of the response to a `commit` PostgreSQL reports a panic: the commit may be on the disk.
                let commit = piece.windows(7).position(|word| word == b"COMMIT\0").map(|word| word - 5);
                match commit.filter(|_| armed.swap(false, Ordering::SeqCst)) {
                    Some(at) => {
                        let said = b"SPANIC\0VPANIC\0C58030\0Mcould not fsync file\0\0";
                        let length = (said.len() as u32 + 4).to_be_bytes();
                        let instead = [&piece[..at], b"E", &length, said].concat();
                        let _ = (&client).write_all(&instead);
                        let _ = client.shutdown(Shutdown::Both);
                    }
                    None => drop((&client).write_all(piece)),
                }
            });
            let _ = client.shutdown(Shutdown::Both);
        });
        for_each_piece(server, |piece| {
            thread::sleep(Duration::from_millis(30));
            let _ = (&database).write_all(piece);
        });
        let _ = database.shutdown(Shutdown::Both);
    });
    let url = format!("postgresql://todo@127.0.0.1:{port}/postgres?sslmode=disable");
    let server = Server::start_with(&url, &[("DB_POOL_SIZE", "1")]);
    server.create("ada", "so that there is a table");
    let post = |user| {
        let body = format!(r#"{{"title":"of {user}"}}"#);
        server.send_json("POST", "/api/tasks", &token(&format!("user-{user}")), &body)
    };
    is_armed.store(true, Ordering::SeqCst);
    let sent: Vec<_> = (0..USERS).map(post).collect();
    let statuses: Vec<_> = sent.into_iter().map(|stream| Response::read(stream).status).collect();
    let unknown = statuses.iter().filter(|status| **status == 503).count();
    assert!(unknown > 1 && statuses.iter().all(|status| [201, 503].contains(status)), "{statuses:?}");
    assert_eq!(count(&cluster, "select count(*) from tasks where title like 'of %'"), USERS as i64);
}

/// A trigger that raises `code` when a task titled `…conflict` is first inserted. Sequences are not rolled back.
fn conflict_once(cluster: &Cluster, code: &str) {
    let sql = format!(
        "create sequence tries;
         create function conflict() returns trigger language plpgsql as $$ begin
             if nextval('tries') = 1 then raise exception using errcode = '{code}'; end if; return new;
         end $$;
         create trigger conflict before insert on tasks for each row when (new.title like '%conflict')
             execute function conflict()"
    );
    cluster.client().batch_execute(&sql).unwrap();
}

#[test]
fn write_when_rolled_back_by_a_conflict_is_retried() {
    for code in ["40001", "40P01"] {
        let cluster = Cluster::start();
        let server = Server::start(&cluster.url());
        server.create("ada", "creates the table");
        conflict_once(&cluster, code);
        server.create("ada", "a conflict");
        assert_eq!(count(&cluster, "select count(*) from tasks where title = 'a conflict'"), 1, "{code}");
        assert_eq!(count(&cluster, "select last_value from tries"), 2, "{code}");
    }
}

#[test]
fn writes_when_one_of_the_batch_meets_a_conflict_are_all_done_once() {
    const USERS: usize = 8;
    let cluster = Cluster::start();
    let distance = Distance::start(cluster.port);
    let server = Server::start_with(&distance.url(), &[("DB_POOL_SIZE", "1")]);
    server.create("ada", "creates the table");
    conflict_once(&cluster, "40001");
    let post = |user| {
        let title = if user == USERS / 2 { "a conflict" } else { "no trouble" };
        let token = token(&format!("user-{user}"));
        server.send_json("POST", "/api/tasks", &token, &format!(r#"{{"title":"{title}"}}"#))
    };
    let sent: Vec<_> = (0..USERS).map(post).collect();
    for stream in sent {
        assert_eq!(Response::read(stream).status, 201);
    }
    let created = "select count(*) from tasks where title in ('a conflict', 'no trouble')";
    assert_eq!(count(&cluster, created), USERS as i64, "each once");
}

#[test]
fn write_when_it_conflicts_always_is_answered_503() {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    server.create("ada", "creates the table");
    let sql = "create function conflict() returns trigger language plpgsql as $$ begin
                   raise exception using errcode = '40001'; end $$;
               create trigger conflict before insert on tasks for each row execute function conflict()";
    cluster.client().batch_execute(sql).unwrap();
    let response = server.request("POST", "/api/tasks", Some(&token("ada")), Some(r#"{"title":"a conflict"}"#));
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{response:?}");
}

#[test]
fn write_when_retried_keeps_its_first_deadline() {
    /// How long a request may be queued.
    const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
    let cluster = Cluster::start();
    let server = Server::start_with(&cluster.url(), &[("DB_POOL_SIZE", "1")]);
    let ids = ["ada", "bob", "eve"].map(|user| server.create(user, "a task"));
    let toggle = |user: &str, id| server.send("PATCH", &format!("/api/tasks/{id}/complete"), &token(user));
    let (mut first, mut second, mut watcher) = (cluster.client(), cluster.client(), cluster.client());
    let lock = |client: &mut postgres::Client, users: &str| {
        let sql = format!("begin; select from tasks where user_id in ({users}) for update");
        client.batch_execute(&sql).unwrap();
    };
    lock(&mut first, "'ada'");
    lock(&mut second, "'bob', 'eve'");
    // Ada's holds the worker for nearly as long as the others may be queued.
    let of_ada = toggle("ada", ids[0]);
    wait_until_blocked(&mut watcher, "the first", 1);
    let begun = Instant::now();
    let others = [toggle("bob", ids[1]), toggle("eve", ids[2])];
    thread::sleep(QUEUE_TIMEOUT - Duration::from_millis(600));
    first.batch_execute("rollback").unwrap();
    assert_eq!(Response::read(of_ada).status, 200);
    // Their transaction is rolled back after 100 ms. One of them is retried and blocked; the other is queued again.
    let responses = others.map(|stream| thread::spawn(|| Response::read(stream).status));
    wait_until("the refusal of the one that is queued again", || responses.iter().any(thread::JoinHandle::is_finished));
    let waited = begun.elapsed();
    assert!(waited >= QUEUE_TIMEOUT - Duration::from_millis(200), "{waited:?}");
    assert!(waited < QUEUE_TIMEOUT + Duration::from_secs(2), "a retry extended the deadline: {waited:?}");
    second.batch_execute("rollback").unwrap();
    let mut statuses = responses.map(|response| response.join().unwrap());
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503], "the other one was with PostgreSQL by then");
}
