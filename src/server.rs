//! The server process: start, accept loop, worker threads, signals, graceful shutdown.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use log::{info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tiny_http::{Rejection, ResponseBox, Server};

use crate::auth::{KeySource, jwks_table};
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

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When an address cannot be bound, a signal handler cannot be set, or a thread cannot be started.
pub fn run(config: Config) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let cors = Arc::new(config.cors);
    // Before the listener: a signal must not kill the process once it has accepted a connection.
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
    let stop_requested = receive_first_signal(signals)?;
    // The pool starts threads, and panics if it cannot.
    let database = catch_unwind(AssertUnwindSafe(|| Database::new(config.database, config.database_limits, true)))
        .map_err(|_| "cannot start the threads of the pool of connections")?;
    let database = Arc::new(database);
    let keys = key_source(config.key_source, &database);
    let dispatcher = Arc::new(Dispatcher::new(cors, config.auth, keys, Arc::clone(&database), workers));
    if let Some(listener) = admin_listener {
        let (dispatcher, server) = (Arc::clone(&dispatcher), Arc::clone(&server));
        admin::start(listener, move || dispatcher.metrics(&server))?;
    }
    info!("listening on http://{address}");

    let start = |name, run: fn(&Dispatcher, &Server)| {
        let (dispatcher, server) = (Arc::clone(&dispatcher), Arc::clone(&server));
        spawn(name, move || {
            // A process without this loop would only seem to serve. Whoever supervises it starts a new one.
            if catch_unwind(AssertUnwindSafe(|| run(&dispatcher, &server))).is_err() {
                exit_at_once();
            }
        })
    };
    for _ in 0..workers {
        start("worker", |dispatcher, _| dispatcher.run_worker())?;
    }
    start("key set", |dispatcher, _| dispatcher.run_key_fetches())?;
    start("shed", |dispatcher, _| dispatcher.run_shedding())?;
    start("accept", accept)?;
    spawn("warm-up", move || database.warm_up())?;

    stop_requested.recv()?;
    match server.shutdown(config.drain_timeout) {
        true => info!("stopped"),
        false => warn!("stopped before every response was sent"),
    }
    Ok(())
}

/// Where the issuer's keys come from: the URL that was set, or else the table `jwks`.
pub(crate) fn key_source(configured: Option<KeySource>, database: &Arc<Database>) -> KeySource {
    let database = Arc::clone(database);
    configured.unwrap_or_else(|| KeySource::new("the table `jwks`", move || jwks_table::read(&database)))
}

/// The receiver gets the first signal. A second one ends the process at once.
fn receive_first_signal(mut signals: Signals) -> Result<Receiver<()>, String> {
    let (first, stop_requested) = channel();
    spawn("signals", move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            info!("stopping");
            // Nobody receives this if the start has failed meanwhile.
            let _ = first.send(());
        }
        if signals.next().is_some() {
            exit_at_once();
        }
    })?;
    Ok(stop_requested)
}

/// Ends the process, with its log written.
fn exit_at_once() {
    request_log::finish();
    std::process::exit(1);
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

/// The accept loop: admits requests until the server ends. A panic fails only one request, which the engine answers.
fn accept(dispatcher: &Dispatcher, server: &Server) {
    for request in server.incoming_requests() {
        drop(catch_unwind(AssertUnwindSafe(|| dispatcher.admit(request))));
    }
}
