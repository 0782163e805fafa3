//! TLS to the database: what holds is used, what does not is refused, and no password goes to whoever answers.

mod support;

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use support::{Cluster, Server};

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
    // The first answer comes when the connection is made or has failed.
    let answer = server.request("GET", "/api/tasks", Some(&support::token("ada")), None);
    if answer.status != 200 {
        assert_eq!(answer.status, 503, "{answer:?}");
        return None;
    }
    let encrypted = "select bool_and(ssl) from pg_stat_ssl natural join pg_stat_activity where application_name = 'todo-backend'";
    Some(cluster.client().query_one(encrypted, &[]).unwrap().get(0))
}

#[test]
fn a_certificate_must_hold() {
    let authority = Authority::new();
    let ca_file = std::env::temp_dir().join(format!("todo-backend-test-ca-{}.pem", std::process::id()));
    fs::write(&ca_file, &authority.pem).unwrap();
    let trusted = Some(ca_file.as_path());

    let good = authority.cluster("localhost", 2999);
    for (query, ca_file, expected) in [
        ("sslmode=require", trusted, Some(true)),
        ("sslmode=verify-full", trusted, Some(true)),
        ("sslmode=prefer", trusted, Some(true)),
        ("", trusted, Some(true)),
        ("sslmode=disable", trusted, Some(false)),
        ("sslmode=require", None, None),
        ("sslmode=prefer", None, Some(false)),
    ] {
        let seen = reaches(&good, &url(&good, query), ca_file);
        println!("right certificate, {query:?}, authority trusted: {}: {seen:?}", ca_file.is_some());
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
