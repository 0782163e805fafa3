//! A todo backend: several people keep their tasks in one service, and each sees only their own.
//!
//! `main.rs` is the program. This library exists so that tests can reach the parts. `ARCHITECTURE.md` shows the way of
//! a request.

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

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
#[path = "../tests/support/random.rs"]
mod random;
