//! Several statements at once on one connection: reads, each of which fails by itself, and writes, of which all are done or none.

use std::time::Instant;

use log::debug;

use super::Session;
use crate::db::client::Answers;
use crate::db::error::{Fault, is_lost, is_passing};
use crate::db::query::Query;
use crate::db::{Outcome, Rows, Statement};

/// How long a statement in a transaction with others may take, a wait for a lock included: a thousand times what it does take.
const PATIENCE: &str = "set local statement_timeout = '100ms'";

impl Session {
    /// Looks these up in one round trip; behind a pooler, which takes no more at once, in one each. The next answer must come before
    /// what `until` says when one has come. The first time they go as a bundle, which ends with one that fails; after that each
    /// for itself, and after a look at the connection. `read` makes something of each.
    pub fn look_up<T>(
        &mut self,
        lookups: &[&Statement],
        until: impl Fn() -> Instant,
        is_first: bool,
        read: impl FnMut(usize, Rows) -> T,
    ) -> Answers<T> {
        self.begin(until(), !is_first);
        let Answers { answers, end } = self.send(lookups, until, is_first, read);
        let failures = || answers.iter().flatten().filter_map(|answer| answer.as_ref().err()).chain(&end);
        self.end(!failures().any(is_passing));
        // Where some were answered before the time was up, the server is slow and not away.
        let is_lost = self.client.is_closed() && answers.iter().all(Option::is_none);
        failures().for_each(|error| self.learn(error, is_lost));
        Answers { answers, end }
    }

    fn send<T>(
        &mut self,
        lookups: &[&Statement],
        until: impl Fn() -> Instant,
        as_bundle: bool,
        mut read: impl FnMut(usize, Rows) -> T,
    ) -> Answers<T> {
        let mut all = Answers { answers: lookups.iter().map(|_| None).collect(), end: None };
        let (mut queries, mut places) =
            (Vec::with_capacity(lookups.len()), Vec::with_capacity(lookups.len()));
        for (place, Statement { sql, params, .. }) in lookups.iter().enumerate() {
            match self.prepared(sql, params) {
                Ok(prepared) => {
                    queries.push(Query { prepared, sql, params });
                    places.push(place);
                }
                Err(error) if self.client.is_closed() => {
                    all.end = Some(error);
                    return all;
                }
                Err(error) => {
                    all.answers[place] = Some(Err(error));
                    self.deadline.set(until());
                }
            }
        }
        let at_once = if self.statements.is_some() { queries.len().max(1) } else { 1 };
        for (queries, places) in queries.chunks(at_once).zip(places.chunks(at_once)) {
            let Answers { answers, end } = self.client.query_all(queries, as_bundle, |index, answer| {
                self.deadline.set(until());
                answer.map(|rows| read(places[index], rows))
            });
            places.iter().zip(answers).for_each(|(place, answer)| all.answers[*place] = answer);
            all.end = end;
            if all.end.is_some() {
                break;
            }
        }
        all
    }

    /// Writes all of these in one transaction and one round trip; not behind a pooler, which takes no more than one at once. Each
    /// answer must come before what `until` says when the one before has come.
    pub fn write_together(&mut self, statements: &[&Statement], until: impl Fn() -> Instant) -> Outcome {
        if self.statements.is_none() {
            return Outcome::NothingDone;
        }
        self.begin(until(), false);
        let written = self.commit(statements, until);
        self.end(!written.as_ref().is_err_and(|(error, _)| is_passing(error)));
        match written {
            Ok(rows) => Outcome::Done(rows),
            Err((error, is_undone)) => {
                debug!("{} together were not written: {}", statements.len(), error);
                if is_undone && !is_lost(&error) && !self.client.is_closed() {
                    self.forget_outdated(&error); // else each learns by itself what it says
                } else {
                    self.learn(&error, self.client.is_closed());
                }
                if is_undone { Outcome::NothingDone } else { Outcome::Unknown }
            }
        }
    }

    /// The rows of each; or why not, and whether it is certain that nothing was done.
    fn commit(
        &mut self,
        statements: &[&Statement],
        until: impl Fn() -> Instant,
    ) -> Result<Vec<Rows>, (Fault, bool)> {
        let texts = statements.iter().map(|statement| (&*statement.sql, &*statement.params));
        let before = ["begin", PATIENCE].map(|sql| (sql, [].as_slice()));
        let mut queries = Vec::with_capacity(statements.len() + 3);
        for (sql, params) in before.into_iter().chain(texts).chain([("commit", [].as_slice())]) {
            let prepared = self.prepared(sql, params).map_err(|error| (error, true))?;
            queries.push(Query { prepared, sql, params });
        }
        let Answers { answers, end } = self.client.query_all(&queries, false, |_, answer| {
            self.deadline.set(until());
            answer
        });
        // Else the transaction may still be open.
        self.is_outdated |= !matches!(answers.last(), Some(Some(Ok(_))));
        let mut rows = Vec::with_capacity(queries.len());
        for answer in answers.into_iter().map_while(|answer| answer) {
            match answer {
                Ok(answer) => rows.push(answer),
                Err(error) => {
                    let (is_begin, is_end) = (rows.is_empty(), rows.len() + 1 == queries.len());
                    // Without the `begin` each of the others is a transaction; the `commit` may be on the disk.
                    let is_undone = error.is_error() && !is_begin || error.is_fatal() && !is_end;
                    return Err((error, is_undone || !self.client.has_sent()));
                }
            }
        }
        match end {
            Some(error) => Err((error, !self.client.has_sent())),
            None => Ok(rows.drain(before.len()..queries.len() - 1).collect()),
        }
    }
}
