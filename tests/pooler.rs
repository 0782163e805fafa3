//! Behind PgBouncer in transaction mode, which gives each statement whatever backend is free: more clients than backends,
//! two servers, and no request fails or gets another's answer.

mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::json;
use support::{Cluster, Server, free_port, postgres_user, token, wait_for};

const CLIENTS: usize = 16;
const REQUESTS_PER_CLIENT: usize = 625;
const BACKENDS: usize = 3;

struct PgBouncer {
    process: Child,
    folder: std::path::PathBuf,
    port: u16,
}

impl PgBouncer {
    fn start(cluster: &Cluster) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("todo-backend-pgbouncer-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let settings = format!(
            "[databases]\n* = user=todo host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {BACKENDS}\n\
             max_client_conn = 100\n",
            cluster.port
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        let mut command = Command::new("pgbouncer");
        command.arg(&file).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = postgres_user() {
            command.uid(uid).gid(gid);
        }
        let process = command.spawn().expect("PgBouncer is installed: ./dev test sees to that");
        let bouncer = Self { process, folder, port };
        wait_for("PgBouncer", || postgres::Client::connect(&bouncer.url(), postgres::NoTls).ok());
        bouncer
    }

    fn url(&self) -> String {
        format!("postgresql://todo@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn no_request_fails_behind_a_pooler_without_named_statements() {
    let cluster = Cluster::start();
    let bouncer = PgBouncer::start(&cluster);
    let servers = [Server::start(&bouncer.url()), Server::start(&bouncer.url())];
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let server = &servers[client % servers.len()];
            scope.spawn(move || keep_tasks(server, &format!("user-{client}")));
        }
    });
    println!(
        "{CLIENTS} clients, {BACKENDS} backends, {} requests: none failed",
        CLIENTS * REQUESTS_PER_CLIENT
    );
}

/// Creates, reads, changes, toggles and deletes, and compares each answer.
fn keep_tasks(server: &Server, user: &str) {
    let token = token(user);
    let send = |method: &str, target: &str, body: Option<&str>, status: u16| {
        let answer = server.request(method, target, Some(&token), body);
        assert_eq!(answer.status, status, "{user}: {method} {target}: {answer:?}");
        answer
    };
    for round in 0..REQUESTS_PER_CLIENT / 5 {
        let title = format!("{user}, {round}");
        let created = send("POST", "/api/tasks", Some(&json!({ "title": title }).to_string()), 201).json();
        assert_eq!(
            (created["title"].as_str(), created["user_id"].as_str()),
            (Some(title.as_str()), Some(user))
        );
        let path = format!("/api/tasks/{}", created["id"]);
        assert_eq!(send("GET", &path, None, 200).json(), created);
        assert_eq!(send("PATCH", &format!("{path}/complete"), None, 200).json()["completed"], true);
        assert_eq!(send("GET", "/api/tasks?status=completed&limit=10", None, 200).json()[0]["title"], *title);
        send("DELETE", &path, None, 204);
    }
}
