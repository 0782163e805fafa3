//! The environment, read once at the start. All its mistakes are reported at once; no secret is ever printed.

pub mod env;
pub mod settings;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::{AuthConfig, JwksUrl};
use crate::config::env::{Environment, Lookup, process_variable, read_file};
use crate::db as database;
use crate::db::url::DatabaseUrl;
use crate::http::Limits;
use crate::http::cors;
use crate::ops::log as logging;

/// The length below which a secret can be guessed (RFC 7518, section 3.2), in bytes.
const SAFE_SECRET_BYTES: usize = 32;
/// The most secrets in `BETTER_AUTH_SECRETS`: a forged token costs the checking of each.
const MAX_SECRETS: usize = 16;

/// Everything that an operator decides.
pub struct Config {
    /// `NEON_DATABASE_URL`, and what `DATABASE_CA_FILE` holds
    pub database: DatabaseUrl,
    /// `BETTER_AUTH_SECRETS` and `BETTER_AUTH_SECRET`, `BETTER_AUTH_ISSUER`, `BETTER_AUTH_AUDIENCE`
    pub trust: AuthConfig,
    /// `BETTER_AUTH_JWKS_URL`, or what follows from `BETTER_AUTH_URL`
    pub jwks_url: Option<JwksUrl>,
    /// `HOST`
    pub host: String,
    /// `PORT`
    pub port: u16,
    /// `ALLOWED_ORIGINS`
    pub cors: cors::Policy,
    /// `DB_POOL_SIZE`, `DB_CONNECT_TIMEOUT_MS`, `DB_CHECKOUT_TIMEOUT_MS`, `DB_STATEMENT_TIMEOUT_MS`, `DB_IDLE_TIMEOUT_MS`
    pub database_limits: database::Limits,
    /// `MAX_CONNECTIONS`, `MAX_BODY_BYTES`, `REQUEST_TIMEOUT_MS`, `IDLE_TIMEOUT_MS`
    pub limits: Limits,
    /// `DRAIN_TIMEOUT_MS`: how long the end may take
    pub drain_timeout: Duration,
    /// `RUST_LOG`
    pub log_filter: String,
    /// `LOG_FORMAT`
    pub log_format: logging::Format,
    /// `ADMIN_ADDR`: where the metrics are, if anywhere
    pub admin_address: Option<SocketAddr>,
    /// What the operator should know, though it is no mistake.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("cors", &self.cors)
            .finish_non_exhaustive()
    }
}

/// Everything that is wrong with the environment.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

