//! TLS to the database: a certificate is verified before a password is sent, in each of the ways that people make one.

mod support;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use support::{Cluster, Server};
use todo_backend::db::tls;
use todo_backend::db::url::DatabaseUrl;

/// A certificate authority of the test, in PEM, and what it signs with.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A cluster that shows a certificate for this name, good until that year.
    fn cluster(&self, name: &str, until_year: i32) -> Cluster {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Cluster::start_with(&["ssl=on"], |data: &Path| {
            Cluster::write_private(&data.join("server.crt"), &certificate);
            Cluster::write_private(&data.join("server.key"), &key.serialize_pem());
        })
    }
}

fn url(cluster: &Cluster, query: &str) -> String {
    format!("postgresql://todo@localhost:{}/postgres?{query}", cluster.port)
}

/// Whether a server over this URL reaches the database, and then whether by TLS.
fn reaches(cluster: &Cluster, url: &str, ca_file: Option<&Path>) -> Option<bool> {
    let ca_file = ca_file.map(|path| path.to_str().unwrap()).unwrap_or_default();
    let server = Server::start_with(url, &[("DATABASE_CA_FILE", ca_file)]);
    // The first response comes when the connection is made or has failed.
    let response = server.request("GET", "/api/tasks", Some(&support::token("ada")), None);
    if response.status != 200 {
        assert_eq!(response.status, 503, "{response:?}");
        return None;
    }
    let encrypted = "select bool_and(ssl) from pg_stat_ssl natural join pg_stat_activity \
                     where application_name = 'todo-backend'";
    Some(cluster.client().query_one(encrypted, &[]).unwrap().get(0))
}

#[test]
fn connection_when_certificate_does_not_verify_is_refused_or_plain() {
    let authority = Authority::new();
    let ca_file = std::env::temp_dir().join(format!("todo-backend-test-ca-{}.pem", std::process::id()));
    fs::write(&ca_file, &authority.pem).unwrap();
    let trusted = Some(ca_file.as_path());

    let good = authority.cluster("localhost", 2999);
    for (query, ca_file, expected) in [
        ("sslmode=require", trusted, Some(true)),
        ("sslmode=verify-full", trusted, Some(true)),
        ("sslmode=allow", trusted, Some(true)),
        ("ssl=true", trusted, Some(true)),
        ("ssl=true", None, None),
        ("sslrootcert=system", None, None),
        ("sslmode=prefer", trusted, Some(true)),
        ("", trusted, Some(true)),
        ("sslmode=disable", trusted, Some(false)),
        ("sslmode=require", None, None),
        ("sslmode=prefer", None, Some(false)),
    ] {
        let seen = reaches(&good, &url(&good, query), ca_file);
        assert_eq!(seen, expected, "{query}");
    }
    let by_address = url(&good, "sslmode=require").replace("localhost", "127.0.0.1");
    assert_eq!(reaches(&good, &by_address, trusted), None, "another name than the certificate's");

    // Neon's own form of URL: a password, and bound to the channel.
    good.client().batch_execute("create role ada superuser login password 's3cr3t'").unwrap();
    good.require_password();
    let neon = url(&good, "sslmode=require&channel_binding=require").replace("todo@", "ada:s3cr3t@");
    assert_eq!(reaches(&good, &neon, trusted), Some(true), "channel binding");

    let other_name = authority.cluster("db.example", 2999);
    assert_eq!(reaches(&other_name, &url(&other_name, "sslmode=require"), trusted), None, "wrong name");
    let expired = authority.cluster("localhost", 2002);
    assert_eq!(reaches(&expired, &url(&expired, "sslmode=require"), trusted), None, "expired");
    let plain = Cluster::start();
    assert_eq!(reaches(&plain, &url(&plain, "sslmode=require"), trusted), None, "no TLS on the other side");
    assert_eq!(reaches(&plain, &url(&plain, "sslmode=prefer"), trusted), Some(false));
    fs::remove_file(&ca_file).unwrap();
}

