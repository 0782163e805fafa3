//! Database URLs: read as `psql` reads them, and connections over sockets, several hosts and search paths.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::Cluster;
use support::random::Random;
use todo_backend::db::url::{DatabaseUrl, HostConfig};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

const MAX_WAIT: Duration = Duration::from_secs(10);
/// What `psql` takes where the URL says nothing.
const DEFAULT_USER: &str = "default-user";
const DEFAULT_PASSWORD: &str = "default-password";

/// What a client tells the server, and the host and port that it says it is connected to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    host: String,
    port: u16,
    user: String,
    dbname: String,
    password: String,
    options: String,
    /// It has asked for TLS.
    asks_for_tls: bool,
}

/// Reads a message of the protocol: its type, if it has one, and its content.
fn read_message(stream: &mut TcpStream, has_type: bool) -> Option<Vec<u8>> {
    let mut head = vec![0; if has_type { 5 } else { 4 }];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap());
    let mut content = vec![0; length as usize - 4];
    stream.read_exact(&mut content).ok()?;
    Some(content)
}

/// Lets one client log in that speaks without TLS; what it says, as far as it comes.
fn serve(stream: &mut TcpStream) -> Seen {
    stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
    let mut seen = Seen::default();
    let Some(mut startup) = read_message(stream, false) else { return seen };
    if startup == 80_877_103_u32.to_be_bytes() {
        seen.asks_for_tls = true;
        stream.write_all(b"N").unwrap();
        let Some(next) = read_message(stream, false) else { return seen };
        startup = next;
    }
    let texts: Vec<_> = startup[4..].split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text)).collect();
    let value = |name: &str| {
        let pairs = texts.chunks(2).find(|pair| pair[0] == name);
        pairs.map(|pair| pair[1].clone().into_owned()).unwrap_or_default()
    };
    (seen.user, seen.dbname, seen.options) = (value("user"), value("database"), value("options"));
    stream.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap(); // a password, please
    let Some(password) = read_message(stream, true) else { return seen };
    seen.password = String::from_utf8_lossy(password.strip_suffix(b"\0").unwrap()).into_owned();
    // Welcome; server_version; ready.
    let _ = stream.write_all(b"R\0\0\0\x08\0\0\0\0S\0\0\0\x16server_version\x0015\0Z\0\0\0\x05I");
    let _ = stream.read_to_end(&mut Vec::new());
    seen
}

/// What `psql` makes of a URL; none where it refuses it or goes elsewhere than to this listener, which stands
/// for every host.
fn ask_psql(url: &str, listener: &TcpListener) -> Option<Seen> {
    let port = listener.local_addr().unwrap().port().to_string();
    let mut psql = Command::new("psql");
    for name in ["PGHOST", "PGDATABASE", "PGSSLMODE", "PGSERVICE", "PGOPTIONS"] {
        psql.env_remove(name);
    }
    psql.env("PGHOSTADDR", "127.0.0.1").env("PGPORT", &port).env("PGUSER", DEFAULT_USER).env("HOME", "/nowhere");
    psql.env("PGPASSWORD", DEFAULT_PASSWORD).env("PGGSSENCMODE", "disable").env("PGCONNECT_TIMEOUT", "10");
    psql.args(["-X", "-w", "-d", url, "-c", r"\echo :HOST", "-c", r"\echo :PORT"]);
    let (sender, receiver) = mpsc::channel();
    let output = thread::scope(|scope| {
        let acceptor = listener.try_clone().unwrap();
        scope.spawn(move || {
            for stream in acceptor.incoming() {
                let mut stream = stream.unwrap();
                let mut first = [0];
                match stream.peek(&mut first) {
                    Ok(1) if first == *b"q" => break,
                    Ok(1) => sender.send(serve(&mut stream)).unwrap(),
                    _ => {} // `psql` has connected, and then refused a parameter
                }
            }
        });
        let output = psql.output().unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap().write_all(b"q").unwrap();
        output
    });
    let mut seen = receiver.try_iter().last()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some((host, port)) = text.trim().split_once('\n') {
        (seen.host, seen.port) = (host.to_owned(), port.parse().unwrap());
    }
    Some(seen)
}

