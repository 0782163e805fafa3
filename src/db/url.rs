//! The database URL, read as libpq reads it.
//!
//! Where libpq would take a raw special character for the end of a part, and so lose what follows (an `sslmode`), the URL is
//! refused. No message holds a secret.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation, TargetSessionAttrs};

use super::tls::{Tls, Verify, read_certificates};
use super::url_parameters::Parameters;

/// The folder of the Unix socket where the URL names no host: libpq's default on Debian and Fedora.
const DEFAULT_SOCKET_FOLDER: &str = "/var/run/postgresql";

/// Where the database is, and how it is spoken to. Holds a password, which [`fmt::Debug`] does not show.
#[derive(Clone)]
pub struct DatabaseUrl {
    hosts: Vec<HostConfig>,
    tls: Tls,
    connect_timeout: Option<Duration>,
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
        let mut config = session(&mut parameters);
        let tls = tls(&mut parameters, &mut config, ca_pem);
        let connect_timeout = parameters.number("connect_timeout").and_then(|seconds: i64| {
            u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
        });
        let hosts = hosts(&mut parameters, &config);
        match (hosts, tls) {
            (Some(hosts), Some(tls)) if parameters.mistakes.is_empty() => {
                Ok(Self { hosts, tls, connect_timeout, notes: parameters.notes })
            }
            _ => Err(parameters.mistakes),
        }
    }

    /// The hosts, in the order in which they are tried.
    pub fn hosts(&self) -> &[HostConfig] {
        &self.hosts
    }

    /// How TLS is done where a host's configuration asks for it.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// How long connecting may take in all (`connect_timeout`).
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
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
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("has a space or a line break in it: percent-encode it (a space as %20)".to_owned());
    }
    // As in libpq, user and password end at the first `@`, if that comes before the first `/`.
    let end = rest.find(['@', '/']).filter(|end| rest[*end..].starts_with('@'));
    let (credentials, rest) = end.map_or(("", rest), |end| (&rest[..end], &rest[end + 1..]));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, dbname) = address.split_once('/').unwrap_or((address, ""));
    if user.contains('?') || rest.contains('@') || dbname.contains(['&', '=']) {
        return Err("has a special character that is ambiguous: percent-encode those in user, password, database \
                    and values (`@` as %40, `/` as %2F, `?` as %3F, `&` as %26, `=` as %3D, `:` as %3A, `%` as %25)"
            .to_owned());
    }
    let hosts: Option<Vec<_>> = hosts.split(',').map(split_port).collect();
    let (hosts, ports): (Vec<_>, Vec<_>) =
        hosts.ok_or("has an IPv6 address that is not of the form [address]:port")?.into_iter().unzip();
    parameters.add_part("user", user);
    parameters.add_part("password", password);
    parameters.add_part("host", &hosts.join(","));
    parameters.add_part("port", &ports.join(","));
    parameters.add_part("dbname", dbname);
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
    ["postgresql", "postgres"].contains(&scheme)
        && driver.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Host and port of one host.
fn split_port(host: &str) -> Option<(&str, &str)> {
    let Some(rest) = host.strip_prefix('[') else { return Some(host.split_once(':').unwrap_or((host, ""))) };
    let (address, port) = rest.split_once(']').filter(|(address, _)| !address.is_empty())?;
    Some((address, if port.is_empty() { "" } else { port.strip_prefix(':')? }))
}

/// All that is the same for each host, but TLS.
fn session(parameters: &mut Parameters) -> Config {
    let mut config = Config::new();
    let name = parameters.get("application_name").or_else(|| parameters.get("fallback_application_name"));
    config.application_name(name.unwrap_or(env!("CARGO_PKG_NAME")));
    if let Some(user) = parameters.get("user") {
        config.user(user);
    }
    if let Some(password) = parameters.get("password") {
        config.password(password);
    }
    if let Some(dbname) = parameters.get("dbname") {
        config.dbname(dbname);
    }
    let mut settings = std::mem::take(&mut parameters.settings);
    if let Some(schemas) = parameters.get("search_path") {
        settings.push(("search_path".to_owned(), schemas.to_owned()));
    }
    if let Some(schema) = parameters.get("schema") {
        settings.push(("search_path".to_owned(), format!("\"{}\"", schema.replace('"', "\"\""))));
    }
    let settings = settings.iter().map(|(name, value)| format!("-c {name}={}", escape_option(value)));
    let options: Vec<_> = parameters.get("options").map(str::to_owned).into_iter().chain(settings).collect();
    if !options.is_empty() {
        config.options(options.join(" "));
    }
    if let Some(is_on) =
        parameters.choice("keepalives", &[("1", true), ("0", false), ("true", true), ("false", false)])
    {
        config.keepalives(is_on);
    }
    if let Some(seconds @ 1..) = parameters.number("keepalives_idle") {
        config.keepalives_idle(Duration::from_secs(seconds));
    }
    if let Some(seconds @ 1..) = parameters.number("keepalives_interval") {
        config.keepalives_interval(Duration::from_secs(seconds));
    }
    if let Some(count @ 1..) = parameters.number("keepalives_count") {
        config.keepalives_retries(count);
    }
    if let Some(milliseconds @ 1..) = parameters.number("tcp_user_timeout") {
        config.tcp_user_timeout(Duration::from_millis(milliseconds));
    }
    let attributes = [
        ("any", TargetSessionAttrs::Any),
        ("read-write", TargetSessionAttrs::ReadWrite),
        ("primary", TargetSessionAttrs::ReadWrite),
        ("master", TargetSessionAttrs::ReadWrite),
    ];
    config.target_session_attrs(
        parameters.choice("target_session_attrs", &attributes).unwrap_or(TargetSessionAttrs::Any),
    );
    config
}

