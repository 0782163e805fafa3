//! Configuration: all settings, read once at the start. Errors are reported together; no message contains a secret.

pub mod address;
pub mod env;
pub mod settings;
mod unusual;

use std::ffi::OsString;
use std::fmt;
use std::mem;
use std::time::Duration;

use log::LevelFilter;

use crate::auth::{AuthConfig, KeySource};
use crate::db::{self, url::DatabaseUrl};
use crate::http::{Limits, cors};
use crate::ops::log as logging;
use address::ListenAddress;
use env::{EnvReader, read_file};
use unusual::unusual_traits;

/// Minimum length of a secret that cannot be guessed (RFC 7518, section 3.2), in bytes.
const SAFE_SECRET_BYTES: usize = 32;
/// Maximum number of secrets in `BETTER_AUTH_SECRETS`: a forged token costs one check with each.
const MAX_SECRETS: usize = 16;
/// How long connecting to the database may take where neither a setting nor the URL says it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Targets of the program's log messages. In `RUST_LOG`, any other word that is no level would silence the log.
const LOG_TARGETS: [&str; 3] = ["todo_backend", "tiny_http", "request"];

/// The configuration of the service. It contains secrets, so it has no `Debug` and cannot be printed.
pub struct Config {
    /// `NEON_DATABASE_URL` with `DATABASE_CA_FILE`
    pub database: DatabaseUrl,
    /// `BETTER_AUTH_SECRETS`, `BETTER_AUTH_SECRET`, `BETTER_AUTH_ISSUER`, `BETTER_AUTH_AUDIENCE`
    pub auth: AuthConfig,
    /// The key set at `BETTER_AUTH_JWKS_URL`, or of the Better Auth at `BETTER_AUTH_URL`
    pub key_source: Option<KeySource>,
    /// `HOST` and `PORT`
    pub address: ListenAddress,
    /// `ALLOWED_ORIGINS`
    pub cors: cors::Policy,
    /// `DB_POOL_SIZE`, and the four `DB_…_TIMEOUT_MS`
    pub database_limits: db::Limits,
    /// `MAX_CONNECTIONS`, `MAX_BODY_BYTES`, `REQUEST_TIMEOUT_MS`, `IDLE_TIMEOUT_MS`
    pub limits: Limits,
    /// `DRAIN_TIMEOUT_MS`: maximum duration of a graceful shutdown
    pub drain_timeout: Duration,
    /// `RUST_LOG`
    pub log_filter: String,
    /// `LOG_FORMAT`
    pub log_format: logging::Format,
    /// `ADMIN_ADDR`: address of the metrics, if they are served
    pub admin_address: Option<ListenAddress>,
    /// What is valid and probably a mistake; each begins with a variable's name and contains no secret
    pub warnings: Vec<String>,
}

/// All that is wrong with the configuration: one message for each error, which begins with the variable's name.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// All [`ConfigErrors`].
    pub fn from_env() -> Result<Self, ConfigErrors> {
        Self::read(&|name| std::env::var_os(name))
    }

    fn read(lookup: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigErrors> {
        let mut env = EnvReader::new(lookup);
        let config = Self::read_settings(&mut env);
        config.filter(|_| env.errors.is_empty()).ok_or(ConfigErrors(env.errors))
    }

    /// Reads every setting. A setting with a default gives a value in any case, so that no `?` skips the next ones.
    fn read_settings(env: &mut EnvReader) -> Option<Self> {
        let ca_pem = env.parse("DATABASE_CA_FILE", read_certificates);
        let database = env.parse("NEON_DATABASE_URL", |url| {
            DatabaseUrl::parse(url, ca_pem.as_deref()).map_err(|errors| errors.join("; "))
        });
        if database.is_none() {
            env.report_unset("NEON_DATABASE_URL");
        }
        env.warnings.extend(database.iter().flat_map(DatabaseUrl::notes).cloned());
        Some(Self {
            auth: AuthConfig {
                secrets: read_secrets(env),
                issuer: env.verbatim("BETTER_AUTH_ISSUER"),
                audience: env.verbatim("BETTER_AUTH_AUDIENCE"),
            },
            key_source: env
                .parse("BETTER_AUTH_JWKS_URL", KeySource::at_url)
                .or_else(|| env.parse("BETTER_AUTH_URL", KeySource::of_better_auth)),
            address: read_address(env)?,
            cors: env.parse("ALLOWED_ORIGINS", cors::Policy::parse)?,
            database_limits: read_database_limits(env, database.as_ref())?,
            limits: read_limits(env)?,
            drain_timeout: env.milliseconds("DRAIN_TIMEOUT_MS")?,
            log_filter: env.parse("RUST_LOG", parse_log_filter)?,
            log_format: env.parse("LOG_FORMAT", parse_log_format)?,
            admin_address: env.parse("ADMIN_ADDR", ListenAddress::parse_admin),
            warnings: mem::take(&mut env.warnings),
            database: database?, // the last: it has no default
        })
    }
}

