//! One statement and one round trip a request, counted on the wire between server and database.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::pgbouncer::PgBouncer;
use support::proxy::listen_before;
use support::{Cluster, Server, token};

/// What was sent to PostgreSQL.
#[derive(Default)]
struct Counters {
    /// Each `Sync` of the extended protocol, each `Query` of the simple one: then the client waits.
    round_trips: AtomicUsize,
    /// Each `Parse` with a name.
    named_statements: AtomicUsize,
    /// Each `Parse` without one.
    unnamed_statements: AtomicUsize,
}

/// A proxy in front of PostgreSQL that counts what a client sends.
struct CountingProxy {
    port: u16,
    counters: Arc<Counters>,
}

impl CountingProxy {
    /// In front of this port.
    fn start(database_port: u16) -> Self {
        let counters = Arc::new(Counters::default());
        let own = Arc::clone(&counters);
        let port = listen_before(database_port, move |client, database| forward_messages(client, database, &own));
        Self { port, counters }
    }

    fn url(&self) -> String {
        format!("postgresql://todo@127.0.0.1:{}/postgres", self.port)
    }

    /// How many round trips this costs.
    fn count(&self, work: impl FnOnce()) -> usize {
        let before = self.counters.round_trips.load(Ordering::SeqCst);
        work();
        self.counters.round_trips.load(Ordering::SeqCst) - before
    }

    /// How many statements were prepared under a name, and how many sent without one.
    fn statements(&self) -> (usize, usize) {
        let Counters { named_statements, unnamed_statements, .. } = &*self.counters;
        (named_statements.load(Ordering::SeqCst), unnamed_statements.load(Ordering::SeqCst))
    }
}

/// Client messages are a type (but for the first one or two of a connection), a length that counts itself, and content.
fn forward_messages(mut client: TcpStream, mut database: TcpStream, counters: &Counters) {
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
        let counter = match kind[0] {
            b'S' | b'Q' => Some(&counters.round_trips),
            b'P' if content[0] == 0 => Some(&counters.unnamed_statements),
            b'P' => Some(&counters.named_statements),
            _ => None,
        };
        if let Some(counter) = counter {
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
fn request_when_repeated_costs_one_round_trip_and_is_prepared_once() {
    let cluster = Cluster::start();
    let proxy = CountingProxy::start(cluster.port);
    let server = Server::start_with(&proxy.url(), &[("DB_POOL_SIZE", "1")]);
    count_round_trips(&server, &proxy);
    let before = proxy.statements();
    count_round_trips(&server, &proxy);
    assert_eq!(proxy.statements(), before, "a statement was prepared again");
    assert_eq!(before.1, 0, "a statement was sent as text");
    count_pages(&cluster, &server, &proxy);
}

#[test]
fn request_when_pooled_costs_one_round_trip_and_is_not_prepared() {
    for settings in ["", "ignore_startup_parameters = options"] {
        let cluster = Cluster::start();
        let bouncer = PgBouncer::start_with(&cluster, "transaction", settings);
        let proxy = CountingProxy::start(bouncer.port);
        let server = Server::start(&proxy.url());
        count_round_trips(&server, &proxy);
        assert_eq!(proxy.statements().0, 0, "a statement was prepared under a name");
    }
}

/// Every kind of request: each costs one round trip, or none.
fn count_round_trips(server: &Server, proxy: &CountingProxy) {
    let token = token("ada");
    let send = |method: &str, target: &str, body: Option<&str>, status: u16| {
        let response = server.request(method, target, Some(&token), body);
        assert_eq!(response.status, status, "{method} {target}: {response:?}");
        response
    };
    const STALE: &str = "If-Match: \"0-0\"";
    let send_if = |condition: &str, method: &str, target: &str, body: Option<&str>, status: u16| {
        // The helper takes no headers; one that stands behind the token is one more line of the head.
        let token = format!("{token}\r\n{condition}");
        let response = server.request(method, target, Some(&token), body);
        assert_eq!(response.status, status, "{condition} {method} {target}: {response:?}");
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

/// Lists of several pages: the first of the plain list has 100 tasks; its others, and all of other lists, have 1,000.
fn count_pages(cluster: &Cluster, server: &Server, proxy: &CountingProxy) {
    let token = token("pages");
    for (tasks, plain, other) in [(100, 1, 1), (101, 2, 1), (1_000, 2, 1), (1_101, 3, 2)] {
        let fill = format!(
            "insert into tasks (user_id, title) select 'pages', n::text
                 from generate_series(1, {tasks} - (select count(*) from tasks where user_id = 'pages')) as n"
        );
        cluster.client().batch_execute(&fill).unwrap();
        for (query, limit, expected) in [
            ("", None, plain),
            ("?status=all&order=desc", None, plain),
            ("?sort=title", None, other),
            ("?sort=updated_at", None, other),
            ("?offset=0", None, other),
            ("?limit=1000", Some(1_000), 1),
            ("?limit=100", Some(100), 1),
            ("?limit=20&offset=20", Some(20), 1),
        ] {
            let list = || {
                let response = server.request("GET", &format!("/api/tasks{query}"), Some(&token), None);
                assert_eq!(response.status, 200, "{query}");
                response.json().as_array().map(Vec::len)
            };
            let expected_length = limit.map_or(tasks, |limit| tasks.min(limit));
            let expect = || assert_eq!(list(), Some(expected_length), "{query} of {tasks} tasks");
            expect(); // prepares the statement
            assert_eq!(proxy.count(expect), expected, "{query} of {tasks} tasks");
        }
    }
}
