use super::*;

use tokio_postgres::config::{ChannelBinding, Host, TargetSessionAttrs};

const URL: &str = "postgresql://ada:s3cr3t@db.example/todo";

fn parse(text: &str) -> Result<DatabaseUrl, Vec<String>> {
    DatabaseUrl::parse(text, None)
}

fn first(text: &str) -> Config {
    parse(text).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}")).hosts()[0].config.clone()
}

/// The only mistake of this URL.
fn mistake(text: &str) -> String {
    let mistakes = parse(text).expect_err(text);
    assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
    mistakes.concat()
}

#[test]
fn url_in_the_spellings_of_people_is_read() {
    for url in [
        URL.to_owned(),
        URL.replace("postgresql", "postgres"),
        URL.replace("postgresql", "PostgreSQL"),
        URL.replace("postgresql", "postgresql+asyncpg"),
        URL.replace("postgresql", "postgresql+psycopg2"),
        URL.replace("postgresql", "postgresql+psycopg"),
        URL.replace("postgresql", "jdbc:postgresql"),
        format!("  {URL}\n"),
        format!("\"{URL}\""),
        format!("'{URL}' "),
        format!("psql '{URL}'"),
        format!("{URL}?"),
        format!("{URL}?sslmode=require&"),
        format!("{URL}?sslmode=require&channel_binding=require"),
        "postgresql://db.example?user=ada&password=s3cr3t&dbname=todo".to_owned(),
        "jdbc:postgresql://db.example/todo?user=ada&password=s3cr3t".to_owned(),
        "postgresql://x:y@z:1/w?user=ada&password=s3cr3t&dbname=todo&host=db.example&port=5432".to_owned(),
    ] {
        let config = first(&url);
        assert_eq!((config.get_user(), config.get_dbname()), (Some("ada"), Some("todo")), "{url:?}");
        assert_eq!(config.get_password(), Some("s3cr3t".as_bytes()), "{url:?}");
        assert_eq!(config.get_hosts(), [Host::Tcp("db.example".into())], "{url:?}");
        assert_eq!(config.get_ports(), [5432], "{url:?}");
    }
}

#[test]
fn password_with_raw_special_characters_is_read_or_refused() {
    for raw in ["pa?ss", "pa#ss", "pa&ss", "pa:ss", "pa=ss", "?", "pa?sslmode=disable&"] {
        let url = format!("postgresql://ada:{raw}@db.example/todo?sslmode=require");
        let config = first(&url);
        assert_eq!(config.get_password(), Some(raw.as_bytes()), "{url}");
        assert_eq!(config.get_ssl_mode(), SslMode::Require, "{url}");
    }
    for raw in ["pa@ss", "pa/ss", "12/ss", "12/s?a=b", "12?x=1/", "@", "pa ss", "pa\nss", "pa%ss", "pa%0", "%00", "%+1"]
    {
        for query in ["", "?sslmode=require"] {
            let url = format!("postgresql://ada:{raw}@db.example/todo{query}");
            let Ok(read) = parse(&url) else {
                assert!(mistake(&url).contains("percent-encode"), "{url}");
                assert!(raw.len() < 3 || !mistake(&url).contains(raw), "{url}");
                continue;
            };
            assert_eq!(read.hosts()[0].config.get_password(), Some(raw.as_bytes()), "{url}");
        }
    }
    assert!(mistake("postgresql://ada:s@db.example/todo&sslmode=require").contains("percent-encode"));
    assert!(mistake("postgresql://db.example?sslmode=require&user=ada@x").contains("percent-encode"));
    assert!(mistake("postgresql://db.example/todo?password=s@x&sslmode=require").contains("percent-encode"));
    assert!(mistake("postgresql://db.example/todo?password=s=x&sslmode=require").contains("%3D"));
}

