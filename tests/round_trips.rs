//! One statement and one round trip a request, counted on the wire between server and database.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::pgbouncer::PgBouncer;
use support::proxy::listen_before;
use support::{Cluster, Server, token};

/// A proxy in front of PostgreSQL that counts how often a client asks and waits: each `Sync` of the extended protocol, each
/// `Query` of the simple one.
struct CountingProxy {
    port: u16,
    round_trips: Arc<AtomicUsize>,
}

impl CountingProxy {
    fn start(database_port: u16) -> Self {
        let round_trips = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&round_trips);
        let forward = move |client, database| forward_messages(client, database, &counter);
        let port = listen_before(database_port, forward);
        Self { port, round_trips }
    }

    fn count(&self, work: impl FnOnce()) -> usize {
        let before = self.round_trips.load(Ordering::SeqCst);
        work();
        self.round_trips.load(Ordering::SeqCst) - before
    }
}

/// Client messages are a type (but for the first one or two of a connection), a length that counts itself, and content.
fn forward_messages(mut client: TcpStream, mut database: TcpStream, counter: &AtomicUsize) {
    let mut started = false;
    loop {
        let mut kind = [0; 1];
        if started && client.read_exact(&mut kind).is_err() {
            return;
        }
        let mut length = [0; 4];
        if client.read_exact(&mut length).is_err() {
            return;
        }
        let mut content = vec![0; u32::from_be_bytes(length) as usize - 4];
        client.read_exact(&mut content).unwrap();
        if matches!(kind[0], b'S' | b'Q') {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        let mut message = if started { kind.to_vec() } else { Vec::new() };
        message.extend_from_slice(&length);
        message.extend_from_slice(&content);
        database.write_all(&message).unwrap();
        let is_tls_request = !started && content == 80_877_103_u32.to_be_bytes();
        started |= !is_tls_request;
    }
}

#[test]
fn each_request_costs_one_round_trip() {
    let cluster = Cluster::start();
    count_round_trips(cluster.port);
}

#[test]
fn behind_a_pooler_it_is_one_as_well() {
    let cluster = Cluster::start();
    let bouncer = PgBouncer::start(&cluster, "transaction");
    count_round_trips(bouncer.port);
}

fn count_round_trips(port: u16) {
    let proxy = CountingProxy::start(port);
    let server = Server::start(&format!("postgresql://todo@127.0.0.1:{}/postgres", proxy.port));
    let token = token("ada");
    let send = |method: &str, target: &str, body: Option<&str>, status: u16| {
        let answer = server.request(method, target, Some(&token), body);
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        answer
    };
    const STALE: &str = "If-Match: \"0-0\"";
    let send_if = |condition: &str, method: &str, target: &str, body: Option<&str>, status: u16| {
        // The helper takes no headers; one that stands behind the token is one more line of the head.
        let token = format!("{token}\r\n{condition}");
        let answer = server.request(method, target, Some(&token), body);
        assert_eq!(answer.status, status, "{condition} {method} {target}: {answer:?}");
    };
    let create = || send("POST", "/api/tasks", Some(r#"{"title":"milk"}"#), 201).json()["id"].to_string();
    let id = create();
    let path = format!("/api/tasks/{id}");
    let complete = format!("{path}/complete");

    let mut doomed: Vec<String> = (0..3).map(|_| create()).collect();
    let mut delete = || {
        send("DELETE", &format!("/api/tasks/{}", doomed.pop().unwrap()), None, 204);
    };
    let requests: [(&str, &dyn Fn()); 15] = [
        ("create", &|| drop(create())),
        ("get", &|| drop(send("GET", &path, None, 200))),
        ("get none", &|| drop(send("GET", "/api/tasks/2147483647", None, 404))),
        ("list", &|| drop(send("GET", "/api/tasks", None, 200))),
        ("list filtered", &|| drop(send("GET", "/api/tasks?status=pending&search=m&sort=title", None, 200))),
        ("page with total", &|| drop(send("GET", "/api/tasks?limit=1", None, 200))),
        ("update", &|| drop(send("PUT", &path, Some(r#"{"title":"bread"}"#), 200))),
        ("update nothing", &|| drop(send("PUT", &path, Some("{}"), 200))),
        ("set completed", &|| drop(send("PATCH", &complete, Some(r#"{"completed":true}"#), 200))),
        ("toggle", &|| drop(send("PATCH", &complete, None, 200))),
        ("get what is known", &|| send_if("If-None-Match: *", "GET", &path, None, 304)),
        ("update if", &|| send_if(STALE, "PUT", &path, Some(r#"{"title":"bread"}"#), 412)),
        ("set completed if", &|| send_if(STALE, "PATCH", &complete, Some(r#"{"completed":true}"#), 412)),
        ("toggle if", &|| send_if(STALE, "PATCH", &complete, None, 412)),
        ("delete if", &|| send_if(STALE, "DELETE", &path, None, 412)),
    ];
    for (name, request) in requests {
        request(); // prepares the statement where this is its first use on the connection
        let counted = proxy.count(request);
        println!("{name}: {counted} round trip");
        assert_eq!(counted, 1, "{name}");
    }
    delete();
    assert_eq!(proxy.count(&mut delete), 1, "delete");

    // 1,000 tasks are a page; one more needs another.
    let url = format!("postgresql://todo@127.0.0.1:{port}/postgres");
    let mut database = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    let fill = "insert into tasks (user_id, title) select 'ada', n::text \
                from generate_series(1, 1000 - (select count(*) from tasks where user_id = 'ada')) as n";
    for (more, expected) in [(fill, 1), ("insert into tasks (user_id, title) values ('ada', 'one more')", 2)] {
        database.batch_execute(more).unwrap();
        for query in ["", "?status=all&sort=title", "?sort=updated_at", "?offset=0"] {
            let list = || drop(send("GET", &format!("/api/tasks{query}"), None, 200));
            list();
            assert_eq!(proxy.count(list), expected, "{query} {more}");
        }
        assert_eq!(proxy.count(|| drop(send("GET", "/api/tasks?limit=1000", None, 200))), 1, "{more}");
    }

    for (name, target, token, status) in [
        ("no token", "/api/tasks", None, 401),
        ("bad id", "/api/tasks/abc", Some(token.as_str()), 422),
        ("unknown path", "/api/none", Some(token.as_str()), 404),
        ("health", "/health", None, 200),
    ] {
        let counted = proxy.count(|| assert_eq!(server.request("GET", target, token, None).status, status));
        assert_eq!(counted, 0, "{name} asked the database");
    }
}
