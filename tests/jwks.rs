//! Tokens signed with a key: the issuer works, rotates, fails, hangs or redirects, or its keys are in the database.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use support::locks::{lock_tasks, wait_until_blocked};
use support::proxy::listen;
use support::signer::{ALGORITHMS, Signer};
use support::{Cluster, Response, SECRET, Server};

/// The longest that a request may wait for a key set, with tolerance for a busy machine.
const LONGEST: Duration = Duration::from_secs(8);

/// An issuer's web server. Responds with these bytes after `delay`, or, without any, keeps the connection open and
/// sends nothing.
struct Issuer {
    port: u16,
    response: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    fn start(response: Option<String>) -> Self {
        Self::start_slow(response, Duration::ZERO)
    }

    fn start_slow(response: Option<String>, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let issuer = Self { port, response: Arc::new(Mutex::new(response)), asked: Arc::default() };
        let (response, asked) = (Arc::clone(&issuer.response), Arc::clone(&issuer.asked));
        thread::spawn(move || {
            let mut kept = Vec::new();
            for mut stream in listener.incoming().flatten() {
                read_head(&mut stream);
                asked.fetch_add(1, Ordering::SeqCst);
                thread::sleep(delay);
                match &*response.lock().unwrap() {
                    // The client may hang up before it has read everything.
                    Some(response) => drop(stream.write_all(response.as_bytes())),
                    None => kept.push(stream),
                }
            }
        });
        issuer
    }

