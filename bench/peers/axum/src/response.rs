//! Responses: a task with its entity tag, or an error, in JSON.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tokio_postgres::Row;

use crate::task::{TASK_COLUMNS, Task};

/// What went wrong.
pub enum Error {
    Unauthorized,
    NotFound,
    /// What is invalid in the request.
    Invalid(&'static str),
    Unavailable,
    Internal,
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        eprintln!("{error:?}");
        if error.is_closed() { Self::Unavailable } else { Self::Internal }
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        eprintln!("{error:?}");
        Self::Unavailable
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "INVALID_TOKEN", "The token is invalid"),
            Self::NotFound => (StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", "Task not found"),
            Self::Invalid(what) => (StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", what),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "Service unavailable"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Internal error"),
        };
        let body = json!({ "detail": message, "error_code": code, "message": message });
        let mut response = json(status, &body);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        response
    }
}

/// A response with a body in JSON.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A task, serialised from its row, with its entity tag, which is the column after the task's.
pub fn tagged(status: StatusCode, row: &Row) -> Result<Response, Error> {
    let task = Task::read(row)?;
    let tag: &str = row.try_get(TASK_COLUMNS)?;
    Ok(([(ETAG, format!("\"{tag}\""))], json(status, &task)).into_response())
}
