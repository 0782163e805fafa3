//! Users see and change only their own tasks: six at once, whose random requests share batches, each with a model of
//! what they have.

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use serde_json::{Value, json};
use support::random::Random;
use support::{Cluster, Response, Server, token};

/// Requests of each user.
const REQUESTS: usize = 400;
/// None of these is part of another.
const USERS: [&str; 6] = ["ada", "eve", "bob", "mia", "tom", "zoe"];

/// A response without what differs from request to request. What a user is told of another's task must equal, to the
/// byte, what is told of a task that does not exist.
fn normal(mut response: Response) -> Response {
    response.headers.retain(|(name, _)| !["date", "x-request-id", "server-timing"].contains(&name.as_str()));
    response
}

#[test]
fn user_when_asking_for_anothers_tasks_learns_and_changes_nothing() {
    let cluster = Cluster::start();
    // With one worker, requests that come meanwhile go in batches.
    let server = Server::start_with(&cluster.url(), &[("DB_POOL_SIZE", "1")]);
    let mut random = Random::from_env();
    let ids = Mutex::new(vec![999_999]);
    let foreign: usize = thread::scope(|scope| {
        let (server, ids) = (&server, &ids);
        let mut drive = |user| {
            let random = Random(random.0.wrapping_add(random.below(usize::MAX) as u64) | 1);
            scope.spawn(move || drive_user(server, user, ids, random))
        };
        let users = USERS.map(&mut drive);
        users.into_iter().map(|user| user.join().unwrap()).sum()
    });
    let requests = REQUESTS * USERS.len();
    println!("{requests} requests, {foreign} of them for a task that is not the user's: none told, none changed");
    assert!(foreign > requests / 10, "only {foreign} requests tried another's task");
}

/// Sends random requests of this user and compares each response with a model. `ids` are those of all users' tasks. How
/// many requests were for a task that is not this user's.
fn drive_user(server: &Server, user: &str, ids: &Mutex<Vec<i64>>, mut random: Random) -> usize {
    let token = token(user);
    // Title and completion by id.
    let mut model: BTreeMap<i64, (String, bool)> = BTreeMap::new();
    let mut foreign = 0;
    let send = |method: &str, target: &str, body: Option<&str>| server.request(method, target, Some(&token), body);
    for number in 0..REQUESTS {
        let another = *random.pick(&USERS.map(|other| if other == user { "nobody" } else { other }));
        let own: Vec<i64> = model.keys().copied().collect();
        let id = if own.is_empty() || random.below(3) == 0 {
            *random.pick(&ids.lock().unwrap())
        } else {
            *random.pick(&own)
        };
        let path = format!("/api/tasks/{id}");
        let (method, target, body) = match random.below(7) {
            0 => {
                let title = format!("task {number} of {user}");
                // A user id in the body or the query is never read.
                let body = json!({"title": title, "user_id": another, "id": id}).to_string();
                let created = send("POST", &format!("/api/tasks?user_id={another}"), Some(&body));
                assert_eq!(created.status, 201, "{created:?}");
                assert_eq!(created.json()["user_id"], user);
                let id = created.json()["id"].as_i64().unwrap();
                model.insert(id, (title, false));
                ids.lock().unwrap().push(id);
                continue;
            }
            1 => {
                check_list(&send("GET", "/api/tasks", None), user, &model);
                let found = send("GET", &format!("/api/tasks?search={another}&limit=1000"), None);
                assert_eq!(found.json(), json!([]), "a search found another's task");
                assert_eq!(found.header("x-total-count"), Some("0"), "a count counted another's tasks");
                continue;
            }
            2 => ("GET", path, None),
            3 => ("PUT", path, Some(json!({"title": format!("changed {number}")}).to_string())),
            4 => ("PATCH", format!("{path}/complete"), Some("{}".to_owned())),
            5 => ("PATCH", format!("{path}/complete"), Some(r#"{"completed":true}"#.to_owned())),
            _ => ("DELETE", path, None),
        };
        let response = send(method, &target, body.as_deref());
        match model.get_mut(&id) {
            None => {
                foreign += 1;
                let absent = target.replacen(&id.to_string(), "2147483647", 1);
                let nobody = send(method, &absent, body.as_deref());
                assert_eq!(response.status, 404, "{method} {target}: {response:?}");
                assert_eq!(normal(response), normal(nobody), "{method} {target} can be told from an absent task");
            }
            Some(task) => {
                expect(task, method, body.as_deref());
                if method == "DELETE" {
                    assert_eq!((response.status, response.body.as_str()), (204, ""));
                    model.remove(&id);
                } else {
                    assert_eq!(response.status, 200, "{method} {target}: {response:?}");
                    assert_task(&response.json(), user, id, task);
                }
            }
        }
    }
    check_list(&send("GET", "/api/tasks", None), user, &model);
    foreign
}

/// What the request does to a task that is the user's.
fn expect(task: &mut (String, bool), method: &str, body: Option<&str>) {
    let body: Value = body.map_or(Value::Null, |body| serde_json::from_str(body).unwrap());
    match method {
        "PUT" => task.0 = body["title"].as_str().unwrap().to_owned(),
        "PATCH" => task.1 = body["completed"].as_bool().unwrap_or(!task.1),
        _ => {}
    }
}

fn check_list(response: &Response, user: &str, tasks: &BTreeMap<i64, (String, bool)>) {
    assert_eq!(response.status, 200);
    let list = response.json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), tasks.len(), "{user} sees too much or too little");
    // Newest first: ids were given in the order of creation.
    for (shown, (id, task)) in list.iter().zip(tasks.iter().rev()) {
        assert_task(shown, user, *id, task);
    }
}

fn assert_task(shown: &Value, user: &str, id: i64, (title, completed): &(String, bool)) {
    assert_eq!(shown["id"], id);
    assert_eq!(shown["user_id"], user);
    assert_eq!(shown["title"], *title);
    assert_eq!(shown["completed"], *completed);
}
