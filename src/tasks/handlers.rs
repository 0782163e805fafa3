//! The endpoints: what each reads of the request, asks of the store, and answers.

use serde_json::json;

use crate::db::{Database, Question};
use crate::http::error::Error;
use crate::http::preconditions::{Conditions, Tagged};
use crate::http::router::{self, PRIVATE, Private};
use crate::http::{Method, Response};
use crate::ops::docs;
use crate::tasks::list_query::Listing;
use crate::tasks::list_stream::{self as long_list, LongList};
use crate::tasks::seal::{Seal, Tag};
use crate::tasks::store::{LastingTasks, Page, Tasks};
use crate::tasks::task::{Completion, NewTask, TaskChange, TaskId};

/// What an endpoint answers.
pub enum Reply<'r> {
    /// This.
    Now(Response),
    /// What this tells, once it is asked: together with other requests' questions, if there are any.
    Ask(Question<'r, Response>),
}

impl From<Response> for Reply<'_> {
    fn from(response: Response) -> Self {
        Reply::Now(response)
    }
}

/// `GET /api/tasks`
#[allow(clippy::missing_errors_doc)] // every endpoint: whatever parsing and the store refuse
pub fn list(tasks: &Tasks, query: &str) -> Result<Reply<'static>, Error> {
    let listing = Listing::parse(query)?;
    let lasting = tasks.lasting();
    if listing.is_brief() {
        let question = tasks.brief_list(listing.clone());
        return Ok(Reply::Ask(question.and_then(|page| Ok(beginning_with(page, listing, lasting)))));
    }
    Ok(beginning_with(tasks.first_page(&listing)?, listing, lasting).into())
}

/// A list with this first page.
fn beginning_with(Page { json, total, rest, .. }: Page, listing: Listing, tasks: LastingTasks) -> Response {
    let response = match rest {
        None => Response::json_text(200, json),
        Some(rest) => {
            let list = LongList::new(tasks, listing, json, rest);
            Response::json_stream(200, list, long_list::MAX_HELD_BYTES)
        }
    };
    match total {
        Some(total) => response.with_header("X-Total-Count", total.to_string()),
        None => response,
    }
}

/// `POST /api/tasks`
#[allow(clippy::missing_errors_doc)]
pub fn create<'r>(tasks: &Tasks, body: &str, seal: &'r Seal) -> Result<Reply<'r>, Error> {
    Ok(Reply::Ask(tasks.create(&NewTask::parse(body)?).and_then(|created| {
        let location = format!("/api/tasks/{}", created.task.id);
        Ok(tagged(201, &created, seal).with_header("Location", location))
    })))
}

/// `GET /api/tasks/{id}`
#[allow(clippy::missing_errors_doc)]
pub fn get<'r>(tasks: &Tasks, id: &str, conditions: Conditions, seal: &'r Seal) -> Result<Reply<'r>, Error> {
    Ok(Reply::Ask(tasks.get(TaskId::parse(id)?).and_then(move |found| {
        if conditions.refuse(found.tag) {
            Err(Error::PreconditionFailed)
        } else if conditions.know(found.tag) {
            Ok(Response::empty(304).with_header("ETag", etag(found.tag, seal)))
        } else {
            Ok(tagged(200, &found, seal))
        }
    })))
}

/// `PUT /api/tasks/{id}`
#[allow(clippy::missing_errors_doc)]
pub fn update<'r>(
    tasks: &Tasks,
    id: &str,
    body: &str,
    conditions: Conditions,
    seal: &'r Seal,
) -> Result<Reply<'r>, Error> {
    let changed = tasks.update(TaskId::parse(id)?, &TaskChange::parse(body)?, conditions);
    Ok(Reply::Ask(changed.and_then(|changed| Ok(tagged(200, &changed, seal)))))
}