impl Mistakes {
    /// A line for each, which begins with the variable's name.
    pub fn lines(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration does not hold:")?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for Mistakes {}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// All its [`Mistakes`].
    pub fn from_env() -> Result<Self, Mistakes> {
        Self::read(process_variable)
    }

    /// Reads variables from `lookup`, which says `Err` for one that is not UTF-8.
    fn read(lookup: impl Lookup) -> Result<Self, Mistakes> {
        let mut env = Environment::new(lookup);
        let ca_pem = env.parse_if_set("DATABASE_CA_FILE", read_file);
        let database = env.parse("NEON_DATABASE_URL", |url| {
            DatabaseUrl::parse(url, ca_pem.as_deref()).map_err(|mistakes| mistakes.join("; "))
        });
        let (secrets, warnings) = find_secrets(&mut env);
        let issuer = env.parse_if_set("BETTER_AUTH_ISSUER", |issuer| Ok(issuer.to_owned()));
        let audience = env.parse_if_set("BETTER_AUTH_AUDIENCE", |audience| Ok(audience.to_owned()));
        let jwks_url = env
            .parse_if_set("BETTER_AUTH_JWKS_URL", JwksUrl::parse)
            .or_else(|| env.parse_if_set("BETTER_AUTH_URL", JwksUrl::of_better_auth));
        let address = read_address(&mut env);
        let cors = env.parse("ALLOWED_ORIGINS", read_origins);
        let database_limits =
            read_database_limits(&mut env, database.as_ref().and_then(DatabaseUrl::connect_timeout));
        let limits = read_limits(&mut env);
        let drain_timeout = env.milliseconds("DRAIN_TIMEOUT_MS", 0..=600_000);
        let log_filter = env.parse_if_set("RUST_LOG", read_log_filter);
        let log_format = env.parse_if_set("LOG_FORMAT", read_log_format);
        let admin_address = env.parse_if_set("ADMIN_ADDR", read_admin_address);
        match (database, address, cors, drain_timeout, log_filter, log_format) {
            (
                Some(database),
                Some((host, port)),
                Some(cors),
                Some(drain_timeout),
                Some(log_filter),
                Some(log_format),
            ) if env.mistakes.is_empty() => Ok(Self {
                database,
                trust: AuthConfig { secrets, issuer, audience },
                jwks_url,
                warnings,
                host,
                port,
                cors,
                database_limits,
                limits,
                drain_timeout,
                log_filter,
                log_format,
                admin_address,
            }),
            _ => Err(Mistakes(env.mistakes)),
        }
    }
}

/// `HOST` and `PORT` of this process's environment, whatever the rest of it says.
///
/// # Errors
/// The [`Mistakes`] in these two.
pub fn address_from_env() -> Result<(String, u16), Mistakes> {
    let mut env = Environment::new(process_variable);
    read_address(&mut env).ok_or(Mistakes(env.mistakes))
}

fn read_address<F: Lookup>(env: &mut Environment<F>) -> Option<(String, u16)> {
    let host = env.parse_if_set("HOST", |host| Ok(host.to_owned()));
    host.zip(env.number("PORT", 0..=65_535))
}

/// The secrets, the current one first, and warnings about those that can be guessed.
fn find_secrets<F: Lookup>(env: &mut Environment<F>) -> (Vec<String>, Vec<String>) {
    let listed = env.parse_if_set("BETTER_AUTH_SECRETS", read_secrets);
    let single = match &listed {
        Some(_) => env.parse_if_set("BETTER_AUTH_SECRET", read_secret),
        None => env.parse("BETTER_AUTH_SECRET", read_secret),
    };
    let listed = listed.unwrap_or_default().into_iter();
    let named = listed.map(|(version, secret)| (format!("BETTER_AUTH_SECRETS, version {version},"), secret));
    let named: Vec<_> = named.chain(single.map(|secret| ("BETTER_AUTH_SECRET".to_owned(), secret))).collect();
    let warnings = named.iter().filter_map(|(name, secret)| warning(name, secret)).collect();
    (named.into_iter().map(|(_, secret)| secret).collect(), warnings)
}

/// What the database's URL says of the time to connect holds where the environment says nothing.
fn read_database_limits<F: Lookup>(
    env: &mut Environment<F>,
    connect_timeout: Option<Duration>,
) -> database::Limits {
    let default = database::Limits::default();
    database::Limits {
        pool_size: env.number("DB_POOL_SIZE", 1..=128).unwrap_or(default.pool_size),
        connect_timeout: env
            .milliseconds("DB_CONNECT_TIMEOUT_MS", 100..=60_000)
            .or(connect_timeout)
            .unwrap_or(default.connect_timeout),
        checkout_timeout: env
            .milliseconds("DB_CHECKOUT_TIMEOUT_MS", 100..=60_000)
            .unwrap_or(default.checkout_timeout),
        statement_timeout: env
            .milliseconds("DB_STATEMENT_TIMEOUT_MS", 100..=600_000)
            .unwrap_or(default.statement_timeout),
        idle_timeout: env
            .milliseconds("DB_IDLE_TIMEOUT_MS", 1_000..=86_400_000)
            .unwrap_or(default.idle_timeout),
    }
}

fn read_limits<F: Lookup>(env: &mut Environment<F>) -> Limits {
    let default = Limits::default();
    // Each of the two has a default of its own.
    let request_timeout = env.milliseconds("REQUEST_TIMEOUT_MS", 100..=600_000);
    Limits {
        max_connections: env.number("MAX_CONNECTIONS", 1..=1_000_000).unwrap_or(default.max_connections),
        max_body_bytes: env.number("MAX_BODY_BYTES", 1_024..=16_777_216).unwrap_or(default.max_body_bytes),
        head_timeout: request_timeout.unwrap_or(default.head_timeout),
        body_timeout: request_timeout.unwrap_or(default.body_timeout),
        idle_timeout: env.milliseconds("IDLE_TIMEOUT_MS", 100..=3_600_000).unwrap_or(default.idle_timeout),
        ..default
    }
}

fn read_log_filter(filter: &str) -> Result<String, String> {
    match env_filter::Builder::new().try_parse(filter) {
        Ok(_) => Ok(filter.to_owned()),
        Err(_) => Err(format!(
            "is `{filter}`: give error, warn, info, debug, trace or off, or as env_logger has it"
        )),
    }
}

fn read_secret(secret: &str) -> Result<String, String> {
    match secret {
        "" => Err("is not set: give the one that your Better Auth has".to_owned()),
        _ => Ok(secret.to_owned()),
    }
}

fn read_log_format(format: &str) -> Result<logging::Format, String> {
    match format {
        "text" => Ok(logging::Format::Text),
        "json" => Ok(logging::Format::Json),
        _ => Err(format!("is `{format}`: give text or json")),
    }
}

fn read_admin_address(address: &str) -> Result<SocketAddr, String> {
    address
        .parse()
        .map_err(|_| format!("is `{address}`: give address and port, as 127.0.0.1:9090 or [::1]:9090"))
}

fn read_origins(list: &str) -> Result<cors::Policy, String> {
    cors::Policy::parse(list).map_err(|bad| {
        let bad: Vec<_> = bad.iter().map(ToString::to_string).collect();
        format!("has entries that are none: {}", bad.join("; "))
    })
}

/// `2:new,1:old`, the current one first, as Better Auth 1.7 reads it: blanks around entries and secrets are removed.
fn read_secrets(list: &str) -> Result<Vec<(u32, String)>, String> {
    let mut secrets: Vec<(u32, String)> = Vec::new();
    for (position, entry) in (1..).zip(list.split(',')) {
        let (version, secret) =
            entry.trim().split_once(':').ok_or(format!("has no `version:secret` as entry {position}"))?;
        let version = version
            .trim()
            .parse()
            .map_err(|_| format!("has a version that is no whole number in entry {position}"))?;
        if secret.trim().is_empty() {
            return Err(format!("has an empty secret for version {version}"));
        }
        if secrets.iter().any(|(own, _)| *own == version) {
            return Err(format!("has version {version} twice"));
        }
        secrets.push((version, secret.trim().to_owned()));
    }
    if secrets.len() > MAX_SECRETS {
        return Err(format!("has {} secrets; at most {MAX_SECRETS} are accepted", secrets.len()));
    }
    Ok(secrets)
}

fn warning(name: &str, secret: &str) -> Option<String> {
    let length = secret.len();
    (length < SAFE_SECRET_BYTES).then(|| {
        format!(
            "{name} has {length} bytes; with fewer than {SAFE_SECRET_BYTES} it can be guessed, and then anyone can sign \
             in as anybody"
        )
    })
}

#[cfg(test)]
mod tests;