/// The same of what we make of it, in the words of [`ask_psql`].
fn expected(config: &Config, listener: &TcpListener) -> Seen {
    let text = |value: Option<&str>, default: &str| value.unwrap_or(default).to_owned();
    let user = text(config.get_user(), DEFAULT_USER);
    let host = match &config.get_hosts()[0] {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) if path == Path::new("/var/run/postgresql") => "127.0.0.1".to_owned(),
        Host::Unix(path) => path.to_str().unwrap().to_owned(),
    };
    let port = match config.get_ports()[0] {
        5432 => listener.local_addr().unwrap().port(),
        port => port,
    };
    Seen {
        host,
        port,
        dbname: text(config.get_dbname(), &user),
        user,
        password: text(config.get_password().map(|password| str::from_utf8(password).unwrap()), DEFAULT_PASSWORD),
        options: text(config.get_options(), ""),
        asks_for_tls: config.get_ssl_mode() != SslMode::Disable,
    }
}

/// A URL as somebody may write it who does not think of percent-encoding.
fn random_url(random: &mut Random, port: u16) -> String {
    const RAW: &[&str] =
        &["?", "@", "#", "/", "%", "&", ":", "=", "%41", "%3F", "%40", "a", "b", "1", "2", "[", "+", ";", "$"];
    let mut word =
        |longest: usize| -> String { (0..random.below(longest + 1)).map(|_| *random.pick(RAW)).collect::<String>() };
    let (password, odd) = (word(5), word(2));
    let credentials = match random.below(8) {
        0 => String::new(),
        1 => "ada@".to_owned(),
        2 => format!("ada{odd}:pw@"),
        _ => format!("ada:{password}@"),
    };
    let host = random.pick(&[
        "db.example",
        "db.example",
        "localhost",
        "[::1]",
        "%2Frun%2Fpg",
        "",
        "10.0.0.1",
        "[::1",
        "a%2Eb",
    ]);
    let port = match random.below(6) {
        0 => ":x".to_owned(),
        1 => ":".to_owned(),
        2 => ":0".to_owned(),
        3 => String::new(),
        _ => format!(":{port}"),
    };
    let database = match random.below(6) {
        0 => String::new(),
        1 => "/".to_owned(),
        2 => format!("/todo{odd}"),
        3 => "/my%20db".to_owned(),
        _ => "/todo".to_owned(),
    };
    let query: Vec<_> = (0..random.below(4))
        .map(|_| {
            *random.pick(&[
                "sslmode=require",
                "sslmode=require",
                "sslmode=disable",
                "sslmode=prefer",
                "sslmode=reqire",
                "ssl=true",
                "user=eve",
                "password=p%26w",
                "dbname=other",
                "host=other.example",
                "host=/run/other",
                "host=",
                "application_name=x",
                "connect_timeout=9",
                "connect_timeout=x",
                "keepalives=1",
                "options=-c%20a%3Db",
                "options=-c a=b",
                "sslmode",
                "keepalives_idle=30",
                "nosuch=1",
                "%75ser=bob",
                "user=%zz",
            ])
        })
        .collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    format!("postgresql://{credentials}{host}{port}{database}{query}")
}

/// Who takes a URL.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Both,
    Nobody,
    Psql,
}

/// Holds that we connect as `psql` does, or say what is to be percent-encoded or contradicts itself.
fn compare(url: &str, listener: &TcpListener) -> Verdict {
    match (DatabaseUrl::parse(url, None), ask_psql(url, listener)) {
        (Ok(read), Some(theirs)) => {
            assert_eq!(read.hosts().len(), 1, "{url}");
            let config = &read.hosts()[0].config;
            let is_socket = matches!(config.get_hosts(), [Host::Unix(_)]);
            let insists = config.get_ssl_mode() == SslMode::Require;
            if theirs.asks_for_tls && theirs.user.is_empty() {
                // It insists on TLS and says no more. Its Unix sockets are this listener, where it speaks TLS.
                assert!(insists || is_socket, "{url}: psql insists on TLS");
            } else {
                assert!(!insists, "{url}: psql does not insist on TLS");
                let mut ours = expected(config, listener);
                ours.asks_for_tls |= is_socket && theirs.asks_for_tls;
                assert_eq!(ours, theirs, "{url}");
            }
            Verdict::Both
        }
        (Ok(_), None) => panic!("{url}: psql refuses it"),
        (Err(_), None) => Verdict::Nobody,
        (Err(mistakes), Some(_)) => {
            let text = mistakes.join("; ");
            let known = ["percent-encode", "twice with different values", "`host`"];
            assert!(known.iter().any(|known| text.contains(known)), "{url}: {text}");
            Verdict::Psql
        }
    }
}

