//! Jobs: queued requests, each with what is known of it so far.

use std::sync::Arc;
use std::time::Instant;

use tiny_http::Request;

use super::scheduler::BatchClass;
use crate::auth::UserId;
use crate::http::error::ApiError;
use crate::ops::access_log::AccessLogEntry;
use crate::ops::log::{RequestScope, enter_request};
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

impl PendingRequest {
    /// Begins a stage of its processing, in which the log names its id.
    pub fn enter(&self, stage: &str) -> RequestScope {
        let scope = enter_request(Arc::clone(&self.id));
        fault_point(stage, &self.id);
        scope
    }
}

/// Fault injection for tests: in a debug build, a request with the id `panic-in-<stage>` panics at that stage.
pub fn fault_point(stage: &str, request_id: &str) {
    if cfg!(debug_assertions) && request_id.strip_prefix("panic-in-") == Some(stage) {
        panic!("a fault was injected in {stage}");
    }
}

/// Work for a worker. It is small, for the scheduler searches among jobs.
pub enum Job {
    /// `/ready`.
    Probe(Box<PendingRequest>),
    /// A token that is signed with a key.
    Verify(Box<VerifyJob>),
    /// A request of a user whose token was verified.
    Task(Box<TaskJob>),
}

impl Job {
    /// The request alone.
    pub fn into_pending(self) -> PendingRequest {
        match self {
            Job::Probe(pending) => *pending,
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
    /// What is asked for.
    pub call: TaskCall,
    /// When it expires in the queue. A retry does not extend this.
    pub deadline: Instant,
    /// The plan of a write that is to be retried.
    pub plan: Option<TaskPlan>,
    /// The beginning of a list that turned out to be long.
    pub first_page: Option<Page>,
}

impl TaskJob {
    /// The class of the batch that it may join next.
    pub fn class(&self) -> BatchClass {
        match &self.call {
            _ if self.plan.is_some() => BatchClass::LoneWrite,
            TaskCall::Read(_) => BatchClass::Read,
            TaskCall::List(query) if query.is_batchable() && self.first_page.is_none() => BatchClass::List,
            TaskCall::List(_) => BatchClass::Slow,
            TaskCall::Create | TaskCall::Update(_) | TaskCall::Complete(_) | TaskCall::Delete(_) => BatchClass::Write,
        }
    }
}
