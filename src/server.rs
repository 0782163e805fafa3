//! The accept loop, the workers, and the way of a request, from the socket to the answer.
//!
//! With `http.rs` and `admin.rs` the only file that knows `tiny_http`.

use std::error::Error as StdError;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, error, info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tiny_http::{Method, Rejection, Request, ResponseBox, Server};

use crate::auth::{Identity, JwksUrl, KeySource, Verifier};
use crate::config::Config;
use crate::database::Database;
use crate::error::Error;
use crate::http::{Limits, Response, conditions, read_body, sole_header, split_target};
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::router::{self, Match, PRIVATE, PUBLIC, Private, Public};
use crate::seal::Seal;
use crate::store::Store;
use crate::turns::Turns;
use crate::visit::{self, Visit};
use crate::{admin, api, cors, logging, request_id};

/// How many requests may wait for a worker. When full, the next is answered 503 at once.
const QUEUE_REQUESTS: usize = 1_024;
/// How many of these may be one user's, once it is known whose they are.
const LINE_REQUESTS: usize = QUEUE_REQUESTS / 2;
/// Of the workers no more than one in so many wait for the issuer, whatever it does.
const WORKERS_PER_WAIT_FOR_KEYS: usize = 2;
/// Of the connections no more than one in so many read pages of long lists, however slow those are: a user whose requests hold half of
/// the workers and whose lists take these leaves some to the others.
const CONNECTIONS_PER_PAGE: usize = 4;
/// How long one may wait before it is answered 503.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the accept loop looks whether one has waited for too long, while any waits.
const QUEUE_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// What is needed to answer a request.
struct App {
    cors: Arc<cors::Policy>,
    verifier: Verifier,
    store: Arc<Store>,
    queue: Queue<Arrival>,
    turns: Turns<Call>,
    metrics: Metrics,
    tags: visit::Tags,
    seal: Seal,
}

/// A request, and when it came in.
struct Arrival {
    request: Request,
    since: Instant,
}

/// A request that a worker looks at.
struct Call {
    request: Request,
    id: String,
    visit: Visit,
    /// Who sent it, where that matters.
    identity: Option<Result<Identity, Error>>,
}

impl Call {
    fn new(Arrival { request, since }: Arrival) -> Self {
        let id = request_id::choose(sole_header(request.headers(), request_id::HEADER));
        let visit = Visit::new(request.method(), split_target(request.url()).0, since);
        Self { request, id, visit, identity: None }
    }
}

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
    let tags = visit::Tags::new(&config.trust.secrets);
    let seal = Seal::new(&config.trust.secrets);
    let app = Arc::new(App {
        cors,
        verifier: Verifier::new(config.trust, keys, (workers / WORKERS_PER_WAIT_FOR_KEYS).max(1)),
        store,
        queue: Queue::new(QUEUE_REQUESTS),
        turns: Turns::new(workers, max_body_threads, LINE_REQUESTS),
        metrics: Metrics::default(),
        tags,
        seal,
    });
    if let Some(address) = config.admin_address {
        let (app, server) = (Arc::clone(&app), Arc::clone(&server));
        admin::start(address, move || app.metrics(&server))?;
    }
    info!("listening on http://{address}");

    for _ in 0..workers {
        let app = Arc::clone(&app);
        spawn("worker", move || app.work())?;
    }
    let warm_up = Arc::clone(&app);
    spawn("warm-up", move || warm_up.store.database().warm_up())?;

    app.accept(&server);
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

/// Starts a thread, or says why there is none: a machine has only so many, and memory for so many.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).map_err(|error| format!("cannot start the thread `{name}`: {error}"))
}

/// The answer to a request that the engine refused, as a page can read it.
fn reject(rejection: &Rejection, cors: &cors::Policy) -> ResponseBox {
    let id = request_id::choose(sole_header(rejection.headers(), request_id::HEADER));
    let _in_request = logging::enter_request(id.clone());
    let (status, error_code) = (rejection.status_code().0, rejection.error_code());
    info!(target: visit::TARGET, status, error_code; "refused");
    let origin = cors.judge(sole_header(rejection.headers(), "Origin").unwrap_or_default());
    let error = Error::Http(status, error_code, rejection.reason());
    finish(error.into(), origin, id).into_tiny_http().boxed()
}

fn send(request: Request, response: Response) {
    if let Err(error) = request.respond(response.into_tiny_http()) {
        debug!("an answer could not be sent: {error}");
    }
}

impl App {
    /// Hands each request to the workers, and answers what they have no time for. Ends with the server.
    fn accept(&self, server: &Server) {
        loop {
            let received = if self.queue.is_empty() {
                server.recv().map(Some)
            } else {
                server.recv_timeout(QUEUE_CHECK_INTERVAL)
            };
            match received {
                Ok(Some(request)) => self.admit(request),
                Ok(None) => {}
                Err(_) => return,
            }
            while let Some(request) = self.queue.pop_older_than(QUEUE_TIMEOUT) {
                self.refuse(Call::new(request));
            }
        }
    }

    /// `/health` is answered right here, so that no database can delay it.
    fn admit(&self, request: Request) {
        let arrival = Arrival { request, since: Instant::now() };
        if split_target(arrival.request.url()).0 == "/health" {
            self.answer(Call::new(arrival), App::serve);
        } else if let Err(arrival) = self.queue.push(arrival) {
            self.refuse(Call::new(arrival));
        }
    }

    /// Answers requests for ever.
    fn work(&self) {
        loop {
            self.attend(Call::new(self.queue.pop()));
        }
    }

