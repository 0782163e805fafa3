//! The endpoints: what each reads of the request, asks of the store, and answers.

use std::sync::LazyLock;

use serde_json::json;

use crate::database::Database;
use crate::error::Error;
use crate::http::Response;
use crate::listing::Listing;
use crate::store::Tasks;
use crate::task::{Completion, NewTask, TaskChange, TaskId};

/// `GET /api/tasks`
#[allow(clippy::missing_errors_doc)] // every endpoint: whatever parsing and the store refuse
pub fn list(tasks: &Tasks, query: &str) -> Result<Response, Error> {
    let list = tasks.list(&Listing::parse(query)?)?;
    let response = Response::json(200, &list.tasks);
    Ok(match list.total {
        Some(total) => response.with_header("X-Total-Count", total.to_string()),
        None => response,
    })
}

/// `POST /api/tasks`
#[allow(clippy::missing_errors_doc)]
pub fn create(tasks: &Tasks, body: &str) -> Result<Response, Error> {
    let task = tasks.create(&NewTask::parse(body)?)?;
    Ok(Response::json(201, &task).with_header("Location", format!("/api/tasks/{}", task.id)))
}

/// `GET /api/tasks/{id}`
#[allow(clippy::missing_errors_doc)]
pub fn get(tasks: &Tasks, id: &str) -> Result<Response, Error> {
    Ok(Response::json(200, &tasks.get(TaskId::parse(id)?)?))
}

/// `PUT /api/tasks/{id}`
#[allow(clippy::missing_errors_doc)]
pub fn update(tasks: &Tasks, id: &str, body: &str) -> Result<Response, Error> {
    Ok(Response::json(200, &tasks.update(TaskId::parse(id)?, &TaskChange::parse(body)?)?))
}

/// `PATCH /api/tasks/{id}/complete`
#[allow(clippy::missing_errors_doc)]
pub fn complete(tasks: &Tasks, id: &str, body: &str) -> Result<Response, Error> {
    Ok(Response::json(200, &tasks.complete(TaskId::parse(id)?, Completion::parse(body)?)?))
}

/// `DELETE /api/tasks/{id}`
#[allow(clippy::missing_errors_doc)]
pub fn delete(tasks: &Tasks, id: &str) -> Result<Response, Error> {
    tasks.delete(TaskId::parse(id)?)?;
    Ok(Response::empty(204))
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
    static OPENAPI: LazyLock<Vec<u8>> =
        LazyLock::new(|| include_bytes!("../specs/api/openapi.json").to_vec());
    Response::json_text(200, OPENAPI.clone())
}
