//! Parameters of a database URL: those of libpq 17, and those that other drivers and providers add.
//!
//! Every known parameter is used, ignored with a note, or refused with a remedy; every unknown one is refused.
//! `specs/database/compatibility.md` shows the same table.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What the server does with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// It has its usual effect; the text says which values it takes.
    Used,
    /// It has no effect; the text says why that is harmless.
    Ignored,
    /// One of these values is accepted, because the server behaves like that; the text says what to do about others.
    Fixed(&'static [&'static str]),
    /// The URL is refused; the text is the remedy.
    Refused,
}
use Handling::{Fixed, Ignored, Refused, Used};

/// The parameters: names that mean the same, separated by spaces, and what is done with them.
///
/// Case, `_` and `-` make no difference in a name. The first name of a row is its key in [`Parameters`].
#[rustfmt::skip]
pub const PARAMETERS: &[(&str, Handling, &str)] = &[
    ("host", Used, "a host name, an IP address or the folder of a Unix socket, or several, separated by commas"),
    ("hostaddr", Used, "the IP address of each host; `host` is then the name in its certificate"),
    ("port", Used, "a number from 1 to 65535, for all hosts or one for each"),
    ("user username", Used, "a name"),
    ("password", Used, "a text"),
    ("dbname database", Used, "a name"),
    ("options", Used, "command-line options of the PostgreSQL session, such as `-c name=value`"),
    ("search_path currentSchema schema_search_path", Used, "schemas, separated by commas"),
    ("schema", Used, "the name of one schema"),
    ("application_name", Used, "a text; `todo-backend` by default"),
    ("fallback_application_name", Used, "a text, used where `application_name` is not given"),
    ("connect_timeout loginTimeout", Used, "seconds; 0 or less is as good as not given"),
    ("keepalives tcpKeepAlive", Used, "1 (or true) or 0 (or false)"),
    ("keepalives_idle", Used, "seconds"),
    ("keepalives_interval", Used, "seconds"),
    ("keepalives_count", Used, "a number"),
    ("tcp_user_timeout", Used, "milliseconds"),
    ("target_session_attrs targetServerType", Used, "any, read-write or primary; a standby cannot serve, for tasks are written"),
    ("channel_binding", Used, "disable, prefer or require"),
    ("sslmode ssl", Used, "disable, allow, prefer, require, verify-ca or verify-full"),
    ("sslnegotiation", Used, "postgres, or direct together with sslmode=require"),
    ("sslrootcert sslca", Used, "a file of certificates in PEM, or `system` for Mozilla's roots and sslmode=require"),
    ("client_encoding encoding charset", Fixed(&["utf8", "utf-8", "unicode", "auto"]), "use UTF8, the only encoding that is spoken"),
    ("gssencmode", Fixed(&["disable", "prefer", "allow"]), "GSSAPI is not supported: use TLS (sslmode=require)"),
    ("replication", Fixed(&["false", "off", "no", "0"]), "remove it: the server needs an ordinary connection"),
    ("sslsni", Fixed(&["1"]), "remove it: the host name is always sent in the TLS handshake"),
    ("sslcertmode", Fixed(&["disable", "allow"]), "client certificates are not supported: use a password"),
    ("ssl_min_protocol_version min_protocol_version", Fixed(&["TLSv1", "TLSv1.1", "TLSv1.2"]), "remove it: TLS 1.2 and 1.3 are spoken"),
    ("ssl_max_protocol_version max_protocol_version", Fixed(&["TLSv1.3", "latest"]), "remove it: TLS 1.2 and 1.3 are spoken"),
    ("load_balance_hosts", Ignored, "hosts are tried in the order of the URL"),
    ("hostRecheckSeconds", Ignored, "hosts are tried in the order of the URL"),
    ("sslcompression", Ignored, "TLS compression does not exist any more"),
    ("sslaccept sslhostnameverifier uselibpqcompat", Ignored, "certificates are always verified"),
    ("krbsrvname kerberosServerName gsslib gssdelegation jaasLogin jaasApplicationName useSpnego sspiServiceClass", Ignored, "GSSAPI is not used"),
    ("pgbouncer supa workaround pool_mode prepared_statements prepare prepareThreshold prefer_simple_protocol", Ignored, "the server finds out itself what a pooler supports"),
    ("statement_cache_size statement_cache_capacity prepared_statement_cache_size preparedStatementCacheQueries \
      preparedStatementCacheSizeMiB prepared_statement_name_func description_cache_capacity default_query_exec_mode \
      preferQueryMode binary_parameters binary binaryTransfer disable_prepared_binary_result", Ignored, "the server prepares its statements in its own way"),
    ("connection_limit pool pool_size max min max_connections pool_max_conns pool_min_conns poolclass max_overflow \
      single_use_connections", Ignored, "the pool's size is DB_POOL_SIZE"),
    ("pool_timeout checkout_timeout", Ignored, "the limit is DB_CHECKOUT_TIMEOUT_MS"),
    ("idle_timeout idleTimeoutMillis max_idle_connection_lifetime pool_max_conn_idle_time max_lifetime \
      max_connection_lifetime pool_max_conn_lifetime pool_health_check_period pool_recycle pool_pre_ping conn_max_age \
      conn_health_checks reaping_frequency", Ignored, "the limit is DB_IDLE_TIMEOUT_MS"),
    ("statement_timeout query_timeout command_timeout socket_timeout idle_in_transaction_session_timeout lock_timeout \
      cancelSignalTimeout", Ignored, "the limit is DB_STATEMENT_TIMEOUT_MS"),
    ("timezone datestyle intervalstyle stringtype", Ignored, "no statement depends on it"),
    ("reWriteBatchedInserts defaultRowFetchSize autosave readOnly assumeMinServerVersion logUnclosedConnections \
      loggerLevel tcpNoDelay fetch_types executemany_mode async_fallback advisory_locks", Ignored, "it concerns another driver"),
    ("sslcert sslkey sslpassword sslidentity", Refused, "client certificates are not supported: use a password; the server's CA goes into sslrootcert"),
    ("sslcrl sslcrldir", Refused, "revocation lists are not supported: remove it"),
    ("sslfactory sslfactoryarg sslpasswordcallback socketFactory socketFactoryArg", Refused, "remove it; a private CA goes into sslrootcert"),
    ("service servicefile", Refused, "write the service's parameters into the URL"),
    ("passfile", Refused, "write the password into the URL, or the URL into NEON_DATABASE_URL_FILE"),
    ("requirepeer", Refused, "remove it; make a Unix socket's folder writable for PostgreSQL only"),
    ("require_auth", Refused, "use channel_binding=require, with which the server must know the password"),
    ("requiressl", Refused, "use sslmode=require"),
    ("gssUseDefaultCreds", Refused, "GSSAPI is not supported: use a password"),
    ("protocolVersion", Refused, "remove it: version 3.0 is spoken"),
    ("localSocketAddress", Refused, "remove it: the system chooses the local address"),
    ("timeout connectionTimeoutMillis", Refused, "drivers disagree on its unit: use connect_timeout, in seconds"),
];

