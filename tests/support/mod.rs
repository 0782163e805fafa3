//! What the process tests share: a PostgreSQL cluster of their own, the server binary, and tokens.
//!
//! Everything lives in a temporary folder and ends when its value is dropped, also when a test panics.
#![allow(dead_code)] // each test uses a part of it

pub mod compatibility;
pub mod http;
pub mod locks;
pub mod pgbouncer;
pub mod proxy;
pub mod random;
pub mod signer;

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

pub use http::{Response, request_on};

/// How long a wait for an event may take, in a debug build on a noisy machine.
const MAX_WAIT: Duration = Duration::from_secs(90);
/// The secret that the server and the tokens share.
pub const SECRET: &str = "a secret of the tests, 32 bytes or more";

/// Waits until `ready` returns a value.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + MAX_WAIT;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {MAX_WAIT:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until this holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// For tests that open more than a thousand sockets: raises the limit of this process and of the server that it starts,
/// and returns it.
pub fn raise_descriptor_limit() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |maximum| maximum as usize)
}

/// A free port of the loopback address. Below the ephemeral ports (32768 and up on Linux): an outgoing connection could
/// take one of these while a server that had it is down. Never the same twice in one process, whose tests run in
/// parallel.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let microseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_micros();
        AtomicU16::new((std::process::id() ^ microseconds) as u16)
    });
    let candidate = || 10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 22_000;
    std::iter::repeat_with(candidate)
        .take(1_000)
        .find(|port| can_bind(*port).is_ok())
        .expect("one of a thousand ports is free")
}

