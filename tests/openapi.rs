//! `specs/api/openapi.json` describes what the server has: its operations, the fields of a task, and every error.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;

use serde_json::{Value, json};
use support::{Cluster, Response, Server, token, token_for};
use todo_backend::http::router::{API_ROUTES, PUBLIC_ROUTES, allowed};
use todo_backend::tasks::body::{Completion, NewTask, TaskPatch};
use todo_backend::tasks::list_query::Sort;

type Pairs = BTreeSet<(String, String)>;

fn document() -> Value {
    serde_json::from_str(include_str!("../specs/api/openapi.json")).expect("openapi.json is JSON")
}

/// The schema of this name.
fn schema(name: &str) -> Value {
    document()["components"]["schemas"][name].clone()
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// Path, method and description of each operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter().filter(|(_, operation)| operation.get("responses").is_some());
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    });
    all.collect()
}

#[test]
fn operations_are_those_of_the_router() {
    let document = document();
    let documented: Pairs =
        operations(&document).iter().map(|(path, method, _)| ((*path).to_owned(), (*method).to_owned())).collect();
    let pairs = |pattern: &str, allow: String| -> Pairs {
        allow.split(", ").map(|method| (pattern.to_owned(), method.to_ascii_lowercase())).collect()
    };
    let public = PUBLIC_ROUTES.iter().flat_map(|(pattern, methods)| pairs(pattern, allowed(methods)));
    let api = API_ROUTES.iter().flat_map(|(pattern, methods)| pairs(pattern, allowed(methods)));
    assert_eq!(documented, public.chain(api).collect());
}

#[test]
fn operation_when_under_api_requires_a_token() {
    let document = document();
    assert_eq!(document["security"], json!([{"bearerAuth": []}]));
    for (path, method, operation) in operations(&document) {
        let is_public = operation.get("security").is_some_and(|security| security.as_array().unwrap().is_empty());
        let can_be_401 = operation["responses"].get("401").is_some();
        let is_api = path.starts_with("/api");
        assert_eq!((is_public, can_be_401), (!is_api, is_api), "{method} {path}");
    }
}

#[test]
fn version_is_that_of_the_package() {
    assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_reference_has_a_target_and_every_component_is_referred_to() {
    fn walk<'v>(document: &Value, value: &'v Value, seen: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference} has no target");
                    seen.insert(pointer);
                }
                fields.values().for_each(|field| walk(document, field, seen));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(document, item, seen)),
            _ => {}
        }
    }
    let document = document();
    let mut seen = BTreeSet::new();
    walk(&document, &document, &mut seen);
    for kind in ["parameters", "headers", "examples", "schemas", "responses"] {
        for name in names(&document["components"][kind]) {
            let pointer = format!("/components/{kind}/{name}");
            assert!(seen.contains(pointer.as_str()), "nothing refers to {pointer}");
        }
    }
}

