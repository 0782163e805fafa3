//! A todo backend: several people keep their tasks in one service, and each sees only their own.
//!
//! The way of a request is one straight line: socket, `tiny_http`, worker ([`server`]), [`cors`], [`router`], [`auth`],
//! [`api`], [`store`], [`http::Response`], socket. What an operator sees of it is kept in [`visit`], and goes to [`logging`] and
//! [`metrics`]. The binary is `main.rs`; this library exists so that tests can reach the parts.

#![warn(clippy::unwrap_used)]

pub mod admin;
pub mod api;
pub mod app;
pub mod auth;
pub mod check;
pub mod command;
pub mod conditions;
pub mod config;
pub mod cors;
pub mod database;
mod docs;
pub mod environment;
pub mod error;
pub mod healthcheck;
pub mod http;
mod json;
pub mod listing;
pub mod logging;
pub mod long_list;
pub mod metrics;
pub mod queue;
pub mod request_id;
pub mod router;
pub mod seal;
pub mod server;
pub mod stopwatch;
pub mod store;
pub mod task;
mod threads;
pub mod timestamp;
pub mod turns;
pub mod variables;
pub mod visit;
