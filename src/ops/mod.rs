//! Operations: log, metrics, `--check`, `--healthcheck`, `/docs`.

pub mod access_log;
pub mod admin;
pub mod check;
pub mod check_database;
mod check_probe;
pub mod docs;
pub mod finding;
pub mod healthcheck;
pub mod log;
pub mod metrics;
pub mod origin_log;
pub mod threads;
