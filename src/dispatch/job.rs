//! What the queue holds: requests, with what is known of them.

use std::sync::Arc;
use std::time::Instant;

use tiny_http::Request;

use super::scheduler::Owner;
use crate::auth::UserId;
use crate::http::error::ApiError;
use crate::ops::access_log::AccessLogEntry;
use crate::tasks::handlers::{TaskCall, TaskPlan};
use crate::tasks::page::Page;

/// A request that is not answered yet. Dropped, by a panic too, the engine answers it 500.
pub struct PendingRequest {
    /// The request.
    pub request: Request,
    /// Its id in the log and in the response.
    pub id: Arc<str>,
    /// What is logged of it.
    pub log: AccessLogEntry,
}

/// What waits for a worker.
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
    /// The key.
    pub kid: String,
    /// What it asks for, if that is valid.
    pub call: Result<TaskCall, ApiError>,
    /// It has waited for a fetch of the key set.
    pub has_waited: bool,
}

/// A request for tasks.
pub struct TaskJob {
    /// The request.
    pub pending: PendingRequest,
    /// Whose tasks.
    pub user: UserId,
    /// The same for the scheduler.
    pub owner: Owner,
    /// What is asked for.
    pub call: TaskCall,
    /// Until when it may be queued. A retry does not extend it.
    pub deadline: Instant,
    /// Once it is known.
    pub plan: Option<TaskPlan>,
    /// The beginning of a list that turned out to be long.
    pub first_page: Option<Page>,
}
