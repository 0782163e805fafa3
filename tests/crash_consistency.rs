//! No acknowledged write is lost and none is done twice while server and database are killed again and again under
//! load.
//!
//! Each client keeps, for each of its tasks, the set of states that the task can be in: one after an answer, more after
//! a request without an answer, which may have been done. Every answer, and in the end the table, must agree with them.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::http::try_request_on;
use support::random::Random;
use support::{Cluster, Server, signal, token, wait_until};

const CYCLES: usize = 51;
const CLIENTS: usize = 12;
/// So few workers that writes go in batches.
const POOL: (&str, &str) = ("DB_POOL_SIZE", "2");

/// Title and completion, or `None` for a task that is not there.
type State = Option<(String, bool)>;

/// What one client knows about its tasks.
#[derive(Default)]
struct Knowledge {
    tasks: BTreeMap<i64, BTreeSet<State>>,
    /// Titles of tasks whose creation got no answer.
    perhaps: BTreeSet<String>,
    acknowledged: usize,
    unanswered: usize,
}

#[test]
fn writes_when_server_and_database_are_killed_are_neither_lost_nor_done_twice() {
    let mut cluster = Cluster::start();
    let mut server = Server::start_with(&cluster.url(), &[POOL]);
    let port = AtomicU16::new(server.port);
    let over = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    let knowledge: Vec<Knowledge> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (port, over, answers) = (&port, &over, &answers);
                scope.spawn(move || keep_writing(&format!("user-{number}"), port, over, answers))
            })
            .collect();
        let end = SetOnDrop(&over); // also when what follows panics
        for cycle in 0..CYCLES {
            match cycle % 3 {
                0 => {
                    signal(server.id(), "KILL");
                    server.wait();
                    server = Server::start_with(&cluster.url(), &[POOL]);
                    port.store(server.port, Ordering::SeqCst);
                }
                1 => {
                    cluster.kill();
                    cluster.resume();
                }
                _ => {
                    cluster.stop();
                    cluster.resume();
                }
            }
            let before = answers.load(Ordering::SeqCst);
            wait_until("writes to go on", || answers.load(Ordering::SeqCst) > before + CLIENTS * 5);
        }
        drop(end);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let acknowledged: usize = knowledge.iter().map(|known| known.acknowledged).sum();
    let unanswered: usize = knowledge.iter().map(|known| known.unanswered).sum();
    println!("{CYCLES} deaths, {acknowledged} writes acknowledged, {unanswered} unanswered");
    let mut client = cluster.client();
    let transactions = "select count(distinct xmin::text), count(*) from tasks";
    let row = client.query_one(transactions, &[]).unwrap();
    assert!(row.get::<_, i64>(0) < row.get(1), "no two writes went together");
    for (number, mut known) in knowledge.into_iter().enumerate() {
        let all = "select id, title, completed from tasks where user_id = $1";
        let mut rows: BTreeMap<i64, State> = client
            .query(all, &[&format!("user-{number}")])
            .unwrap()
            .iter()
            .map(|row| (row.get::<_, i32>(0).into(), Some((row.get(1), row.get(2)))))
            .collect();
        for (id, states) in known.tasks {
            let row = rows.remove(&id).flatten();
            assert!(states.contains(&row), "task {id} of user-{number} is {row:?}, and can only be one of {states:?}");
        }
        for (id, state) in rows {
            let (title, completed) = state.unwrap();
            assert!(
                known.perhaps.remove(&title) && !completed,
                "task {id} of user-{number}, {title:?}, is one too many"
            );
        }
    }
    assert!(acknowledged > CYCLES * CLIENTS, "too few writes to show anything");
}

struct SetOnDrop<'b>(&'b AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn keep_writing(user: &str, port: &AtomicU16, over: &AtomicBool, answers: &AtomicUsize) -> Knowledge {
    let mut known = Knowledge::default();
    let mut random = Random::from_env();
    let token = token(user);
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let send = |method: &str, target: &str, body: &Value| {
            let body = body.to_string();
            let answer = try_request_on(port.load(Ordering::SeqCst), method, target, Some(&token), Some(&body)).ok();
            match &answer {
                Some(answer) if answer.status < 500 => answers.fetch_add(1, Ordering::SeqCst),
                _ => {
                    thread::sleep(Duration::from_millis(5));
                    0
                }
            };
            answer.filter(|answer| answer.status < 500)
        };
        let title = format!("{user}, {number}");
        let ids: Vec<i64> = known.tasks.keys().copied().collect();
        if ids.len() < 3 || random.below(4) == 0 {
            match send("POST", "/api/tasks", &json!({ "title": title })) {
                Some(answer) => {
                    assert_eq!(answer.status, 201, "{answer:?}");
                    let id = answer.json()["id"].as_i64().unwrap();
                    assert!(known.tasks.insert(id, BTreeSet::from([Some((title, false))])).is_none());
                    known.acknowledged += 1;
                }
                None => {
                    known.perhaps.insert(title);
                    known.unanswered += 1;
                }
            }
            continue;
        }
        let id = *random.pick(&ids);
        let path = format!("/api/tasks/{id}");
        let before = &known.tasks[&id];
        let change = |change: &dyn Fn(&(String, bool)) -> State| -> BTreeSet<State> {
            before.iter().map(|state| state.as_ref().and_then(change)).collect()
        };
        let (after, answer) = match random.below(3) {
            0 => (
                change(&|(_, completed)| Some((title.clone(), *completed))),
                send("PUT", &path, &json!({ "title": title })),
            ),
            1 => (
                change(&|(title, completed)| Some((title.clone(), !completed))),
                send("PATCH", &format!("{path}/complete"), &json!({})),
            ),
            _ => (change(&|_| None), send("DELETE", &path, &json!({}))),
        };
        let states = match answer {
            None => {
                known.unanswered += 1;
                before | &after
            }
            Some(answer) => {
                known.acknowledged += 1;
                let told: State = (answer.status == 200).then(|| {
                    let task = answer.json();
                    (task["title"].as_str().unwrap().to_owned(), task["completed"].as_bool().unwrap())
                });
                if answer.status == 404 {
                    assert!(before.contains(&None), "task {id} of {user} was lost; it can only be one of {before:?}");
                }
                assert!(after.contains(&told), "task {id} of {user} is told to be {told:?}, not one of {after:?}");
                BTreeSet::from([told])
            }
        };
        known.tasks.insert(id, states);
    }
    known
}
