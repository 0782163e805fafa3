//! The environment, read once at the start. All its mistakes are reported at once; no secret is ever printed.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::auth::{JwksUrl, Trust};
use crate::cors;
use crate::database::url::DatabaseUrl;
use crate::environment::{Environment, Lookup, process_variable, read_file};
use crate::http::Limits;
use crate::logging;

/// The length below which a secret can be guessed (RFC 7518, section 3.2), in bytes.
const SAFE_SECRET_BYTES: usize = 32;
/// The most secrets in `BETTER_AUTH_SECRETS`: a forged token costs the checking of each.
const MAX_SECRETS: usize = 16;

/// Everything that an operator decides.
pub struct Config {
    /// `NEON_DATABASE_URL`, and what `DATABASE_CA_FILE` holds
    pub database: DatabaseUrl,
    /// `BETTER_AUTH_SECRETS` and `BETTER_AUTH_SECRET`, `BETTER_AUTH_ISSUER`, `BETTER_AUTH_AUDIENCE`
    pub trust: Trust,
    /// `BETTER_AUTH_JWKS_URL`, or what follows from `BETTER_AUTH_URL`
    pub jwks_url: Option<JwksUrl>,
    /// `HOST`
    pub host: String,
    /// `PORT`
    pub port: u16,
    /// `ALLOWED_ORIGINS`
    pub cors: cors::Policy,
    /// `DB_POOL_SIZE`: connections to the database, and as many workers, so that none waits for another's connection
    pub pool_size: u32,
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
        let database = env.parse("NEON_DATABASE_URL", |url| DatabaseUrl::parse(url, ca_pem.as_deref()));
        let (secrets, warnings) = find_secrets(&mut env);
        let issuer = env.parse_if_set("BETTER_AUTH_ISSUER", |issuer| Ok(issuer.to_owned()));
        let audience = env.parse_if_set("BETTER_AUTH_AUDIENCE", |audience| Ok(audience.to_owned()));
        let jwks_url = env
            .parse_if_set("BETTER_AUTH_JWKS_URL", JwksUrl::parse)
            .or_else(|| env.parse_if_set("BETTER_AUTH_URL", JwksUrl::of_better_auth));
        let address = read_address(&mut env);
        let cors = env.parse("ALLOWED_ORIGINS", read_origins);
        let pool_size = env.number("DB_POOL_SIZE", 1..=128);
        let limits = read_limits(&mut env);
        let drain_timeout = env.milliseconds("DRAIN_TIMEOUT_MS", 0..=600_000);
        let log_filter = env.parse_if_set("RUST_LOG", read_log_filter);
        let log_format = env.parse_if_set("LOG_FORMAT", read_log_format);
        let admin_address = env.parse_if_set("ADMIN_ADDR", read_admin_address);
        match (database, address, cors, pool_size, drain_timeout, log_filter, log_format) {
            (
                Some(database),
                Some((host, port)),
                Some(cors),
                Some(pool_size),
                Some(drain_timeout),
                Some(log_filter),
                Some(log_format),
            ) if env.mistakes.is_empty() => Ok(Self {
                database,
                trust: Trust { secrets, issuer, audience },
                jwks_url,
                warnings,
                host,
                port,
                cors,
                pool_size,
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
mod tests {
    use super::*;
    use crate::environment::MAX_FILE_BYTES;
    use crate::variables::{self, FILE_SUFFIX};

    const URL: &str = "postgresql://ada:s3cr3t@db.example/todo";
    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn read(variables: &[(&str, &str)]) -> Result<Config, Mistakes> {
        Config::read(|name| {
            variables.iter().find(|(own, _)| *own == name).map(|(_, value)| Ok((*value).to_owned()))
        })
    }

    #[test]
    fn two_variables_suffice() {
        let config = read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", SECRET)]).unwrap();
        assert_eq!((config.host.as_str(), config.port), ("0.0.0.0", 8000));
        assert!(config.cors.judge(Some("http://localhost:3000")).is_some());
        assert!(config.cors.judge(Some("http://127.0.0.1:3000")).is_some());
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mistakes = read(&[("PORT", "http"), ("ALLOWED_ORIGINS", "localhost")]).unwrap_err().to_string();
        for name in ["NEON_DATABASE_URL", "BETTER_AUTH_SECRET", "PORT", "ALLOWED_ORIGINS"] {
            assert!(mistakes.contains(name), "{name}: {mistakes}");
        }
    }

    #[test]
    fn a_number_is_one_and_in_its_range() {
        let with =
            |name, value| read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", SECRET), (name, value)]);
        let config = with("REQUEST_TIMEOUT_MS", " 1500 ").unwrap();
        assert_eq!(config.limits.head_timeout, Duration::from_millis(1500));
        assert_eq!(config.limits.body_timeout, Duration::from_millis(1500));
        assert_eq!(
            with("MAX_CONNECTIONS", "").unwrap().limits.max_connections,
            Limits::default().max_connections
        );
        for (name, value) in [
            ("PORT", "65536"),
            ("DB_POOL_SIZE", "0"),
            ("MAX_CONNECTIONS", "-1"),
            ("MAX_BODY_BYTES", "1MB"),
            ("REQUEST_TIMEOUT_MS", "0"),
            ("IDLE_TIMEOUT_MS", "99999999999999999999"),
            ("DRAIN_TIMEOUT_MS", "ten"),
            ("RUST_LOG", "info,todo_backend=loud"),
            ("LOG_FORMAT", "JSON"),
            ("ADMIN_ADDR", "localhost"),
            ("ADMIN_ADDR", ":9090"),
        ] {
            let mistakes = with(name, value).unwrap_err();
            assert!(mistakes.to_string().contains(&format!("{name} is `{value}`")), "{mistakes}");
            assert_eq!(mistakes.0.len(), 1, "{mistakes}");
        }
    }

    #[test]
    fn every_variable_that_is_read_is_in_the_table_and_the_other_way_round() {
        let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let read = Config::read(|name| {
            asked.borrow_mut().insert(name.to_owned());
            None
        });
        assert!(read.is_err());
        let names = variables::VARIABLES.iter().flat_map(|variable| {
            let file = variable.is_secret.then(|| format!("{}{FILE_SUFFIX}", variable.name));
            std::iter::once(variable.name.to_owned()).chain(file)
        });
        assert_eq!(asked.into_inner(), names.collect());
    }

    #[test]
    fn what_is_not_set_is_as_the_engine_has_it() {
        let limits = read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", SECRET)]).unwrap().limits;
        assert_eq!(format!("{limits:?}"), format!("{:?}", Limits::default()));
    }

    #[test]
    fn a_secret_may_be_in_a_file() {
        let folder = std::env::temp_dir().join(format!("todo-backend-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let url = file("url", format!("{URL}\n").as_bytes());
        let with_secret = |content: &[u8], more: &[(&str, &str)]| {
            let path = file("secret", content);
            let files = [("NEON_DATABASE_URL_FILE", &*url), ("BETTER_AUTH_SECRET_FILE", &*path)];
            read(&[&files, more].concat())
        };
        for (content, secret) in [
            (&b"as it is"[..], "as it is"),
            (b"a line\n", "a line"),
            (b"a line of Windows\r\n", "a line of Windows"),
            (b" two\n\n", " two\n"),
        ] {
            assert_eq!(with_secret(content, &[]).unwrap().trust.secrets, [secret]);
            assert_eq!(with_secret(content, &[("BETTER_AUTH_SECRET", "")]).unwrap().trust.secrets, [secret]);
        }
        let long = vec![b'x'; MAX_FILE_BYTES as usize + 1];
        let missing = folder.join("missing").to_str().unwrap().to_owned();
        for (content, more, named) in [
            (&b"\xff"[..], &[][..], "BETTER_AUTH_SECRET_FILE is `"),
            (&long, &[], "longer than"),
            (b"", &[], "BETTER_AUTH_SECRET is not set"),
            (SECRET.as_bytes(), &[("BETTER_AUTH_SECRET", SECRET)], "are both set"),
        ] {
            let mistakes = with_secret(content, more).unwrap_err();
            assert!(mistakes.0.len() == 1 && mistakes.0[0].contains(named), "{mistakes}");
            assert!(!mistakes.0[0].contains(SECRET), "{mistakes}");
        }
        let mistakes =
            read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET_FILE", &missing)]).unwrap_err();
        assert!(mistakes.0.len() == 1 && mistakes.0[0].contains(&missing), "{mistakes}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn no_secret_is_ever_printed() {
        let config = read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", SECRET)]).unwrap();
        let debug = format!("{config:?}");
        assert!(!debug.contains("s3cr3t") && !debug.contains(SECRET), "{debug}");
    }

    #[test]
    fn a_short_secret_is_a_warning_and_an_empty_one_a_mistake() {
        let short = read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", "short")]).unwrap();
        assert_eq!(short.warnings.len(), 1);
        assert!(!short.warnings[0].contains("short"));
        assert!(read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", "")]).is_err());
    }
}
