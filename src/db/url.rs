//! The database's URL, as it stands in dashboards, `.env` files and the settings of SQLAlchemy.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use postgres::config::Host;

use super::tls::{Tls, TlsMode};

/// Where the database is, and how it is spoken to. Holds a password: [`fmt::Debug`] shows none of it.
#[derive(Clone)]
pub struct DatabaseUrl {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: Tls,
    mode: TlsMode,
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl")
    }
}

impl DatabaseUrl {
    /// Reads a URL; white space and quotes around it are dropped. `ca_pem` is trusted beside Mozilla's roots.
    ///
    /// # Errors
    /// What is wrong with it, without a word of it.
    pub fn parse(text: &str, ca_pem: Option<&[u8]>) -> Result<Self, String> {
        let text = unquoted(text);
        if text.is_empty() {
            return Err("is not set: give postgresql://user:password@host/database".to_owned());
        }
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        let address = address
            .split_once("://")
            .filter(|(scheme, _)| is_postgresql(scheme))
            .map(|(_, address)| address)
            .ok_or("does not begin with postgresql:// or postgres://")?;

        let mut mode = TlsMode::Prefer;
        let mut parameters = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                // asyncpg calls it `ssl`.
                Some(("sslmode" | "ssl", value)) => mode = parse_mode(value)?,
                _ => parameters.push(parameter),
            }
        }
        let mut config =
            tokio_postgres::Config::from_str(&format!("postgresql://{address}?{}", parameters.join("&")))
                .map_err(|error| without_secrets(&error))?;
        if config.get_hosts().is_empty() {
            return Err("names no host".to_owned());
        }
        if config.get_hosts().iter().any(|host| !matches!(host, Host::Tcp(_))) {
            return Err(
                "names a Unix socket, on which no deadline can be kept: give a host's name".to_owned()
            );
        }
        if config.get_application_name().is_none() {
            config.application_name(env!("CARGO_PKG_NAME"));
        }
        Tls::prepare(&mut config);
        Ok(Self { config, tls: Tls::new(mode, ca_pem)?, mode })
    }

    /// What it says of the time that connecting may take, all in all (`connect_timeout`).
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.config.get_connect_timeout().copied()
    }

    /// How to connect where TLS was tried and did not hold, if that is allowed.
    pub(super) fn without_tls(&self) -> Option<Tls> {
        (self.mode == TlsMode::Prefer).then(|| self.tls.disabled())
    }
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    unquoted.unwrap_or(text).trim()
}

fn is_postgresql(scheme: &str) -> bool {
    let drivers = ["", "+asyncpg", "+psycopg2", "+psycopg"];
    let driver = scheme.strip_prefix("postgresql").or_else(|| scheme.strip_prefix("postgres"));
    driver.is_some_and(|driver| drivers.contains(&driver))
}

/// Where there is TLS, chain and name are always checked: `require` is as good as `verify-full`.
fn parse_mode(value: &str) -> Result<TlsMode, String> {
    match value {
        "disable" => Ok(TlsMode::Disable),
        "prefer" => Ok(TlsMode::Prefer),
        "require" | "verify-full" => Ok(TlsMode::Require),
        _ => Err("has an sslmode that is not disable, prefer, require or verify-full".to_owned()),
    }
}

