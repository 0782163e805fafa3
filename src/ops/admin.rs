//! The second listener, for the operator: `/metrics`, in a thread of its own, so that it answers however busy the workers are.
//!
//! It asks nobody who they are, and shows nobody's data; where it listens is the operator's decision.

use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use log::{debug, info};
use tiny_http::{Header, Limits, Method, Rejection, Response, ResponseBox, Server, Stats};

use crate::auth::KeyStatus;
use crate::db as database;
use crate::http::split_target;
use crate::ops::log as logging;
use crate::ops::metrics::{Metrics, Text};
use crate::ops::threads::spawn;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers `/metrics` with what `metrics` gives, until the process ends.
///
/// # Errors
/// When the listener cannot be used, or no thread be started.
pub fn start(
    listener: TcpListener,
    metrics: impl Fn() -> String + Send + 'static,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let address = listener.local_addr()?;
    let server = Server::with_limits(listener, limits(), Rejection::to_response)?;
    spawn("admin", move || {
        for request in server.incoming_requests() {
            let response = answer(request.method(), request.url(), &metrics);
            if let Err(error) = request.respond(response) {
                debug!("an answer could not be sent: {error}");
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

fn answer(method: &Method, target: &str, metrics: impl Fn() -> String) -> ResponseBox {
    let header =
        |name, value| Header::from_bytes(name, value).expect("a token and visible ASCII make a header");
    match (method, split_target(target).0) {
        (Method::Get | Method::Head, "/metrics") => {
            Response::from_string(metrics()).with_header(header("Content-Type", CONTENT_TYPE)).boxed()
        }
        (_, "/metrics") => Response::empty(405).with_header(header("Allow", "GET, HEAD")).boxed(),
        _ => Response::from_string("There is /metrics here.\n").with_status_code(404).boxed(),
    }
}

/// All metrics in Prometheus's text format: `specs/operations.md` lists them.
pub fn render(
    requests: &Metrics,
    http: &Stats,
    waiting: usize,
    database: &database::Stats,
    keys: &KeyStatus,
) -> String {
    let mut text = Text::default();
    text.family("todo_backend_build_info", "gauge", "What runs here.");
    text.sample("", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
    requests.write(&mut text);
    text.single(
        "http_requests_waiting",
        "gauge",
        "Requests that wait for a worker or for their turn.",
        waiting,
    );
    write_http(http, &mut text);
    write_database(database, &mut text);
    write_keys(keys, &mut text);
    let dropped = logging::dropped_lines();
    text.single("log_lines_dropped_total", "counter", "Lines that nobody read fast enough.", dropped);
    text.into_string()
}

fn write_http(http: &Stats, text: &mut Text) {
    text.single("http_connections", "gauge", "Connections open now.", http.connections);
    text.single("http_connections_accepted_total", "counter", "Connections since the start.", http.accepted);
    text.single(
        "http_buffered_bytes",
        "gauge",
        "Unfinished heads, and bodies, in memory now.",
        http.buffered_bytes,
    );
    text.single(
        "http_requests_refused_full_total",
        "counter",
        "Requests that the HTTP layer answered 503, for there was no room.",
        http.shed,
    );
    text.single(
        "http_requests_refused_total",
        "counter",
        "Other requests that the HTTP layer refused, for they did not hold.",
        http.rejected,
    );
}

fn write_database(database: &database::Stats, text: &mut Text) {
    if let Some(is_there) = database.is_there {
        text.single(
            "database_up",
            "gauge",
            "Whether the database was there when last asked.",
            u8::from(is_there),
        );
    }
    text.single("database_pool_max_connections", "gauge", "Connections there may be.", database.max);
    text.family("database_pool_connections", "gauge", "Connections to the database now.");
    text.sample("", "state=\"idle\"", database.idle);
    text.sample("", "state=\"in_use\"", database.connections.saturating_sub(database.idle));
}

fn write_keys(keys: &KeyStatus, text: &mut Text) {
    text.single("auth_keys", "gauge", "Public keys that tokens are verified with.", keys.keys);
    if let Some(age) = keys.age {
        text.single(
            "auth_keys_age_seconds",
            "gauge",
            "How long ago they were asked for with success.",
            age.as_secs_f64(),
        );
    }
}
