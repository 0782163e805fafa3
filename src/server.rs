//! The server process: start, accept loop, worker threads, signals, graceful shutdown.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use log::{info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tiny_http::{Rejection, ResponseBox, Server};

use crate::auth::{JwksUrl, KeySource, jwks_table};
use crate::config::Config;
use crate::config::address::ListenAddress;
use crate::db::Database;
use crate::dispatch::Dispatcher;
use crate::http::error::ApiError;
use crate::http::{Limits, Response, cors, request_id, single_value};
use crate::ops::threads::spawn;
use crate::ops::{access_log, admin, log as request_log};

/// Pages of long lists occupy at most one in this many database connections. One user's requests occupy at most half of
/// all. Together they leave some connections to other users.
const CONNECTIONS_PER_PAGE: usize = 4;
/// File descriptors of a database connection: its socket, and those of its runtime. They are reserved, so that clients
/// cannot take them.
const DESCRIPTORS_PER_CONNECTION: usize = 4;
/// How often the accept loop sheds expired jobs while any job waits.
const SHED_INTERVAL: Duration = Duration::from_millis(100);
/// How often the accept loop looks for waiting jobs while none waits. Far shorter than the queue timeout.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When an address cannot be bound, a signal handler cannot be set, or a thread cannot be started.
pub fn run(config: Config) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let cors = Arc::new(config.cors);
    // Set before the listener: a signal must not kill the process once it has accepted a connection.
    let signals = Signals::new([SIGTERM, SIGINT])?;
    let listener = config.address.bind()?;
    let admin_listener = config.admin_address.as_ref().map(ListenAddress::bind).transpose()?;
    let address = listener.local_addr()?;
    let rejections = Arc::clone(&cors);
    let workers = config.database_limits.pool_size as usize;
    let max_body_threads = config.limits.max_body_threads.min((workers / CONNECTIONS_PER_PAGE).max(1));
    let reserved_descriptors = config.limits.reserved_descriptors + DESCRIPTORS_PER_CONNECTION * workers;
    let limits = Limits { max_body_threads, reserved_descriptors, ..config.limits };
    let server = Server::with_limits(listener, limits, move |rejection| reject(rejection, &rejections))?;
    let server = Arc::new(server);
    let stopped = stop_on_signal(signals, Arc::clone(&server), config.drain_timeout)?;
    // The pool starts threads, and panics if it cannot.
    let database = catch_unwind(AssertUnwindSafe(|| Database::new(config.database, config.database_limits)))
        .map_err(|_| "cannot start the threads of the pool of connections")?;
    let database = Arc::new(database);
    let keys = key_source(config.jwks_url, &database);
    let dispatcher = Dispatcher::new(cors, config.auth, keys, Arc::clone(&database), workers);
    if let Some(listener) = admin_listener {
        let (dispatcher, server) = (Arc::clone(&dispatcher), Arc::clone(&server));
        admin::start(listener, move || dispatcher.metrics(&server))?;
    }
    info!("listening on http://{address}");

    for _ in 0..workers {
        let dispatcher = Arc::clone(&dispatcher);
        spawn("worker", move || dispatcher.run_worker())?;
    }
    spawn("warm-up", move || database.warm_up())?;

    accept(&dispatcher, &server);
    match stopped.recv() {
        Ok(true) => info!("stopped"),
        _ => warn!("stopped before every response was sent"),
    }
    Ok(())
}

/// Where the issuer's keys come from: the URL that was set, or else the table `jwks`.
pub(crate) fn key_source(url: Option<JwksUrl>, database: &Arc<Database>) -> KeySource {
    let database = Arc::clone(database);
    let from_table = || KeySource::new("the table `jwks`", move || jwks_table::read(&database));
    url.map_or_else(from_table, KeySource::at)
}

/// The first signal starts a graceful shutdown. The receiver then gets whether every response was sent. A second signal
/// ends the process at once.
fn stop_on_signal(
    mut signals: Signals,
    server: Arc<Server>,
    drain_timeout: Duration,
) -> Result<Receiver<bool>, String> {
    let (request_stop, stop_requested) = channel();
    let (report, stopped) = channel();
    // Started now: when the signal comes, the system may have no thread left.
    spawn("stop", move || {
        if let Ok(()) = stop_requested.recv() {
            // Nobody receives this if the start has failed meanwhile.
            let _ = report.send(server.shutdown(drain_timeout));
        }
    })?;
    spawn("signals", move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            info!("stopping");
            request_stop.send(()).expect("the thread `stop` waits for this");
        }
        if signals.next().is_some() {
            request_log::finish();
            std::process::exit(1);
        }
    })?;
    Ok(stopped)
}

/// The response to a request that the engine rejected or a panic dropped, with CORS headers so that pages can read it.
fn reject(rejection: &Rejection, cors: &cors::Policy) -> ResponseBox {
    let header = |name| single_value(rejection.header_values(name)).unwrap_or_default();
    let id = request_id::from_header_or_new(header(request_id::HEADER));
    let (status, error_code) = (rejection.status_code().0, rejection.error_code());
    let _scope = request_log::enter_request(Arc::clone(&id));
    info!(target: access_log::TARGET, status, error_code; "rejected");
    let origin = cors.allowed_origin(header("Origin"));
    let error = ApiError::Engine(status, error_code, rejection.reason());
    Response::from(error).with_common_headers(origin, &id).into_tiny_http().boxed()
}

/// The accept loop: admits requests and sheds expired jobs until the server ends. A panic fails only one request.
fn accept(dispatcher: &Dispatcher, server: &Server) {
    let (mut last_shed_at, mut interval) = (Instant::now(), IDLE_INTERVAL);
    loop {
        match server.recv_timeout(interval) {
            // The engine answers a request that is dropped.
            Ok(Some(request)) => drop(catch_unwind(AssertUnwindSafe(|| dispatcher.admit(request)))),
            Ok(None) => {}
            Err(_) => return,
        }
        if last_shed_at.elapsed() >= SHED_INTERVAL {
            interval = if dispatcher.shed_expired() { SHED_INTERVAL } else { IDLE_INTERVAL };
            last_shed_at = Instant::now();
        }
    }
}
