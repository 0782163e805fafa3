//! Handlers of the task endpoints: [`plan`] turns a request into a statement, [`render`] its rows into a response. Only
//! [`read_long_list`] performs I/O.

use std::sync::Arc;

use log::error;

use super::body::{Completion, NewTask, TaskPatch};
use super::db_errors::{Sent, is_unencodable, to_api_error};
use super::list_query::{ListQuery, SHORT_LIST_TASKS};
use super::list_stream::{self, TaskListStream};
use super::page::Page;
use super::sql;
use super::task::{RowReader, Task, TaskId};
use crate::auth::UserId;
use crate::db::{Database, DbError, Row, Statement};
use crate::http::Response;
use crate::http::error::ApiError;
use crate::http::preconditions::Preconditions;
use crate::http::router::ApiRoute;

/// A user's call of an endpoint, parsed from the head of the request.
#[derive(Debug)]
pub struct TaskCall {
    /// Whose tasks.
    pub user: UserId,
    /// What is asked for.
    pub endpoint: Endpoint,
}

/// An endpoint with what the URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // each is an endpoint
pub enum Endpoint {
    List(ListQuery),
    Create,
    Read(TaskId),
    Update(TaskId),
    Complete(TaskId),
    Delete(TaskId),
}

impl Endpoint {
    /// Reads the `{id}` of the path, or the query of a list.
    ///
    /// # Errors
    /// When one of them is invalid.
    pub fn parse(route: ApiRoute, id: &str, query: &str) -> Result<Self, ApiError> {
        Ok(match route {
            ApiRoute::ListTasks => Self::List(ListQuery::parse(query)?),
            ApiRoute::CreateTask => Self::Create,
            ApiRoute::GetTask => Self::Read(TaskId::parse(id)?),
            ApiRoute::UpdateTask => Self::Update(TaskId::parse(id)?),
            ApiRoute::CompleteTask => Self::Complete(TaskId::parse(id)?),
            ApiRoute::DeleteTask => Self::Delete(TaskId::parse(id)?),
        })
    }

    /// Whether it is about one existing task, so that preconditions apply.
    pub fn has_preconditions(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Create)
    }

    /// Whether its body is read.
    pub fn has_body(&self) -> bool {
        matches!(self, Self::Create | Self::Update(_) | Self::Complete(_))
    }
}

/// The statement of a call, and what rendering its rows needs.
#[derive(Debug)]
pub struct TaskPlan {
    /// The call.
    pub call: TaskCall,
    /// What is asked of the database.
    pub statement: Statement,
    /// The statement itself checks those of a write.
    preconditions: Preconditions,
    /// What the request sends to the database.
    sent: Sent,
}

/// What a statement returned.
#[derive(Default)]
pub struct Collected {
    /// A list, rendered row by row: all rows together may be too much to keep.
    pub page: Option<Page>,
    /// The rows of any other statement.
    pub rows: Vec<Row>,
}

impl Collected {
    /// Adds a row.
    ///
    /// # Errors
    /// When a row of a list is not what its statement returns, or another user's.
    pub fn add(&mut self, call: &TaskCall, row: Row) -> Result<(), DbError> {
        match &call.endpoint {
            Endpoint::List(query) => {
                self.page.get_or_insert_with(|| Page::first(query)).add(&row, &call.user, SHORT_LIST_TASKS)?;
            }
            _ => self.rows.push(row),
        }
        Ok(())
    }
}

/// The result of [`render`].
pub enum Rendered {
    /// The response.
    Response(Response),
    /// The beginning of a list that is longer than [`SHORT_LIST_TASKS`].
    ListStream(Page),
}

/// Makes the statement of a call.
///
/// # Errors
/// When its body is invalid.
pub fn plan(call: TaskCall, body: &str, preconditions: Preconditions) -> Result<TaskPlan, ApiError> {
    let TaskCall { user, endpoint } = &call;
    let mut fields = TaskPatch::default();
    let statement = match endpoint {
        Endpoint::List(query) => sql::first_page(user, query, SHORT_LIST_TASKS + 1),
        Endpoint::Create => {
            let task = NewTask::parse(body)?;
            let statement = sql::create(user, &task);
            fields = task.into_fields();
            statement
        }
        Endpoint::Read(id) => sql::read(user, *id),
        Endpoint::Update(id) => {
            fields = TaskPatch::parse(body)?;
            let update = || sql::update(user, *id, &fields, &preconditions);
            // A patch that names no field reads the task.
            if fields.is_empty() { sql::read(user, *id) } else { update() }
        }
        Endpoint::Complete(id) => sql::complete(user, *id, Completion::parse(body)?, &preconditions),
        Endpoint::Delete(id) => sql::delete(user, *id, &preconditions),
    };
    let sent = Sent { writes: statement.writes, is_creation: matches!(endpoint, Endpoint::Create), fields };
    Ok(TaskPlan { call, statement, preconditions, sent })
}