#[test]
fn url_is_read_as_psql_reads_it_or_refused() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for (url, verdict) in [
        ("postgresql://q:pa?ss@db.example/todo?sslmode=require", Verdict::Both),
        ("postgresql://q:pa?ss@db.example/todo?sslmode=disable", Verdict::Both),
        ("postgresql://q:pa#ss@db.example/todo?sslmode=require", Verdict::Both),
        ("postgresql://q:pa:s&=s@db.example/todo", Verdict::Both),
        ("postgresql://q:p%40%2F%3F%23@db.example/todo?sslmode=require", Verdict::Both),
        ("postgresql://q:pa%ss@db.example/todo?sslmode=require", Verdict::Nobody),
        ("postgresql://q:pa/ss@db.example/todo?sslmode=require", Verdict::Nobody),
        ("postgresql://q:p@ss@db.example/todo?sslmode=require", Verdict::Psql),
        ("postgresql://db.example/todo?password=p@ss&sslmode=require", Verdict::Psql),
        ("postgresql://db.example/todo&sslmode=require", Verdict::Psql),
        ("postgresql://db.example?sslmode=require&user=ada@one", Verdict::Psql),
        ("postgresql:///todo", Verdict::Both),
        ("postgresql://", Verdict::Both),
        ("postgres://localhost", Verdict::Both),
        ("postgresql://ada@/?host=%2Frun%2Fpg&dbname=x", Verdict::Both),
        ("postgresql://[::1]?user=ada&password=s", Verdict::Both),
        ("postgresql://ada@db.example/todo?sslmode=", Verdict::Nobody),
    ] {
        assert_eq!(compare(url, &listener), verdict, "{url}");
    }
    let mut random = Random::from_env();
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(100);
    let verdicts: Vec<_> = (0..runs).map(|_| compare(&random_url(&mut random, port), &listener)).collect();
    let [both, nobody, psql] = [Verdict::Both, Verdict::Nobody, Verdict::Psql]
        .map(|wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count());
    println!("taken by both: {both}, by nobody: {nobody}, by psql alone: {psql}");
    assert!(both > runs / 10 && nobody > runs / 10, "{both} {nobody}");
}

/// Connects to the first host that can be reached, as the server does; the first column of the only row.
fn query(url: &str, sql: &str) -> Result<String, String> {
    let url = DatabaseUrl::parse(url, None).map_err(|mistakes| mistakes.join("; "))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut failures = Vec::new();
        for HostConfig { config, address } in url.hosts() {
            match tokio::time::timeout(MAX_WAIT, config.connect(url.tls())).await.unwrap() {
                Ok((client, connection)) => {
                    let connection = tokio::spawn(connection);
                    let value = client.query_one(sql, &[]).await.unwrap().get(0);
                    drop(client);
                    connection.await.unwrap().unwrap();
                    return Ok(value);
                }
                Err(error) => failures.push(format!("{address}: {error:?}")),
            }
        }
        Err(failures.join("; "))
    })
}