#[test]
fn hosts_in_all_forms_of_libpq_are_read() {
    let default = format!("{DEFAULT_SOCKET_FOLDER}/.s.PGSQL.5432");
    for (url, addresses) in [
        ("postgresql://", vec![default.as_str()]),
        ("postgresql:///todo", vec![&default]),
        ("postgresql://ada@/todo", vec![&default]),
        ("postgresql://:6543/todo", vec!["/var/run/postgresql/.s.PGSQL.6543"]),
        ("postgresql:///todo?host=/run/postgresql", vec!["/run/postgresql/.s.PGSQL.5432"]),
        ("postgresql://ada:s@localhost/todo?host=/cloudsql/a:b:c", vec!["/cloudsql/a:b:c/.s.PGSQL.5432"]),
        ("postgresql://ada@%2Frun%2Fpostgresql:1/todo", vec!["/run/postgresql/.s.PGSQL.1"]),
        ("postgresql://[::1]/todo", vec!["[::1]:5432"]),
        ("postgresql://[2001:db8::1]:1?dbname=todo", vec!["[2001:db8::1]:1"]),
        ("postgresql://one:1,two:2/todo", vec!["one:1", "two:2"]),
        ("postgresql://one:1,two/todo", vec!["one:1", "two:5432"]),
        ("postgresql://one,[::1]:2,%2Frun/todo", vec!["one:5432", "[::1]:2", "/run/.s.PGSQL.5432"]),
        ("postgresql://one,two/todo?port=7", vec!["one:7", "two:7"]),
        ("postgresql:///todo?host=one,two&port=1,2", vec!["one:1", "two:2"]),
        ("postgresql:///todo?hostaddr=127.0.0.1,::1", vec!["127.0.0.1:5432", "[::1]:5432"]),
        ("postgresql://db.example/todo?hostaddr=127.0.0.1", vec!["db.example:5432"]),
    ] {
        let read = parse(url).unwrap_or_else(|mistakes| panic!("{url}: {mistakes:?}"));
        let seen: Vec<_> = read.hosts().iter().map(|host| host.address.as_str()).collect();
        assert_eq!(seen, addresses, "{url}");
    }
    for (url, named) in [
        ("postgresql://one:0/todo", "`port`"),
        ("postgresql://one:65536/todo", "`port`"),
        ("postgresql://one:x/todo", "`port`"),
        ("postgresql://::1/todo", "`port`"),
        ("postgresql://one,two/todo?port=1,2,3", "numbers of hosts"),
        ("postgresql://one,two/todo?hostaddr=127.0.0.1", "numbers of hosts"),
        ("postgresql://one/todo?hostaddr=two", "`hostaddr`"),
        ("postgresql://[::1/todo", "IPv6"),
        ("postgresql://[]/todo", "IPv6"),
        ("postgresql://[::1]x/todo", "IPv6"),
        ("postgresql://[fe80::1%25eth0]/todo", "`host`"),
        ("postgresql://a&b/todo", "`host`"),
        ("postgresql:///todo?host=one:1", "`host`"),
        ("postgresql:///todo?host=/run&hostaddr=127.0.0.1", "`hostaddr`"),
    ] {
        assert!(mistake(url).contains(named), "{url}: {}", mistake(url));
    }
}

#[test]
fn sslmode_in_all_spellings_decides_on_tls() {
    use SslMode::{Disable, Prefer, Require};
    for (query, mode) in [
        ("", Prefer),
        ("sslmode=disable", Disable),
        ("sslmode=allow", Prefer),
        ("sslmode=prefer", Prefer),
        ("sslmode=require", Require),
        ("sslmode=verify-ca", Require),
        ("sslmode=verify-full", Require),
        ("sslmode=no-verify", Require),
        ("SSLMode=Require", Require),
        ("ssl_mode=require", Require),
        ("ssl-mode=require", Require),
        ("%73slmode=%72equire", Require),
        ("a_b=&amp;sslmode=require", Require),
        ("ssl=true", Require),
        ("ssl=1", Require),
        ("ssl=require", Require),
        ("ssl=false", Disable),
        ("ssl=true&sslmode=require", Require),
        ("sslmode=require&sslmode=verify-full", Require),
        ("sslrootcert=system", Require),
        ("sslrootcert=system&sslmode=verify-full", Require),
        ("sslmode=require&sslnegotiation=direct", Require),
        ("sslmode=require&sslnegotiation=postgres", Require),
    ] {
        let query = query.replace("a_b=", "pgbouncer=true");
        assert_eq!(first(&format!("{URL}?{query}")).get_ssl_mode(), mode, "{query}");
    }
    for (query, named) in [
        ("sslmode=", "`sslmode`"),
        ("sslmode=reqire", "`sslmode`"),
        ("SSLMODE=reqire", "`SSLMODE`"),
        ("ssl=maybe", "`ssl`"),
        ("sslmode=require?x", "`sslmode`"),
        ("sslmode=require&sslmode=disable", "twice"),
        ("ssl=true&sslmode=disable", "twice"),
        ("ssl=true&sslmode=verify-ca", "twice"),
        ("sslmode=prefer&ssl=true", "twice"),
        ("sslrootcert=system&sslmode=prefer", "`sslrootcert`"),
        ("sslrootcert=/nowhere/ca.pem", "`sslrootcert`"),
        ("sslnegotiation=direct", "`sslnegotiation`"),
        ("sslnegotiation=direct&sslmode=prefer", "`sslnegotiation`"),
        ("sslnegotiation=maybe&sslmode=require", "`sslnegotiation`"),
    ] {
        let mistake = mistake(&format!("{URL}?{query}"));
        assert!(mistake.contains(named), "{query}: {mistake}");
    }
    assert_eq!(
        first(&format!("{URL}?sslmode=require&sslnegotiation=direct")).get_ssl_negotiation(),
        SslNegotiation::Direct
    );
    let socket = first("postgresql:///todo?host=/run&sslmode=require&sslnegotiation=direct");
    assert_eq!(socket.get_ssl_mode(), Disable, "no TLS on a Unix socket");
}

