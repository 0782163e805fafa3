//! No acknowledged write is lost and none is done twice while server and database are killed again and again under
//! load.
//!
//! Each client keeps, for each of its tasks, the set of states that the task can be in: one after a response, more
//! after a request without a response, which may have been done. Every response, and in the end the table, must agree
//! with them.

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
    /// Titles of tasks whose creation got no response.
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
    let responses = AtomicUsize::new(0);
    let knowledge: Vec<Knowledge> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (port, over, responses) = (&port, &over, &responses);
                scope.spawn(move || keep_writing(&format!("user-{number}"), port, over, responses))
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
            let before = responses.load(Ordering::SeqCst);
            wait_until("writes to go on", || responses.load(Ordering::SeqCst) > before + CLIENTS * 5);
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

fn keep_writing(user: &str, port: &AtomicU16, over: &AtomicBool, responses: &AtomicUsize) -> Knowledge {
    let mut known = Knowledge::default();
    let mut random = Random::from_env();
    let token = token(user);
    for number in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let send = |method: &str, target: &str, body: &Value| {
            let body = body.to_string();
            let response = try_request_on(port.load(Ordering::SeqCst), method, target, Some(&token), Some(&body)).ok();
            match &response {
                Some(response) if response.status < 500 => responses.fetch_add(1, Ordering::SeqCst),
                _ => {
                    thread::sleep(Duration::from_millis(5));
                    0
                }
            };
            response.filter(|response| response.status < 500)
        };
        let title = format!("{user}, {number}");
        let ids: Vec<i64> = known.tasks.keys().copied().collect();
        if ids.len() < 3 || random.below(4) == 0 {
            match send("POST", "/api/tasks", &json!({ "title": title })) {
                Some(response) => {
                    assert_eq!(response.status, 201, "{response:?}");
                    let id = response.json()["id"].as_i64().unwrap();
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
        let (after, response) = match random.below(3) {
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
        let states = match response {
            None => {
                known.unanswered += 1;
                before | &after
            }
            Some(response) => {
                known.acknowledged += 1;
                let told: State = (response.status == 200).then(|| {
                    let task = response.json();
                    (task["title"].as_str().unwrap().to_owned(), task["completed"].as_bool().unwrap())
                });
                if response.status == 404 {
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
