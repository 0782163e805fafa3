//! Lists that are longer than a page are complete, take little memory, and hold no worker while their readers stall.
//!
//! Runs alone: it measures time and memory.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use support::compatibility::table;
use support::locks::{blocked_statements, lock_tasks, wait_until_blocked};
use support::pgbouncer::PgBouncer;
use support::{Cluster, Response, Server, signal, token, wait_for, wait_until};

/// What 100,000 tasks may cost.
const MAX_GROWTH_KIB: usize = 16 * 1024;
/// The same of 50 such lists to readers that stall: a page (256 KiB) for each of them, and twice as much for what the
/// allocator keeps for each of the threads.
const MAX_STALLED_GROWTH_KIB: usize = 39 * 1024;
/// The same of readers that stall on the longest descriptions: a page and a task (62 KB) for each of them.
const MAX_WORST_GROWTH_KIB: usize = 48 * 1024;
/// How many readers stall.
const STALLED: usize = 50;
/// More readers than the server keeps waiting. Together they may cost 32 MiB of unsent responses, 32 KB each for a
/// first page that is queued, and three quarters of both for what the allocator keeps.
const CROWD: usize = 300;
const MAX_CROWD_GROWTH_KIB: usize = 72 * 1024;
/// Lists of 100 of the largest tasks at each of 8 workers: the first pages of 8 in each batch, a row, and the engine's
/// 32 MiB.
const MAX_BATCH_GROWTH_KIB: usize = 128 * 1024;
/// How many of them are sent at once.
const WAVE: usize = 20;
/// Receive buffers, in bytes: a reader with the first stalls at once, one with the second after some pages.
const LITTLE_ROOM: usize = 4 * 1024;
const MORE_ROOM: usize = 64 * 1024;
/// What is instant, on a noisy machine.
const INSTANT: Duration = Duration::from_millis(500);
/// The version that an old client speaks, which knows nothing of chunks.
const OLD_CLIENT: &str = "HTTP/1.0";

/// Gives `ada` this many tasks, seven in each second; every third one is completed.
fn fill(cluster: &Cluster, tasks: usize) {
    let sql = "insert into tasks (user_id, title, description, completed, created_at, updated_at)
               select 'ada', chr(65 + n * 7 % 26) || ' is the title of task ' || n, 'Ünd its description, ' || n,
                      n % 3 = 0,
                      timestamptz '2020-01-01 00:00:00.123456' + n / 7 * interval '1 s',
                      timestamptz '2021-01-01 00:00:00.654321' + n % 100 * interval '1 s'
               from generate_series(1, $1::int) as n";
    cluster.client().execute(sql, &[&i32::try_from(tasks).unwrap()]).unwrap();
    cluster.client().batch_execute("vacuum analyze tasks").unwrap();
}

/// Two users with tasks in between, so that a page that forgot whose list it is would show it.
fn start(tasks: usize) -> (Cluster, Server) {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    assert_eq!(list(&server, "").json(), serde_json::json!([]));
    fill(&cluster, tasks);
    let eve = "insert into tasks (user_id, title, created_at) select 'eve', title, created_at from tasks";
    cluster.client().batch_execute(&format!("{eve} limit 5000")).unwrap();
    (cluster, server)
}

fn list(server: &Server, query: &str) -> Response {
    let response = server.request("GET", &format!("/api/tasks{query}"), Some(&token("ada")), None);
    assert_eq!(response.status, 200, "{response:?}");
    response
}

