//! The environment, read once at the start. All its mistakes are reported at once; no secret is ever printed.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::cors;
use crate::database;
use crate::database::url::DatabaseUrl;
use crate::http::Limits;

const DEFAULT_ALLOWED_ORIGINS: &str = "http://localhost:3000,http://127.0.0.1:3000";
const DEFAULT_HOST: &str = "0.0.0.0";
const DEFAULT_PORT: u16 = 8000;
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The length below which a secret can be guessed (RFC 7518, section 3.2), in bytes.
const SAFE_SECRET_BYTES: usize = 32;

/// Everything that an operator decides.
pub struct Config {
    /// `NEON_DATABASE_URL`, and what `DATABASE_CA_FILE` holds
    pub database: DatabaseUrl,
    /// `BETTER_AUTH_SECRET`, as it is
    pub secret: String,
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
        Self::read(|name| std::env::var_os(name).map(|value| value.into_string().map_err(drop)))
    }

    /// Reads variables from `lookup`, which says `Err` for one that is not UTF-8.
    fn read(lookup: impl Fn(&str) -> Option<Result<String, ()>>) -> Result<Self, Mistakes> {
        let mut env = Environment { lookup, mistakes: Vec::new() };
        let ca_pem = env.parse_if_set("DATABASE_CA_FILE", read_file);
        let database = env.parse("NEON_DATABASE_URL", |url| DatabaseUrl::parse(url, ca_pem.as_deref()));
        let secret = env.parse("BETTER_AUTH_SECRET", read_secret);
        let host = env.parse_if_set("HOST", |host| Ok(host.to_owned()));
        let port = env.number("PORT", 0..=65_535);
        let cors = env.parse_or("ALLOWED_ORIGINS", DEFAULT_ALLOWED_ORIGINS, read_origins);
        let database_limits = env.database_limits(database.as_ref().and_then(DatabaseUrl::connect_timeout));
        let limits = env.limits();
        let drain_timeout = env.milliseconds("DRAIN_TIMEOUT_MS", 0..=600_000);
        match (database, secret, cors) {
            (Some(database), Some(secret), Some(cors)) if env.mistakes.is_empty() => Ok(Self {
                database,
                warnings: warnings(&secret),
                secret,
                host: host.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
                port: port.unwrap_or(DEFAULT_PORT),
                cors,
                database_limits,
                limits,
                drain_timeout: drain_timeout.unwrap_or(DEFAULT_DRAIN_TIMEOUT),
            }),
            _ => Err(Mistakes(env.mistakes)),
        }
    }
}

/// Reads variables, and collects what is wrong with them.
struct Environment<F> {
    lookup: F,
    mistakes: Vec<String>,
}

impl<F: Fn(&str) -> Option<Result<String, ()>>> Environment<F> {
    fn get(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        value.inspect_err(|()| self.mistakes.push(format!("{name} is not UTF-8"))).ok()
    }

