//! The endpoints: what a request asks of the database, and what its rows become. One function each way, no I/O but for long lists.

use std::sync::Arc;

use log::error;
use postgres::error::SqlState;

use super::list_query::{ListQuery, SHORT_LIST_TASKS};
use super::list_stream::{self, TaskListStream};
use super::page::Page;
use super::row::RowReader;
use super::sql;
use super::task::{Completion, Description, NewTask, Task, TaskId, TaskPatch, Title};
use crate::auth::{AuthError, UserId};
use crate::db::{Database, DbError, Row, Statement};
use crate::http::Response;
use crate::http::error::{ApiError, FieldError};
use crate::http::preconditions::Preconditions;
use crate::http::router::ApiRoute;

/// What a request asks for, as far as its head says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // each is an endpoint
pub enum TaskCall {
    List(ListQuery),
    Create,
    Read(TaskId),
    Update(TaskId),
    Complete(TaskId),
    Delete(TaskId),
}

impl TaskCall {
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

/// A statement, and what its rows become.
#[derive(Debug)]
pub struct TaskPlan {
    /// What is asked of the database.
    pub statement: Statement,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Created(NewTask),
    Found(Preconditions),
    /// A patch that names no field reads the task.
    Unchanged(Preconditions),
    Changed(TaskPatch),
    Completed,
    Deleted,
    Listed(ListQuery),
}

/// What rows become.
pub enum Rendered {
    /// The response.
    Response(Response),
    /// The beginning of a list that is longer than [`SHORT_LIST_TASKS`].
    LongList(Page),
}

/// What a request asks of the database.
///
/// # Errors
/// When its body is invalid.
pub fn plan(user: &UserId, call: &TaskCall, body: &str, preconditions: Preconditions) -> Result<TaskPlan, ApiError> {
    let (statement, answer) = match call {
        TaskCall::List(query) => {
            let statement = sql::first_page(user, query, SHORT_LIST_TASKS + 1);
            (statement, Answer::Listed(query.clone()))
        }
        TaskCall::Create => {
            let task = NewTask::parse(body)?;
            (sql::create(user, &task), Answer::Created(task))
        }
        TaskCall::Read(id) => (sql::read(user, *id), Answer::Found(preconditions)),
        TaskCall::Update(id) => match TaskPatch::parse(body)? {
            patch if patch.is_empty() => (sql::read(user, *id), Answer::Unchanged(preconditions)),
            patch => (sql::update(user, *id, &patch, &preconditions), Answer::Changed(patch)),
        },
        TaskCall::Complete(id) => {
            (sql::complete(user, *id, Completion::parse(body)?, &preconditions), Answer::Completed)
        }
        TaskCall::Delete(id) => (sql::delete(user, *id, &preconditions), Answer::Deleted),
    };
    Ok(TaskPlan { statement, answer })
}

/// What the rows of a plan become.
///
/// # Errors
/// When there is no such task, a precondition failed, or the statement did.
pub fn render(user: &UserId, plan: &TaskPlan, result: Result<Vec<Row>, DbError>) -> Result<Rendered, ApiError> {
    let answer = &plan.answer;
    let rows = match result {
        Ok(rows) => rows,
        // The database's encoding lacks a character of the search text: no task can have it.
        Err(error) if is_search(answer) && is_unencodable(&error) => Vec::new(),
        Err(error) => return Err(to_api_error(&error, answer)),
    };
    if let Answer::Listed(query) = answer {
        let page =
            Page::from_rows(&rows, user, query, SHORT_LIST_TASKS).map_err(|error| to_api_error(&error, answer))?;
        return Ok(match page.cursor {
            None => Rendered::Response(list_response(page)),
            Some(_) => Rendered::LongList(page),
        });
    }
    let row = rows.first().ok_or(ApiError::TaskNotFound)?;
    let mut reader = RowReader::new(row);
    let read = reader.task(user).and_then(|task| Ok((task, reader.column::<Option<&str>>()?.unwrap_or_default())));
    let (task, tag) = read.map_err(|error| to_api_error(&error, answer))?;
    // The statement returned a row of nulls.
    let task = task.ok_or(ApiError::PreconditionFailed)?;
    let response = match answer {
        Answer::Created(_) => task_response(201, &task, tag).with_header("Location", format!("/api/tasks/{}", task.id)),
        Answer::Found(preconditions) if preconditions.fails_if_match(tag) => {
            return Err(ApiError::PreconditionFailed);
        }
        Answer::Found(preconditions) if preconditions.fails_if_none_match(tag) => {
            Response::empty(304).with_header("ETag", quoted(tag))
        }
        Answer::Unchanged(preconditions)
            if preconditions.fails_if_match(tag) || preconditions.fails_if_none_match(tag) =>
        {
            return Err(ApiError::PreconditionFailed);
        }
        Answer::Deleted => Response::empty(204),
        _ => task_response(200, &task, tag),
    };
    Ok(Rendered::Response(response))
}

/// The whole of a list that does not go in batches, or the rest of one that turned out to be long. `first` is what was read.
///
/// # Errors
/// When the database cannot answer.
pub fn read_long_list(
    database: &Arc<Database>,
    user: &UserId,
    call: &TaskCall,
    first: Option<Page>,
) -> Result<Response, ApiError> {
    let TaskCall::List(query) = call else { return Err(ApiError::RouteNotFound) };
    let read = match first {
        Some(Page { json, cursor: Some(cursor), .. }) => Page::read_next(database, user, query, &cursor, &json),
        _ => Page::read_first(database, user, query),
    };
    match read {
        Ok(page) if page.cursor.is_none() => Ok(list_response(page)),
        Ok(page) => {
            let total = page.total;
            let list = TaskListStream::new(database, user, query, page);
            Ok(with_total(Response::json_stream(200, list, list_stream::RETAINED_BYTES), total))
        }
        Err(error) if is_unencodable(&error) => {
            Ok(with_total(Response::raw_json(200, b"[]".as_slice()), query.window.map(|_| 0)))
        }
        Err(error) => Err(to_api_error(&error, &Answer::Listed(query.clone()))),
    }
}

fn list_response(page: Page) -> Response {
    let total = page.total;
    with_total(Response::raw_json(200, page.json), total)
}

fn with_total(response: Response, total: Option<i64>) -> Response {
    match total {
        Some(total) => response.with_header("X-Total-Count", total.to_string()),
        None => response,
    }
}

/// A task, and the entity tag by which a later request can refer to this state of it.
fn task_response(status: u16, task: &Task, tag: &str) -> Response {
    Response::json(status, task).with_header("ETag", quoted(tag))
}

fn quoted(tag: &str) -> String {
    ["\"", tag, "\""].concat()
}

fn is_search(answer: &Answer) -> bool {
    matches!(answer, Answer::Listed(query) if query.search.is_some())
}

/// A text has a character that the database's encoding lacks.
fn is_unencodable(error: &DbError) -> bool {
    [SqlState::UNTRANSLATABLE_CHARACTER, SqlState::CHARACTER_NOT_IN_REPERTOIRE]
        .iter()
        .any(|code| error.code() == Some(code))
}

/// What a client reads of a failed statement. What an operator needs is logged.
fn to_api_error(error: &DbError, answer: &Answer) -> ApiError {
    let is_code = |code: SqlState| error.code() == Some(&code);
    if is_code(SqlState::STRING_DATA_RIGHT_TRUNCATION) {
        return refused_value(answer, "string_too_long", "String is too long for the database", |text| {
            text.chars().count() > column_length(error)
        });
    }
    if is_unencodable(error) {
        let message = "String has a character that the database cannot store";
        return refused_value(answer, "string_unencodable", message, |text| !text.is_ascii());
    }
    if is_code(SqlState::CHECK_VIOLATION) {
        return refused_value(answer, "check_violation", "Value is refused by a rule of the database", |_| true);
    }
    if is_code(SqlState::FOREIGN_KEY_VIOLATION) {
        return AuthError::Invalid("its user does not exist").into();
    }
    if is_code(SqlState::UNIQUE_VIOLATION) {
        error!("a task cannot be created, probably because the sequence of `id` is behind: {error}");
        return ApiError::Unavailable;
    }
    if is_code(SqlState::INSUFFICIENT_PRIVILEGE) {
        error!("a privilege is missing, `todo-backend --check` names the grant: {error}");
        return ApiError::Unavailable;
    }
    if error.is_transient() {
        return ApiError::Unavailable;
    }
    error!("a statement failed: {error}");
    ApiError::Internal
}

/// A 422 on the one text field of the request that `is_wrong` holds for; on the body where it is not clear which.
fn refused_value(answer: &Answer, kind: &'static str, message: &str, is_wrong: impl Fn(&str) -> bool) -> ApiError {
    let (title, description) = match answer {
        Answer::Created(task) => (Some(&task.title), task.description.as_ref()),
        Answer::Changed(patch) => (patch.title.as_ref(), patch.description.as_ref().and_then(Option::as_ref)),
        _ => (None, None),
    };
    let texts = [("title", title.map(Title::as_str)), ("description", description.map(Description::as_str))];
    let wrong = texts.into_iter().filter(|(_, text)| text.is_some_and(&is_wrong)).map(|(name, _)| name);
    let mut wrong = wrong.collect::<Vec<_>>();
    let loc = if wrong.len() == 1 { vec!["body", wrong.remove(0)] } else { vec!["body"] };
    ApiError::Validation(vec![FieldError::new(&loc, kind, message)])
}

/// The length in PostgreSQL's "value too long for type character varying(100)".
fn column_length(error: &DbError) -> usize {
    let message = error.server().map_or("", |said| said.message());
    let digits = message.rsplit_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(digits, _)| digits);
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_when_refused_by_the_database_names_the_field() {
        let answer = |body: &str| Answer::Created(NewTask::parse(body).unwrap());
        let loc = |answer: &Answer, is_wrong: fn(&str) -> bool| match refused_value(answer, "kind", "why", is_wrong) {
            ApiError::Validation(errors) => errors[0].loc.join("."),
            other => panic!("{other:?}"),
        };
        let both = answer(r#"{"title":"é","description":"a"}"#);
        assert_eq!(loc(&both, |text| !text.is_ascii()), "body.title");
        assert_eq!(loc(&both, |text| text.is_ascii()), "body.description");
        assert_eq!(loc(&both, |_| true), "body");
        assert_eq!(loc(&answer(r#"{"title":"a"}"#), |_| true), "body.title");
        assert_eq!(loc(&Answer::Deleted, |_| true), "body");
    }
}
