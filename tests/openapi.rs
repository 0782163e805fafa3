//! `specs/api/openapi.json` and the router say the same, and the server serves that file.

use std::collections::BTreeSet;

use serde_json::Value;
use todo_backend::http::router::{PRIVATE, PUBLIC, Route};

fn document() -> Value {
    serde_json::from_str(include_str!("../specs/api/openapi.json")).expect("openapi.json is JSON")
}

fn routed<E>(routes: &[Route<E>]) -> BTreeSet<(String, String)> {
    let methods = |route: &Route<E>| {
        let allow = route.allow.split(", ").map(str::to_ascii_lowercase);
        allow.map(|method| (route.path.to_owned(), method)).collect::<Vec<_>>()
    };
    routes.iter().flat_map(methods).collect()
}

#[test]
fn the_document_and_the_router_name_the_same_operations() {
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            if ["get", "head", "post", "put", "patch", "delete", "options"].contains(&method.as_str()) {
                documented.insert((path.clone(), method.clone()));
            }
        }
    }
    let routed: BTreeSet<_> = routed(&PUBLIC).into_iter().chain(routed(&PRIVATE)).collect();
    assert_eq!(documented, routed);
}

#[test]
fn only_what_needs_an_identity_asks_for_a_token() {
    let document = document();
    let global = document["security"].as_array().is_some_and(|security| !security.is_empty());
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let Some(operation) =
                operation.as_object().filter(|operation| operation.contains_key("responses"))
            else {
                continue;
            };
            let own = operation.get("security").map(|security| !security.as_array().unwrap().is_empty());
            assert_eq!(own.unwrap_or(global), path.starts_with("/api"), "{method} {path}");
            assert_eq!(
                operation["responses"].get("401").is_some(),
                path.starts_with("/api"),
                "{method} {path}"
            );
        }
    }
}

#[test]
fn the_document_is_of_this_version() {
    assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(document: &Value, value: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                members.values().for_each(|member| walk(document, member));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(document, item)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
}
