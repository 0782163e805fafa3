//! The domain: tasks, their endpoints and their SQL statements.

pub mod body;
pub mod db_errors;
pub mod handlers;
pub mod list_query;
pub mod list_stream;
pub mod page;
pub mod sql;
pub mod task;
pub mod timestamp;
