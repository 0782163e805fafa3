//! The domain: tasks, their endpoints and their SQL statements.

pub mod db_errors;
pub mod handlers;
pub mod list_query;
pub mod list_stream;
pub mod page;
pub mod row;
pub mod sql;
pub mod task;
pub mod timestamp;