/// The value of a parameter, and the name that the URL gives it.
#[derive(Clone)]
struct Value {
    name: String,
    text: String,
}

/// What a URL says, by the key of each parameter, and what there is to say about it.
#[derive(Default)]
pub struct Parameters {
    values: BTreeMap<&'static str, Value>,
    /// Session settings of the form `options[name]=value`, which sqlx has.
    pub settings: Vec<(String, String)>,
    /// What is ignored.
    pub notes: Vec<String>,
    /// What is wrong, to be read after the name of the URL's variable.
    pub mistakes: Vec<String>,
}

impl Parameters {
    /// Reads a part of the URL that stands before the query. Empty is as good as not there.
    pub fn add_part(&mut self, key: &'static str, raw: &str) {
        match decode(raw) {
            Some(text) if text.is_empty() => {}
            Some(text) => drop(self.values.insert(key, Value { name: key.to_owned(), text })),
            None => self.mistakes.push(format!("has a {key} that is not percent-encoded: write `%` as %25")),
        }
    }

    /// Reads the URL's query. Its parameters replace the parts before the query, as in libpq.
    pub fn add_query(&mut self, query: &str) {
        let mut seen = BTreeMap::new();
        for (index, parameter) in query.split('&').enumerate().filter(|_| !query.is_empty()) {
            // HTML writes `&` as `&amp;`.
            let parameter = parameter.strip_prefix("amp;").unwrap_or(parameter);
            let (name, value) = match parameter.split_once('=') {
                None if parameter.is_empty() && index + 1 == query.split('&').count() => continue, // ends with `&`
                None => {
                    self.mistakes.push(format!("has no `=` in parameter {} behind the `?`", index + 1));
                    continue;
                }
                Some((name, value)) => (decode(name), decode(value).filter(|_| !value.contains('='))),
            };
            let name = name.filter(|name| name.bytes().all(is_name_byte)).unwrap_or_default();
            // A raw `&` in a password would make a parameter of the rest of it.
            let shown = if seen.contains_key("password") { String::new() } else { format!(" `{name}`") };
            match value {
                Some(value) => self.add(&name, &shown, value, &mut seen),
                None => self.mistakes.push(format!(
                    "has a parameter{shown} that is not percent-encoded: write `=` in its value as %3D, `%` as %25"
                )),
            }
        }
    }

