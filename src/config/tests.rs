use super::*;
use crate::config::env::MAX_FILE_BYTES;
use crate::config::settings::{FILE_SUFFIX, Kind, Setting};

const URL: &str = "postgresql://ada:s3cr3t@db.example/todo";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::read(&|name| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value.into()))
}

/// The two required settings, and `more`, of which the first counts.
fn read_with(more: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    read(&[more, &[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET", SECRET)]].concat())
}

/// The one error of a configuration.
fn only_error(config: Result<Config, ConfigErrors>) -> String {
    let errors = config.map(|config| config.warnings).unwrap_err().0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

/// A file with this content, in a folder that is removed with it.
struct TempFile(std::path::PathBuf);

impl TempFile {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("todo-backend-config-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn config_when_two_settings_are_set_is_valid() {
    let config = read_with(&[]).unwrap();
    assert_eq!(config.address, ListenAddress::new("0.0.0.0", 8000));
    assert!(config.cors.allowed_origin(Some("http://localhost:3000")).is_some());
    assert!(config.cors.allowed_origin(Some("http://127.0.0.1:3000")).is_some());
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(format!("{:?}", config.limits), format!("{:?}", Limits::default()));
    let five_seconds = Duration::from_secs(5);
    let expected = db::Limits {
        pool_size: 8,
        connect_timeout: five_seconds,
        checkout_timeout: five_seconds,
        statement_timeout: five_seconds,
        idle_timeout: Duration::from_secs(240),
    };
    assert_eq!(config.database_limits, expected);
}

/// As Docker reads a file of variables with Windows' line ends.
#[test]
fn value_when_a_line_end_is_left_at_its_end_is_trimmed_unless_it_is_verbatim() {
    let ca = TempFile::new("line-end-ca", b"");
    let secret = TempFile::new("line-end-secret", SECRET.as_bytes());
    let (ca, secret) = (format!("{}\r", ca.path()), format!("{}\r", secret.path()));
    let config = read(&[
        ("NEON_DATABASE_URL", &format!("{URL}\r")),
        ("DB_POOL_SIZE", "3\r"),
        ("BETTER_AUTH_SECRET_FILE", &secret),
        ("BETTER_AUTH_URL", "\r"),
        ("BETTER_AUTH_ISSUER", "issuer\r"),
        ("HOST", "localhost\r"),
        ("ALLOWED_ORIGINS", "http://a.example\r"),
        ("RUST_LOG", "warn\r"),
        ("LOG_FORMAT", "json\r"),
        ("ADMIN_ADDR", "127.0.0.1:1\r"),
    ])
    .unwrap();
    assert_eq!((config.database_limits.pool_size, &*config.log_filter), (3, "warn"));
    assert_eq!((config.auth.secrets, config.auth.issuer.as_deref()), (vec![SECRET.to_owned()], Some("issuer\r")));
    assert!(config.log_format == logging::Format::Json && config.key_source.is_none());
    assert!(only_error(read_with(&[("DATABASE_CA_FILE", &ca)])).contains("no certificate"));
}

#[test]
fn config_errors_are_reported_together() {
    let errors = read(&[("PORT", "http"), ("ALLOWED_ORIGINS", "localhost")]).map(|_| ()).unwrap_err();
    for (error, name) in errors.0.iter().zip(["NEON_DATABASE_URL", "BETTER_AUTH_SECRET", "PORT", "ALLOWED_ORIGINS"]) {
        assert!(error.starts_with(&format!("{name} ")), "{errors}");
    }
    assert_eq!(errors.0.len(), 4, "{errors}");
    assert!(errors.to_string().starts_with("invalid configuration:\n  NEON_DATABASE_URL is not set"), "{errors}");
}

#[test]
fn number_at_each_end_of_its_range_is_valid_and_beyond_is_not() {
    for Setting { name, kind, .. } in settings::all() {
        let Kind::Number(range) = kind else { continue };
        for (number, is_valid) in [
            (i128::from(*range.start()), true),
            (i128::from(*range.end()), true),
            (i128::from(*range.start()) - 1, false),
            (i128::from(*range.end()) + 1, false),
        ] {
            let result = read_with(&[(name, &number.to_string())]);
            if is_valid {
                assert!(result.is_ok(), "{name}={number}");
            } else {
                let limits = format!("must be an integer from {} to {}", range.start(), range.end());
                let error = only_error(result);
                assert!(error.starts_with(&format!("{name} is `{number}`: ")) && error.contains(&limits), "{error}");
            }
        }
        assert!(only_error(read_with(&[(name, "1MB")])).starts_with(&format!("{name} is `1MB`: ")));
        assert!(read_with(&[(name, "")]).is_ok(), "{name}");
    }
    let limits = read_with(&[("REQUEST_TIMEOUT_MS", " 1500 ")]).unwrap().limits;
    assert_eq!((limits.head_timeout, limits.body_timeout), (Duration::from_millis(1500), Duration::from_millis(1500)));
}

#[test]
fn invalid_word_is_named_with_its_setting() {
    for (name, value) in [
        ("RUST_LOG", "info,todo_backend=loud"),
        ("RUST_LOG", "\"info\""),
        ("RUST_LOG", "WARNING"),
        ("LOG_FORMAT", "JSON"),
        ("ADMIN_ADDR", "localhost"),
        ("ADMIN_ADDR", ":9090"),
    ] {
        let error = only_error(read_with(&[(name, value)]));
        assert!(error.starts_with(&format!("{name} is `{value}`: ")), "{error}");
    }
    for filter in ["INFO", "off", "todo_backend", "info,request=off", "my_crate=debug"] {
        assert!(read_with(&[("RUST_LOG", filter)]).is_ok(), "{filter}");
    }
}

#[test]
fn value_that_is_not_utf8_is_rejected_unseen() {
    use std::os::unix::ffi::OsStringExt;
    let lookup = |name: &str| match name {
        "BETTER_AUTH_SECRET" => Some(OsString::from_vec(b"s3cr3t\xff".to_vec())),
        "NEON_DATABASE_URL" => Some(URL.into()),
        _ => None,
    };
    assert_eq!(only_error(Config::read(&lookup)), "BETTER_AUTH_SECRET is not UTF-8");
}

#[test]
fn settings_that_are_read_are_those_of_the_table() {
    let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let read = Config::read(&|name| {
        asked.borrow_mut().insert(name.to_owned());
        None
    });
    assert!(read.is_err());
    let names = settings::all().flat_map(|setting| {
        let file = (setting.kind == Kind::Secret).then(|| format!("{}{FILE_SUFFIX}", setting.name));
        std::iter::once(setting.name.to_owned()).chain(file)
    });
    assert_eq!(asked.into_inner(), names.collect());
}

#[test]
fn secret_in_a_file_is_read_without_its_last_line_end() {
    let url = TempFile::new("url", format!("{URL}\n").as_bytes());
    let read_file = |content: &[u8], more: &[(&str, &str)]| {
        let secret = TempFile::new("secret", content);
        let files = [("NEON_DATABASE_URL_FILE", url.path()), ("BETTER_AUTH_SECRET_FILE", secret.path())];
        read(&[&files, more].concat())
    };
    for (content, secret) in [
        (&b"as it is"[..], "as it is"),
        (b"a line\n", "a line"),
        (b"a line of Windows\r\n", "a line of Windows"),
        (b" two\n\n", " two\n"),
    ] {
        assert_eq!(read_file(content, &[]).unwrap().auth.secrets, [secret]);
        assert_eq!(read_file(content, &[("BETTER_AUTH_SECRET", "")]).unwrap().auth.secrets, [secret]);
    }
    let long = vec![b'x'; MAX_FILE_BYTES as usize + 1];
    for (content, more, part) in [
        (&b"\xff"[..], &[][..], "BETTER_AUTH_SECRET_FILE is `"),
        (&long, &[], "longer than"),
        (b"", &[], "BETTER_AUTH_SECRET is not set"),
        (
            SECRET.as_bytes(),
            &[("BETTER_AUTH_SECRET", SECRET)],
            "BETTER_AUTH_SECRET and BETTER_AUTH_SECRET_FILE are both set",
        ),
    ] {
        let error = only_error(read_file(content, more));
        assert!(error.contains(part), "{error}");
    }
    let missing = url.path().replace("-url", "-missing");
    let error = only_error(read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRET_FILE", &missing)]));
    assert!(error.starts_with(&format!("BETTER_AUTH_SECRET_FILE is `{missing}`")), "{error}");
}

#[test]
fn certificates_that_cannot_be_read_are_an_error_of_their_file() {
    let file = TempFile::new("ca", b"no PEM");
    for path in [file.path(), "/nowhere/ca.pem"] {
        let error = only_error(read_with(&[("DATABASE_CA_FILE", path)]));
        assert!(error.starts_with("DATABASE_CA_FILE "), "{error}");
    }
}

#[test]
fn connect_timeout_of_the_url_counts_unless_the_setting_is_set() {
    let url = format!("{URL}?connect_timeout=10");
    let timeout = |more: &[(&str, &str)]| {
        let variables = [more, &[("NEON_DATABASE_URL", &url)]].concat();
        read_with(&variables).unwrap().database_limits.connect_timeout
    };
    assert_eq!(timeout(&[]), Duration::from_secs(10));
    assert_eq!(timeout(&[("DB_CONNECT_TIMEOUT_MS", "700")]), Duration::from_millis(700));
}

#[test]
fn list_of_secrets_is_read_as_better_auth_reads_it() {
    let with = |secrets, secret| {
        read(&[("NEON_DATABASE_URL", URL), ("BETTER_AUTH_SECRETS", secrets), ("BETTER_AUTH_SECRET", secret)])
    };
    let old = "the old one, of more than 32 bytes";
    for (secrets, secret, expected) in [
        (" 2 : abc:d , 1:e", "", vec!["abc:d", "e"]),
        ("2:abc", SECRET, vec!["abc", SECRET]),
        ("", SECRET, vec![SECRET]),
    ] {
        assert_eq!(with(secrets, secret).unwrap().auth.secrets, expected, "{secrets}");
    }
    assert_eq!(with("2:short", SECRET).unwrap().warnings.len(), 1);
    assert!(with("2:0123456789abcdef0123456789abcdef", "").unwrap().warnings.is_empty());
    let many: Vec<_> = (0..17).map(|version| format!("{version}:x")).collect();
    for bad in
        ["s3cr3t", "2:", "2: ,1:e", "x:s3cr3t", "-1:s3cr3t", ":s3cr3t", "1:s3cr3t,1:old", "1:a,", &many.join(",")]
    {
        let error = only_error(with(bad, old));
        assert!(error.starts_with("BETTER_AUTH_SECRETS ") && !error.contains("s3cr3t"), "{error}");
    }
}

#[test]
fn jwks_url_is_set_or_derived_from_the_url_of_better_auth() {
    let url = |more: &[(&str, &str)]| read_with(more).unwrap().key_source.map(|source| source.name().to_owned());
    let (keys, issuer) = ("BETTER_AUTH_JWKS_URL", "BETTER_AUTH_URL");
    assert_eq!(url(&[]), None);
    assert_eq!(url(&[(issuer, "http://a:3000")]).unwrap(), "http://a:3000/api/auth/jwks");
    assert_eq!(url(&[(keys, "http://b/k"), (issuer, "http://a")]).unwrap(), "http://b/k");
    for (name, value) in [(keys, "b/k"), (issuer, "a:3000")] {
        assert!(only_error(read_with(&[(name, value)])).starts_with(&format!("{name} ")));
    }
}

#[test]
fn secret_that_is_short_is_a_warning_and_an_empty_one_an_error() {
    let warnings = read_with(&[("BETTER_AUTH_SECRET", "short")]).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("BETTER_AUTH_SECRET has 5 bytes"), "{warnings:?}");
    assert!(only_error(read_with(&[("BETTER_AUTH_SECRET", "")])).starts_with("BETTER_AUTH_SECRET is not set"));
}

#[test]
fn value_that_is_unusual_is_a_warning_and_used_as_it_is() {
    let quoted = &*format!("\"{SECRET}\" ");
    for (name, label, value) in [
        ("BETTER_AUTH_SECRET", "BETTER_AUTH_SECRET", quoted),
        ("BETTER_AUTH_SECRETS", "BETTER_AUTH_SECRETS, version 2,", &format!("2:\"{SECRET}\"")),
        ("BETTER_AUTH_ISSUER", "BETTER_AUTH_ISSUER", quoted),
        ("BETTER_AUTH_AUDIENCE", "BETTER_AUTH_AUDIENCE", quoted),
    ] {
        let config = read_with(&[(name, value)]).unwrap();
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        let warning = &config.warnings[0];
        assert!(warning.starts_with(&format!("{label} ")) && warning.contains("is in quotes"), "{warning}");
        assert!(!warning.contains(SECRET), "{warning}");
        let AuthConfig { secrets, issuer, audience } = config.auth;
        let used = [&secrets[0], issuer.as_ref().unwrap_or(&secrets[0]), audience.as_ref().unwrap_or(&secrets[0])];
        assert!(used.iter().any(|used| value.ends_with(*used)), "{name}");
    }
}

#[test]
fn type_that_contains_secrets_cannot_be_printed() {
    use std::fmt::Debug;
    use std::marker::PhantomData;

    // The constant of the inherent `impl` is found where `T: Debug` holds, else that of the trait.
    struct Probe<T>(PhantomData<T>);
    trait Otherwise {
        const PRINTABLE: bool = false;
    }
    impl<T> Otherwise for Probe<T> {}
    impl<T: Debug> Probe<T> {
        const PRINTABLE: bool = true;
    }
    let printable = [Probe::<ConfigErrors>::PRINTABLE, Probe::<Config>::PRINTABLE, Probe::<AuthConfig>::PRINTABLE];
    assert_eq!(printable, [true, false, false]);
    let _ = Probe::<()>(PhantomData);
    // The database URL prints its name only.
    let url = DatabaseUrl::parse(URL, None).unwrap();
    assert!(!format!("{url:?}").contains("s3cr3t"));
}
