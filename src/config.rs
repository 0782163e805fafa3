//! The environment, read once at the start. All its mistakes are reported at once; no secret is ever printed.

use std::fmt;

use crate::cors;
use crate::database::url::DatabaseUrl;

const DEFAULT_ALLOWED_ORIGINS: &str = "http://localhost:3000,http://127.0.0.1:3000";
const DEFAULT_HOST: &str = "0.0.0.0";
const DEFAULT_PORT: u16 = 8000;
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
        let mut mistakes = Vec::new();
        let mut variable = |name: &str| {
            let value = lookup(name)?;
            value.inspect_err(|()| mistakes.push(format!("{name} is not UTF-8"))).ok()
        };
        let url = variable("NEON_DATABASE_URL");
        let ca_file = variable("DATABASE_CA_FILE").filter(|path| !path.is_empty());
        let secret = variable("BETTER_AUTH_SECRET");
        let host = variable("HOST").filter(|host| !host.is_empty());
        let port = variable("PORT").filter(|port| !port.is_empty());
        let origins = variable("ALLOWED_ORIGINS");

        let database = read_ca_file(ca_file.as_deref()).and_then(|ca_pem| {
            DatabaseUrl::parse(url.as_deref().unwrap_or_default(), ca_pem.as_deref())
                .map_err(|why| format!("NEON_DATABASE_URL {why}"))
        });
        let secret = match secret {
            Some(secret) if !secret.is_empty() => Ok(secret),
            _ => Err("BETTER_AUTH_SECRET is not set: give the one that your Better Auth has".to_owned()),
        };
        let port = port.map_or(Ok(DEFAULT_PORT), |port| {
            port.trim().parse().map_err(|_| format!("PORT is `{port}`: give a number from 0 to 65535"))
        });
        let cors = cors::Policy::parse(origins.as_deref().unwrap_or(DEFAULT_ALLOWED_ORIGINS))
            .map_err(|bad| bad.iter().map(|origin| format!("ALLOWED_ORIGINS: {origin}")).collect::<Vec<_>>());

        match (database, secret, port, cors) {
            (Ok(database), Ok(secret), Ok(port), Ok(cors)) if mistakes.is_empty() => Ok(Self {
                database,
                warnings: warnings(&secret),
                secret,
                host: host.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
                port,
                cors,
            }),
            (database, secret, port, cors) => {
                mistakes.extend(database.err());
                mistakes.extend(secret.err());
                mistakes.extend(port.err());
                mistakes.extend(cors.err().into_iter().flatten());
                Err(Mistakes(mistakes))
            }
        }
    }
}

fn read_ca_file(path: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    path.map(std::fs::read)
        .transpose()
        .map_err(|error| format!("DATABASE_CA_FILE `{}` cannot be read: {error}", path.unwrap_or_default()))
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
