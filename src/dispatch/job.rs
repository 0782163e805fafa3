//! Jobs: queued requests, each with what is known of it so far.

use std::sync::Arc;
use std::time::Instant;

use tiny_http::Request;

use super::scheduler::Owner;
use crate::auth::UserId;
use crate::http::error::ApiError;
use crate::ops::access_log::AccessLogEntry;
use crate::tasks::handlers::{TaskCall, TaskPlan};
use crate::tasks::page::Page;

/// A request without a response yet. If it is dropped, for example by a panic, the engine answers 500.
pub struct PendingRequest {
    /// The request.
    pub request: Request,
    /// Its id in the log and in the response.
    pub id: Arc<str>,
    /// Its entry in the access log.
    pub log: AccessLogEntry,
}

/// Work for a worker.
pub enum Job {
    /// `/ready`.
    Probe(PendingRequest),
    /// A token that is signed with a key.
    Verify(VerifyJob),
    /// A request of a user whose token was verified.
    Task(Box<TaskJob>),
}

impl Job {
    /// The request alone.
    pub fn into_pending(self) -> PendingRequest {
        match self {
            Job::Probe(pending) => pending,
            Job::Verify(job) => job.pending,
            Job::Task(job) => job.pending,
        }
    }
}

/// A request whose token is signed with a key of the issuer.
pub struct VerifyJob {
    /// The request.
    pub pending: PendingRequest,
    /// The id of the key, from the header of the token.
    pub kid: String,
    /// What it asks for, or why that is invalid.
    pub call: Result<TaskCall, ApiError>,
    /// Whether it has waited for a fetch of the key set.
    pub has_waited: bool,
}

/// A request for tasks.
pub struct TaskJob {
    /// The request.
    pub pending: PendingRequest,
    /// Whose tasks.
    pub user: UserId,
    /// The same user, as the scheduler knows them.
    pub owner: Owner,
    /// What is asked for.
    pub call: TaskCall,
    /// When it expires in the queue. A retry does not extend this.
    pub deadline: Instant,
    /// Its plan, once the body is read. A retry uses it again.
    pub plan: Option<TaskPlan>,
    /// The beginning of a list that turned out to be long.
    pub first_page: Option<Page>,
}
