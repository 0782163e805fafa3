//! The database URL, read as libpq reads it.
//!
//! Where libpq would take a raw special character for the end of a part, and so lose what follows (an
//! `sslmode`), the URL is refused. No message holds a secret.

use std::fmt;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::DbError;
use super::tls::{connector, read_certificates};
use super::url_parameters::Parameters;
use crate::config::env::read_file;

/// The folder of the Unix socket where the URL names no host: libpq's default on Debian and Fedora.
const DEFAULT_SOCKET_FOLDER: &str = "/var/run/postgresql";

const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Hosts and connection settings of the database. Holds a password, which [`fmt::Debug`] does not show.
#[derive(Clone)]
pub struct DatabaseUrl {
    hosts: Vec<HostConfig>,
    tls: MakeRustlsConnect,
    notes: Vec<String>,
}

/// How to connect to one host.
#[derive(Clone)]
pub struct HostConfig {
    /// One host, and all else.
    pub config: Config,
    /// `host:port`, or the path of the Unix socket, for messages.
    pub address: String,
}

impl HostConfig {
    /// Connects by `open`, with more start-up options than those of the URL. Leaves out what turns out to be refused:
    /// these options, or TLS where `sslmode` allows that. Each time `on_refusal` is told why.
    ///
    /// # Errors
    /// When there is nothing to leave out.
    pub fn connect<C>(
        &self,
        mut options: Option<&str>,
        open: impl Fn(Config) -> Result<C, DbError>,
        mut on_refusal: impl FnMut(&DbError),
    ) -> Result<C, DbError> {
        let mut config = self.config.clone();
        loop {
            let mut tried = config.clone();
            if let Some(options) = options {
                tried.options(format!("{} {options}", config.get_options().unwrap_or_default()));
            }
            match open(tried) {
                Err(error) if options.is_some() && error.is_unsupported_option() => {
                    on_refusal(&error);
                    options = None;
                }
                Err(error) if config.get_ssl_mode() == SslMode::Prefer && error.is_tls_error() => {
                    on_refusal(&error);
                    config.ssl_mode(SslMode::Disable);
                }
                result => return result,
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl")
    }
}

impl DatabaseUrl {
    /// Reads a URL; white space and quotes around it are dropped. `ca_pem` is the content of `DATABASE_CA_FILE`.
    ///
    /// # Errors
    /// Everything that is wrong with it, to be read after the name of its variable, without a secret.
    pub fn parse(text: &str, ca_pem: Option<&[u8]>) -> Result<Self, Vec<String>> {
        let mut parameters = Parameters::default();
        let query = read_address(text, &mut parameters).map_err(|mistake| vec![mistake])?;
        parameters.add_query(query);
        let tls = tls(&mut parameters, ca_pem);
        let session = session(&mut parameters);
        let hosts = hosts(&parameters, &session);
        match (hosts, tls) {
            (Ok(hosts), Ok(tls)) if parameters.mistakes.is_empty() => Ok(Self { hosts, tls, notes: parameters.notes }),
            (hosts, tls) => Err(parameters.mistakes.into_iter().chain(hosts.err()).chain(tls.err()).collect()),
        }
    }

    /// The hosts, in the order in which they are tried.
    pub fn hosts(&self) -> &[HostConfig] {
        &self.hosts
    }

    /// How TLS is done where a host's configuration asks for it.
    pub fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    /// How long connecting may take in all (`connect_timeout`), an hour at most.
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.hosts.first()?.config.get_connect_timeout().map(|timeout| *timeout.min(&MAX_CONNECT_TIMEOUT))
    }

    /// What is ignored or understood in a particular way, for the log and `--check`.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Reads what stands before the query; returns the query.
fn read_address<'a>(text: &'a str, parameters: &mut Parameters) -> Result<&'a str, String> {
    let text = unquoted(text);
    if text.is_empty() {
        return Err("is not set: give postgresql://user:password@host/database".to_owned());
    }
    let (_, rest) = text
        .split_once("://")
        .filter(|(scheme, _)| is_postgresql(scheme))
        .ok_or("does not begin with postgresql:// or postgres://")?;
    // As in libpq, user and password end at the first `@`, if that comes before the first `/`.
    let end = rest.find(['@', '/']).filter(|end| rest[*end..].starts_with('@'));
    let (credentials, rest) = end.map_or(("", rest), |end| (&rest[..end], &rest[end + 1..]));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, dbname) = address.split_once('/').unwrap_or((address, ""));
    let has_space = text.contains(|c: char| c.is_whitespace() || c.is_control());
    if has_space || user.contains('?') || rest.contains('@') || dbname.contains(['&', '=']) {
        return Err("has an ambiguous character: percent-encode those in user, password, database and values \
                    (`@` as %40, `/` %2F, `?` %3F, `&` %26, `=` %3D, `:` %3A, `%` %25, a space %20)"
            .to_owned());
    }
    let (hosts, ports): (Vec<_>, Vec<_>) = (hosts.split(',').map(split_port).collect::<Option<_>>())
        .ok_or("has an IPv6 address that is not of the form [address]:port")?;
    let (hosts, ports) = (hosts.join(","), ports.join(","));
    for (key, part) in [("user", user), ("password", password), ("host", &hosts), ("port", &ports), ("dbname", dbname)]
    {
        parameters.add_part(key, part);
    }
    Ok(query)
}