/// Reads `HOST` and `PORT` from the environment of this process, and nothing else.
///
/// # Errors
/// The [`ConfigErrors`] of these two.
pub fn address_from_env() -> Result<ListenAddress, ConfigErrors> {
    let mut env = EnvReader::new(&|name| std::env::var_os(name));
    let address = read_address(&mut env);
    address.filter(|_| env.errors.is_empty()).ok_or(ConfigErrors(env.errors))
}

fn read_address(env: &mut EnvReader) -> Option<ListenAddress> {
    let host = env.parse("HOST", |host| Ok(host.to_owned()))?;
    Some(ListenAddress::new(&host, env.number("PORT")?))
}

/// All secrets, the current one first.
fn read_secrets(env: &mut EnvReader) -> Vec<String> {
    let name = "BETTER_AUTH_SECRET";
    let mut secrets = env.parse("BETTER_AUTH_SECRETS", parse_secrets).unwrap_or_default();
    secrets.extend(env.parse(name, |secret| Ok((name.to_owned(), secret.to_owned()))));
    if secrets.is_empty() {
        env.report_unset(name);
    }
    for (label, secret) in &secrets {
        env.warn_if_unusual(name, label, secret);
        if secret.len() < SAFE_SECRET_BYTES {
            env.warnings.push(format!(
                "{label} has {} bytes: with fewer than {SAFE_SECRET_BYTES} it can be guessed, and then anyone can \
                 sign in as any user; set frontend and backend to one of `openssl rand -base64 32`",
                secret.len()
            ));
        }
    }
    secrets.into_iter().map(|(_, secret)| secret).collect()
}

fn read_database_limits(env: &mut EnvReader, url: Option<&DatabaseUrl>) -> Option<db::Limits> {
    let connect_timeout = env.milliseconds("DB_CONNECT_TIMEOUT_MS").or(url.and_then(DatabaseUrl::connect_timeout));
    Some(db::Limits {
        pool_size: env.number("DB_POOL_SIZE")?,
        connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        checkout_timeout: env.milliseconds("DB_CHECKOUT_TIMEOUT_MS")?,
        statement_timeout: env.milliseconds("DB_STATEMENT_TIMEOUT_MS")?,
        idle_timeout: env.milliseconds("DB_IDLE_TIMEOUT_MS")?,
    })
}

fn read_limits(env: &mut EnvReader) -> Option<Limits> {
    let default = Limits::default();
    let request_timeout = env.milliseconds("REQUEST_TIMEOUT_MS");
    Some(Limits {
        max_connections: env.number("MAX_CONNECTIONS")?,
        max_body_bytes: env.number("MAX_BODY_BYTES")?,
        head_timeout: request_timeout.unwrap_or(default.head_timeout),
        body_timeout: request_timeout.unwrap_or(default.body_timeout),
        idle_timeout: env.milliseconds("IDLE_TIMEOUT_MS")?,
        ..default
    })
}

fn read_certificates(path: &str) -> Result<Vec<u8>, String> {
    let pem = read_file(path)?;
    // With this URL, only the certificates can be invalid.
    let read = DatabaseUrl::parse("postgresql://localhost", Some(&pem));
    read.map(|_| pem).map_err(|errors| errors.join("; "))
}

fn parse_log_filter(filter: &str) -> Result<String, String> {
    let is_word = !filter.contains([',', '=', ':', '/']);
    let is_known = !is_word || filter.parse::<LevelFilter>().is_ok() || LOG_TARGETS.contains(&filter);
    match env_filter::Builder::new().try_parse(filter) {
        Ok(_) if is_known => Ok(filter.to_owned()),
        _ => Err(format!("is `{filter}`: it must be error, warn, info, debug, trace, off, or a filter of env_logger")),
    }
}

fn parse_log_format(format: &str) -> Result<logging::Format, String> {
    match format {
        "text" => Ok(logging::Format::Text),
        "json" => Ok(logging::Format::Json),
        _ => Err(format!("is `{format}`: it must be text or json")),
    }
}

/// Parses `2:new,1:old` as Better Auth 1.7 does: white space around entries, versions and secrets is removed.
/// Returns each secret after its label for messages.
fn parse_secrets(list: &str) -> Result<Vec<(String, String)>, String> {
    let mut secrets: Vec<(String, String)> = Vec::new();
    for (position, entry) in (1..).zip(list.split(',')) {
        let (version, secret) = entry.split_once(':').unwrap_or_default();
        let (version, secret) = (version.trim().parse::<u32>(), secret.trim());
        let Some(version) = version.ok().filter(|_| !secret.is_empty()) else {
            let entry = format!("entry {position} is not `integer:secret`");
            let traits = unusual_traits("BETTER_AUTH_SECRETS", list);
            return Err([&["must be like `2:new,1:old`", &entry], &*traits].concat().join("; "));
        };
        let label = format!("BETTER_AUTH_SECRETS, version {version},");
        if secrets.iter().any(|(other, _)| *other == label) {
            return Err(format!("contains version {version} twice"));
        }
        secrets.push((label, secret.to_owned()));
    }
    match secrets.len() {
        0..=MAX_SECRETS => Ok(secrets),
        length => Err(format!("contains {length} secrets; the maximum is {MAX_SECRETS}")),
    }
}

#[cfg(test)]
mod tests;