/// What the database itself says of a list: id, title and the moments of each task.
fn expected(cluster: &Cluster, tail: &str) -> Vec<String> {
    let moment = |column| format!("to_char({column} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    let (created, updated) = (moment("created_at"), moment("updated_at"));
    let sql = format!("select concat_ws('|', id, title, {created}, {updated}) from tasks where user_id = 'ada' {tail}");
    cluster.client().query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn shown(response: &Response) -> Vec<String> {
    let json = response.json();
    let text = |task: &serde_json::Value, name: &str| task[name].as_str().unwrap().to_owned();
    let tasks = json.as_array().unwrap().iter();
    tasks
        .map(|task| {
            let moments = [text(task, "created_at"), text(task, "updated_at")].join("|");
            format!("{}|{}|{moments}", task["id"], text(task, "title"))
        })
        .collect()
}

/// Of a process, in KiB: `VmRSS` now, `VmHWM` at most so far.
fn memory(server: &Server, what: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Threads of the server that read long responses.
fn reading(server: &Server) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "http-body").count()
}

#[test]
fn list_when_it_has_100_000_tasks_is_complete_and_takes_little_memory() {
    let (cluster, server) = start(100_000);
    let expected = expected(&cluster, "order by created_at desc, id desc");
    let before = memory(&server, "VmRSS");
    let begun = Instant::now();
    let response = list(&server, "");
    let growth = memory(&server, "VmHWM").saturating_sub(before);
    println!("{} bytes in {:?}, {growth} KiB more of memory at most", response.body.len(), begun.elapsed());
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert!(shown(&response) == expected, "not the list that the database has");
    assert_eq!(expected.len(), 100_000);
    assert!(growth <= MAX_GROWTH_KIB, "{growth} KiB");
}

#[test]
fn list_in_every_order_filter_and_window_matches_the_database() {
    let (cluster, server) = start(3_500);
    check_orders(&cluster, &server);
    for (query, total, offset, limit) in [
        ("?limit=999", 3_500, 0, 999),
        ("?limit=1000", 3_500, 0, 1_000),
        ("?limit=1000&offset=2500", 3_500, 2_500, 1_000),
        ("?limit=1000&offset=2501", 3_500, 2_501, 1_000),
        ("?offset=0", 3_500, 0, 9_999),
        ("?offset=999", 3_500, 999, 9_999),
        ("?offset=1000", 3_500, 1_000, 9_999),
        ("?offset=1001", 3_500, 1_001, 9_999),
        ("?offset=1500", 3_500, 1_500, 9_999),
        ("?offset=2499", 3_500, 2_499, 9_999),
        ("?offset=2500", 3_500, 2_500, 9_999),
        ("?offset=3499", 3_500, 3_499, 9_999),
        ("?offset=3500", 3_500, 3_500, 9_999),
    ] {
        let response = list(&server, query);
        let sql = format!("order by created_at desc, id desc limit {limit} offset {offset}");
        assert_eq!(shown(&response), expected(&cluster, &sql), "{query}");
        assert_eq!(response.header("x-total-count"), Some(total.to_string().as_str()), "{query}");
    }
}

/// Lists whose last page is full, or holds one task. The first page is the 100 tasks of a short list and 1,000 more.
#[test]
fn list_when_it_ends_at_a_page_boundary_is_complete() {
    let (cluster, server) = start(1_099);
    for (more, is_whole) in [(0, true), (1, true), (1, false), (998, false), (1, false), (1, false), (499, false)] {
        for _ in 0..more {
            cluster.client().batch_execute("insert into tasks (user_id, title) values ('ada', 'one more')").unwrap();
        }
        let expected = expected(&cluster, "order by created_at desc, id desc");
        let response = list(&server, "");
        assert_eq!(shown(&response), expected, "{} tasks", expected.len());
        assert_eq!(response.header("content-length").is_some(), is_whole, "{} tasks", expected.len());
        let head = read_on(server.send("HEAD", "/api/tasks", &token("ada"))).unwrap();
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(head.contains("Content-Length: "), is_whole, "{head}");
    }
}

#[test]
fn list_behind_a_pooler_matches_the_database() {
    let cluster = Cluster::start();
    let bouncer = PgBouncer::start(&cluster, "transaction");
    let server = Server::start(&bouncer.url());
    list(&server, "");
    fill(&cluster, 2_500);
    check_orders(&cluster, &server);
}

/// SQLModel's table has no time zones, and `varchar`.
#[test]
fn list_of_a_table_without_time_zones_matches_the_database() {
    let cluster = Cluster::start();
    let table = table(&[
        ("id", "serial primary key"),
        ("user_id", "varchar not null"),
        ("title", "varchar(200) not null"),
        ("description", "varchar(1000)"),
        ("completed", "boolean not null"),
        ("created_at", "timestamp not null"),
        ("updated_at", "timestamp not null"),
    ]);
    cluster.client().batch_execute(&format!("set time zone 'UTC'; {table}")).unwrap();
    cluster.client().batch_execute("alter role todo set time zone 'UTC'").unwrap();
    fill(&cluster, 2_500);
    let server = Server::start(&cluster.url());
    check_orders(&cluster, &server);
}

fn check_orders(cluster: &Cluster, server: &Server) {
    for (query, tail) in [
        ("", "order by created_at desc, id desc"),
        ("?order=asc", "order by created_at, id"),
        ("?sort=updated_at", "order by updated_at desc, id desc"),
        ("?sort=updated_at&order=asc", "order by updated_at, id"),
        ("?sort=title", "order by lower(title), id"),
        ("?sort=title&order=desc", "order by lower(title) desc, id desc"),
        ("?status=pending", "and not completed order by created_at desc, id desc"),
        ("?status=completed&sort=title", "and completed order by lower(title), id"),
        ("?search=TASK%201", "and title like '%task 1%' order by created_at desc, id desc"),
        ("?search=%C3%BCnd&sort=updated&offset=7", "order by updated_at desc, id desc offset 7"),
    ] {
        assert_eq!(shown(&list(server, query)), expected(cluster, tail), "{query}");
    }
}

#[test]
fn list_when_the_client_speaks_http_1_0_ends_with_the_connection() {
    let (cluster, server) = start(2_500);
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let response = Response::read(ask(stream, OLD_CLIENT));
    assert_eq!((response.header("transfer-encoding"), response.header("content-length")), (None, None));
    assert_eq!(shown(&response), expected(&cluster, "order by created_at desc, id desc"));
}

#[test]
fn list_when_cut_off_for_an_http_1_0_client_ends_with_a_reset() {
    for is_read in [false, true] {
        let (tell, server_ended) = std::sync::mpsc::channel();
        let cluster = Cluster::start();
        let mut server = Server::start_with(&cluster.url(), &[("DRAIN_TIMEOUT_MS", "1000")]);
        list(&server, "");
        fill(&cluster, 100_000);
        let stream = ask(connected_with_room(&server, LITTLE_ROOM), OLD_CLIENT);
        stream.peek(&mut [0]).unwrap();
        wait_until("the reader to stall", || reading(&server) == 0);
        // Either the client does not take what there is, or the database does not give the next page.
        let mut holder = cluster.client();
        let _lock = lock_tasks(&mut holder);
        let read = std::thread::spawn(move || {
            if is_read {
                return read_on(stream);
            }
            assert_eq!(server_ended.recv(), Ok(()));
            read_on(stream)
        });
        if is_read {
            wait_until_blocked(&mut cluster.client(), "the next page to be asked for", 1);
        }
        signal(server.id(), "TERM");
        assert_eq!(server.wait(), Some(0));
        let _ = tell.send(()); // nobody waits for it where it is read
        match read.join().unwrap() {
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
            Ok(response) => panic!("{} bytes, then a proper end", response.len()),
        }
    }
}

/// A connection with little room, on which a list was asked for and nothing is read.
fn ask_with_little_room(server: &Server) -> TcpStream {
    ask_with_room(server, LITTLE_ROOM)
}

/// The same with room for so many bytes.
fn ask_with_room(server: &Server, bytes: usize) -> TcpStream {
    ask(connected_with_room(server, bytes), "HTTP/1.1\r\nHost: localhost\r\nConnection: close")
}

fn connected_with_room(server: &Server, bytes: usize) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, bytes).unwrap();
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.port)).unwrap();
    TcpStream::from(socket)
}