/// Binds and does not listen: a process that another test is starting has a copy of the socket until it runs its own
/// program, and a client that connects meanwhile would reach that copy instead of the server.
fn can_bind(port: u16) -> rustix::io::Result<()> {
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// A PostgreSQL cluster of its own.
pub struct Cluster {
    folder: PathBuf,
    pub port: u16,
    postgres: Option<Child>,
    settings: Vec<String>,
}

impl Cluster {
    pub fn start() -> Self {
        Self::start_with(&[], |_| {})
    }

    /// With `settings` (`name=value`), once `prepare` has put files into its folder.
    pub fn start_with(settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("todo-backend-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        if let Some((uid, gid)) = postgres_user() {
            chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut cluster = Self { folder, port: free_port(), postgres: None, settings };
        let data = cluster.data();
        let mut initdb = postgres_command("initdb");
        initdb.args(["--auth=trust", "--username=todo", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
        let made = initdb.arg(&data).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        prepare(&data);
        cluster.resume();
        cluster
    }

    /// Writes a file that PostgreSQL can read and nobody else.
    pub fn write_private(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = postgres_user() {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// From now on every user but `todo` needs a password over TLS.
    pub fn require_password(&self) {
        let rules = "host all todo all trust\nhostssl all all all scram-sha-256\n";
        Self::write_private(&self.data().join("pg_hba.conf"), rules);
        signal(self.postgres.as_ref().expect("it runs").id(), "HUP");
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts PostgreSQL (again), and waits until it answers.
    pub fn resume(&mut self) {
        wait_for("PostgreSQL", || {
            // It does not start while a process of a killed one still holds the shared memory: then try again.
            if self.postgres.as_mut().is_none_or(|postgres| postgres.try_wait().unwrap().is_some()) {
                self.postgres = Some(self.spawn());
            }
            postgres::Client::connect(&self.url(), postgres::NoTls).ok()
        });
    }

    fn spawn(&self) -> Child {
        let mut postgres = postgres_command("postgres");
        postgres.arg("-D").arg(self.data()).arg("-k").arg(&self.folder).arg("-p").arg(self.port.to_string());
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        postgres.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        postgres.stdout(Stdio::null()).stderr(fs::File::create(self.folder.join("log")).unwrap());
        postgres.spawn().unwrap()
    }

    /// Stops PostgreSQL at once and leaves its files: an immediate shutdown, as after a crash.
    pub fn stop(&mut self) {
        if let Some(mut postgres) = self.postgres.take() {
            signal(postgres.id(), "CONT"); // a test may have stopped it
            signal(postgres.id(), "QUIT");
            postgres.wait().unwrap();
        }
    }

    /// Kills all processes of PostgreSQL at once, as a power failure does, except that the disk keeps what was written.
    pub fn kill(&mut self) {
        self.signal_all("KILL");
        if let Some(mut postgres) = self.postgres.take() {
            postgres.wait().unwrap();
        }
    }

    /// Sends a signal to PostgreSQL and all its processes.
    pub fn signal_all(&self, name: &str) {
        let main = self.postgres.as_ref().expect("it runs").id();
        signal(main, "STOP"); // so that no process starts or is reaped while they are listed
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap();
        // One of them may end meanwhile by itself.
        let _ = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(main.to_string())
            .args(children.split_whitespace())
            .stderr(Stdio::null())
            .status();
    }

    pub fn url(&self) -> String {
        format!("postgresql://todo@127.0.0.1:{}/postgres", self.port)
    }

    /// The folder with its Unix socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// A new file for the log of a server over this cluster, which goes with the cluster.
    pub fn server_log(&self) -> ServerLog {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        ServerLog(self.folder.join(format!("server{}.log", NUMBER.fetch_add(1, Ordering::Relaxed))))
    }

    pub fn client(&self) -> postgres::Client {
        postgres::Client::connect(&self.url(), postgres::NoTls).unwrap()
    }

    /// Ends every connection of the server; how many there were.
    pub fn end_connections(&self) -> usize {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'todo-backend'";
        self.client().query(end, &[]).unwrap().len()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().unwrap();
    assert!(sent.success(), "kill -{name} {process}");
}

/// A program of PostgreSQL, run as another user if we are root: PostgreSQL refuses to run as root.
fn postgres_command(program: &str) -> Command {
    let mut command = Command::new(postgres_folder().join(program));
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid).current_dir("/");
    }
    command
}

/// Debian keeps the programs in a folder for each version, outside the search path.
fn postgres_folder() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| folder.join("initdb").exists())
        .max();
    let from_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    };
    newest.map(|(_, folder)| folder).or_else(from_path).expect("PostgreSQL is installed: ./dev test sees to that")
}

/// The user that PostgreSQL's programs run as if we are root.
pub fn postgres_user() -> Option<(u32, u32)> {
    let we_are_root = fs::metadata("/proc/self").ok().map(|own| std::os::unix::fs::MetadataExt::uid(&own))? == 0;
    let users = fs::read_to_string("/etc/passwd").ok().filter(|_| we_are_root)?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody"))
}

/// The server binary, serving.
pub struct Server {
    process: Child,
    pub port: u16,
}

impl Server {
    /// Starts it over the database at `url`, and waits until it answers.
    pub fn start(url: &str) -> Self {
        Self::start_with(url, &[])
    }

    /// The same with more variables in its environment.
    pub fn start_with(url: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_telling(Stdio::inherit(), url, variables)
    }

    /// The same, with its log to somewhere else.
    pub fn start_telling(log: impl Into<Stdio>, url: &str, variables: &[(&str, &str)]) -> Self {
        let port = free_port();
        let process = Command::new(env!("CARGO_BIN_EXE_todo-backend"))
            .env("NEON_DATABASE_URL", url)
            .env("BETTER_AUTH_SECRET", SECRET)
            .env("HOST", "127.0.0.1")
            .env("PORT", port.to_string())
            .env_remove("ALLOWED_ORIGINS")
            .env("RUST_LOG", std::env::var("SERVER_LOG").unwrap_or_else(|_| "error".to_owned()))
            .envs(variables.iter().copied())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { process, port };
        wait_for("the server", || {
            assert_eq!(server.process.try_wait().unwrap(), None, "the server ended at once");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        server
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the process has ended; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        wait_for("the end of the server", || self.process.try_wait().unwrap()).code()
    }

    /// Sends one request on a connection of its own.
    pub fn request(&self, method: &str, target: &str, token: Option<&str>, body: Option<&str>) -> Response {
        request_on(self.port, method, target, token, body)
    }

    /// Creates a task of this user; its id.
    pub fn create(&self, user: &str, title: &str) -> i64 {
        let body = format!(r#"{{"title":"{title}"}}"#);
        let created = self.request("POST", "/api/tasks", Some(&token(user)), Some(&body));
        assert_eq!(created.status, 201, "{created:?}");
        created.json()["id"].as_i64().unwrap()
    }

    /// Sends one without a body, and leaves the response for later (`Response::read`).
    pub fn send(&self, method: &str, target: &str, token: &str) -> TcpStream {
        http::try_send_on(self.port, method, target, Some(token), None).unwrap()
    }

    /// The same with a body.
    pub fn send_json(&self, method: &str, target: &str, token: &str, body: &str) -> TcpStream {
        http::try_send_on(self.port, method, target, Some(token), Some(body)).unwrap()
    }
}

/// Where a server has its log.
pub struct ServerLog(PathBuf);

impl ServerLog {
    /// The file, empty.
    pub fn create(&self) -> fs::File {
        fs::File::create(&self.0).unwrap()
    }

    /// Waits until this holds for the log, which is written some milliseconds later; the whole log then.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        wait_for(what, || Some(fs::read_to_string(&self.0).unwrap()).filter(|log| holds(log)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A token of this user, good for an hour.
pub fn token(user: &str) -> String {
    token_for(user, 3600)
}

/// The same, good for so many seconds from now.
pub fn token_for(user: &str, seconds: i64) -> String {
    let expiry = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().strict_add_signed(seconds);
    let claims = json!({"sub": user, "email": format!("{user}@example.com"), "exp": expiry});
    signer::hs256(SECRET.as_bytes(), r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}
