//! Reads that share a round trip end with one `Sync`: what fails, was given up before or is slow costs none of the others its answer.

mod support;

use std::thread;
use std::time::Duration;

use postgres::Client;
use support::locks::wait_until_blocked;
use support::{Answer, Cluster, Server, ServerLog, token};

/// How many reads wait: half of them go together, then half of the rest, and so on.
const READS: usize = 12;

/// A table of which each title goes through a function, `read(title)`, and each transaction shows a moment of its own. `user-3` has
/// the task 4, `of user-3`. One connection.
struct Stage {
    cluster: Cluster,
    owner: Client,
    log: ServerLog,
    server: Server,
}

impl Stage {
    fn set(read: &str, settings: &[(&str, &str)]) -> Self {
        let cluster = Cluster::start();
        let mut owner = cluster.client();
        owner.batch_execute(include_str!("../schema.sql")).unwrap();
        let sql = format!(
            "alter table tasks rename to things;
             create sequence tries;
             create function read(title text) returns text language plpgsql as $$ begin {read}; return title; end $$;
             create view tasks as select id, user_id, read(title) as title, description, completed, created_at,
                 now() as updated_at, things.xmin as xmin from things;
             insert into things (user_id, title) select 'user-' || n, 'of user-' || n from generate_series(0, {READS} - 1) as n"
        );
        owner.batch_execute(&sql).unwrap();
        let log = cluster.server_log();
        let settings = [&[("DB_POOL_SIZE", "1"), ("RUST_LOG", "info")], settings].concat();
        let server = Server::start_telling(log.create(), &cluster.url(), &settings);
        Self { cluster, owner, log, server }
    }

    /// The answer to what carol asks for, and to the reads that wait for it meanwhile.
    fn ask(&mut self, target: &str) -> (Answer, Vec<Answer>) {
        self.read(0, "user-0"); // prepares the statement
        let mut watcher = self.cluster.client();
        let mut lock = self.owner.transaction().unwrap();
        lock.batch_execute("lock table things").unwrap();
        let first = self.server.send("GET", target, &token("carol"));
        wait_until_blocked(&mut watcher, "the first", 1);
        let read = |number| {
            let target = format!("/api/tasks/{}", number + 1);
            self.server.send("GET", &target, &token(&format!("user-{number}")))
        };
        let sent: Vec<_> = (0..READS).map(read).collect();
        thread::sleep(Duration::from_millis(200)); // until they are in the queue
        lock.rollback().unwrap();
        (Answer::read(first), sent.into_iter().map(Answer::read).collect())
    }

    fn read(&self, number: usize, user: &str) -> Answer {
        self.server.request("GET", &format!("/api/tasks/{}", number + 1), Some(&token(user)), None)
    }

    /// What the log says when these many more than the first were answered.
    fn log(&self, answered: usize) -> String {
        self.log.wait_until("all answers", |log| log.matches("answered").count() == 1 + answered)
    }
}

/// Each of these is its user's task.
fn assert_own<'a>(answers: impl IntoIterator<Item = (usize, &'a Answer)>) {
    for (number, answer) in answers {
        assert_eq!(answer.status, 200, "{number}: {answer:?}");
        let task = answer.json();
        assert_eq!(task["user_id"], format!("user-{number}"));
        assert_eq!(task["title"], format!("of user-{number}"));
    }
}

#[test]
fn what_fails_on_the_way_fails_alone() {
    const BAD: usize = 2;
    // One that fails when it is tried first, and one that always does.
    let mut stage = Stage::set(
        "if title = 'of user-2' or title = 'of user-8' and nextval('tries') = 1 then
             raise exception using errcode = case title when 'of user-8' then '40001' else '22012' end;
         end if",
        &[],
    );
    let (first, answers) = stage.ask("/api/tasks/1");
    assert_eq!((first.status, answers[BAD].status), (404, 500));
    assert_own(answers.iter().enumerate().filter(|(number, _)| *number != BAD));
    // Those before the bad one in one transaction, those behind it again, and apart; then the next together.
    let moment = |number: usize| answers[number].json()["updated_at"].clone();
    assert_eq!(moment(0), moment(1));
    assert_ne!(moment(3), moment(4));
    assert_eq!(moment(6), moment(7));
    let log = stage.log(1 + READS);
    assert_eq!(log.matches("a statement failed").count(), 1, "{log}");
    assert!(!log.contains("does not answer"), "{log}");
}

#[test]
fn what_failed_before_fails_alone() {
    let mut stage = Stage::set("if title = 'bad' then raise exception 'bad'; end if", &[]);
    stage.owner.batch_execute("insert into things (user_id, title) values ('carol', 'bad')").unwrap();
    // PostgreSQL tells the failure before it is ready again.
    for round in 0..5 {
        let (first, answers) = stage.ask(&format!("/api/tasks/{}", READS + 1));
        assert_eq!(first.status, 500, "{round}");
        assert_own(answers.iter().enumerate());
    }
}

#[test]
fn what_was_given_up_before_costs_nobody_anything() {
    let mut stage = Stage::set("null", &[]);
    // The first task of her list cannot be shown, so that nobody waits for the rest, which is still to come.
    let sql = "insert into things (user_id, title, description)
                   select 'carol', 'of carol', repeat('x', 1000) from generate_series(1, 900);
               insert into things (user_id, title, created_at) values ('carol', 'of carol', 'infinity')";
    stage.owner.batch_execute(sql).unwrap();
    let (first, answers) = stage.ask("/api/tasks");
    assert_eq!(first.status, 500);
    assert_own(answers.iter().enumerate());
}

#[test]
fn each_of_several_may_be_slow() {
    // Together they take longer than one of them may take.
    let mut stage = Stage::set("perform pg_sleep(0.4)", &[("DB_STATEMENT_TIMEOUT_MS", "1000")]);
    let (_, answers) = stage.ask("/api/tasks/1");
    assert_own(answers.iter().enumerate());
    let log = stage.log(1 + READS);
    assert!(!log.contains("does not answer") && !log.contains("gives statements up"), "{log}");
}

#[test]
fn what_the_server_says_besides_is_no_answer() {
    // A notice longer than what is received at once, and a parameter of the session that changes.
    let mut stage =
        Stage::set("raise notice '%', repeat('n', 70000); perform set_config('application_name', title, false)", &[]);
    let (_, answers) = stage.ask("/api/tasks?limit=5");
    assert_own(answers.iter().enumerate());
    let log = stage.log(1 + READS);
    assert!(!log.contains("WARN") && !log.contains("a statement failed"), "{log}");
}
