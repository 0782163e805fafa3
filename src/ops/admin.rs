//! Admin listener: `/metrics` for Prometheus, in a thread of its own, so that busy workers do not delay it.
//!
//! It authenticates nobody and shows no user's data. The operator decides who reaches `ADMIN_ADDR`.

use std::error::Error;
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{debug, info};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
pub use tiny_http::Stats;
use tiny_http::{Header, Limits, Method, Rejection, Response, ResponseBox, Server};

use crate::auth::JwksStatus;
use crate::db;
use crate::http::path_and_query;
use crate::ops::log::dropped_lines;
use crate::ops::metrics::Metrics;
use crate::ops::threads::spawn;

/// Answers `/metrics` with the text of `metrics`, until the process ends.
///
/// # Errors
/// When the listener cannot be used, or no thread can be started.
pub fn start(
    listener: TcpListener,
    metrics: impl Fn() -> String + Send + 'static,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let address = listener.local_addr()?;
    let server = Server::with_limits(listener, limits(), Rejection::to_response)?;
    spawn("admin", move || {
        for request in server.incoming_requests() {
            let response = respond(request.method(), request.url(), &metrics);
            if let Err(error) = request.respond(response) {
                debug!("cannot send a response: {error}");
            }
        }
    })?;
    info!("metrics on http://{address}/metrics");
    Ok(())
}

/// Enough for a few scrapers, each with a connection.
fn limits() -> Limits {
    Limits {
        max_connections: 16,
        max_pending_requests: 16,
        max_body_bytes: 0,
        max_buffered_bytes: 256 * 1024,
        head_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        ..Limits::default()
    }
}

fn respond(method: &Method, target: &str, metrics: impl Fn() -> String) -> ResponseBox {
    let header = |name, value| Header::from_bytes(name, value).expect("a token and visible ASCII make a header");
    match (method, path_and_query(target).0) {
        (Method::Get | Method::Head, "/metrics") => {
            Response::from_string(metrics()).with_header(header("Content-Type", prometheus_text::CONTENT_TYPE)).boxed()
        }
        (_, "/metrics") => Response::empty(405).with_header(header("Allow", "GET, HEAD")).boxed(),
        _ => Response::from_string("Not found. Metrics are at /metrics.\n").with_status_code(404).boxed(),
    }
}

/// What is read when metrics are asked for.
pub struct Snapshot<'a> {
    /// The HTTP engine's counters.
    pub http: Stats,
    /// Requests that wait for a worker.
    pub queued: usize,
    /// Requests that wait for a key set.
    pub waiting_for_keys: usize,
    /// The pool of database connections.
    pub database: db::Stats,
    /// The issuer's public keys.
    pub keys: &'a JwksStatus,
}

/// All metrics in Prometheus' text format: `specs/operations.md` lists them.
pub fn render(metrics: &Metrics, snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("todo_backend_build", "Version of the program", version);
    metrics.register(&mut registry);
    register_gauges(&mut registry, &snapshot);
    register_counters(&mut registry, &snapshot.http);
    let connections = Family::<[(&str, &str); 1], Gauge>::default();
    let db::Stats { connections: open, idle, .. } = snapshot.database;
    for (state, count) in [("idle", idle), ("in_use", open.saturating_sub(idle))] {
        connections.get_or_create(&[("state", state)]).set(count.into());
    }
    registry.register("database_pool_connections", "Open connections to the database", connections);
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a String accepts all text");
    text
}

fn register_gauges(registry: &mut Registry, snapshot: &Snapshot) {
    let Snapshot { http, database, keys, .. } = snapshot;
    let mut gauge = |name: &str, help: &str, value: u64| registry.register(name, help, ConstGauge::new(value));
    gauge("http_requests_queued", "Requests that wait for a worker", snapshot.queued as u64);
    gauge("http_connections", "Open connections", http.connections as u64);
    gauge("http_buffered_bytes", "Unfinished requests in memory", http.buffered_bytes as u64);
    gauge("http_unsent_bytes", "Responses in memory, for slow clients", http.unsent_bytes as u64);
    if let Some(is_up) = database.is_up {
        gauge("database_up", "1 if the database answered when it was last used, else 0", is_up.into());
    }
    gauge("database_pool_max_connections", "Size of the pool", database.max.into());
    gauge("auth_keys", "Public keys of the issuer that are in use", keys.keys as u64);
    let waiting = snapshot.waiting_for_keys as u64;
    gauge("auth_requests_waiting_for_keys", "Requests that wait for a fetch of the keys", waiting);
    if keys.age.is_some() || keys.last_error.is_some() {
        let succeeded = keys.last_error.is_none().into();
        gauge("auth_keys_last_fetch_success", "1 if the last fetch of the keys succeeded, else 0", succeeded);
    }
    if let Some(age) = keys.age {
        let fetched_at = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let help = "Unix time of the last successful fetch of the keys";
        gauge("auth_keys_last_success_timestamp_seconds", help, fetched_at);
    }
}

fn register_counters(registry: &mut Registry, http: &Stats) {
    registry.register("http_connections_accepted", "Accepted connections", ConstCounter::new(http.accepted));
    let rejected = Family::<[(&str, &str); 1], Counter>::default();
    for (reason, count) in [("overload", http.shed), ("invalid", http.rejected)] {
        rejected.get_or_create(&[("reason", reason)]).inc_by(count);
    }
    let help = "Requests that the HTTP engine answered itself: 503 without capacity (overload), else invalid";
    registry.register("http_requests_rejected", help, rejected);
    let help = "Log lines that were dropped because standard error was not read fast enough";
    registry.register("log_lines_dropped", help, ConstCounter::new(dropped_lines()));
}