#[test]
fn task_has_the_fields_of_the_schema() {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    let created = server.request("POST", "/api/tasks", Some(&token("ada")), Some(r#"{"title":"Buy milk"}"#));
    let (task, sent) = (schema("Task"), names(&created.json()));
    assert_eq!(created.status, 201);
    assert_eq!(sent, names(&task["properties"]));
    assert_eq!(sent, texts(&task["required"]));
    assert_eq!(sent, names(&task["example"]));
}

/// Which fields a body may have: with an array, which no field accepts, those are refused.
#[test]
fn bodies_have_the_fields_of_the_schema() {
    let refused = |is_accepted: fn(&str) -> bool| -> BTreeSet<String> {
        let body = |name: &String| json!({"title": "a", name: []}).to_string();
        names(&schema("Task")["properties"]).into_iter().filter(|name| !is_accepted(&body(name))).collect()
    };
    let fields = |name| names(&schema(name)["properties"]);
    let created = fields("TaskCreate");
    assert_eq!(created, refused(|body| NewTask::parse(body).is_ok()));
    assert_eq!(fields("TaskUpdate"), refused(|body| TaskPatch::parse(body).is_ok()));
    assert_eq!(fields("TaskComplete"), refused(|body| Completion::parse(body).is_ok()));
    let example = &document()["components"]["examples"]["AllFields"]["value"];
    assert_eq!(names(example), created);
    assert!(NewTask::parse(&example.to_string()).is_ok());
}

#[test]
fn sort_keys_are_those_of_the_schema() {
    let keys = Sort::ALL.map(|sort| sort.in_query().0[0].to_owned());
    assert_eq!(texts(&schema("Sort")["enum"]), keys.into());
}

#[test]
fn specifications_name_every_field_sort_key_and_error_type() {
    let (tasks, errors) = (include_str!("../specs/api/tasks.md"), include_str!("../specs/api/errors.md"));
    let schema_of_table = include_str!("../specs/database/schema.md");
    let properties = |name| names(&schema(name)["properties"]).into_iter();
    let keys = Sort::ALL.into_iter().flat_map(|sort| sort.in_query().0).map(|name| (*name).to_owned());
    let types = texts(&schema("FieldError")["properties"]["type"]["enum"]).into_iter();
    let mut wanted: Vec<(&str, String)> = Vec::new();
    wanted.extend(properties("Task").chain(keys).map(|name| (tasks, format!("`{name}`"))));
    wanted.extend(properties("Task").map(|name| (schema_of_table, format!("\n| `{name}` | "))));
    wanted.extend(properties("TaskCreate").map(|name| (tasks, format!("\n| `{name}` | "))));
    wanted.extend(types.map(|name| (errors, format!("`{name}`"))));
    let missing: Vec<_> = wanted.iter().filter(|(text, name)| !text.contains(name)).map(|(_, name)| name).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn field_errors_have_the_types_of_the_schema() {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url());
    let wrong = [json!(1), json!([]), json!(" "), json!("\0"), json!("no"), json!("x".repeat(10_001))];
    let fields = names(&schema("TaskCreate")["properties"]);
    let bodies = fields.iter().flat_map(|name| wrong.iter().map(move |value| json!({name: value}).to_string()));
    let mut requests: Vec<_> = bodies.map(|body| ("POST", "/api/tasks", body)).collect();
    requests.extend(
        [
            ("POST", "/api/tasks", "{"),
            ("PUT", "/api/tasks/1", "[]"),
            ("GET", "/api/tasks/one", ""),
            ("GET", "/api/tasks?limit=0", ""),
            ("GET", "/api/tasks?limit=1001", ""),
        ]
        .map(|(method, target, body)| (method, target, body.to_owned())),
    );
    let mut types = BTreeSet::new();
    for (method, target, body) in requests {
        let body = Some(body.as_str()).filter(|body| !body.is_empty());
        let response = server.request(method, target, Some(&token("ada")), body);
        if response.status == 201 {
            continue; // a text that this field may have
        }
        let error = response.json();
        assert_eq!(names(&error), texts(&schema("ValidationError")["required"]), "{method} {target}");
        for field in error["detail"].as_array().unwrap() {
            assert_eq!(names(field), texts(&schema("FieldError")["required"]), "{method} {target}");
            types.insert(field["type"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(types, texts(&schema("FieldError")["properties"]["type"]["enum"]));
}

/// Sends a request as it stands, and reads until the server closes the connection.
fn raw(server: &Server, request: &[u8]) -> Response {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(request).unwrap();
    Response::read(stream)
}

/// Status and code of each error that an operation is described with, by its examples.
fn documented_errors(document: &Value) -> Pairs {
    let mut documented = Pairs::new();
    for (_, _, operation) in operations(document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let pointer = response["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
            let examples = &document.pointer(pointer).unwrap()["content"]["application/json"]["examples"];
            for example in examples.as_object().into_iter().flat_map(|examples| examples.values()) {
                documented.insert((status.clone(), example["value"]["error_code"].as_str().unwrap().to_owned()));
            }
        }
    }
    documented
}

#[test]
fn every_error_of_the_server_is_described_and_no_other() {
    let mut cluster = Cluster::start();
    let server = Server::start_with(&cluster.url(), &[("REQUEST_TIMEOUT_MS", "500")]);
    let bearer = format!("Authorization: Bearer {}\r\n", token("ada"));
    let id = server.create("ada", "milk");
    let requests: Vec<(String, String, Vec<u8>)> = [
        ("POST /api/tasks", format!("{bearer}Content-Length: 1\r\n"), b"\xff".as_slice()),
        ("GET /api/tasks", String::new(), b""),
        ("GET /api/tasks", "Authorization: Bearer x.y.z\r\n".to_owned(), b""),
        ("GET /api/tasks", format!("Authorization: Bearer {}\r\n", token_for("ada", -60)), b""),
        ("GET /api/tasks/2147483647", bearer.clone(), b""),
        ("PATCH /api/tasks", bearer.clone(), b""),
        ("POST /api/tasks", format!("{bearer}Content-Length: 2\r\n"), b"{"),
        (&format!("DELETE /api/tasks/{id}"), format!("{bearer}If-Match: \"other\"\r\n"), b""),
        ("POST /api/tasks", format!("{bearer}Content-Length: 9999999\r\n"), b""),
        (&format!("GET /{}", "x".repeat(9_000)), String::new(), b""),
        ("POST /api/tasks", format!("{bearer}Content-Encoding: gzip\r\nContent-Length: 1\r\n"), b"x"),
        ("POST /api/tasks", format!("{bearer}Content-Length: 2\r\n"), b"{}"),
        ("GET /", format!("X: {}\r\n", "x".repeat(17_000)), b""),
        ("POST /api/tasks", format!("{bearer}Transfer-Encoding: gzip, chunked\r\n"), b""),
    ]
    .map(|(line, headers, body)| (line.to_owned(), headers, body.to_vec()))
    .into();
    let mut seen = Pairs::new();
    let mut send = |request: &[u8]| {
        let response = raw(&server, request);
        let error = response.json();
        assert_eq!(names(&error), texts(&schema("Error")["required"]), "{error}");
        seen.insert((response.status.to_string(), error["error_code"].as_str().unwrap().to_owned()));
    };
    for (line, headers, body) in requests {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        send(&[head.as_bytes(), &body].concat());
    }
    send(b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n");
    let list =
        |header| format!("GET /api/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}{header}\r\n");
    send(list("X-Request-Id: panic-in-plan\r\n").as_bytes());
    cluster.stop();
    send(list("").as_bytes());

    let document = document();
    assert_eq!(seen, documented_errors(&document));
    let mut codes = texts(&document["components"]["schemas"]["Error"]["properties"]["error_code"]["enum"]);
    codes.insert("VALIDATION_ERROR".to_owned());
    assert_eq!(codes, seen.into_iter().map(|(_, code)| code).collect());
}