/// Renders what a plan's statement returned.
///
/// # Errors
/// When there is no such task, a precondition failed, or the statement did.
pub fn render(plan: &TaskPlan, result: Result<Collected, DbError>) -> Result<Rendered, ApiError> {
    let TaskCall { user, endpoint } = &plan.call;
    let failed = |error| to_api_error(&error, user, &plan.sent);
    let Collected { page, rows } = result.map_err(failed)?;
    if let Endpoint::List(query) = endpoint {
        let page = page.unwrap_or_else(|| Page::first(query)).finish();
        return Ok(match page.cursor {
            None => Rendered::Response(list_response(page)),
            Some(_) => Rendered::ListStream(page),
        });
    }
    let Some(row) = rows.first() else {
        if matches!(endpoint, Endpoint::Create) {
            error!("a new task was not kept: a trigger or a rule of the table discards it");
            return Err(ApiError::Unavailable);
        }
        return Err(ApiError::TaskNotFound);
    };
    let mut reader = RowReader::new(row);
    let read =
        Task::read(&mut reader, user).and_then(|task| Ok((task, reader.column::<Option<&str>>()?.unwrap_or_default())));
    let (task, tag) = read.map_err(failed)?;
    // A row of nulls: the statement found the task, and a precondition failed.
    let task = task.ok_or(ApiError::PreconditionFailed)?;
    let (reads, preconditions) = (!plan.statement.writes, &plan.preconditions);
    let response = match endpoint {
        Endpoint::Create => task_response(201, &task, tag).with_header("Location", format!("/api/tasks/{}", task.id)),
        Endpoint::Delete(_) => Response::empty(204),
        _ if reads && preconditions.fails_if_match(tag) => return Err(ApiError::PreconditionFailed),
        Endpoint::Read(_) if preconditions.fails_if_none_match(tag) => {
            Response::empty(304).with_header("ETag", quoted(tag))
        }
        _ if reads && preconditions.fails_if_none_match(tag) => return Err(ApiError::PreconditionFailed),
        _ => task_response(200, &task, tag),
    };
    Ok(Rendered::Response(response))
}

/// Reads a list that is not batchable, or the rest of one that turned out to be long. `first` is what was read before.
///
/// # Errors
/// When the database cannot answer.
pub fn read_long_list(database: &Arc<Database>, call: &TaskCall, first: Option<Page>) -> Result<Response, ApiError> {
    let TaskCall { user, endpoint: Endpoint::List(query) } = call else { return Err(ApiError::RouteNotFound) };
    let read = match first {
        Some(Page { json, cursor: Some(cursor), total, .. }) if !json.is_empty() => {
            let mut read = Page::read_next(database, user, query, &cursor, &json);
            read.iter_mut().for_each(|page| page.total = total);
            read
        }
        first => Page::read_first(database, user, query, first.and_then(|page| page.cursor).as_ref()),
    };
    match read {
        Ok(page) if page.cursor.is_none() => Ok(list_response(page)),
        Ok(page) => {
            let total = page.total;
            let list = TaskListStream::new(database, user, query, page);
            Ok(with_total(Response::json_stream(200, list, list_stream::RETAINED_BYTES), total))
        }
        // No task can contain a text that the database cannot encode.
        Err(error) if query.search.as_deref().is_some_and(|text| is_unencodable(text, &error)) => {
            Ok(with_total(Response::raw_json(200, b"[]".as_slice()), query.window.map(|_| 0)))
        }
        Err(error) => Err(to_api_error(&error, user, &Sent::default())),
    }
}

fn list_response(page: Page) -> Response {
    let total = page.total;
    with_total(Response::raw_json(200, page.json), total)
}

fn with_total(response: Response, total: Option<i64>) -> Response {
    let Some(total) = total else { return response };
    response.with_header("X-Total-Count", total.to_string())
}

/// A task, and the entity tag by which a later request can refer to this state of it.
fn task_response(status: u16, task: &Task, tag: &str) -> Response {
    Response::json(status, task).with_header("ETag", quoted(tag))
}

fn quoted(tag: &str) -> String {
    ["\"", tag, "\""].concat()
}