/// `PATCH /api/tasks/{id}/complete`
#[allow(clippy::missing_errors_doc)]
pub fn complete<'r>(
    tasks: &Tasks,
    id: &str,
    body: &str,
    conditions: &Conditions,
    seal: &'r Seal,
) -> Result<Reply<'r>, Error> {
    let changed = tasks.complete(TaskId::parse(id)?, Completion::parse(body)?, conditions);
    Ok(Reply::Ask(changed.and_then(|changed| Ok(tagged(200, &changed, seal)))))
}

/// `DELETE /api/tasks/{id}`
#[allow(clippy::missing_errors_doc)]
pub fn delete(tasks: &Tasks, id: &str, conditions: &Conditions) -> Result<Reply<'static>, Error> {
    let deleted = tasks.delete(TaskId::parse(id)?, conditions);
    Ok(Reply::Ask(deleted.and_then(|()| Ok(Response::empty(204)))))
}

/// A task, and the tag by which a later request can say that it means this state of it.
fn tagged(status: u16, found: &Tagged, seal: &Seal) -> Response {
    Response::json_by(status, |body| found.task.write_json(body)).with_header("ETag", etag(found.tag, seal))
}

/// A tag as the header has it.
fn etag(tag: Tag, seal: &Seal) -> String {
    ["\"", &seal.close(tag), "\""].concat()
}

/// Which requests a request may be answered together with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Those that look up one task.
    Reads,
    /// Those that look up a list which takes next to no time.
    Lists,
    /// Those that change one task.
    Writes,
    /// None.
    None,
}

impl Company {
    /// All there are, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Reads, Self::Lists, Self::Writes, Self::None];
}

/// The company of a request with this method and target: one that has any is answered with a question, or fails before it comes
/// to that.
pub fn company(method: &Method, path: &str, query: &str) -> Company {
    match router::find(&PRIVATE, method, path).map(|found| found.endpoint) {
        Ok(Private::GetTask) => Company::Reads,
        Ok(Private::ListTasks) if Listing::parse(query).is_ok_and(|listing| listing.is_brief()) => {
            Company::Lists
        }
        Ok(Private::CreateTask | Private::UpdateTask | Private::CompleteTask | Private::DeleteTask) => {
            Company::Writes
        }
        Ok(Private::ListTasks) | Err(_) => Company::None,
    }
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
    Response::json_text(200, include_bytes!("../../specs/api/openapi.json").as_slice())
}

/// `GET /docs`
pub fn docs() -> Response {
    Response::page(docs::page()).with_header("Content-Security-Policy", docs::CONTENT_SECURITY_POLICY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_next_to_no_time_has_company() {
        use Company::{Lists, None, Reads, Writes};
        for (method, path, query, expected) in [
            (Method::Get, "/api/tasks/1", "", Reads),
            (Method::Get, "/api/tasks/abc", "", Reads),
            (Method::Head, "/api/tasks/1/", "", Reads),
            (Method::Get, "/api/tasks", "limit=20", Lists),
            (Method::Get, "/api/tasks", "limit=60&offset=40&order=asc", Lists),
            (Method::Get, "/api/tasks", "limit=60&offset=41", None),
            (Method::Get, "/api/tasks", "limit=101", None),
            (Method::Get, "/api/tasks", "limit=0", None),
            (Method::Get, "/api/tasks", "", None),
            (Method::Get, "/api/tasks", "limit=20&completed=true", None),
            (Method::Get, "/api/tasks", "limit=20&search=milk", None),
            (Method::Get, "/api/tasks", "limit=20&sort=title", None),
            (Method::Get, "/api/tasks", "limit=20&sort=updated_at", None),
            (Method::Post, "/api/tasks", "", Writes),
            (Method::Put, "/api/tasks/1", "", Writes),
            (Method::Patch, "/api/tasks/1/complete", "", Writes),
            (Method::Delete, "/api/tasks/1", "", Writes),
            (Method::Options, "/api/tasks/1", "", None),
            (Method::Get, "/ready", "", None),
            (Method::Get, "/api/none", "", None),
        ] {
            assert_eq!(company(&method, path, query), expected, "{method} {path} {query}");
        }
    }
}