/// Without what people copy along: quotes, and the name of the program that takes the URL.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let text = text.strip_prefix("psql ").unwrap_or(text).trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    unquoted.unwrap_or(text).trim()
}

/// `postgresql` or `postgres`, with SQLAlchemy's `+driver` or JDBC's `jdbc:`.
fn is_postgresql(scheme: &str) -> bool {
    let scheme = scheme.to_ascii_lowercase();
    let (scheme, driver) = scheme.split_once('+').unwrap_or((&scheme, ""));
    let scheme = scheme.strip_prefix("jdbc:").unwrap_or(scheme);
    ["postgresql", "postgres"].contains(&scheme) && driver.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Host and port of one host.
fn split_port(host: &str) -> Option<(&str, &str)> {
    let Some(rest) = host.strip_prefix('[') else { return Some(host.split_once(':').unwrap_or((host, ""))) };
    let (address, port) = rest.split_once(']').filter(|(address, _)| !address.is_empty())?;
    Some((address, if port.is_empty() { "" } else { port.strip_prefix(':')? }))
}

/// Looks at what concerns TLS: certificates are read, and weak combinations refused as in libpq.
fn tls(parameters: &mut Parameters, ca_pem: Option<&[u8]>) -> Result<MakeRustlsConnect, String> {
    let root = parameters.get("sslrootcert").to_owned();
    let is_direct = parameters.get("sslnegotiation") == "direct";
    let verifies_only_chain = parameters.get("sslmode") == "verify-ca";
    if verifies_only_chain || root == "system" && !parameters.values.contains_key("sslmode") {
        parameters.add_part("sslmode", "require");
    }
    for (key, is_weak) in [("sslrootcert", root == "system"), ("sslnegotiation", is_direct)] {
        if is_weak && parameters.get("sslmode") != "require" {
            parameters.mistakes.push(parameters.invalid(key));
        }
    }
    let mut certificates = Vec::new();
    if let Some(pem) = ca_pem {
        let given = read_certificates(pem);
        certificates.extend(given.map_err(|why| format!("cannot be used: the file of DATABASE_CA_FILE {why}"))?);
    }
    if !["", "system"].contains(&root.as_str()) {
        let given = read_file(&root).and_then(|pem| read_certificates(&pem));
        certificates.extend(given.map_err(|why| format!("has an invalid `sslrootcert`: the file {why}"))?);
        parameters.notes.push(format!("`sslrootcert` is read; certificates given: {}", certificates.len()));
    }
    if verifies_only_chain && certificates.is_empty() {
        parameters.notes.push("`sslmode=verify-ca` is verify-full: no CA is given".to_owned());
    }
    connector(certificates, verifies_only_chain, is_direct)
}

/// Everything but hosts, in the library's form `key='value'`. Each value is tried by itself, so that every
/// wrong one is named.
fn session(parameters: &mut Parameters) -> String {
    let own = parameters.values.remove("options").map(|(_, options)| options);
    let options = own.into_iter().chain(parameters.options.drain(..)).collect::<Vec<_>>().join(" ");
    let fallback = Some(parameters.get("fallback_application_name")).filter(|name| !name.is_empty());
    let mut session = setting("application_name", fallback.unwrap_or(env!("CARGO_PKG_NAME")));
    if !options.is_empty() {
        session += &setting("options", &options);
    }
    if parameters.get("user").is_empty() {
        parameters.notes.push("no user is given: it is the system's user".to_owned());
    }
    for (key, (_, value)) in parameters.values.clone() {
        match key {
            "host" | "hostaddr" | "port" | "sslrootcert" | "fallback_application_name" => {}
            // As in libpq, empty is as good as not given.
            "user" | "password" | "dbname" | "application_name" if value.is_empty() => {}
            _ if Config::from_str(&setting(key, &value)).is_err() => parameters.mistakes.push(parameters.invalid(key)),
            _ => session += &setting(key, &value),
        }
    }
    session
}

fn setting(key: &str, value: &str) -> String {
    format!("{key}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Each host with its address and port.
fn hosts(parameters: &Parameters, session: &str) -> Result<Vec<HostConfig>, String> {
    let lists = ["host", "hostaddr", "port"].map(|key| parameters.get(key).split(',').collect::<Vec<_>>());
    let count = lists[0].len().max(lists[1].len());
    if lists.iter().any(|list| list.len() != count && list.len() != 1)
        || count > 1 && lists[..2].iter().any(|list| list.len() == 1 && !list[0].is_empty())
    {
        return Err("has different numbers of hosts, addresses and ports".to_owned());
    }
    let host = |index: usize| {
        let [name, address, port] = lists.each_ref().map(|list| list[index.min(list.len() - 1)]);
        host(session, name, address, port).map_err(|key| parameters.invalid(key))
    };
    (0..count).map(host).collect()
}

/// One host, or the parameter that is wrong. An empty host is the default Unix socket, as in libpq.
fn host(session: &str, name: &str, address: &str, port: &str) -> Result<HostConfig, &'static str> {
    let port = if port.is_empty() { "5432" } else { port }.parse::<NonZeroU16>().map_err(|_| "port")?.get();
    let name = [name, address, DEFAULT_SOCKET_FOLDER].into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    let is_ipv6 = name.parse::<Ipv6Addr>().is_ok();
    let is_socket = name.starts_with('/');
    if is_socket && !address.is_empty() {
        return Err("hostaddr"); // libpq would speak TCP
    }
    if !is_ipv6 && !is_socket && !name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) {
        return Err("host");
    }
    let mut config = Config::from_str(session).map_err(|_| "options")?;
    config.host(name).port(port);
    if !address.is_empty() {
        config.hostaddr(address.parse().map_err(|_| "hostaddr")?);
    }
    if is_socket {
        // There is no TLS on Unix sockets; libpq ignores sslmode there, too.
        config.ssl_mode(SslMode::Disable).ssl_negotiation(SslNegotiation::Postgres);
    }
    let address = match (is_socket, is_ipv6) {
        (true, _) => format!("{name}/.s.PGSQL.{port}"),
        (_, true) => format!("[{name}]:{port}"),
        _ => format!("{name}:{port}"),
    };
    Ok(HostConfig { config, address })
}

#[cfg(test)]
mod tests;
