//! Jobs: queued requests, each with what is known of it so far.

use std::sync::Arc;
use std::time::Instant;

use tiny_http::Request;

use super::scheduler::BatchClass;
use crate::ops::access_log::AccessLogEntry;
use crate::ops::log::{RequestScope, enter_request};
use crate::tasks::handlers::{Endpoint, TaskCall, TaskPlan};
use crate::tasks::page::Page;

/// A request without a response yet. If it is dropped, for example by a panic, the engine answers 500.
pub struct PendingRequest {
    /// The request.
    pub request: Request,
    /// Its id in the log and in the response.
    pub id: Arc<str>,
    /// Its entry in the access log.
    pub log: AccessLogEntry,
    /// When it expires in the queue. The retry of a write does not extend this.
    pub deadline: Instant,
}

impl PendingRequest {
    /// Begins a stage of its processing, in which the log names its id.
    ///
    /// Fault injection for tests: in a debug build, a request with the id `panic-in-<stage>` panics here.
    pub fn enter(&self, stage: &str) -> RequestScope {
        let scope = enter_request(Arc::clone(&self.id));
        if cfg!(debug_assertions) && self.id.strip_prefix("panic-in-") == Some(stage) {
            panic!("a fault was injected in {stage}");
        }
        scope
    }
}

/// A request that waits for a worker.
pub struct Job {
    /// The request.
    pub pending: PendingRequest,
    /// What is to be done for it.
    pub work: Work,
}

/// What a worker does for a request.
pub enum Work {
    /// Answers `/ready`.
    Probe,
    /// Decides again with the issuer's keys, because the token is signed with one.
    Verify {
        /// The id of the key, from the header of the token.
        kid: String,
        /// Whether the request has waited for a fetch of the key set.
        has_waited: bool,
    },
    /// Runs the statement of a call.
    Task(TaskCall),
    /// Runs a planned write again, alone.
    Retry(TaskPlan),
    /// Reads the rest of a list that begins with this page.
    RemainingList(TaskCall, Page),
}

impl Work {
    /// The class of its batch.
    pub fn class(&self) -> BatchClass {
        match self {
            Self::Probe => BatchClass::Probe,
            Self::Verify { .. } => BatchClass::Verify,
            Self::Retry(..) => BatchClass::LoneWrite,
            Self::RemainingList(..) => BatchClass::Slow,
            Self::Task(call) => match &call.endpoint {
                Endpoint::Read(_) => BatchClass::Read,
                Endpoint::List(query) if query.is_batchable() => BatchClass::List,
                Endpoint::List(_) => BatchClass::Slow,
                Endpoint::Create | Endpoint::Update(_) | Endpoint::Complete(_) | Endpoint::Delete(_) => {
                    BatchClass::Write
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::UserId;
    use crate::tasks::list_query::ListQuery;
    use crate::tasks::task::TaskId;

    #[test]
    fn work_when_classified_shares_batches_with_its_kind() {
        let id = TaskId::parse("1").unwrap();
        let list = |query| Endpoint::List(ListQuery::parse(query).unwrap());
        for (endpoint, class) in [
            (list("limit=20"), BatchClass::List),
            (list("search=milk"), BatchClass::Slow),
            (Endpoint::Read(id), BatchClass::Read),
            (Endpoint::Create, BatchClass::Write),
            (Endpoint::Update(id), BatchClass::Write),
            (Endpoint::Complete(id), BatchClass::Write),
            (Endpoint::Delete(id), BatchClass::Write),
        ] {
            let work = Work::Task(TaskCall { user: UserId::of_test("ada"), endpoint });
            assert_eq!(work.class(), class);
        }
        assert_eq!(Work::Probe.class(), BatchClass::Probe);
        assert_eq!(Work::Verify { kid: "a".to_owned(), has_waited: false }.class(), BatchClass::Verify);
    }
}