/// Asks for the whole list. `version` is that of HTTP, and may have headers behind it.
fn ask(mut stream: TcpStream, version: &str) -> TcpStream {
    let head = format!("GET /api/tasks {version}\r\nAuthorization: Bearer {}\r\n\r\n", token("ada"));
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Lets readers stall, half of them with little room: at the beginning, and in the middle. By how many KiB the memory
/// has grown.
fn stall(cluster: &Cluster, server: &Server, readers: usize) -> (Vec<TcpStream>, usize) {
    let before = memory(server, "VmRSS");
    let mut stalled = Vec::with_capacity(readers);
    // No more at once than the workers begin within the queue's time.
    while stalled.len() < readers {
        let wave: Vec<_> = (0..WAVE.min(readers - stalled.len()))
            .map(|number| ask_with_room(server, [LITTLE_ROOM, MORE_ROOM][number % 2]))
            .collect();
        for stream in &wave {
            let mut status = [0; 12];
            stream.peek(&mut status).unwrap(); // its response has begun
            assert_eq!(str::from_utf8(&status), Ok("HTTP/1.1 200"));
        }
        stalled.extend(wave);
    }
    wait_until("every thread that reads to be done", || reading(server) == 0);
    let busy = "select count(*) from pg_stat_activity where application_name = 'todo-backend' and state <> 'idle'";
    assert_eq!(cluster.client().query_one(busy, &[]).unwrap().get::<_, i64>(0), 0, "a connection is held");
    for _ in 0..20 {
        let asked = Instant::now();
        let response = server.request("GET", "/api/tasks?limit=1", Some(&token("eve")), None);
        assert_eq!(response.status, 200, "{response:?}");
        assert!(asked.elapsed() < INSTANT, "took {:?}", asked.elapsed());
    }
    let growth = memory(server, "VmHWM").saturating_sub(before);
    println!("{readers} stalled readers: {growth} KiB more of memory at most");
    (stalled, growth)
}

fn read_on(mut stream: TcpStream) -> std::io::Result<Vec<u8>> {
    let mut response = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.read_to_end(&mut response).map(|_| response)
}

#[test]
fn stalled_readers_hold_no_worker_and_little_memory() {
    let (cluster, server) = start(100_000);
    let (mut stalled, growth) = stall(&cluster, &server, STALLED);
    assert!(growth <= MAX_STALLED_GROWTH_KIB, "{growth} KiB");
    // One that reads on has missed nothing.
    let response = Response::read(stalled.pop().unwrap());
    assert_eq!(response.json().as_array().unwrap().len(), 100_000);
}

/// Every character takes six bytes in JSON.
fn make_longest(cluster: &Cluster) {
    let longest =
        "update tasks set title = repeat(chr(1), 255), description = repeat(chr(1), 10000) where user_id = 'ada'";
    cluster.client().batch_execute(longest).unwrap();
}

#[test]
fn stalled_readers_of_the_longest_tasks_take_bounded_memory() {
    let (cluster, server) = start(200);
    make_longest(&cluster);
    let (mut stalled, growth) = stall(&cluster, &server, STALLED);
    assert!(growth <= MAX_WORST_GROWTH_KIB, "{growth} KiB");
    let response = Response::read(stalled.pop().unwrap());
    assert_eq!(response.body.matches("\"user_id\":\"ada\"").count(), 200);
    // A window of the list is no way around it.
    let part = list(&server, "?limit=150&offset=20");
    assert_eq!(part.body.matches("\"user_id\":\"ada\"").count(), 150);
    assert_eq!((part.header("x-total-count"), part.header("content-length")), (Some("200"), None));
}

#[test]
fn list_when_the_database_fails_in_the_middle_ends_with_a_reset() {
    let mut cluster = Cluster::start();
    let log = cluster.server_log();
    let server = Server::start_telling(log.create(), &cluster.url(), &[("RUST_LOG", "info")]);
    list(&server, "");
    fill(&cluster, 100_000);
    let mut stream = ask_with_little_room(&server);
    let mut begin = [0; 1024];
    stream.read_exact(&mut begin).unwrap();
    wait_until("the reader to stall", || reading(&server) == 0);
    cluster.kill();
    match read_on(stream) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        Ok(response) => panic!("{} bytes, then a proper end", response.len()),
    }
    let log = log.wait_until("the line in the log", |log| log.contains("a list was cut off"));
    println!("{log}");
    assert_eq!(log.matches("a list was cut off").count(), 1);
    let id = |line: &str| line.split("request_id=").nth(1).map(str::to_owned);
    let line_of = |text: &str| log.lines().rev().find(|line| line.contains(text)).unwrap();
    assert_eq!(id(line_of("a list was cut off")), id(line_of("answered")), "it says which request");
    assert!(id(line_of("answered")).is_some());
    cluster.resume();
    wait_for("the whole list", || {
        let response = server.request("GET", "/api/tasks", Some(&token("ada")), None);
        (response.status == 200).then(|| assert_eq!(response.json().as_array().unwrap().len(), 100_000))
    });
}

