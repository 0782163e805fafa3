//! What an operator is told of a database: each thing that would hinder the service, with a remedy.

mod support;

use support::proxy::{Proxy, Way};
use support::{Cluster, pgbouncer::PgBouncer};
use todo_backend::db::url::DatabaseUrl;
use todo_backend::db::{Finding, Limits, check};

fn findings(url: &str) -> Vec<Finding> {
    let findings = check(&DatabaseUrl::parse(url, None).unwrap(), &Limits::default());
    for Finding { name, ok, what, remedy } in &findings {
        println!(
            "{} {name}: {what}{}{remedy}",
            if *ok { "ok" } else { "NO" },
            if remedy.is_empty() { "" } else { "; " }
        );
    }
    println!();
    findings
}

fn named<'f>(findings: &'f [Finding], name: &str) -> Vec<(bool, &'f str)> {
    findings.iter().filter(|finding| finding.name == name).map(|finding| (finding.ok, finding.what.as_str())).collect()
}

#[test]
fn a_database_is_looked_over_and_left_as_it_is() {
    let cluster = Cluster::start();
    let empty = findings(&cluster.url());
    assert!(empty.iter().all(|finding| finding.ok));
    assert_eq!(named(&empty, "table"), [(true, "there is no table `tasks` yet: the first start makes it")]);
    assert!(named(&empty, "server")[0].1.starts_with("PostgreSQL "));
    assert!(named(&empty, "TLS")[0].1.starts_with("not spoken"));
    let mut client = cluster.client();
    assert!(client.query("select 1 from pg_class where relname = 'tasks'", &[]).unwrap().is_empty());

    client.batch_execute(include_str!("../schema.sql")).unwrap();
    let good = findings(&cluster.url());
    assert!(good.iter().all(|finding| finding.ok));
    assert_eq!(named(&good, "table"), [(true, "`tasks` fits, column by column")]);
    assert_eq!(named(&good, "index"), [(true, "`tasks_of_user` begins with user_id")]);
    assert!(named(&good, "pooler")[0].1.starts_with("none"));
    let pooled = findings(&PgBouncer::start(&cluster, "transaction").url());
    assert!(named(&pooled, "pooler")[0].1.starts_with("one is in between"));

    client
        .batch_execute(
            "drop index tasks_of_user; alter table tasks alter column id type bigint, alter column description set not null, \
             drop column completed; create role guest login; grant select on tasks to guest",
        )
        .unwrap();
    let bad = findings(&cluster.url().replace("todo@", "guest@"));
    assert_eq!(
        named(&bad, "table"),
        [
            (false, "`id` is bigint, not integer"),
            (false, "`description` is not null, and may have to be null"),
            (false, "it has no column `completed` (boolean)"),
        ]
    );
    assert_eq!(named(&bad, "rights"), [(false, "this role may not insert, update, delete")]);
    assert!(named(&bad, "index")[0].1.starts_with("none"));
    assert!(bad.iter().all(|finding| finding.ok || !finding.remedy.is_empty()));

    for (other, name) in [
        ("alter table tasks rename to own; create view tasks as select * from own", "a view"),
        (
            "drop view tasks; create table tasks (like own including defaults) partition by hash (user_id)",
            "a partitioned table",
        ),
    ] {
        client.batch_execute(other).unwrap();
        let why = format!("it is {name}, and only an ordinary table has `xmin`, which tags are made of");
        let found = findings(&cluster.url());
        assert_eq!(named(&found, "table"), [(false, why.as_str())]);
        assert_eq!(found.iter().filter(|finding| !finding.ok).count(), 1);
    }

    client.batch_execute("drop table tasks; revoke create on schema public from public").unwrap();
    assert!(!named(&findings(&cluster.url().replace("todo@", "guest@")), "table")[0].0);
    client.batch_execute("alter role guest set default_transaction_read_only = on").unwrap();
    assert!(!named(&findings(&cluster.url().replace("todo@", "guest@")), "server")[0].0);
}

#[test]
fn a_database_that_does_not_answer_is_one_finding_in_time() {
    for way in [Way::Refused, Way::Nowhere] {
        let begun = std::time::Instant::now();
        let found = findings(&Proxy::start(way).url().replace("todo@", "todo:s3cr3t@"));
        assert!(begun.elapsed() < Limits::default().connect_timeout * 2);
        assert_eq!((found.len(), found[0].ok, found[0].name), (1, false, "database"));
        assert!(!format!("{found:?}").contains("s3cr3t"));
    }
}
