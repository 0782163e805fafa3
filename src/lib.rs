//! A multi-user todo backend: an HTTP API over PostgreSQL, in which each user sees only their own tasks.
//!
//! `main.rs` is the program. This library exists so that tests can reach the parts. `ARCHITECTURE.md` follows a request
//! through them.

#![warn(clippy::unwrap_used)]

pub mod auth;
pub mod cli;
pub mod config;
pub mod db;
pub mod dispatch;
pub mod http;
pub mod ops;
pub mod server;
pub mod tasks;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz_tests;
#[cfg(test)]
#[path = "../tests/support/random.rs"]
mod random;
