//! A statement as it goes over the wire: what is sent for it, and what is heard.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, BindError};

use super::Param;
use super::error::Fault;
use super::rows::{Columns, Rows};
use super::wire::Said;

/// The format of all parameters, and of all columns.
const BINARY: [i16; 1] = [1];

/// A statement that PostgreSQL has parsed.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The name that it is prepared under.
    pub name: Arc<str>,
    /// What its rows have.
    pub columns: Columns,
}

/// A statement, and how it is sent: by the name that it is prepared under on this connection, or where there is none as its text.
pub struct Query<'q> {
    /// What it is prepared as.
    pub prepared: Option<Prepared>,
    /// Its text.
    pub sql: &'q str,
    /// Its parameters.
    pub params: &'q [Param],
}

impl Query<'_> {
    /// Adds the messages that run it, but for the `Sync`.
    ///
    /// # Errors
    /// When there are more parameters than the protocol can count, or one is too long; it may be written by half then.
    pub fn write(&self, unsent: &mut BytesMut) -> Result<(), BindError> {
        let Self { prepared, sql, params } = self;
        let name = prepared.as_ref().map_or("", |prepared| &prepared.name);
        if prepared.is_none() {
            frontend::parse(name, sql, params.iter().map(|param| param.kind().oid()), unsent)?;
        }
        frontend::bind("", name, BINARY, *params, Param::write, BINARY, unsent)?;
        if prepared.is_none() {
            frontend::describe(b'P', "", unsent)?;
        }
        Ok(frontend::execute("", 0, unsent)?)
    }
}

/// The answer to a statement, as far as it has come.
pub struct Reply {
    rows: Rows,
    /// The columns are known: of a statement that is not prepared the server says them before the rows.
    is_described: bool,
    is_bound: bool,
    /// All rows have come, if it does not fail after all.
    pub is_complete: bool,
    /// Why it failed.
    pub failure: Option<Fault>,
}

impl Reply {
    /// Nothing yet of the answer to this one.
    pub fn to(query: &Query) -> Self {
        let columns = query.prepared.as_ref().map(|prepared| prepared.columns.clone());
        let is_described = columns.is_some();
        let rows = Rows::new(columns.unwrap_or_default());
        Self { rows, is_described, is_bound: false, is_complete: false, failure: None }
    }

    /// The columns, while rows may come.
    ///
    /// # Errors
    /// When they may not.
    pub fn columns(&self) -> Result<&Columns, Fault> {
        if self.is_described && self.is_bound && !self.is_complete {
            Ok(self.rows.columns())
        } else {
            Err(Fault::garbled("the database answers what was not asked"))
        }
    }

    /// Adds what the server says.
    ///
    /// # Errors
    /// When that is no answer to the statement.
    pub fn hear(&mut self, said: Said) -> Result<(), Fault> {
        match said {
            Said::Row(content) => {
                self.columns()?;
                self.rows.push(content);
            }
            Said::Other(Message::BindComplete) => self.is_bound = true,
            Said::Other(Message::RowDescription(body)) => {
                (self.rows, self.is_described) = (Rows::new(Columns::read(&body)?), true);
            }
            Said::Other(Message::NoData) => self.is_described = true,
            Said::Other(Message::CommandComplete(_) | Message::EmptyQueryResponse) => {
                self.columns()?;
                self.is_complete = true;
            }
            Said::Other(Message::ErrorResponse(body)) => {
                self.failure.get_or_insert_with(|| Fault::read(&body));
            }
            Said::Other(Message::ReadyForQuery(_)) if !self.is_complete && self.failure.is_none() => {
                return Err(Fault::too_early());
            }
            Said::Other(_) => {}
        }
        Ok(())
    }

    /// The rows.
    ///
    /// # Errors
    /// When the server refused the statement.
    pub fn finish(self) -> Result<Rows, Fault> {
        self.failure.map_or(Ok(self.rows), Err)
    }
}
