//! Databases as other people have them: a database for each case, what the service does with it, and what `--check`
//! says.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use todo_backend::db::Limits;
use todo_backend::db::url::DatabaseUrl;
use todo_backend::ops::check_database::inspect;
use todo_backend::ops::finding::Finding;

use super::{Cluster, Response, Server, ServerLog, token};

/// The columns of `tasks` with their definitions, from `schema.sql`.
fn columns() -> Vec<(&'static str, &'static str)> {
    let sql = include_str!("../../schema.sql").split_once("tasks (\n").unwrap().1.split_once("\n);").unwrap().0;
    let lines = sql.lines().map(|line| line.split("--").next().unwrap().trim().trim_end_matches(','));
    lines.map(|line| line.split_once(' ').unwrap()).collect()
}

/// The names of the columns but for these, as a list.
pub fn columns_without(others: &[&str]) -> String {
    let names = columns().into_iter().map(|(name, _)| name).filter(|name| !others.contains(name));
    names.collect::<Vec<_>>().join(", ")
}

/// `create table tasks` with some columns changed, added, or left out (an empty definition).
pub fn table(changes: &[(&str, &str)]) -> String {
    let changed = |name: &str| changes.iter().find(|(own, _)| *own == name).map(|(_, definition)| *definition);
    let own = columns();
    let columns = own.iter().map(|(name, definition)| (*name, changed(name).unwrap_or(definition)));
    let added = changes.iter().copied().filter(|(name, _)| own.iter().all(|(own, _)| own != name));
    let lines = columns.chain(added).filter(|(_, definition)| !definition.is_empty());
    let lines: Vec<_> = lines.map(|(name, definition)| format!("{name} {definition}")).collect();
    format!("create table tasks ({});", lines.join(", "))
}

/// Makes a database, with these options of `create database`, and runs `sql` in it as its owner. Returns its URL.
pub fn database(cluster: &Cluster, name: &str, options: &str, sql: &str) -> String {
    cluster.client().batch_execute(&format!("create database {name} {options}")).unwrap();
    let url = cluster.url().replace("/postgres", &format!("/{name}"));
    connect(&url).batch_execute(sql).unwrap_or_else(|error| panic!("{name}: {error:?}: {sql}"));
    url
}

pub fn connect(url: &str) -> postgres::Client {
    postgres::Client::connect(url, postgres::NoTls).unwrap()
}

/// A server over a database, and its log.
pub struct Service {
    pub server: Server,
    log: ServerLog,
}

impl Service {
    pub fn start(cluster: &Cluster, url: &str) -> Self {
        Self::start_with(cluster, url, &[])
    }

    pub fn start_with(cluster: &Cluster, url: &str, variables: &[(&str, &str)]) -> Self {
        let log = cluster.server_log();
        let variables = [variables, &[("RUST_LOG", "info")]].concat();
        Self { server: Server::start_telling(log.create(), url, &variables), log }
    }

    pub fn send(&self, user: &str, method: &str, target: &str, body: Option<&Value>) -> Response {
        let body = body.map(Value::to_string);
        self.server.request(method, target, Some(&token(user)), body.as_deref())
    }

    pub fn create(&self, user: &str, body: Value) -> Response {
        self.send(user, "POST", "/api/tasks", Some(&body))
    }

    /// The whole list, which must be 200.
    pub fn list(&self, user: &str, query: &str) -> Vec<Value> {
        let response = self.send(user, "GET", &format!("/api/tasks{query}"), None);
        assert_eq!(response.status, 200, "{query}: {response:?}");
        response.json().as_array().unwrap().clone()
    }

    /// Waits until the log has this text; the number of its lines that have it then.
    pub fn count_logged(&self, text: &str) -> usize {
        let log = self.log.wait_until(text, |log| log.contains(text));
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.wait_until("anything", |_| true)
    }