#[test]
fn url_in_each_form_reaches_a_real_database() {
    let password = "p@s/s?#&:= %'\\";
    let rules = "local all all trust\nhost all todo all trust\nhost all all all scram-sha-256\n";
    let listens = ["listen_addresses=127.0.0.1,::1"];
    let cluster = Cluster::start_with(&listens, |data| Cluster::write_private(&data.join("pg_hba.conf"), rules));
    let roles = format!("create role \"a@b/c\" login password {}", quote_literal(password));
    cluster.client().batch_execute(&roles).unwrap();
    cluster.client().batch_execute("create schema \"My schema\"; create schema own").unwrap();
    let sockets = "select inet_server_addr() is null and current_user = 'todo'";
    let folder = cluster.client().query_one("show unix_socket_directories", &[]).unwrap().get::<_, String>(0);
    let encoded: String = folder.replace('/', "%2F");
    let port = cluster.port;
    let closed = support::free_port();
    for (url, sql, expected) in [
        (format!("postgresql:///postgres?host={folder}&port={port}&user=todo"), sockets, "true"),
        (format!("postgresql://todo@{encoded}:{port}/postgres?sslmode=require"), sockets, "true"),
        (format!("postgresql://todo@:{port}/postgres?host={folder}"), sockets, "true"),
        (format!("postgresql://todo@127.0.0.1:{closed},localhost:{port}/postgres"), "select inet_server_port()", ""),
        (format!("postgresql://todo@/postgres?host=/nowhere,127.0.0.1&port={port}"), "select inet_server_port()", ""),
        (format!("postgresql://todo@db.example:{port}/postgres?hostaddr=127.0.0.1"), "select inet_server_port()", ""),
        (
            format!("postgresql://a%40b%2Fc:p%40s%2Fs%3F%23%26%3A%3D%20%25'%5C@127.0.0.1:{port}/postgres"),
            "select current_user",
            "a@b/c",
        ),
        (
            format!(
                "postgresql://127.0.0.1:{port}/postgres?user=a%40b%2Fc&password=p%40s%2Fs%3F%23%26%3A%3D%20%25%27%5C"
            ),
            "select current_user",
            "a@b/c",
        ),
        (format!("{}?schema=My%20schema", cluster.url()), "select current_schema", "My schema"),
        (format!("{}?currentSchema=own,public", cluster.url()), "select current_schema", "own"),
        (format!("{}?search_path=nosuch,%20own", cluster.url()), "select current_schema", "own"),
        (format!("{}?options=-c%20search_path%3Down", cluster.url()), "select current_schema", "own"),
        (format!("{}?options[search_path]=own", cluster.url()), "select current_schema", "own"),
        (format!("{}?ApplicationName=me%20too", cluster.url()), "show application_name", "me too"),
        (cluster.url(), "show application_name", "todo-backend"),
        (
            format!("{}?target_session_attrs=primary&tcp_user_timeout=500", cluster.url()),
            "show search_path",
            "\"$user\", public",
        ),
    ] {
        let sql = format!(
            "select ({})::text",
            sql.replacen("show ", "select current_setting('", 1) + if sql.starts_with("show ") { "')" } else { "" }
        );
        let expected = if expected.is_empty() { port.to_string() } else { expected.to_owned() };
        assert_eq!(query(&url, &sql), Ok(expected), "{url}");
    }
    if TcpListener::bind("[::1]:0").is_ok() {
        let url = format!("postgresql://todo@[::1]:{port}/postgres");
        assert_eq!(query(&url, "select host(inet_server_addr())").as_deref(), Ok("::1"));
    }
    for (url, named) in [
        (format!("postgresql://todo:s3cr3t@127.0.0.1:{closed}/postgres"), format!("127.0.0.1:{closed}: ")),
        (format!("postgresql:///postgres?host=/nowhere&port={port}"), format!("/nowhere/.s.PGSQL.{port}: ")),
        (
            format!(
                "{}?target_session_attrs=read-write&options=-c%20default_transaction_read_only%3Don",
                cluster.url()
            ),
            "does not allow writes".to_owned(),
        ),
        (format!("{}?sslmode=require", cluster.url()), "does not support TLS".to_owned()),
    ] {
        let failure = query(&url, "select ''").unwrap_err();
        assert!(failure.contains(&named) && !failure.contains("s3cr3t"), "{url}: {failure}");
    }
}

#[test]
fn direct_tls_begins_with_a_client_hello_that_names_the_protocol() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
        let mut hello = [0; 4096];
        let length = stream.read(&mut hello).unwrap();
        hello[..length].to_vec()
    });
    let url = format!("postgresql://ada:s3cr3t@127.0.0.1:{port}/todo?sslmode=require&sslnegotiation=direct");
    query(&url, "select ''").unwrap_err();
    let hello = server.join().unwrap();
    assert_eq!(hello[0], 0x16, "a TLS handshake");
    assert!(hello.windows(11).any(|window| window == b"\x0apostgresql"), "ALPN");
}

/// A text as an SQL literal; `standard_conforming_strings` is on.
fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