/// A certificate that has signed itself, as `openssl req -x509` makes them, and its key, in PEM.
fn self_signed(common_name: &str, names: &[&str], is_ca: IsCa, until_year: i32) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = is_ca;
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(until_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Connects to the only host: whether by TLS, or why not.
fn connect(url: &str, ca_pem: Option<&str>) -> Result<bool, String> {
    let url = DatabaseUrl::parse(url, ca_pem.map(str::as_bytes)).map_err(|mistakes| mistakes.join("; "))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connected = url.hosts()[0].config.connect(url.tls());
        let connected = tokio::time::timeout(Duration::from_secs(10), connected).await.unwrap();
        let (client, connection) = connected.map_err(|error| {
            let explained = tls::explain(&error);
            assert!(explained.is_none() || tls::tls_error(&error).is_some());
            explained.unwrap_or_else(|| error.to_string())
        })?;
        tokio::spawn(connection);
        let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        Ok(client.query_one(encrypted, &[]).await.unwrap().get(0))
    })
}

#[test]
fn self_signed_certificate_when_given_is_trusted_for_its_name() {
    let folder = RefCell::new(PathBuf::new());
    let show = |certificate: &(String, String), data: &Path| {
        Cluster::write_private(&data.join("server.crt"), &certificate.0);
        Cluster::write_private(&data.join("server.key"), &certificate.1);
    };
    let ca = || IsCa::Ca(BasicConstraints::Unconstrained);
    let first = self_signed("localhost", &[], ca(), 2999);
    let mut cluster = Cluster::start_with(&["ssl=on"], |data| {
        show(&first, data);
        data.clone_into(&mut folder.borrow_mut());
    });
    let require = url(&cluster, "sslmode=require");
    let by_address = require.replace("localhost", "127.0.0.1");
    let other = self_signed("localhost", &["localhost"], ca(), 2999).0;
    for (certificate, named) in [
        (first, true),
        (self_signed("LocalHost", &[], IsCa::ExplicitNoCa, 2999), true),
        (self_signed("localhost", &[], IsCa::NoCa, 2999), true),
        (self_signed("x", &["localhost"], ca(), 2999), true),
        (self_signed("x", &["localhost"], IsCa::NoCa, 2999), true),
        (self_signed("localhost", &["db.example"], ca(), 2999), false),
        (self_signed("db.example", &[], ca(), 2999), false),
    ] {
        show(&certificate, &folder.borrow());
        cluster.stop();
        cluster.resume();
        let given = Some(certificate.0.as_str());
        let file = folder.borrow().join("given.pem");
        fs::write(&file, format!("the text of openssl -text\n{}", certificate.0)).unwrap();
        let by_url = format!("{require}&sslrootcert={}", file.display());
        for url in [(&require, given), (&by_url, None)] {
            match connect(url.0, url.1) {
                Ok(is_encrypted) => assert!(named && is_encrypted),
                Err(why) => {
                    assert!(!named && (why.contains("common name") || why.contains("db.example")), "{why}")
                }
            }
        }
        let verify_ca = by_address.replace("require", "verify-ca");
        assert_eq!(connect(&verify_ca, given), Ok(true), "verify-ca takes any name");
        assert!(connect(&by_address, given).is_err(), "another name than the certificate's");
        for untrusted in [None, Some(other.as_str())] {
            for url in [&require, &verify_ca] {
                let why = connect(url, untrusted).unwrap_err();
                assert!(why.contains("DATABASE_CA_FILE"), "{why}");
            }
        }
    }
    let expired = self_signed("localhost", &[], ca(), 2002);
    show(&expired, &folder.borrow());
    cluster.stop();
    cluster.resume();
    assert!(connect(&require, Some(&expired.0)).unwrap_err().contains("expired"));
}

#[test]
fn certificate_of_a_private_ca_is_explained_in_words() {
    let authority = Authority::new();
    for (name, until_year, ca_pem, words) in [
        ("localhost", 2999, None, "DATABASE_CA_FILE"),
        ("db.example", 2999, Some(&authority.pem), "db.example"),
        ("localhost", 2002, Some(&authority.pem), "expired"),
    ] {
        let cluster = authority.cluster(name, until_year);
        let why = connect(&url(&cluster, "sslmode=require"), ca_pem.map(String::as_str)).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
}
