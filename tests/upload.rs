//! Uploads above `MAX_BODY_BYTES`: every client gets the complete 413, directly and through nginx and HAProxy.
//!
//! Most clients send the whole body before they read the response, so the server has to read a body that it has
//! rejected.

mod support;

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::{Response, Server, free_port, wait_for};

/// From just above the limit of 1 MiB to the largest upload that the server promises to reject properly.
const BODY_BYTES: [usize; 3] = [1_100_000, 5_000_000, 30_000_000];
const ROUNDS: usize = 3;
const ORIGIN: &str = "http://localhost:3000";
/// The pairs of `proxy_http_version` and `proxy_request_buffering`.
const NGINX_MODES: [(&str, &str); 4] = [("1.0", "on"), ("1.0", "off"), ("1.1", "on"), ("1.1", "off")];

/// Uploads with `fetch`, and prints the status, the CORS header and the body of each response, or the error.
const FETCH: &str = r#"
const [rounds, sizes, ports] = process.argv.slice(1).map(argument => JSON.parse(argument));
for (const port of ports) for (const size of sizes) for (let round = 0; round < rounds; round++) {
    const body = Buffer.alloc(size, 'x');
    const headers = { Origin: 'http://localhost:3000', 'Content-Type': 'application/json' };
    try {
        const response = await fetch(`http://127.0.0.1:${port}/api/tasks`, { method: 'POST', headers, body });
        const { error_code } = await response.json();
        console.log(response.status, response.headers.get('access-control-allow-origin'), error_code);
    } catch (error) {
        console.log(`${size} bytes to ${port}: ${error}, ${error.cause}`);
    }
}
"#;

/// A proxy process with a folder of its own.
struct Proxy {
    process: Child,
    folder: PathBuf,
}

impl Proxy {
    /// Starts a proxy with this configuration, and waits until it listens on `ports`.
    fn start(program: &str, arguments: &[&str], configuration: &str, ports: &[u16]) -> Proxy {
        let name = format!("todo-backend-{program}-{}-{}", std::process::id(), ports[0]);
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("configuration"), configuration).unwrap();
        // Debian installs both in a folder that is in the search path of root only.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let process = Command::new(program)
            .args(arguments)
            .arg(folder.join("configuration"))
            .current_dir(&folder)
            .env("PATH", path)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("errors")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} is not installed: {error}"));
        let mut proxy = Proxy { process, folder };
        for port in ports {
            wait_for(program, || {
                if let Some(status) = proxy.process.try_wait().unwrap() {
                    let errors = fs::read_to_string(proxy.folder.join("errors")).unwrap();
                    panic!("{program} ended with {status}: {errors}");
                }
                TcpStream::connect(("127.0.0.1", *port)).ok()
            });
        }
        proxy
    }

    /// nginx in front of `backend`, with a port for each of [`NGINX_MODES`].
    fn nginx(backend: u16) -> (Proxy, Vec<u16>) {
        let ports: Vec<u16> = NGINX_MODES.iter().map(|_| free_port()).collect();
        let servers: String = NGINX_MODES
            .iter()
            .zip(&ports)
            .map(|((version, buffering), port)| {
                format!(
                    "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{backend}; \
                     proxy_http_version {version}; proxy_request_buffering {buffering}; }} }}\n"
                )
            })
            .collect();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|what| format!("{what}_temp_path {what};\n"))
            .collect();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
             http {{ access_log off; client_max_body_size 0;\n{temporary}{servers}}}\n"
        );
        (Proxy::start("nginx", &["-p", ".", "-e", "stderr", "-c"], &configuration, &ports), ports)
    }

    /// HAProxy in front of `backend`.
    fn haproxy(backend: u16) -> (Proxy, u16) {
        let port = free_port();
        let configuration = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen todo\n bind 127.0.0.1:{port}\n server todo 127.0.0.1:{backend}\n"
        );
        (Proxy::start("haproxy", &["-db", "-f"], &configuration, &[port]), port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A server without a database: a 413 needs none.
fn start_server() -> Server {
    Server::start("postgresql://todo@127.0.0.1:1/none")
}

fn head(length: usize) -> String {
    format!(
        "POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {ORIGIN}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Sends the whole body before it reads the response, as Python's `http.client` does.
fn upload(port: u16, length: usize) -> io::Result<Response> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(head(length).as_bytes())?;
    stream.write_all(&vec![b'x'; length])?;
    Response::try_read(stream)
}

fn require_413(response: io::Result<Response>, what: &str) {
    let response = response.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(response.status, 413, "{what}: {response:?}");
    assert_eq!(response.json()["error_code"], "PAYLOAD_TOO_LARGE", "{what}");
    assert_eq!(response.header("access-control-allow-origin"), Some(ORIGIN), "{what}");
}

#[test]
fn upload_when_too_large_gets_413_directly_and_through_proxies() {
    let server = start_server();
    let (_nginx, mut ports) = Proxy::nginx(server.port);
    let (_haproxy, haproxy_port) = Proxy::haproxy(server.port);
    ports.extend([haproxy_port, server.port]);
    for &port in &ports {
        for length in BODY_BYTES {
            for round in 0..ROUNDS {
                require_413(upload(port, length), &format!("{length} bytes to {port}, round {round}"));
            }
        }
    }
}

#[test]
fn fetch_when_its_body_is_too_large_gets_413_directly_and_through_proxies() {
    let server = start_server();
    let (_nginx, mut ports) = Proxy::nginx(server.port);
    let (_haproxy, haproxy_port) = Proxy::haproxy(server.port);
    ports.extend([haproxy_port, server.port]);
    let output = Command::new("node")
        .args(["--input-type=module", "-e", FETCH, "--"])
        .args([ROUNDS.to_string(), format!("{BODY_BYTES:?}"), format!("{ports:?}")])
        .output()
        .expect("Node.js is installed");
    let lines = String::from_utf8(output.stdout).unwrap();
    let expected = format!("413 {ORIGIN} PAYLOAD_TOO_LARGE");
    let wrong: Vec<&str> = lines.lines().filter(|line| *line != expected).collect();
    assert!(wrong.is_empty(), "{ports:?}: {wrong:#?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(lines.lines().count(), ports.len() * BODY_BYTES.len() * ROUNDS, "{errors}");
}
