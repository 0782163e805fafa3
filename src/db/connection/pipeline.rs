//! Pipelining: several statements are sent before the first response is awaited.

use std::future::Future;
use std::time::Instant;

use futures_util::future::{maybe_done, poll_immediate};
use postgres::types::ToSql;
use tokio::time::timeout_at;
use tokio_postgres::{Client, Row, RowStream, Statement as Prepared};

use crate::db::error::DbError;
use crate::db::statement::{Param, Statement};

/// A statement that was prepared; `None` where it is sent as text.
pub type Plan = Option<Prepared>;

/// Sends a statement, and returns its rows.
pub async fn query(client: &Client, plan: Result<Plan, DbError>, statement: &Statement) -> Result<RowStream, DbError> {
    Ok(match plan? {
        Some(prepared) => client.query_raw(&prepared, statement.params.iter().map(value)).await?,
        None => client.query_typed_raw(&statement.sql, statement.typed_params()).await?,
    })
}

/// Keeps a row.
///
/// # Errors
/// None.
pub fn push_row(rows: &mut Vec<Row>, row: Row) -> Result<(), DbError> {
    rows.push(row);
    Ok(())
}

fn value((value, _): &Param) -> &(dyn ToSql + Sync) {
    &**value
}

/// Awaits the futures in order, each until its deadline. With `at_once` all are started before, so that everything is
/// sent at once. Ends early when one is not done by its deadline.
pub async fn in_order<F: Future>(
    futures: impl Iterator<Item = F>,
    at_once: bool,
    next_deadline: &impl Fn() -> Instant,
) -> Vec<F::Output> {
    let mut started: Vec<_> = futures.map(|future| Box::pin(maybe_done(future))).collect();
    if at_once {
        for future in &mut started {
            let _ = poll_immediate(future.as_mut()).await;
        }
    }
    let mut outputs = Vec::with_capacity(started.len());
    for future in &mut started {
        if timeout_at(next_deadline().into(), future.as_mut()).await.is_err() {
            break;
        }
        outputs.extend(future.as_mut().take_output());
    }
    outputs
}
