//! Several servers with one database: they start together, and one may be drained or killed while the others serve.

mod support;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::http::try_request_on;
use support::{Cluster, Server, free_port, signal, token, wait_until};

const REPLICAS: usize = 10;
const CLIENTS: usize = 8;

#[test]
fn replicas_when_started_together_on_an_empty_database_all_serve() {
    let cluster = Cluster::start();
    let servers: Vec<Server> = thread::scope(|scope| {
        let starting: Vec<_> = (0..REPLICAS).map(|_| scope.spawn(|| Server::start(&cluster.url()))).collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    for server in &servers {
        let created = server.request("POST", "/api/tasks", Some(&token("ada")), Some(r#"{"title":"milk"}"#));
        assert_eq!(created.status, 201, "{created:?}");
    }
    let listed = servers[0].request("GET", "/api/tasks", Some(&token("ada")), None).json();
    assert_eq!(listed.as_array().unwrap().len(), REPLICAS);
}

/// HAProxy in front of servers. It polls `/ready` of each ten times a second.
struct HaProxy {
    process: Child,
    file: std::path::PathBuf,
    port: u16,
}

impl HaProxy {
    fn start(servers: &[&Server]) -> Self {
        let port = free_port();
        let servers: String =
            servers.iter().map(|server| format!("  server s{0} 127.0.0.1:{0} check\n", server.port)).collect();
        let settings = format!(
            "defaults\n  mode http\n  timeout connect 2s\n  timeout client 20s\n  timeout server 20s\n  retries 3\n  \
             option redispatch 1\n  option httpchk GET /ready\n  default-server inter 100ms fall 1 rise 1\n\
             frontend clients\n  bind 127.0.0.1:{port}\n  default_backend servers\nbackend servers\n{servers}"
        );
        let file = std::env::temp_dir().join(format!("todo-backend-haproxy-{}.cfg", std::process::id()));
        fs::write(&file, settings).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("HAProxy is installed: ./dev test sees to that");
        let proxy = Self { process, file, port };
        let ready = || try_request_on(port, "GET", "/ready", None, None).is_ok_and(|response| response.status == 200);
        wait_until("HAProxy", ready);
        proxy
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.file);
    }
}

/// What clients saw while something happened.
#[derive(Default)]
struct Seen {
    succeeded: AtomicUsize,
    failed: AtomicUsize,
}

/// Clients create tasks through the proxy while `happens` runs, and some time before and after.
fn under_load(proxy: &HaProxy, happens: impl FnOnce()) -> (usize, usize) {
    let (seen, over) = (Seen::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (seen, over) = (&seen, &over);
            scope.spawn(move || {
                let token = token(&format!("user-{client}"));
                while !over.load(Ordering::SeqCst) {
                    let body = json!({ "title": "milk" }).to_string();
                    match try_request_on(proxy.port, "POST", "/api/tasks", Some(&token), Some(&body)) {
                        Ok(response) if response.status == 201 => seen.succeeded.fetch_add(1, Ordering::SeqCst),
                        other => {
                            println!("failed: {other:?}");
                            seen.failed.fetch_add(1, Ordering::SeqCst)
                        }
                    };
                }
            });
        }
        thread::sleep(Duration::from_millis(500));
        happens();
        thread::sleep(Duration::from_millis(1_000));
        over.store(true, Ordering::SeqCst);
    });
    (seen.succeeded.into_inner(), seen.failed.into_inner())
}

#[test]
fn requests_when_a_replica_is_drained_all_succeed_and_when_killed_only_its_own_fail() {
    let cluster = Cluster::start();
    let mut drained = Server::start(&cluster.url());
    let mut killed = Server::start(&cluster.url());
    let staying = Server::start(&cluster.url());
    let proxy = HaProxy::start(&[&drained, &killed, &staying]);

    let (succeeded, failed) = under_load(&proxy, || {
        signal(drained.id(), "TERM");
        assert_eq!(drained.wait(), Some(0));
    });
    println!("one drained: {succeeded} requests succeeded, {failed} failed");
    assert_eq!(failed, 0);

    let (succeeded, failed) = under_load(&proxy, || {
        signal(killed.id(), "KILL");
        killed.wait();
    });
    println!("one killed: {succeeded} requests succeeded, {failed} failed");
    // A request in flight of each client, and one more that its socket accepted while the process ended.
    assert!(failed <= 2 * CLIENTS, "more than it can have had");
    assert_eq!(staying.request("GET", "/ready", None, None).status, 200);
}
