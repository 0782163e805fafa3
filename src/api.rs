//! The endpoints: what each reads of the request, asks of the store, and answers.

use serde_json::json;

use crate::conditions::{Conditions, Tagged};
use crate::database::Database;
use crate::docs;
use crate::error::Error;
use crate::http::Response;
use crate::listing::Listing;
use crate::long_list::{self, LongList};
use crate::seal::{Seal, Tag};
use crate::store::{Page, Tasks};
use crate::task::{Completion, NewTask, TaskChange, TaskId};

/// `GET /api/tasks`
#[allow(clippy::missing_errors_doc)] // every endpoint: whatever parsing and the store refuse
pub fn list(tasks: &Tasks, query: &str) -> Result<Response, Error> {
    let listing = Listing::parse(query)?;
    let Page { json, total, rest, .. } = tasks.first_page(&listing)?;
    let response = match rest {
        None => Response::json_text(200, json),
        Some(rest) => {
            let list = LongList::new(tasks.lasting(), listing, json, rest);
            Response::json_stream(200, list, long_list::MAX_HELD_BYTES)
        }
    };
    Ok(match total {
        Some(total) => response.with_header("X-Total-Count", total.to_string()),
        None => response,
    })
}

/// `POST /api/tasks`
#[allow(clippy::missing_errors_doc)]
pub fn create(tasks: &Tasks, body: &str, seal: &Seal) -> Result<Response, Error> {
    let created = tasks.create(&NewTask::parse(body)?)?;
    let location = format!("/api/tasks/{}", created.task.id);
    Ok(tagged(201, &created, seal).with_header("Location", location))
}

/// `GET /api/tasks/{id}`
#[allow(clippy::missing_errors_doc)]
pub fn get(tasks: &Tasks, id: &str, conditions: &Conditions, seal: &Seal) -> Result<Response, Error> {
    let found = tasks.get(TaskId::parse(id)?)?;
    if conditions.refuse(found.tag) {
        Err(Error::PreconditionFailed)
    } else if conditions.know(found.tag) {
        Ok(Response::empty(304).with_header("ETag", etag(found.tag, seal)))
    } else {
        Ok(tagged(200, &found, seal))
    }
}

/// `PUT /api/tasks/{id}`
#[allow(clippy::missing_errors_doc)]
pub fn update(
    tasks: &Tasks,
    id: &str,
    body: &str,
    conditions: &Conditions,
    seal: &Seal,
) -> Result<Response, Error> {
    let id = TaskId::parse(id)?;
    Ok(tagged(200, &tasks.update(id, &TaskChange::parse(body)?, conditions)?, seal))
}

/// `PATCH /api/tasks/{id}/complete`
#[allow(clippy::missing_errors_doc)]
pub fn complete(
    tasks: &Tasks,
    id: &str,
    body: &str,
    conditions: &Conditions,
    seal: &Seal,
) -> Result<Response, Error> {
    let id = TaskId::parse(id)?;
    Ok(tagged(200, &tasks.complete(id, Completion::parse(body)?, conditions)?, seal))
}

/// `DELETE /api/tasks/{id}`
#[allow(clippy::missing_errors_doc)]
pub fn delete(tasks: &Tasks, id: &str, conditions: &Conditions) -> Result<Response, Error> {
    tasks.delete(TaskId::parse(id)?, conditions)?;
    Ok(Response::empty(204))
}

/// A task, and the tag by which a later request can say that it means this state of it.
fn tagged(status: u16, found: &Tagged, seal: &Seal) -> Response {
    Response::json(status, &found.task).with_header("ETag", etag(found.tag, seal))
}

/// A tag as the header has it.
fn etag(tag: Tag, seal: &Seal) -> String {
    format!("\"{}\"", seal.close(tag))
}

/// `GET /`
pub fn about() -> Response {
    Response::json(200, &json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }))
}

/// `GET /health`: this process is alive. Touches nothing.
pub fn health() -> Response {
    Response::json(200, &json!({ "status": "ok" }))
}

/// `GET /ready`: the database answers, too.
#[allow(clippy::missing_errors_doc)]
pub fn ready(database: &Database) -> Result<Response, Error> {
    if database.is_ready() {
        Ok(Response::json(200, &json!({ "status": "ready" })))
    } else {
        Err(Error::Unavailable)
    }
}

/// `GET /openapi.json`
pub fn openapi() -> Response {
    Response::json_text(200, include_bytes!("../specs/api/openapi.json").as_slice())
}

/// `GET /docs`
pub fn docs() -> Response {
    Response::page(docs::page()).with_header("Content-Security-Policy", docs::CONTENT_SECURITY_POLICY)
}