    /// What `parse` makes of a variable, of an empty text if it is not set.
    fn parse<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.parse_or(name, "", parse)
    }

    fn parse_or<T>(
        &mut self,
        name: &str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(name);
        let parsed = parse(value.as_deref().unwrap_or(default));
        parsed.map_err(|why| self.mistakes.push(format!("{name} {why}"))).ok()
    }

    /// An empty variable is as good as none.
    fn parse_if_set<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.get(name).filter(|value| !value.is_empty())?;
        parse(&value).map_err(|why| self.mistakes.push(format!("{name} {why}"))).ok()
    }

    fn number<T>(&mut self, name: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: PartialOrd + FromStr + fmt::Display,
    {
        self.parse_if_set(name, |text| match text.trim().parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("is `{text}`: give a number from {} to {}", range.start(), range.end())),
        })
    }

    fn milliseconds(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<Duration> {
        self.number(name, range).map(Duration::from_millis)
    }

    /// What the database's URL says of the time to connect holds where the environment says nothing.
    fn database_limits(&mut self, connect_timeout: Option<Duration>) -> database::Limits {
        let default = database::Limits::default();
        database::Limits {
            pool_size: self.number("DB_POOL_SIZE", 1..=128).unwrap_or(default.pool_size),
            connect_timeout: self
                .milliseconds("DB_CONNECT_TIMEOUT_MS", 100..=60_000)
                .or(connect_timeout)
                .unwrap_or(default.connect_timeout),
            checkout_timeout: self
                .milliseconds("DB_CHECKOUT_TIMEOUT_MS", 100..=60_000)
                .unwrap_or(default.checkout_timeout),
            statement_timeout: self
                .milliseconds("DB_STATEMENT_TIMEOUT_MS", 100..=600_000)
                .unwrap_or(default.statement_timeout),
            idle_timeout: self
                .milliseconds("DB_IDLE_TIMEOUT_MS", 1_000..=86_400_000)
                .unwrap_or(default.idle_timeout),
        }
    }

    fn limits(&mut self) -> Limits {
        let default = Limits::default();
        // Each of the two has a default of its own.
        let request_timeout = self.milliseconds("REQUEST_TIMEOUT_MS", 100..=600_000);
        Limits {
            max_connections: self.number("MAX_CONNECTIONS", 1..=1_000_000).unwrap_or(default.max_connections),
            max_body_bytes: self
                .number("MAX_BODY_BYTES", 1_024..=16_777_216)
                .unwrap_or(default.max_body_bytes),
            head_timeout: request_timeout.unwrap_or(default.head_timeout),
            body_timeout: request_timeout.unwrap_or(default.body_timeout),
            idle_timeout: self
                .milliseconds("IDLE_TIMEOUT_MS", 100..=3_600_000)
                .unwrap_or(default.idle_timeout),
            ..default
        }
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("is `{path}`, which cannot be read: {error}"))
}

fn read_secret(secret: &str) -> Result<String, String> {
    match secret {
        "" => Err("is not set: give the one that your Better Auth has".to_owned()),
        _ => Ok(secret.to_owned()),
    }
}

fn read_origins(list: &str) -> Result<cors::Policy, String> {
    cors::Policy::parse(list).map_err(|bad| {
        let bad: Vec<_> = bad.iter().map(ToString::to_string).collect();
        format!("has entries that are none: {}", bad.join("; "))
    })
}

fn warnings(secret: &str) -> Vec<String> {
    let length = secret.len();
    if length >= SAFE_SECRET_BYTES {
        return Vec::new();
    }
    vec![format!(
        "BETTER_AUTH_SECRET has {length} bytes; with fewer than {SAFE_SECRET_BYTES} it can be guessed, and then anyone \
         can sign in as anybody"
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("DB_CONNECT_TIMEOUT_MS", "5s"),
            ("DB_CHECKOUT_TIMEOUT_MS", "0"),
            ("DB_STATEMENT_TIMEOUT_MS", "-1"),
            ("DB_IDLE_TIMEOUT_MS", "999"),
            ("MAX_CONNECTIONS", "-1"),
            ("MAX_BODY_BYTES", "1MB"),
            ("REQUEST_TIMEOUT_MS", "0"),
            ("IDLE_TIMEOUT_MS", "99999999999999999999"),
            ("DRAIN_TIMEOUT_MS", "ten"),
        ] {
            let mistakes = with(name, value).unwrap_err();
            assert!(mistakes.to_string().contains(&format!("{name} is `{value}`")), "{mistakes}");
            assert_eq!(mistakes.0.len(), 1, "{mistakes}");
        }
    }

    #[test]
    fn the_url_may_say_how_long_connecting_takes() {
        let url = format!("{URL}?connect_timeout=10");
        let with = |more: &[(&str, &str)]| {
            let variables = [&[("NEON_DATABASE_URL", url.as_str()), ("BETTER_AUTH_SECRET", SECRET)], more];
            read(&variables.concat()).unwrap().database_limits.connect_timeout
        };
        assert_eq!(with(&[]), Duration::from_secs(10));
        assert_eq!(with(&[("DB_CONNECT_TIMEOUT_MS", "700")]), Duration::from_millis(700));
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