    fn respond(&self, response: Option<String>) {
        *self.response.lock().unwrap() = response;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
}

fn http(status: &str, headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
}

fn set(signers: &[&Signer]) -> Option<String> {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    http("200 OK", "", &json!({"keys": keys}).to_string())
}

fn token(signer: &Signer) -> String {
    let expiry = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
    signer.token(&json!({"sub": "ada", "email": "ada@example.com", "exp": expiry}))
}

fn list(server: &Server, token: &str) -> Response {
    ask(server, "", token)
}

fn ask(server: &Server, query: &str, token: &str) -> Response {
    server.request("GET", &format!("/api/tasks{query}"), Some(token), None)
}

fn assert_unavailable(response: &Response) {
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(response.header("www-authenticate"), None);
}

#[test]
fn key_set_when_rotated_is_fetched_again_over_http() {
    let cluster = Cluster::start();
    let signers = ALGORITHMS.map(|alg| Signer::new(alg, alg));
    let issuer = Issuer::start(set(&signers.each_ref()));
    let server = Server::start_with(&cluster.url(), &[("BETTER_AUTH_URL", &issuer.url())]);
    assert_eq!(list(&server, &support::token("ada")).status, 200);
    assert_eq!(issuer.asked(), 0, "a token signed with the secret needs no key");
    for signer in &signers {
        assert_eq!(list(&server, &token(signer)).status, 200, "{}", signer.alg);
    }
    assert_eq!(issuer.asked(), 1);

    let new = Signer::new("new", "EdDSA");
    issuer.respond(set(&[&new]));
    assert_eq!(list(&server, &token(&new)).status, 200, "the first one with the new key");
    assert_eq!(list(&server, &token(&signers[0])).status, 401, "its key was taken back");
    for _ in 0..50 {
        assert_unavailable(&list(&server, &token(&Signer::new("forged", "EdDSA"))));
    }
    assert_eq!(list(&server, &token(&signers[0])).status, 401, "it was asked for and is missing");
    assert_eq!(issuer.asked(), 3);
    issuer.respond(None);
    assert_eq!(list(&server, &token(&new)).status, 200);
    assert_eq!(issuer.asked(), 3, "nobody is asked for a known key");
}

#[test]
fn token_when_the_fetch_of_keys_fails_is_503_and_not_401() {
    let cluster = Cluster::start();
    let signer = Signer::new("a", "EdDSA");
    let elsewhere = Issuer::start(set(&[&signer]));
    let redirect = format!("Location: {}/\r\n", elsewhere.url());
    let large = json!({"keys": [signer.jwk()], "more": "x".repeat(1_000_000)}).to_string();
    for (name, response) in [
        ("500", http("500 Internal Server Error", "", "{}")),
        ("404", http("404 Not Found", "", "")),
        ("redirect", http("307 Temporary Redirect", &redirect, "")),
        ("1 MB", http("200 OK", "", &large)),
        ("no JSON", http("200 OK", "", "<html>")),
        ("no set", http("200 OK", "", "[]")),
        ("no HTTP", Some("garbage\r\n\r\n".to_owned())),
        ("nothing", Some(String::new())),
    ] {
        let issuer = Issuer::start(response);
        let server = Server::start_with(&cluster.url(), &[("BETTER_AUTH_JWKS_URL", &issuer.url())]);
        assert_unavailable(&list(&server, &token(&signer)));
        assert_eq!(issuer.asked(), 1, "{name}");
        assert_eq!(list(&server, &support::token("ada")).status, 200, "{name}");
        issuer.respond(set(&[&signer]));
        support::wait_until("the issuer's return", || list(&server, &token(&signer)).status == 200);
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect was followed");
}

#[test]
fn requests_when_the_issuer_hangs_hold_no_worker() {
    let cluster = Cluster::start();
    let issuer = Issuer::start(None);
    let variables = [("BETTER_AUTH_JWKS_URL", issuer.url()), ("DB_POOL_SIZE", "2".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = Server::start_with(&cluster.url(), &variables);
    let forged = token(&Signer::new("forged", "EdDSA"));
    thread::scope(|scope| {
        let flood: Vec<_> = (0..40)
            .map(|_| {
                scope.spawn(|| {
                    let begun = Instant::now();
                    assert_unavailable(&list(&server, &forged));
                    begun.elapsed()
                })
            })
            .collect();
        support::wait_until("the fetch", || issuer.asked() > 0);
        let begun = Instant::now();
        for _ in 0..10 {
            assert_eq!(list(&server, &support::token("ada")).status, 200);
            assert_eq!(ask(&server, "?limit=1", &support::token("ada")).status, 200);
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "20 requests of others took {took:?}");
        let longest = flood.into_iter().map(|thread| thread.join().unwrap()).max().unwrap();
        assert!(longest < LONGEST, "{longest:?}");
    });
    assert_eq!(issuer.asked(), 1);
}

/// The 5 s that a request may be queued begin again when the key set is there.
#[test]
fn request_when_it_waited_for_the_key_set_has_the_whole_time_of_the_queue() {
    const DELAY: Duration = Duration::from_millis(4_200);
    /// From the first request to the end of the lock: more than 5 s, and less than 5 s after the key set came.
    const LOCKED: Duration = Duration::from_millis(7_000);
    let cluster = Cluster::start();
    let signer = Signer::new("a", "EdDSA");
    let issuer = Issuer::start_slow(set(&[&signer]), DELAY);
    let variables =
        [("BETTER_AUTH_JWKS_URL", &*issuer.url()), ("DB_POOL_SIZE", "1"), ("DB_STATEMENT_TIMEOUT_MS", "20000")];
    let server = Server::start_with(&cluster.url(), &variables);
    assert_eq!(list(&server, &support::token("bob")).status, 200);
    let (mut locker, mut watcher) = (cluster.client(), cluster.client());
    let begun = Instant::now();
    let waiting = server.send("GET", "/api/tasks", &token(&signer));
    support::wait_until("the fetch", || issuer.asked() > 0);
    let lock = lock_tasks(&mut locker);
    let blocking = server.send("GET", "/api/tasks", &support::token("bob"));
    wait_until_blocked(&mut watcher, "the only worker", 1);
    assert!(begun.elapsed() < DELAY, "the machine is too slow for this test: {:?}", begun.elapsed());
    thread::sleep(LOCKED.saturating_sub(begun.elapsed()));
    lock.rollback().unwrap();
    assert_eq!(Response::read(blocking).status, 200);
    assert_eq!(Response::read(waiting).status, 200);
}

#[test]
fn issuer_when_its_certificate_is_untrusted_is_refused() {
    let cluster = Cluster::start();
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let signer = Signer::new("a", "EdDSA");
    let (response, config) = (set(&[&signer]).unwrap(), Arc::new(config));
    let tried = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tried);
    let port = listen(move |stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        // The client hangs up in the middle of the handshake.
        let _ = rustls::StreamOwned::new(session, stream).write_all(response.as_bytes());
    });
    let url = format!("https://localhost:{port}/jwks");
    let server = Server::start_with(&cluster.url(), &[("BETTER_AUTH_JWKS_URL", &url)]);
    assert_unavailable(&list(&server, &token(&signer)));
    assert_eq!(tried.load(Ordering::SeqCst), 1);
}

#[test]
fn key_set_when_no_url_is_set_is_read_from_the_table_of_better_auth() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let server = Server::start(&cluster.url());
    let signer = Signer::new("a", "EdDSA");
    let refused = list(&server, &token(&signer));
    assert_eq!(refused.status, 401);
    assert!(refused.body.contains("this server has no key set"), "{refused:?}");

    for (columns, own) in [
        (["publicKey", "privateKey", "createdAt", "expiresAt"], ", alg text, crv text"),
        (["publicKey", "privateKey", "createdAt", "expiresAt"], ""),
        (["public_key", "private_key", "created_at", "expires_at"], ", alg text"),
    ] {
        let [public_key, private_key, created_at, expires_at] = columns;
        client
            .batch_execute(&format!(
                r#"drop table if exists jwks;
                   create table jwks (id text primary key, "{public_key}" text, "{private_key}" text not null,
                       "{created_at}" timestamptz not null, "{expires_at}" timestamptz {own})"#
            ))
            .unwrap();
        let mut insert = |signer: &Signer, expiry: &str| {
            let mut jwk = signer.jwk();
            let fields = jwk.as_object_mut().unwrap();
            fields.remove("kid");
            fields.remove("alg");
            let insert = format!(
                r#"insert into jwks (id, "{public_key}", "{private_key}", "{created_at}", "{expires_at}")
                   values ($1, $2, 'secret', now(), {expiry})"#
            );
            client.execute(&insert, &[&signer.kid, &jwk.to_string()]).unwrap();
        };
        let signers = ALGORITHMS.map(|alg| Signer::new(alg, alg));
        signers.iter().for_each(|signer| insert(signer, "null"));
        let retired = Signer::new("retired", "EdDSA");
        insert(&retired, "now() - interval '29 days'");
        let expired = Signer::new("expired", "EdDSA");
        insert(&expired, "now() - interval '31 days'");
        let columns = format!(r#"id, "{public_key}", "{private_key}", "{created_at}""#);
        client.execute(&format!("insert into jwks ({columns}) values ('b', 'x', '', now())"), &[]).unwrap();
        client.execute(&format!("insert into jwks ({columns}) values ('c', null, '', now())"), &[]).unwrap();

        let log = cluster.server_log();
        let server = Server::start_telling(log.create(), &cluster.url(), &[("RUST_LOG", "info")]);
        for signer in signers.iter().chain([&retired]) {
            assert_eq!(list(&server, &token(signer)).status, 200, "{}, {own}", signer.kid);
        }
        assert_eq!(list(&server, &token(&expired)).status, 401);
        // Within the pause after another unknown `kid`.
        assert_unavailable(&list(&server, &token(&Signer::new("b", "EdDSA"))));
        log.wait_until("the rejected keys", |log| log.contains("key \"b\"") && log.contains("key \"c\""));
    }
}

/// The log and `--check` name the grant. Once it is there, keys are read.
#[test]
fn key_set_when_the_role_may_not_read_the_table_names_the_grant() {
    const GRANT: &str = "this role may not read the table `jwks`: grant select on jwks to it";
    let cluster = Cluster::start();
    let mut owner = cluster.client();
    let signer = Signer::new("a", "EdDSA");
    owner
        .batch_execute(
            r#"create table jwks (id text primary key, "publicKey" text not null, "privateKey" text not null,
                   "createdAt" timestamptz not null, "expiresAt" timestamptz);
               create role guest login;"#,
        )
        .unwrap();
    owner.batch_execute(include_str!("../schema.sql")).unwrap();
    owner.batch_execute("grant select, insert, update, delete on tasks to guest").unwrap();
    let insert = r#"insert into jwks values ('a', $1, 'secret', now(), null)"#;
    owner.execute(insert, &[&signer.jwk().to_string()]).unwrap();
    let url = cluster.url().replace("todo@", "guest@");

    let log = cluster.server_log();
    let server = Server::start_telling(log.create(), &url, &[("RUST_LOG", "info")]);
    assert_unavailable(&list(&server, &token(&signer)));
    log.wait_until("the cause", |log| {
        log.contains(&format!("cannot fetch the key set from the table `jwks`: {GRANT}"))
    });
    assert_eq!(list(&server, &support::token("ada")).status, 200, "the secret's tokens need no key");

    let check = || {
        let mut check = Command::new(env!("CARGO_BIN_EXE_todo-backend"));
        check.arg("--check").env("NEON_DATABASE_URL", &url).env("BETTER_AUTH_SECRET", SECRET);
        let output = check.env("HOST", "127.0.0.1").env("PORT", "0").output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (is_ok, text) = check();
    assert!(!is_ok && text.contains(GRANT), "{text}");

    owner.batch_execute("grant select on jwks to guest").unwrap();
    support::wait_until("the keys", || list(&server, &token(&signer)).status == 200);
    let (is_ok, text) = check();
    assert!(is_ok && !text.contains(GRANT), "{text}");
}
