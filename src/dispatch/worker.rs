//! The worker loop: plans a batch, runs it in one round trip, renders the rows, sends the responses.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use log::error;

use super::Dispatcher;
use super::job::{Job, PendingRequest, Work};
use super::scheduler::{Batch, BatchClass};
use crate::db::{BatchOutcome, DbError, Statement};
use crate::http::error::ApiError;
use crate::http::preconditions::Preconditions;
use crate::http::{Response, preconditions, read_body};
use crate::tasks::handlers::{self, Collected, Rendered, TaskCall, TaskPlan};
use crate::tasks::page::Page;

/// A request with its plan.
type Planned = (PendingRequest, TaskPlan);

impl Dispatcher {
    /// Runs jobs for ever.
    pub fn run_worker(&self) {
        let mut done = None;
        loop {
            let Batch { class, jobs, permit } = self.queue.take(done.take(), || !self.database.is_pooled());
            // A panic drops the requests of the batch, and the engine answers each of them 500.
            if catch_unwind(AssertUnwindSafe(|| self.run(class, jobs))).is_err() {
                error!("a batch was ended by a panic; see above");
            }
            done = Some(permit);
        }
    }

    #[allow(clippy::vec_box)] // boxed in the queue, whose entries should be small: the scheduler searches among them
    fn run(&self, class: BatchClass, jobs: Vec<Box<Job>>) {
        let mut planned = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Job { pending, work } = *job;
            match work {
                Work::Probe => self.probe(pending),
                Work::Verify { kid, has_waited } => self.verify(pending, kid, has_waited),
                Work::Task(call) if class == BatchClass::Slow => self.read_long_list(pending, &call, None),
                Work::RemainingList(call, first) => self.read_long_list(pending, &call, Some(first)),
                Work::Task(call) => planned.extend(self.plan(pending, call)),
                Work::Retry(plan) => planned.push((pending, plan)),
            }
        }
        if class == BatchClass::Write && planned.len() > 1 {
            self.execute_transaction(planned);
        } else if !planned.is_empty() {
            self.execute_each(planned);
        }
    }

    fn probe(&self, mut pending: PendingRequest) {
        let is_ready = pending.log.database.measure(|| self.database.is_ready());
        let ready = || Response::json(200, &serde_json::json!({ "status": "ready" }));
        self.respond(pending, if is_ready { ready() } else { ApiError::Unavailable.into() });
    }

    /// Verifies a token that is signed with a key, or parks its request until the key set is fetched.
    fn verify(&self, pending: PendingRequest, kid: String, has_waited: bool) {
        let found = self.jwks.find(kid, pending, has_waited, Instant::now());
        let Some((mut pending, keys)) = found else { return };
        let admission = keys
            .map_err(|error| ApiError::from(error).into())
            .and_then(|keys| self.decide(&pending.request, &mut pending.log, Some(&keys)));
        self.proceed(pending, admission);
    }

    /// Plans a request. If its body is invalid, answers it and returns `None`.
    fn plan(&self, mut pending: PendingRequest, call: TaskCall) -> Option<Planned> {
        let _scope = pending.enter("plan");
        let (endpoint, request) = (&call.endpoint, &mut pending.request);
        let body = if endpoint.has_body() { read_body(request) } else { Ok(String::new()) };
        let preconditions =
            if endpoint.has_preconditions() { preconditions(request) } else { Ok(Preconditions::default()) };
        match body.and_then(|body| handlers::plan(call, &body, preconditions?)) {
            Ok(plan) => Some((pending, plan)),
            Err(error) => {
                self.respond(pending, error);
                None
            }
        }
    }

    /// Runs each statement in a transaction of its own, all in one round trip.
    fn execute_each(&self, planned: Vec<Planned>) {
        let statements: Vec<&Statement> = planned.iter().map(|(_, plan)| &plan.statement).collect();
        let began_at = Instant::now();
        let start = |at: usize| (at, Collected::default());
        let add = |(at, collected): &mut (usize, Collected), row| {
            let (_, plan) = &planned[*at];
            collected.add(&plan.call, row)
        };
        let results = self.database.fold_each(&statements, start, add);
        let duration = began_at.elapsed();
        for (planned, result) in planned.into_iter().zip(results) {
            self.finish(planned, result.map(|(_, collected)| collected), duration);
        }
    }

    /// Runs writes in one transaction and one round trip. If that is rolled back, each write is tried again alone.
    fn execute_transaction(&self, planned: Vec<Planned>) {
        let (planned, conflicting) = split_row_conflicts(planned, |(_, plan)| plan.statement.locked_row);
        let statements: Vec<&Statement> = planned.iter().map(|(_, plan)| &plan.statement).collect();
        let began_at = Instant::now();
        let outcome = self.database.execute_transaction(&statements);
        let duration = began_at.elapsed();
        match outcome {
            BatchOutcome::Committed(rows) => {
                for (planned, rows) in planned.into_iter().zip(rows) {
                    self.finish(planned, Ok(Collected { page: None, rows }), duration);
                }
            }
            BatchOutcome::RolledBack => {
                for (mut pending, plan) in planned {
                    pending.log.database.add(duration);
                    self.submit(pending, Work::Retry(plan));
                }
            }
            BatchOutcome::Unknown => {
                planned.into_iter().for_each(|planned| self.finish(planned, Err(DbError::Unavailable), duration));
            }
        }
        // Only after the transaction, which must come first: another worker may take these at once.
        for (pending, plan) in conflicting {
            self.submit(pending, Work::Retry(plan));
        }
    }

    /// Answers a request with what its statement returned.
    fn finish(&self, (mut pending, plan): Planned, result: Result<Collected, DbError>, duration: Duration) {
        pending.log.database.add(duration);
        let scope = pending.enter("render");
        let rendered = handlers::render(&plan, result);
        drop(scope);
        match rendered {
            Ok(Rendered::Response(response)) => self.respond(pending, response),
            Ok(Rendered::ListStream(page)) => {
                self.submit(pending, Work::RemainingList(plan.call, page.without_long_json()))
            }
            Err(error) => self.respond(pending, error),
        }
    }

    /// Reads a list that may be long. `first` is its beginning, if that was read already.
    fn read_long_list(&self, mut pending: PendingRequest, call: &TaskCall, first: Option<Page>) {
        let scope = pending.enter("list");
        let read = || handlers::read_long_list(&self.database, call, first);
        let response = pending.log.database.measure(read).unwrap_or_else(Response::from);
        drop(scope);
        self.respond(pending, response);
    }
}

/// Splits writes into those that may share a transaction, and the rest. A transaction locks rows in the order of their
/// ids, so that no two deadlock. It changes no row twice, and inserts last: two states of a row that one transaction
/// wrote would have the same entity tag.
fn split_row_conflicts<T>(mut writes: Vec<T>, row: impl Fn(&T) -> Option<i64>) -> (Vec<T>, Vec<T>) {
    writes.sort_by_key(|write| (row(write).is_none(), row(write)));
    let mut last = None;
    writes.into_iter().partition(|write| {
        let row = row(write);
        mem::replace(&mut last, row) != row || row.is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_when_writes_share_rows_changes_each_row_once_and_in_order() {
        let writes = vec![(1, Some(7)), (2, None), (3, Some(3)), (4, Some(7)), (5, None), (6, Some(3)), (7, Some(9))];
        let (together, later) = split_row_conflicts(writes, |(_, row)| *row);
        assert_eq!(together.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 1, 7, 2, 5]);
        assert_eq!(later.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [6, 4]);
    }
}
