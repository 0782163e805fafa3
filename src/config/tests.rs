use super::*;
use crate::config::env::MAX_FILE_BYTES;
use crate::config::settings::{self, FILE_SUFFIX};

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
    assert!(config.cors.allowed_origin(Some("http://localhost:3000")).is_some());
    assert!(config.cors.allowed_origin(Some("http://127.0.0.1:3000")).is_some());
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
    let names = settings::VARIABLES.iter().flat_map(|variable| {
        let file = variable.is_secret.then(|| format!("{}{FILE_SUFFIX}", variable.name));
        std::iter::once(variable.name.to_owned()).chain(file)
    });
    assert_eq!(asked.into_inner(), names.collect());
}

#[test]
fn what_is_not_set_is_as_the_engine_and_the_database_have_it() {
    let config = read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", SECRET)]).unwrap();
    assert_eq!(format!("{:?}", config.limits), format!("{:?}", Limits::default()));
    assert_eq!(format!("{:?}", config.database_limits), format!("{:?}", database::Limits::default()));
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
    let mistakes = read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET_FILE", &missing)]).unwrap_err();
    assert!(mistakes.0.len() == 1 && mistakes.0[0].contains(&missing), "{mistakes}");
    std::fs::remove_dir_all(folder).unwrap();
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
fn several_secrets_are_read_as_better_auth_does() {
    let with = |secrets, secret| {
        read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRETS", secrets), ("BETTER_AUTH_SECRET", secret)])
    };
    let old = "the old one, of more than 32 bytes";
    for (secrets, secret, expected) in [
        (" 2 : abc:d , 1:e", "", vec!["abc:d", "e"]),
        ("2:abc", SECRET, vec!["abc", SECRET]),
        ("", SECRET, vec![SECRET]),
    ] {
        assert_eq!(with(secrets, secret).unwrap().trust.secrets, expected, "{secrets}");
    }
    assert_eq!(with("2:short", SECRET).unwrap().warnings.len(), 1);
    assert!(with("2:0123456789abcdef0123456789abcdef", "").unwrap().warnings.is_empty());
    let many: Vec<_> = (0..17).map(|version| format!("{version}:x")).collect();
    for bad in [
        "s3cr3t",
        "2:",
        "2: ,1:e",
        "x:s3cr3t",
        "-1:s3cr3t",
        ":s3cr3t",
        "1:s3cr3t,1:old",
        "1:a,",
        &many.join(","),
    ] {
        let mistakes = with(bad, old).unwrap_err().to_string();
        assert!(mistakes.contains("BETTER_AUTH_SECRETS") && !mistakes.contains("s3cr3t"), "{mistakes}");
    }
}

#[test]
fn keys_have_one_url_at_most() {
    let url = |variables: &[(&str, &str)]| {
        let required = [("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", SECRET)];
        read(&[&required, variables].concat()).map(|config| config.jwks_url.map(|url| url.to_string()))
    };
    let (keys, issuer) = ("BETTER_AUTH_JWKS_URL", "BETTER_AUTH_URL");
    assert_eq!(url(&[]), Ok(None));
    assert_eq!(url(&[(issuer, "http://a:3000")]).unwrap().unwrap(), "http://a:3000/api/auth/jwks");
    assert_eq!(url(&[(keys, "http://b/k"), (issuer, "http://a")]).unwrap().unwrap(), "http://b/k");
    assert!(url(&[(keys, "b/k")]).unwrap_err().to_string().contains(keys));
    assert!(url(&[(issuer, "a:3000")]).unwrap_err().to_string().contains(issuer));
}

#[test]
fn a_short_secret_is_a_warning_and_an_empty_one_a_mistake() {
    let short = read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", "short")]).unwrap();
    assert_eq!(short.warnings.len(), 1);
    assert!(!short.warnings[0].contains("short"));
    assert!(read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", "")]).is_err());
}