    /// Everything that the API does works for these users, and each has only the own tasks.
    pub fn assert_serves(&self, case: &str, users: &[&str]) {
        for user in users {
            let created = self.create(user, json!({"title": "milk", "description": "two"}));
            assert_eq!(created.status, 201, "{case}: {created:?}");
            let task = created.json();
            assert_eq!((&task["user_id"], &task["title"]), (&json!(user), &json!("milk")), "{case}");
            let path = created.header("location").unwrap().to_owned();
            for (method, suffix, body, expected) in [
                ("GET", "", None, json!({"title": "milk", "completed": false})),
                ("PUT", "", Some(json!({"title": "Bread"})), json!({"title": "Bread", "description": "two"})),
                ("PUT", "", Some(json!({"description": null})), json!({"title": "Bread", "description": null})),
                ("PATCH", "/complete", None, json!({"completed": true})),
                ("PATCH", "/complete", Some(json!({"completed": true})), json!({"completed": true})),
            ] {
                let response = self.send(user, method, &format!("{path}{suffix}"), body.as_ref());
                assert_eq!(response.status, 200, "{case}: {method} {response:?}");
                for (name, value) in expected.as_object().unwrap() {
                    assert_eq!(&response.json()[name], value, "{case}: {method} {name}");
                }
                assert_eq!(response.json()["id"], task["id"], "{case}");
            }
            let tag = self.send(user, "GET", &path, None).header("etag").unwrap().to_owned();
            assert!(tag.len() > 4, "{case}: {tag}");
        }
        for (at, user) in users.iter().enumerate() {
            for query in ["", "?sort=title&order=asc", "?sort=updated_at", "?search=bREAD&limit=5", "?status=completed"]
            {
                let list = self.list(user, query);
                assert_eq!(list.len(), 1, "{case}: {query} {list:?}");
                assert_eq!(list[0]["user_id"], json!(user), "{case}: {query}");
            }
            let path = format!("/api/tasks/{}", self.list(user, "")[0]["id"]);
            let other = users[(at + 1) % users.len()];
            if other != *user {
                assert_eq!(self.send(other, "DELETE", &path, None).status, 404, "{case}");
            }
            assert_eq!(self.send(user, "DELETE", &path, None).status, 204, "{case}");
            assert_eq!(self.send(user, "GET", &path, None).status, 404, "{case}");
            assert_eq!(self.list(user, ""), Vec::<Value>::new(), "{case}");
        }
    }

    /// Every request is 503, `/ready`, too, and the log says why, once.
    pub fn assert_unavailable(&self, case: &str, why: &str) {
        assert_eq!(self.server.request("GET", "/ready", None, None).status, 503, "{case}");
        for (method, target) in [("POST", "/api/tasks"), ("GET", "/api/tasks"), ("GET", "/api/tasks/1")] {
            let body = json!({"title": "milk"});
            let response = self.send("ada", method, target, (method == "POST").then_some(&body));
            assert_eq!(response.status, 503, "{case}: {method} {target} {response:?}");
        }
        assert_eq!(self.count_logged(why), 1, "{case}: {}", self.log());
    }
}

/// What `--check` finds, which must change nothing and take a bounded time.
pub fn check(url: &str) -> Vec<Finding> {
    let began_at = Instant::now();
    let timeout = Duration::from_secs(5);
    let limits = Limits {
        pool_size: 1,
        connect_timeout: timeout,
        checkout_timeout: timeout,
        statement_timeout: timeout,
        idle_timeout: timeout,
    };
    let findings = inspect(&DatabaseUrl::parse(url, None).unwrap(), &limits);
    assert!(began_at.elapsed() < Duration::from_secs(15), "--check took {:?}", began_at.elapsed());
    for Finding { name, ok, message, hint } in &findings {
        println!("{} {name}: {message}; {hint}", if *ok { "ok" } else { "FAIL" });
        assert!(*ok || !hint.is_empty(), "{name} has no hint: {message}");
    }
    findings
}

/// The findings that failed, each as `name: message; hint`.
pub fn failures(findings: &[Finding]) -> Vec<String> {
    let failed = findings.iter().filter(|finding| !finding.ok);
    failed.map(|finding| format!("{}: {}; {}", finding.name, finding.message, finding.hint)).collect()
}

/// Runs each case with its number, some at once. A case that panics fails the test.
pub fn in_parallel<C: Sync>(cases: &[C], each: impl Fn(usize, &C) + Sync) {
    const AT_ONCE: usize = 6;
    std::thread::scope(|scope| {
        for first in 0..AT_ONCE {
            let each = &each;
            scope.spawn(move || {
                for (number, case) in cases.iter().enumerate().skip(first).step_by(AT_ONCE) {
                    each(number, case);
                }
            });
        }
    });
}
