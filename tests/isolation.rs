//! Users see and change only their own tasks: two users, thousands of random requests, one model of what each has.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::random::Random;
use support::{Answer, Cluster, Server, token};

const REQUESTS: usize = 2_000;
const USERS: [&str; 2] = ["ada", "eve"];

/// An answer without what differs from request to request. What a user is told of another's task must equal, to the
/// byte, what is told of a task that does not exist.
fn normal(mut answer: Answer) -> Answer {
    answer.headers.retain(|(name, _)| !["date", "x-request-id", "server-timing"].contains(&name.as_str()));
    answer
}

#[test]
fn user_when_asking_for_anothers_tasks_learns_and_changes_nothing() {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    let mut random = Random::from_env();
    let tokens = USERS.map(token);
    // What each user has: title and completion by id.
    let mut model: [BTreeMap<i64, (String, bool)>; 2] = Default::default();
    let mut foreign = 0;

    for number in 0..REQUESTS {
        let who = random.below(2);
        let send =
            |method: &str, target: &str, body: Option<&str>| server.request(method, target, Some(&tokens[who]), body);
        let every_id: Vec<i64> = model[0].keys().chain(model[1].keys()).copied().chain([999_999]).collect();
        let id = *random.pick(&every_id);
        let path = format!("/api/tasks/{id}");
        let (method, target, body) = match random.below(7) {
            0 => {
                let title = format!("task {number} of {}", USERS[who]);
                // A user id in the body, the query or a header is never read.
                let body = json!({"title": title, "user_id": USERS[1 - who], "id": id}).to_string();
                let created = send("POST", &format!("/api/tasks?user_id={}", USERS[1 - who]), Some(&body));
                assert_eq!(created.status, 201, "{created:?}");
                assert_eq!(created.json()["user_id"], USERS[who]);
                model[who].insert(created.json()["id"].as_i64().unwrap(), (title, false));
                continue;
            }
            1 => {
                check_list(&send("GET", "/api/tasks", None), USERS[who], &model[who]);
                let search = format!("/api/tasks?search={}&limit=1000", USERS[1 - who]);
                let found = send("GET", &search, None);
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
        let answer = send(method, &target, body.as_deref());
        match model[who].get_mut(&id) {
            None => {
                foreign += 1;
                let absent = target.replacen(&id.to_string(), "2147483647", 1);
                let nobody = send(method, &absent, body.as_deref());
                assert_eq!(answer.status, 404, "{method} {target}: {answer:?}");
                assert_eq!(normal(answer), normal(nobody), "{method} {target} can be told from an absent task");
            }
            Some(task) => {
                expect(task, method, body.as_deref());
                if method == "DELETE" {
                    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
                    model[who].remove(&id);
                } else {
                    assert_eq!(answer.status, 200, "{method} {target}: {answer:?}");
                    assert_task(&answer.json(), USERS[who], id, task);
                }
            }
        }
    }
    for who in 0..2 {
        check_list(&server.request("GET", "/api/tasks", Some(&tokens[who]), None), USERS[who], &model[who]);
    }
    println!("{REQUESTS} requests, {foreign} of them for a task that is not the user's: none told, none changed");
    assert!(foreign > REQUESTS / 10, "only {foreign} requests tried another's task");
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

fn check_list(answer: &Answer, user: &str, tasks: &BTreeMap<i64, (String, bool)>) {
    assert_eq!(answer.status, 200);
    let list = answer.json();
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