/// However many lists one user reads at once, and however long the tasks are.
#[test]
fn stalled_readers_when_too_many_are_closed() {
    let (cluster, server) = start(200);
    make_longest(&cluster);
    let (stalled, growth) = stall(&cluster, &server, CROWD);
    assert!(growth <= MAX_CROWD_GROWTH_KIB, "{growth} KiB");
    // The readers that had taken nothing for the longest time were closed by a reset; the others get their lists.
    let (mut whole, mut cut_off) = (0, 0);
    for stream in stalled {
        *if Response::try_read(stream).is_ok() { &mut whole } else { &mut cut_off } += 1;
        if whole > 0 && cut_off > 0 {
            return;
        }
    }
    panic!("{whole} were served whole, {cut_off} were closed");
}

#[test]
fn long_lists_when_many_are_read_leave_connections_free() {
    let cluster = Cluster::start();
    let server = Server::start_with(&cluster.url(), &[("DB_POOL_SIZE", "2")]);
    list(&server, "");
    fill(&cluster, 50_000);
    let stalled: Vec<_> = (0..4).map(|_| ask_with_little_room(&server)).collect();
    for stream in &stalled {
        stream.peek(&mut [0]).unwrap();
    }
    wait_until("the readers to stall", || reading(&server) == 0);
    let mut holder = cluster.client();
    let lock = lock_tasks(&mut holder);
    std::thread::scope(|scope| {
        let readers: Vec<_> = stalled.into_iter().map(|stream| scope.spawn(|| Response::read(stream))).collect();
        let mut watcher = cluster.client();
        wait_until_blocked(&mut watcher, "a page to wait for the lock", 1);
        for _ in 0..5 {
            let ready = server.request("GET", "/ready", None, None);
            assert_eq!(ready.status, 200, "the other connection is free");
            assert_eq!(blocked_statements(&mut watcher), 1);
        }
        lock.rollback().unwrap();
        for reader in readers {
            let response = reader.join().unwrap();
            assert_eq!(response.json().as_array().unwrap().len(), 50_000);
        }
    });
}

