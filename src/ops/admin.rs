//! Admin listener: `/metrics` for Prometheus, in a thread of its own, so that busy workers do not delay it.
//!
//! It authenticates nobody and shows no user's data. The operator decides who reaches `ADMIN_ADDR`.

use std::error::Error;
use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{debug, info};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tiny_http::{Header, Limits, Method, Rejection, Response, ResponseBox, Server, Stats};

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
    // Enough for a few scrapers, each with a connection.
    let limits = Limits { max_connections: 16, max_body_bytes: 0, max_buffered_bytes: 256 * 1024, ..Limits::default() };
    let server = Server::with_limits(listener, limits, Rejection::to_response)?;
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

/// All metrics in Prometheus' text format: `specs/operations.md` lists them. `queued` is the number of requests that
/// wait for a worker.
pub fn render(metrics: &Metrics, http: &Stats, queued: usize, database: &db::Stats, keys: &JwksStatus) -> String {
    let mut registry = Registry::default();
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("todo_backend_build", "Version of the program", version);
    metrics.register(&mut registry);
    let fetched_at = |age| (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    #[rustfmt::skip] // one row a gauge
    let gauges = [
        ("http_requests_queued", "Requests that wait for a worker", Some(queued as u64)),
        ("http_connections", "Open connections", Some(http.connections as u64)),
        ("http_buffered_bytes", "Unfinished requests in memory", Some(http.buffered_bytes as u64)),
        ("http_unsent_bytes", "Responses in memory, for slow clients", Some(http.unsent_bytes as u64)),
        ("database_up", "1 if the database answered when it was last used, else 0", database.is_up.map(u64::from)),
        ("database_pool_max_connections", "Size of the pool", Some(database.max.into())),
        ("auth_keys", "Public keys of the issuer that are in use", Some(keys.keys as u64)),
        ("auth_requests_waiting_for_keys", "Requests that wait for a fetch of the keys", Some(keys.waiting as u64)),
        ("auth_keys_last_fetch_success", "1 if the last fetch of the keys succeeded, else 0",
            keys.last_fetch_succeeded.map(u64::from)),
        ("auth_keys_last_success_timestamp_seconds", "Unix time of the last successful fetch of the keys",
            keys.age.map(fetched_at)),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            registry.register(name, help, ConstGauge::new(value));
        }
    }
    registry.register("http_connections_accepted", "Accepted connections", ConstCounter::new(http.accepted));
    let help = "Log lines that were dropped because standard error was not read fast enough";
    registry.register("log_lines_dropped", help, ConstCounter::new(dropped_lines()));
    let rejected = Family::<[(&str, &str); 1], Counter>::default();
    rejected.get_or_create(&[("reason", "overload")]).inc_by(http.shed);
    rejected.get_or_create(&[("reason", "invalid")]).inc_by(http.rejected);
    let help = "Requests that the HTTP engine answered itself: 503 without capacity (overload), else invalid";
    registry.register("http_requests_rejected", help, rejected);
    let connections = Family::<[(&str, &str); 1], Gauge>::default();
    let in_use = database.connections.saturating_sub(database.idle);
    connections.get_or_create(&[("state", "idle")]).set(database.idle.into());
    connections.get_or_create(&[("state", "in_use")]).set(in_use.into());
    registry.register("database_pool_connections", "Open connections to the database", connections);
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a String accepts all text");
    text
}