    fn add(&mut self, name: &str, shown: &str, text: String, seen: &mut BTreeMap<&'static str, String>) {
        if let Some(setting) = name.strip_prefix("options[").and_then(|rest| rest.strip_suffix(']')) {
            self.settings.push((setting.to_owned(), text));
            return;
        }
        let Some((key, handling, about)) = find(name) else {
            self.mistakes.push(format!("has an unknown parameter{shown}: remove it"));
            return;
        };
        match handling {
            Used => {
                let text = if key == "sslmode" { plain_sslmode(&text) } else { text };
                match seen.insert(key, text.clone()) {
                    // `ssl=true` beside a particular way of TLS.
                    Some(old) if text == "true" && is_tls(&old) => drop(seen.insert(key, old)),
                    Some(old) if old != text && !(old == "true" && is_tls(&text)) => {
                        self.mistakes.push(format!("has `{name}` twice with different values: keep one"));
                    }
                    _ => drop(self.values.insert(key, Value { name: name.to_owned(), text })),
                }
            }
            Ignored => self.notes.push(format!("`{name}` is ignored: {about}")),
            Fixed(values) if values.iter().any(|value| value.eq_ignore_ascii_case(&text)) => {}
            Fixed(_) | Refused => self.mistakes.push(format!("has the parameter `{name}`: {about}")),
        }
    }

    /// The value of a parameter; none where it is empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// What a value means that is one of these, whatever its case.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = &self.values.get(key)?.text;
        let chosen = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(text));
        chosen.map(|(_, meaning)| *meaning).or_else(|| self.refuse(key))
    }

    /// A number.
    pub fn number<T: FromStr>(&mut self, key: &str) -> Option<T> {
        self.values.get(key)?.text.parse().ok().or_else(|| self.refuse(key))
    }

    /// Records that the value of a parameter is wrong; always none.
    pub fn refuse<T>(&mut self, key: &str) -> Option<T> {
        let name = self.values.get(key).map_or(key, |value| &value.name);
        let about = find(key).map(|(_, _, about)| about).unwrap_or_default();
        self.mistakes.push(format!("has an invalid `{name}`: give {about}"));
        None
    }
}

/// The row of a parameter: its key, and what is done with it.
fn find(name: &str) -> Option<(&'static str, Handling, &'static str)> {
    let plain =
        |name: &str| name.chars().filter(|c| !"_-".contains(*c)).collect::<String>().to_ascii_lowercase();
    let name = plain(name);
    let row =
        PARAMETERS.iter().find(|(names, ..)| names.split_whitespace().any(|known| plain(known) == name));
    row.map(|(names, handling, about)| {
        (names.split_whitespace().next().unwrap_or_default(), *handling, *about)
    })
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte)
}

/// The spellings of node-postgres, asyncpg and JDBC as those of libpq. Chain and name are verified by every way of TLS but `verify-ca`.
fn plain_sslmode(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    match text.as_str() {
        "1" | "on" | "yes" => "true",
        "0" | "off" | "no" | "false" => "disable",
        "verify-full" | "no-verify" => "require",
        "allow" => "prefer",
        other => other,
    }
    .to_owned()
}

fn is_tls(sslmode: &str) -> bool {
    ["true", "require", "verify-ca"].contains(&sslmode)
}

/// A text without its percent-encoding; none where there is a mistake in that, or a NUL.
pub fn decode(raw: &str) -> Option<String> {
    let mut parts = raw.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2)?;
        let byte = u8::from_str_radix(hex, 16).ok().filter(|byte| *byte != 0 && !hex.starts_with('+'))?;
        bytes.push(byte);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}