#[test]
fn short_window_of_large_tasks_is_complete() {
    let (cluster, server) = start(0);
    let large = "insert into tasks (user_id, title, description) \
                 select 'ada', 'task ' || n, repeat('x', 10000) from generate_series(1, 200) as n";
    cluster.client().batch_execute(large).unwrap();
    for query in ["?limit=100", "?limit=60&offset=40", "?limit=30&order=asc"] {
        let response = list(&server, query);
        let limit = query[7..].split('&').next().unwrap().parse().unwrap();
        assert_eq!(response.json().as_array().map(Vec::len), Some(limit), "{query}");
        assert_eq!(response.header("x-total-count"), Some("200"));
    }
}

#[test]
fn short_windows_of_large_tasks_when_read_in_batches_take_bounded_memory() {
    const USERS: usize = 4;
    let (cluster, server) = start(0);
    // 40 KB each, so 4 MB a list.
    let large = "insert into tasks (user_id, title, description) \
                 select 'user-' || n % 4, 'x', repeat('𝄞', 10000) from generate_series(1, 400) as n";
    cluster.client().batch_execute(large).unwrap();
    let before = memory(&server, "VmRSS");
    let send = |number: usize| {
        let token = token(&format!("user-{}", number % USERS));
        server.send("GET", "/api/tasks?limit=100", &token)
    };
    let sent: Vec<_> = (0..CROWD).map(send).collect();
    // Those beyond the allowance for what waits are cut off.
    let responses = sent.into_iter().filter_map(|stream| Response::try_read(stream).ok());
    let whole = responses.filter(|response| response.status == 200 && response.body.ends_with("}]")).count();
    let growth = memory(&server, "VmHWM").saturating_sub(before);
    println!("{whole} of {CROWD} lists of 100 large tasks: {growth} KiB more of memory at most");
    assert!(whole > 0 && growth <= MAX_BATCH_GROWTH_KIB, "{growth} KiB");
}
