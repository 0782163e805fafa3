//! The accept loop, the workers, and the way of a request, from the socket to the answer.
//!
//! With `http.rs` the only file that knows `tiny_http`.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{debug, error, info};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tiny_http::{Method, Request, Server};

use crate::auth::Verifier;
use crate::config::Config;
use crate::database::{Database, POOL_SIZE};
use crate::error::Error;
use crate::http::{Response, read_body, sole_header, split_target};
use crate::queue::Queue;
use crate::router::{self, Match, PRIVATE, PUBLIC, Private, Public};
use crate::store::Store;
use crate::{api, cors};

/// How many requests may wait for a worker. When full, the next is answered 503 at once.
const QUEUE_REQUESTS: usize = 1_024;
/// How long one may wait before it is answered 503.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the accept loop looks whether one has waited for too long, while any waits.
const QUEUE_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// What is needed to answer a request.
struct App {
    cors: cors::Policy,
    verifier: Verifier,
    store: Store,
    queue: Queue<Request>,
    stopping: AtomicBool,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the address cannot be listened on, or no signal handler be set.
pub fn run(config: Config) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let server = Server::http((config.host.as_str(), config.port))
        .map_err(|error| format!("cannot listen on {} port {}: {error}", config.host, config.port))?;
    let server = Arc::new(server);
    let app = Arc::new(App {
        cors: config.cors,
        verifier: Verifier::new(&config.secret),
        store: Store::new(Database::new(config.database)),
        queue: Queue::new(QUEUE_REQUESTS),
        stopping: AtomicBool::new(false),
    });
    stop_on_signal(Arc::clone(&server), Arc::clone(&app))?;
    if let Some(address) = server.server_addr().to_ip() {
        info!("listening on http://{address}");
    }

    let workers: Vec<_> = (0..POOL_SIZE)
        .map(|_| {
            let app = Arc::clone(&app);
            thread::spawn(move || app.work())
        })
        .collect();
    // The first connection is made before the first request asks for one, and the log tells whether it can be.
    let warm_up = Arc::clone(&app);
    thread::spawn(move || warm_up.store.is_ready());

    app.accept(&server);
    app.queue.close();
    for worker in workers {
        worker.join().map_err(|_| "a worker ended by a panic")?;
    }
    info!("stopped");
    Ok(())
}

/// The first signal ends the accept loop, a second one the process.
fn stop_on_signal(server: Arc<Server>, app: Arc<App>) -> Result<(), std::io::Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            info!("stopping");
            app.stopping.store(true, Ordering::Release);
            server.unblock();
        }
        if signals.next().is_some() {
            std::process::exit(1);
        }
    });
    Ok(())
}

fn send(request: Request, response: Response) {
    if let Err(error) = request.respond(response.into_tiny_http()) {
        debug!("a client did not wait for its answer: {error}");
    }
}

impl App {
    /// Hands each request to the workers, and answers what they have no time for.
    fn accept(&self, server: &Server) {
        while !self.stopping.load(Ordering::Acquire) {
            let received = if self.queue.is_empty() {
                server.recv().map(Some)
            } else {
                server.recv_timeout(QUEUE_CHECK_INTERVAL)
            };
            match received {
                Ok(Some(request)) => self.admit(request),
                Ok(None) => {}
                Err(error) => debug!("nothing received: {error}"),
            }
            while let Some(request) = self.queue.pop_older_than(QUEUE_TIMEOUT) {
                self.refuse(request);
            }
        }
    }

    /// `/health` is answered right here, so that no database can delay it.
    fn admit(&self, mut request: Request) {
        if split_target(request.url()).0 == "/health" {
            let response = self.answer(&mut request);
            send(request, response);
        } else if let Err(request) = self.queue.push(request) {
            self.refuse(request);
        }
    }

    /// Answers requests until there are no more.
    fn work(&self) {
        while let Some(mut request) = self.queue.pop() {
            let response = self.answer(&mut request);
            send(request, response);
        }
    }

    /// Answers a request that nobody has time for.
    fn refuse(&self, request: Request) {
        let response = finish(Error::Unavailable.into(), self.allowed_origin(&request));
        send(request, response);
    }

    /// The whole way of a request.
    fn answer(&self, request: &mut Request) -> Response {
        let origin = self.allowed_origin(request).map(str::to_owned);
        let response = if is_preflight(request) {
            let asked = sole_header(request, "Access-Control-Request-Headers").unwrap_or_default();
            cors::preflight(origin.as_deref(), asked)
        } else {
            guarded(|| self.serve(request))
        };
        finish(response, origin.as_deref())
    }

    fn allowed_origin<'r>(&self, request: &'r Request) -> Option<&'r str> {
        self.cors.judge(sole_header(request, "Origin").unwrap_or_default())
    }

    /// Whoever asks for something under `/api` is asked for an identity first, also where there is nothing.
    fn serve(&self, request: &mut Request) -> Result<Response, Error> {
        let target = request.url().to_owned();
        let (path, query) = split_target(&target);
        if !router::needs_identity(path) {
            return match router::find(&PUBLIC, request.method(), path)?.endpoint {
                Public::About => Ok(api::about()),
                Public::Health => Ok(api::health()),
                Public::Ready => api::ready(&self.store),
                Public::OpenApi => Ok(api::openapi()),
            };
        }
        let identity = self.verifier.identify(sole_header(request, "Authorization"), now_seconds())?;
        let tasks = self.store.tasks(&identity.user);
        let Match { endpoint, id } = router::find(&PRIVATE, request.method(), path)?;
        match endpoint {
            Private::ListTasks => api::list(&tasks, query),
            Private::CreateTask => api::create(&tasks, &read_body(request)?),
            Private::GetTask => api::get(&tasks, id),
            Private::UpdateTask => api::update(&tasks, id, &read_body(request)?),
            Private::CompleteTask => api::complete(&tasks, id, &read_body(request)?),
            Private::DeleteTask => api::delete(&tasks, id),
        }
    }
}

/// Only `OPTIONS` with this header is one (Fetch standard, "CORS-preflight request").
fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::Options && sole_header(request, "Access-Control-Request-Method") != Ok(None)
}

/// A panic is a defect of ours, and ends one request only.
fn guarded(serve: impl FnOnce() -> Result<Response, Error>) -> Response {
    let served = catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|_| {
        error!("a request ended by a panic; see above");
        Err(Error::Internal)
    });
    served.unwrap_or_else(Response::from)
}

/// What every answer carries: it is one person's, and it is what it says it is.
fn finish(response: Response, allowed_origin: Option<&str>) -> Response {
    cors::with_headers(response, allowed_origin)
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
        let response = finish(guarded(|| panic!("a defect")), Some("http://localhost:3000"));
        assert_eq!(response.status(), 500);
        assert_eq!(response.header("Access-Control-Allow-Origin"), Some("http://localhost:3000"));
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        assert!(!String::from_utf8_lossy(response.body()).contains("defect"));
    }
}
