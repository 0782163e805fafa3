//! The worker loop: plans a batch, runs it in one round trip, renders the rows, sends the responses.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use log::error;

use super::job::{Job, PendingRequest, TaskJob, VerifyJob};
use super::scheduler::{Batch, BatchClass};
use super::{Dispatcher, authorization, now_seconds};
use crate::auth::{AuthError, Lookup};
use crate::db::{BatchOutcome, DbError, Statement};
use crate::http::error::ApiError;
use crate::http::preconditions::Preconditions;
use crate::http::{Response, preconditions, read_body};
use crate::tasks::handlers::{self, Collected, Rendered, TaskPlan};

/// A request with its plan.
type Planned = (Box<TaskJob>, TaskPlan);

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

    fn run(&self, class: BatchClass, jobs: Vec<Job>) {
        let mut planned = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::Probe(pending) => self.probe(*pending),
                Job::Verify(job) => self.verify(job),
                Job::Task(job) if class == BatchClass::Slow => self.read_long_list(*job),
                Job::Task(job) => planned.extend(self.plan(job)),
            }
        }
        if class == BatchClass::Write && planned.len() > 1 {
            self.execute_transaction(planned);
        } else if !planned.is_empty() {
            self.execute_each(planned);
        }
    }

    fn probe(&self, pending: PendingRequest) {
        let is_ready = pending.log.database.measure(|| self.database.is_ready());
        if is_ready {
            self.respond(pending, Response::json(200, &serde_json::json!({ "status": "ready" })));
        } else {
            self.respond(pending, ApiError::Unavailable);
        }
    }

    /// Verifies a token that is signed with a key, or parks its request until the key set is fetched.
    fn verify(&self, mut job: Box<VerifyJob>) {
        let (kid, has_waited) = (job.kid.clone(), mem::replace(&mut job.has_waited, true));
        let (keys, job) = match self.jwks.find(&kid, job, has_waited, Instant::now()) {
            Lookup::Found(keys, job) => (keys, job),
            Lookup::Unavailable(job) => return self.respond(job.pending, ApiError::from(AuthError::KeysUnavailable)),
            Lookup::Waiting => return,
        };
        let VerifyJob { mut pending, call, .. } = *job;
        let verify = || {
            let header = authorization(&pending.request)?;
            self.verifier.authenticate_with_keys(header, &keys, now_seconds())
        };
        let verified = pending.log.auth.measure(verify).map_err(ApiError::from);
        if let Ok(identity) = &verified {
            pending.log.set_user(&identity.user, &self.pseudonyms);
        }
        match verified.and_then(|identity| Ok((identity.user, call?))) {
            Ok((user, call)) => self.submit_task(pending, user, call),
            Err(error) => self.respond(pending, error),
        }
    }

    /// Plans a request. If its body is invalid, answers it and returns `None`.
    fn plan(&self, mut job: Box<TaskJob>) -> Option<Planned> {
        if let Some(plan) = job.plan.take() {
            return Some((job, plan));
        }
        let _scope = job.pending.enter("plan");
        let request = &mut job.pending.request;
        let body = if job.call.has_body() { read_body(request) } else { Ok(String::new()) };
        let preconditions =
            if job.call.has_preconditions() { preconditions(request) } else { Ok(Preconditions::default()) };
        let plan = body.and_then(|body| handlers::plan(&job.user, &job.call, &body, preconditions?));
        match plan {
            Ok(plan) => Some((job, plan)),
            Err(error) => {
                self.respond(job.pending, error);
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
            let (job, _) = &planned[*at];
            collected.add(&job.user, &job.call, row)
        };
        let results = self.database.fold_each(&statements, start, add);
        let duration = began_at.elapsed();
        for (planned, result) in planned.into_iter().zip(results) {
            self.finish(planned, result.map(|(_, collected)| collected), duration);
        }
    }

    /// Runs writes in one transaction and one round trip. If that is rolled back, each write is tried again alone.
    fn execute_transaction(&self, planned: Vec<Planned>) {
        let (planned, conflicting) = split_row_conflicts(planned, |(_, plan)| plan.statement.locked_row());
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
                for planned in planned {
                    planned.0.pending.log.database.add(duration);
                    self.queue_alone(planned);
                }
            }
            BatchOutcome::Unknown => {
                for planned in planned {
                    self.finish(planned, Err(DbError::Unavailable), duration);
                }
            }
        }
        // Only after the transaction, which must come first: another worker may take these at once.
        conflicting.into_iter().for_each(|planned| self.queue_alone(planned));
    }

    /// Queues a write ahead of everything, to be run alone.
    fn queue_alone(&self, (mut job, plan): Planned) {
        job.plan = Some(plan);
        self.submit(Job::Task(job));
    }

    /// Answers a request with what its statement returned.
    fn finish(&self, (mut job, plan): Planned, result: Result<Collected, DbError>, duration: Duration) {
        job.pending.log.database.add(duration);
        let scope = job.pending.enter("render");
        let rendered = handlers::render(&job.user, &job.call, &plan, result);
        drop(scope);
        match rendered {
            Ok(Rendered::Response(response)) => self.respond(job.pending, response),
            Ok(Rendered::ListStream(page)) => {
                job.first_page = Some(page.without_long_json());
                self.submit(Job::Task(job));
            }
            Err(error) => self.respond(job.pending, error),
        }
    }

    /// Reads a list that may be long.
    fn read_long_list(&self, job: TaskJob) {
        let TaskJob { pending, user, call, first_page, .. } = job;
        let scope = pending.enter("list");
        let read = || handlers::read_long_list(&self.database, &user, &call, first_page);
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