#[test]
fn session_parameters_reach_the_configuration() {
    let config = first(&format!(
        "{URL}?options=-c%20a%3Db&search_path=x,y&schema=my%20%22s&options[c]=d&application_name=me&keepalives=1\
         &keepalives_idle=2&keepalives_interval=3&keepalives_count=4&tcp_user_timeout=5000&channel_binding=require\
         &target_session_attrs=primary&connect_timeout=7"
    ));
    let options = "-c a=b -c search_path=x,y -c search_path=\"my\\ \"\"s\" -c c=d";
    assert_eq!(config.get_options(), Some(options));
    assert_eq!(config.get_application_name(), Some("me"));
    assert!(config.get_keepalives());
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(2));
    assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(3)));
    assert_eq!(config.get_keepalives_retries(), Some(4));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(5)));
    assert_eq!(config.get_channel_binding(), ChannelBinding::Require);
    assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    for (query, timeout) in [("connect_timeout=7", Some(7)), ("connectTimeout=7", Some(7)), ("connect_timeout=0", None)]
    {
        let read = parse(&format!("{URL}?{query}")).unwrap();
        assert_eq!(read.connect_timeout(), timeout.map(Duration::from_secs), "{query}");
    }
    assert_eq!(first(URL).get_application_name(), Some("todo-backend"));
    assert_eq!(first(&format!("{URL}?fallback_application_name=x")).get_application_name(), Some("x"));
    let neon = "postgresql://ada:s@ep-x.neon.tech/todo?sslmode=require&options=endpoint%3Dep-x";
    assert_eq!(first(neon).get_options(), Some("endpoint=ep-x"));
}

#[test]
fn mistakes_of_a_url_are_named_all_at_once() {
    let url = format!(
        "{URL}?sslmode=reqire&SslCert=x&foo_Bar=1&port=0&pgbouncer=true&gssencmode=require&keepalives_idle=x\
         &target_session_attrs=standby&novalue"
    );
    let mistakes = parse(&url).unwrap_err();
    for named in [
        "`sslmode`",
        "`SslCert`",
        "unknown parameter `foo_Bar`",
        "`port`",
        "`gssencmode`",
        "`keepalives_idle`",
        "`target_session_attrs`",
        "without `=`",
    ] {
        let naming = mistakes.iter().filter(|mistake| mistake.contains(named)).count();
        assert_eq!(naming, 1, "{named}: {mistakes:?}");
    }
    assert_eq!(mistakes.len(), 8, "{mistakes:?}");
    let notes = parse(&format!("{URL}?PgBouncer=true&connection_limit=1&supa=x")).unwrap();
    let named = ["`PgBouncer`", "`connection_limit`", "`supa`"];
    assert!(notes.notes().iter().zip(named).all(|(note, name)| note.contains(name)), "{:?}", notes.notes());
    assert_eq!(notes.notes().len(), 3);
}

#[test]
fn message_never_holds_a_secret() {
    for url in [
        "mysql://ada:s3cr3t@db.example/todo",
        "postgresql://ada:s3cr3t@db.example:s3cr3t/todo",
        "postgresql://ada:s3cr3t@db.example/todo?s3cr3t",
        "postgresql://ada:s3cr3t@[::1/todo",
        "postgresql://ada:s3cr3t",
        "postgresql://ada:x/s3cr3t@db.example/todo",
        "postgresql://ada:1/s3cr3t?s3cr3t=1@db.example/todo",
        "postgresql://ada:x@s3cr3t@db.example/todo",
        "postgresql://ada:x%zs3cr3t@db.example/todo",
        "postgresql://db.example/todo?password=x&s3cr3t=1",
        "postgresql://db.example/todo?password=x&s3cr3t=1=1",
        "postgresql://db.example/todo?password=x&s3cr3t",
        "postgresql://db.example/todo?password=x&password=s3cr3t",
        "postgresql://db.example/todo?x%3Ds3cr3t=1",
        "postgresql://db.example/todo?sslpassword=s3cr3t",
        "s3cr3t",
    ] {
        let message = parse(url).expect_err(url).join("; ");
        assert!(!message.contains("s3cr3t"), "{url}: {message}");
    }
    assert!(!format!("{:?}", parse(URL).unwrap()).contains("s3cr3t"));
}

#[test]
fn ca_file_without_certificates_is_refused() {
    for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let mistakes = DatabaseUrl::parse(URL, Some(pem.as_bytes())).unwrap_err();
        assert!(mistakes.len() == 1, "{pem:?}: {mistakes:?}");
    }
}
