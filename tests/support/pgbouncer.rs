//! A PgBouncer of the test's own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Cluster, free_port, postgres_user, wait_for};

/// How many connections it has to PostgreSQL, at most.
pub const BACKENDS: usize = 3;

pub struct PgBouncer {
    process: Child,
    folder: PathBuf,
    pub port: u16,
}

impl PgBouncer {
    /// In front of this cluster; `mode` is `transaction`, `session` or `statement`. It refuses start-up options.
    pub fn start(cluster: &Cluster, mode: &str) -> Self {
        Self::start_with(cluster, mode, "")
    }

    /// The same with more lines of settings.
    pub fn start_with(cluster: &Cluster, mode: &str, settings: &str) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("todo-backend-pgbouncer-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = format!(
            "[databases]\n* = user=todo host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n\
             default_pool_size = {BACKENDS}\nmax_client_conn = 100\n{settings}\n",
            cluster.port
        );
        fs::write(folder.join("pgbouncer.ini"), file).unwrap();
        let bouncer = Self { process: spawn(&folder), folder, port };
        bouncer.wait();
        bouncer
    }

    /// Kills it, and starts it again.
    pub fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(&self.folder);
        self.wait();
    }

    fn wait(&self) {
        wait_for("PgBouncer", || postgres::Client::connect(&self.url(), postgres::NoTls).ok());
    }

    pub fn url(&self) -> String {
        format!("postgresql://todo@127.0.0.1:{}/postgres", self.port)
    }
}

fn spawn(folder: &Path) -> Child {
    let mut command = Command::new("pgbouncer");
    command.arg(folder.join("pgbouncer.ini")).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command.spawn().expect("PgBouncer is installed: ./dev test sees to that")
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