/// Only the library's words about the name of a parameter: its others may quote the URL, and so the password.
fn without_secrets(error: &postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let about_option = cause.starts_with("unknown option") || cause.starts_with("invalid value for option");
    let name = cause.split('`').nth(1).unwrap_or_default();
    if about_option && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
        format!("has an {cause}")
    } else {
        "is no connection URL: give postgresql://user:password@host/database, special characters percent-encoded"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "postgresql://ada:s3cr3t@db.example/todo";

    fn parse(text: &str) -> Result<DatabaseUrl, String> {
        DatabaseUrl::parse(text, None)
    }

    #[test]
    fn a_url_is_taken_as_people_write_it() {
        for url in [
            URL.to_owned(),
            URL.replace("postgresql", "postgres"),
            URL.replace("postgresql", "postgresql+asyncpg"),
            URL.replace("postgresql", "postgresql+psycopg2"),
            URL.replace("postgresql", "postgresql+psycopg"),
            format!("  {URL}\n"),
            format!("\"{URL}\""),
            format!("'{URL}' "),
            format!("{URL}?sslmode=require&channel_binding=require"),
            format!("{URL}?ssl=require&connect_timeout=10"),
        ] {
            let config = parse(&url).unwrap().config;
            assert_eq!((config.get_user(), config.get_dbname()), (Some("ada"), Some("todo")), "{url:?}");
            assert_eq!(config.get_password(), Some("s3cr3t".as_bytes()), "{url:?}");
        }
    }

    #[test]
    fn addresses_are_read_as_libpq_reads_them() {
        let config = parse("postgres://a%40b:p%3As%2Fs%3F@[::1]:6543/my%20db").unwrap().config;
        assert_eq!((config.get_user(), config.get_dbname()), (Some("a@b"), Some("my db")));
        assert_eq!(config.get_password(), Some("p:s/s?".as_bytes()));
        assert_eq!((config.get_hosts(), config.get_ports()), (&[Host::Tcp("::1".into())][..], &[6543][..]));

        let config =
            parse("postgresql://ada@one:1,two:2/todo?target_session_attrs=read-write").unwrap().config;
        assert_eq!(config.get_hosts(), [Host::Tcp("one".into()), Host::Tcp("two".into())]);
        assert_eq!(config.get_ports(), [1, 2]);

        let neon = "postgresql://ada:s@ep-x.neon.tech/todo?sslmode=require&options=endpoint%3Dep-x";
        assert_eq!(parse(neon).unwrap().config.get_options(), Some("endpoint=ep-x"));
    }

    #[test]
    fn a_unix_socket_is_refused() {
        for url in [
            "postgresql:///todo?host=/run/postgresql",
            "postgresql://%2Frun/todo",
            "postgresql://a,%2Frun/todo",
        ] {
            assert!(parse(url).unwrap_err().contains("Unix socket"), "{url}");
        }
    }

    #[test]
    fn sslmode_decides_on_tls() {
        for (query, mode) in [
            ("", TlsMode::Prefer),
            ("?sslmode=disable", TlsMode::Disable),
            ("?sslmode=prefer", TlsMode::Prefer),
            ("?sslmode=require", TlsMode::Require),
            ("?sslmode=verify-full", TlsMode::Require),
        ] {
            assert_eq!(parse(&format!("{URL}{query}")).unwrap().mode, mode, "{query}");
        }
        assert!(parse(&format!("{URL}?sslmode=allow")).unwrap_err().contains("sslmode"));
    }

    #[test]
    fn an_unknown_parameter_is_refused_by_name() {
        assert!(parse(&format!("{URL}?ssl_mode=require")).unwrap_err().contains("ssl_mode"));
    }

    #[test]
    fn no_secret_is_ever_printed() {
        for url in [
            "mysql://ada:s3cr3t@db.example/todo",
            "postgresql://ada:s3cr3t@db.example:s3cr3t/todo",
            "postgresql://ada:s3cr3t@db.example/todo?s3cr3t",
            "postgresql://ada:s3cr3t@db.example/todo?s3cr3t=1",
            "postgresql://ada:s3cr3t@[::1/todo",
            "postgresql:///todo",
            "s3cr3t",
        ] {
            let message = parse(url).unwrap_err();
            assert!(!message.contains("s3cr3t"), "{message}");
        }
        assert!(!format!("{:?}", parse(URL).unwrap()).contains("s3cr3t"));
    }

    #[test]
    fn a_ca_file_is_certificates_in_pem() {
        for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(DatabaseUrl::parse(URL, Some(pem.as_bytes())).is_err(), "{pem:?}");
        }
    }
}
