//! What requests ask of the database: alone, or together with others.

use std::sync::Arc;
use std::time::Instant;

use super::{App, Call, Job, guarded, share};
use crate::db::{Failure, Outcome, Question, Rows, Statement};
use crate::http::Response;
use crate::http::error::Error;
use crate::ops::admin::{self, Snapshot};
use crate::ops::log as logging;
use crate::tasks::handlers::Company;

/// A request, and the question on which its answer depends.
type Asking<'q> = (Call, Question<'q, Response>);

impl App {
    /// All metrics, in Prometheus' text format.
    pub fn metrics(&self, http: admin::Stats) -> String {
        let snapshot = Snapshot {
            http,
            queued: self.queue.len() + self.turns.waiting(),
            waiting_for_keys: self.verifier.waiting_for_keys(),
            database: self.store.database().stats(),
            keys: &self.verifier.key_status(),
        };
        admin::render(&self.metrics, snapshot)
    }

    /// Asks all these questions, and answers the requests.
    pub(super) fn ask_all(&self, asking: Vec<Asking>) {
        let (writes, mut reads): (Vec<_>, Vec<_>) =
            asking.into_iter().partition(|(_, question)| question.statement().writes());
        // Those of users whose turn it was may be more than were taken from the queue.
        let most = reads.first().map_or(1, |(call, _)| share(call.company).most);
        while !reads.is_empty() {
            let later = reads.split_off(most.min(reads.len()));
            self.look_up(reads);
            reads = later;
        }
        let (writes, later) = one_of_each(writes, |(_, question)| question.statement().locks());
        later.into_iter().for_each(|(call, _)| self.once_more(call));
        if writes.len() > 1 {
            self.write_together(writes);
        } else {
            writes.into_iter().for_each(|write| self.write(write));
        }
    }

    /// Asks all these questions in one round trip, and answers the requests.
    fn look_up(&self, asking: Vec<Asking>) {
        let (calls, questions): (Vec<_>, Vec<_>) = asking.into_iter().unzip();
        let (statements, answers): (Vec<_>, Vec<_>) = questions.into_iter().map(Question::apart).unzip();
        let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
        let read = |index: usize, rows| {
            let _in_request = logging::enter_request(Arc::clone(&calls[index].id));
            let answer = answers[index].take().ok_or(Error::Internal);
            guarded(|| answer?(rows)).unwrap_or_else(Response::from)
        };
        let in_request = match &calls[..] {
            [call] => Some(logging::enter_request(Arc::clone(&call.id))),
            _ => None, // what is logged now is said of all of them
        };
        let statements: Vec<&Statement> = statements.iter().collect();
        let begun = Instant::now();
        let found = guarded(|| Ok(self.store.database().look_up(&statements, read)));
        let time = begun.elapsed();
        drop(in_request);
        let mut found = found.unwrap_or_default().into_iter(); // too few where that panicked
        for call in calls {
            call.visit.database.add(time);
            let _in_request = logging::enter_request(Arc::clone(&call.id));
            let found = found.next().map(|found| found.map_err(Failure::tell));
            let response = found.unwrap_or(Err(Error::Internal)).unwrap_or_else(Response::from);
            self.answer(call, response);
        }
    }

    fn write(&self, (call, question): Asking) {
        let in_request = logging::enter_request(Arc::clone(&call.id));
        let begun = Instant::now();
        let rows = guarded(|| self.store.database().write(question.statement()));
        drop(in_request);
        call.visit.database.add(begun.elapsed());
        self.tell((call, question), rows);
    }

    /// Writes all of these in one round trip, and answers the requests.
    fn write_together(&self, writes: Vec<Asking>) {
        let statements: Vec<&Statement> = writes.iter().map(|(_, question)| question.statement()).collect();
        let begun = Instant::now();
        let outcome = guarded(|| Ok(self.store.database().write_together(&statements)));
        let time = begun.elapsed();
        writes.iter().for_each(|(call, _)| call.visit.database.add(time));
        match outcome {
            Ok(Outcome::Done(rows)) => {
                writes.into_iter().zip(rows).for_each(|(write, rows)| self.tell(write, Ok(rows)));
            }
            Ok(Outcome::NothingDone) => writes.into_iter().for_each(|(call, _)| self.once_more(call)),
            Ok(Outcome::Unknown) => {
                writes.into_iter().for_each(|write| self.tell(write, Err(Error::Unavailable)));
            }
            Err(_) => writes.into_iter().for_each(|write| self.tell(write, Err(Error::Internal))),
        }
    }

    /// Has a request tried once more, alone, by whoever is free next.
    fn once_more(&self, mut call: Call) {
        call.company = Company::None;
        self.queue.push_first(Job::Call(call));
    }

    /// Answers a request whose statement returned these rows.
    fn tell(&self, (call, question): Asking, rows: Result<Rows, Error>) {
        let in_request = logging::enter_request(Arc::clone(&call.id));
        let (_, answer) = question.apart();
        let response = guarded(|| answer(rows?)).unwrap_or_else(Response::from);
        drop(in_request);
        self.answer(call, response);
    }
}

/// Those of these that may be one transaction, and those that are left. It changes rows in the order of their numbers, as each such
/// transaction does, so that no two of them wait for each other; and makes no two states of a row, which would have one tag: it
/// changes none twice, nor what it adds, for that comes last.
fn one_of_each<T>(mut writes: Vec<T>, row: impl Fn(&T) -> Option<i32>) -> (Vec<T>, Vec<T>) {
    writes.sort_by_key(|write| (row(write).is_none(), row(write)));
    let mut last = None;
    writes.into_iter().partition(|write| {
        let row = row(write);
        std::mem::replace(&mut last, row) != row || row.is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_changes_each_row_once_and_all_in_one_order() {
        let writes =
            vec![(1, Some(7)), (2, None), (3, Some(3)), (4, Some(7)), (5, None), (6, Some(3)), (7, Some(9))];
        let (together, later) = one_of_each(writes, |(_, row)| *row);
        assert_eq!(together.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 1, 7, 2, 5]);
        assert_eq!(later.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [6, 4]);
    }
}
