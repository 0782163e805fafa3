//! Several writes as one transaction, in one round trip.

use std::time::Instant;

use log::debug;
use tokio_postgres::Row;

use super::Connection;
use super::pipeline::push_row;
use crate::db::error::DbError;
use crate::db::statement::Statement;

/// The longest time that a statement may take in a transaction with others, waits for locks included.
const BATCH_STATEMENT_TIMEOUT_SQL: &str = "set local statement_timeout = '100ms'";

/// What became of statements that were sent as one transaction.
pub enum BatchOutcome {
    /// All are done; the rows of each.
    Committed(Vec<Vec<Row>>),
    /// None is done.
    RolledBack,
    /// Nobody knows whether they are done, or there was no connection.
    Unknown,
}

impl Connection {
    /// Runs statements in one transaction and one round trip. Behind a pooler nothing is done.
    pub fn transaction(&mut self, statements: &[&Statement], next_deadline: impl Fn() -> Instant) -> BatchOutcome {
        if self.is_pooled() {
            return BatchOutcome::RolledBack;
        }
        let [begin, timeout, commit] =
            ["begin", BATCH_STATEMENT_TIMEOUT_SQL, "commit"].map(|sql| Statement::read(sql, Vec::new()));
        let all = [&[&begin, &timeout], statements, &[&commit]].concat();
        // If one cannot be prepared, nothing is sent.
        if let Err(error) = all.iter().try_for_each(|statement| self.plan(statement, next_deadline()).map(drop)) {
            let is_late = matches!(error, DbError::Timeout);
            self.observe(&[Err::<(), _>(error)]);
            return if is_late { BatchOutcome::Unknown } else { BatchOutcome::RolledBack };
        }
        let results = self.send(all.iter().map(|one| (*one, Vec::new())).collect(), &next_deadline, &push_row);
        // Without a response to the commit the transaction may still be open.
        self.must_close |= results.last().is_none_or(Result::is_err);
        // An ERROR or FATAL before the commit's response means a rollback. Two exceptions: if `begin` failed there was
        // no transaction, and a FATAL in place of the commit's response may come after the commit is on the disk.
        let failure = results.iter().enumerate().find_map(|(at, result)| Some((at, result.as_ref().err()?)));
        let is_rolled_back =
            failure.is_some_and(|(at, error)| error.is_refusal() && at > 0 || error.is_fatal() && at + 1 < all.len());
        if is_rolled_back {
            debug!("a transaction of {} writes was rolled back", statements.len());
            // Each is tried again alone. Only that attempt shows what the failure says of the database.
            results.iter().filter_map(|result| result.as_ref().err()).for_each(|error| self.forget_plans(error));
            return BatchOutcome::RolledBack;
        }
        self.observe(&results);
        match results.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(mut rows) => BatchOutcome::Committed(rows.drain(2..all.len() - 1).collect()),
            Err(_) => BatchOutcome::Unknown,
        }
    }
}