/// In PostgreSQL's `options` a space separates, and a backslash escapes.
fn escape_option(value: &str) -> String {
    value.replace('\\', "\\\\").replace(' ', "\\ ")
}

fn tls(parameters: &mut Parameters, config: &mut Config, ca_pem: Option<&[u8]>) -> Option<Tls> {
    let modes = [
        ("disable", (SslMode::Disable, Verify::Name)),
        ("prefer", (SslMode::Prefer, Verify::Name)),
        ("require", (SslMode::Require, Verify::Name)),
        ("true", (SslMode::Require, Verify::Name)),
        ("verify-ca", (SslMode::Require, Verify::Chain)),
    ];
    let mode = parameters.choice("sslmode", &modes);
    let root = parameters.get("sslrootcert").map(str::to_owned);
    let is_system = root.as_deref() == Some("system");
    // libpq's defaults.
    let default = if is_system { SslMode::Require } else { SslMode::Prefer };
    let (mode, mut verify) = mode.unwrap_or((default, Verify::Name));
    if is_system && mode != SslMode::Require {
        parameters.refuse::<()>("sslrootcert");
    }
    let mut certificates = Vec::new();
    if let Some(pem) = ca_pem {
        match read_certificates(pem) {
            Ok(given) => certificates.extend(given),
            Err(why) => {
                parameters.mistakes.push(format!("cannot be used: the file of DATABASE_CA_FILE {why}"))
            }
        }
    }
    if let Some(path) = root.filter(|_| !is_system) {
        let pem = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"));
        match pem.and_then(|pem| read_certificates(&pem)) {
            Ok(given) => {
                parameters.notes.push(format!("`sslrootcert` adds {} trusted certificate(s)", given.len()));
                certificates.extend(given);
            }
            Err(why) => parameters.mistakes.push(format!("has an invalid `sslrootcert`: the file {why}")),
        }
    }
    if verify == Verify::Chain && certificates.is_empty() {
        verify = Verify::Name;
        parameters.notes.push("`sslmode=verify-ca` is verify-full: no CA is given".to_owned());
    }
    let negotiation = [("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)];
    let negotiation = parameters.choice("sslnegotiation", &negotiation).unwrap_or(SslNegotiation::Postgres);
    if negotiation == SslNegotiation::Direct && mode != SslMode::Require {
        parameters.refuse::<()>("sslnegotiation");
    }
    let bindings = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    let binding = parameters.choice("channel_binding", &bindings).unwrap_or(ChannelBinding::Prefer);
    config.ssl_mode(mode).ssl_negotiation(negotiation).channel_binding(binding);
    let tls = Tls::new(verify, certificates, mode == SslMode::Prefer, negotiation == SslNegotiation::Direct);
    tls.map_err(|why| parameters.mistakes.push(why)).ok()
}

/// Each host with its address and port. An empty host is the default Unix socket, as in libpq.
fn hosts(parameters: &mut Parameters, config: &Config) -> Option<Vec<HostConfig>> {
    let split = |key: &str| -> Vec<String> {
        parameters.get(key).unwrap_or_default().split(',').map(str::to_owned).collect()
    };
    let (names, addresses, ports) = (split("host"), split("hostaddr"), split("port"));
    let count = names.len().max(addresses.len());
    let mut hosts = Vec::new();
    for (key, given) in [("host", &names), ("hostaddr", &addresses), ("port", &ports)] {
        if given.len() != count && (given.len() > 1 || key != "port" && !given[0].is_empty()) {
            parameters.mistakes.push(format!("has {} in `{key}` and {count} hosts", given.len()));
            return None;
        }
    }
    for index in 0..count {
        let at = |list: &[String]| list.get(index).or(list.first()).cloned().unwrap_or_default();
        let (name, address, port) = (at(&names), at(&addresses), at(&ports));
        let Some(port) =
            (if port.is_empty() { Some(5432) } else { port.parse().ok().filter(|port| *port > 0) })
        else {
            return parameters.refuse("port");
        };
        let address = match address.as_str() {
            "" => None,
            address => Some(address.parse::<IpAddr>().ok().or_else(|| parameters.refuse("hostaddr"))?),
        };
        hosts.push(host(&name, address, port, config).map_err(|why| parameters.mistakes.push(why)).ok()?);
    }
    Some(hosts)
}

fn host(name: &str, address: Option<IpAddr>, port: u16, config: &Config) -> Result<HostConfig, String> {
    let mut config = config.clone();
    config.port(port);
    let name = match (name, address) {
        ("", Some(address)) => address.to_string(),
        ("", None) => DEFAULT_SOCKET_FOLDER.to_owned(),
        (name, _) => name.to_owned(),
    };
    if name.starts_with('/') && address.is_none() {
        // TLS is not spoken on Unix sockets; libpq ignores sslmode there, too.
        config.host_path(&name).ssl_mode(SslMode::Disable).ssl_negotiation(SslNegotiation::Postgres);
        return Ok(HostConfig { config, address: format!("{name}/.s.PGSQL.{port}") });
    }
    let is_ipv6 = name.parse::<Ipv6Addr>().is_ok();
    if name.contains('%') {
        return Err("has an IPv6 address with a zone, which is not supported: give a host name".to_owned());
    }
    if !is_ipv6 && !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
        return Err(
            "has a character in a host's name that cannot be in one: percent-encode user and password, \
                    and give each port in `port`"
                .to_owned(),
        );
    }
    config.host(&name);
    if let Some(address) = address {
        config.hostaddr(address);
    }
    Ok(HostConfig {
        config,
        address: if is_ipv6 { format!("[{name}]:{port}") } else { format!("{name}:{port}") },
    })
}

#[cfg(test)]
mod tests;
