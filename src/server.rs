//! The start, the accept loop, the workers, and the end.
//!
//! With `app.rs`, `http.rs` and `admin.rs` the only file that knows `tiny_http`.

use std::error::Error as StdError;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use log::{info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tiny_http::{Rejection, ResponseBox, Server};

use crate::auth::{JwksUrl, KeySource};
use crate::config::Config;
use crate::db::Database;
use crate::dispatch::{App, finish};
use crate::http::error::Error;
use crate::http::{Limits, sole};
use crate::http::{cors, request_id};
use crate::ops::threads::spawn;
use crate::ops::{access_log as visit, admin, log as logging};
use crate::tasks::store::Store;

/// Of the connections no more than one in so many read pages of long lists, however slow those are: a user whose requests hold half of
/// the workers and whose lists take these leaves some to the others.
const CONNECTIONS_PER_PAGE: usize = 4;
/// How often the accept loop looks whether one has waited for too long, while any waits.
const QUEUE_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the address cannot be listened on, no signal handler be set, or no thread be started.
pub fn run(config: Config) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let cors = Arc::new(config.cors);
    // Before anybody can connect, so that no signal ends what has been accepted.
    let signals = Signals::new([SIGTERM, SIGINT])?;
    let listener = TcpListener::bind((config.host.as_str(), config.port))
        .map_err(|error| format!("cannot listen on {} port {}: {error}", config.host, config.port))?;
    let address = listener.local_addr()?;
    let rejections = Arc::clone(&cors);
    let workers = config.database_limits.pool_size as usize;
    let max_body_threads = config.limits.max_body_threads.min((workers / CONNECTIONS_PER_PAGE).max(1));
    let limits = Limits { max_body_threads, ..config.limits };
    let server = Server::with_limits(listener, limits, move |rejection| reject(rejection, &rejections))?;
    let server = Arc::new(server);
    let stopped = stop_on_signal(signals, Arc::clone(&server), config.drain_timeout)?;
    // The pool has threads of its own, and panics where it gets none.
    let database = catch_unwind(AssertUnwindSafe(|| Database::new(config.database, config.database_limits)))
        .map_err(|_| "cannot start the threads of the pool of connections")?;
    let store = Arc::new(Store::new(database));
    let keys = key_source(config.jwks_url, &store);
    let app = Arc::new(App::new(cors, config.trust, keys, Arc::clone(&store), workers, max_body_threads));
    if let Some(address) = config.admin_address {
        let (app, server) = (Arc::clone(&app), Arc::clone(&server));
        admin::start(address, move || app.metrics(server.stats()))?;
    }
    info!("listening on http://{address}");

    for _ in 0..workers {
        let app = Arc::clone(&app);
        spawn("worker", move || app.work())?;
    }
    spawn("warm-up", move || store.database().warm_up())?;

    accept(&app, &server);
    match stopped.recv() {
        Ok(true) => info!("stopped"),
        _ => warn!("stopped before every answer was sent"),
    }
    Ok(())
}

/// Where the issuer's keys come from: the URL that was set, or else the database.
pub(crate) fn key_source(url: Option<JwksUrl>, store: &Arc<Store>) -> KeySource {
    let store = Arc::clone(store);
    url.map_or_else(
        || {
            KeySource::new("the table `jwks`", move || {
                store.keys().map_err(|_| "the database could not be asked".to_owned())
            })
        },
        KeySource::at,
    )
}

/// The first signal lets the server finish what it has begun, and then tells whether it could; a second one ends the process.
fn stop_on_signal(
    mut signals: Signals,
    server: Arc<Server>,
    drain_timeout: Duration,
) -> Result<Receiver<bool>, String> {
    let (begin, begun) = channel();
    let (tell, stopped) = channel();
    // There from the start: when the signal comes there may be no thread to be had.
    spawn("stop", move || {
        if let Ok(()) = begun.recv() {
            // Nobody waits for it when the start has failed meanwhile.
            let _ = tell.send(server.shutdown(drain_timeout));
        }
    })?;
    spawn("signals", move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            info!("stopping");
            begin.send(()).expect("who is to stop waits for this");
        }
        if signals.next().is_some() {
            logging::finish();
            std::process::exit(1);
        }
    })?;
    Ok(stopped)
}

/// The answer to a request that the engine refused, as a page can read it.
fn reject(rejection: &Rejection, cors: &cors::Policy) -> ResponseBox {
    let id = request_id::choose(sole(rejection.header_values(request_id::HEADER)));
    let (status, error_code) = (rejection.status_code().0, rejection.error_code());
    let _in_request = logging::enter_request(Arc::clone(&id));
    info!(target: visit::TARGET, status, error_code; "refused");
    let origin = cors.judge(sole(rejection.header_values("Origin")).unwrap_or_default());
    let error = Error::Http(status, error_code, rejection.reason());
    finish(error.into(), origin, &id).into_tiny_http().boxed()
}

/// Hands each request to the workers, and answers what they have no time for. Ends with the server.
fn accept(app: &App, server: &Server) {
    loop {
        let received =
            if app.is_idle() { server.recv().map(Some) } else { server.recv_timeout(QUEUE_CHECK_INTERVAL) };
        match received {
            Ok(Some(request)) => app.admit(request),
            Ok(None) => {}
            Err(_) => return,
        }
        app.refuse_late();
    }
}