    /// Answers a request when it is its user's turn, and then those of the same user that have waited for theirs.
    fn attend(&self, mut call: Call) {
        call.identity = self.identify(&call);
        let Some(Ok(identity)) = &call.identity else { return self.answer(call, App::serve) };
        call.visit.is_by(&identity.user, &self.tags);
        let user = self.turns.key(identity.user.as_str());
        let mut next = match self.turns.begin(user, call, Instant::now()) {
            Ok(next) => next,
            Err(call) => return self.refuse(call),
        };
        while let Some((turn, call)) = next {
            if call.visit.age() > QUEUE_TIMEOUT {
                self.refuse(call);
            } else {
                self.answer(call, App::serve);
            }
            next = turn.pass_on(Instant::now());
        }
    }

    /// Whoever asks for something under `/api` is asked for an identity first, also where there is nothing. `None` for others.
    fn identify(&self, call: &Call) -> Option<Result<Identity, Error>> {
        let Call { request, visit, .. } = call;
        if is_preflight(request) || !router::needs_identity(split_target(request.url()).0) {
            return None;
        }
        let _in_request = logging::enter_request(call.id.clone());
        let authorization = sole_header(request.headers(), "Authorization");
        let identify = || Ok(self.verifier.identify(authorization, now_seconds())?);
        Some(guarded(|| visit.auth.time(identify)))
    }

    /// Answers a request that nobody has time for.
    fn refuse(&self, call: Call) {
        self.metrics.shed.fetch_add(1, Ordering::Relaxed);
        self.answer(call, |_, _| Err(Error::Unavailable));
    }

    /// The whole way of a request. `serve` is what becomes of one that is no preflight.
    fn answer(&self, mut call: Call, serve: fn(&Self, &mut Call) -> Result<Response, Error>) {
        let _in_request = logging::enter_request(call.id.clone());
        let origin = self.allowed_origin(&call.request).map(str::to_owned);
        let response = if is_preflight(&call.request) {
            let asked = sole_header(call.request.headers(), "Access-Control-Request-Headers");
            cors::preflight(origin.as_deref(), asked.unwrap_or_default())
        } else {
            guarded(|| serve(self, &mut call)).unwrap_or_else(Response::from)
        };
        let Call { request, id, visit, .. } = call;
        let (response, finished) = visit.finish(finish(response, origin.as_deref(), id));
        send(request, response);
        finished.tell(&self.metrics);
    }

    fn allowed_origin<'r>(&self, request: &'r Request) -> Option<&'r str> {
        self.cors.judge(sole_header(request.headers(), "Origin").unwrap_or_default())
    }

    fn serve(&self, Call { request, visit, identity, .. }: &mut Call) -> Result<Response, Error> {
        let target = request.url().to_owned();
        let (path, query) = split_target(&target);
        let Some(identity) = identity.take() else {
            return match router::find(&PUBLIC, request.method(), path)?.endpoint {
                Public::About => Ok(api::about()),
                Public::Health => Ok(api::health()),
                Public::Ready => visit.database.time(|| api::ready(self.store.database())),
                Public::OpenApi => Ok(api::openapi()),
                Public::Docs => Ok(api::docs()),
            };
        };
        let identity = identity?;
        let tasks = self.store.tasks(&identity.user, &visit.database);
        let seal = &self.seal;
        let Match { endpoint, id } = router::find(&PRIVATE, request.method(), path)?;
        match endpoint {
            Private::ListTasks => api::list(&tasks, query),
            Private::CreateTask => api::create(&tasks, &read_body(request)?, seal),
            Private::GetTask => api::get(&tasks, id, &conditions(request, seal)?, seal),
            Private::UpdateTask => {
                api::update(&tasks, id, &read_body(request)?, &conditions(request, seal)?, seal)
            }
            Private::CompleteTask => {
                api::complete(&tasks, id, &read_body(request)?, &conditions(request, seal)?, seal)
            }
            Private::DeleteTask => api::delete(&tasks, id, &conditions(request, seal)?),
        }
    }

    /// How it is doing, for Prometheus.
    fn metrics(&self, server: &Server) -> String {
        let (http, database) = (server.stats(), self.store.database().stats());
        admin::render(
            &self.metrics,
            &http,
            self.queue.len() + self.turns.waiting(),
            &database,
            &self.verifier.key_status(),
        )
    }
}

/// Only `OPTIONS` with this header is one (Fetch standard, "CORS-preflight request").
fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::Options
        && sole_header(request.headers(), "Access-Control-Request-Method") != Ok(None)
}

/// A panic is a defect of ours, and ends one request only.
fn guarded<T>(serve: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|_| {
        error!("a request ended by a panic; see above");
        Err(Error::Internal)
    })
}

/// What every answer carries: it is one person's, and it is what it says it is.
fn finish(response: Response, allowed_origin: Option<&str>, request_id: String) -> Response {
    cors::with_headers(response, allowed_origin)
        .with_header(request_id::HEADER, request_id)
        .with_header("Cache-Control", "no-store")
        .with_header("X-Content-Type-Options", "nosniff")
}

/// Seconds since 1970.
fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_500_that_a_page_can_read() {
        let response = guarded::<Response>(|| panic!("a defect")).unwrap_or_else(Response::from);
        let response = finish(response, Some("http://localhost:3000"), "7".to_owned());
        assert_eq!(response.status(), 500);
        assert_eq!(response.header("Access-Control-Allow-Origin"), Some("http://localhost:3000"));
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        assert!(!String::from_utf8_lossy(response.body().unwrap()).contains("defect"));
    }
}
