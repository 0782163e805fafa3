//! Admission control: answers a request at once, or queues it as a job.
//!
//! Admission runs on the accept thread and never waits. Preflights, public pages, bad tokens and unknown paths are
//! answered here, however busy the workers or the database are. Everything else becomes a job of a known user and class
//! ([`scheduler`]), which a worker runs ([`worker`]).

mod job;
mod job_queue;
pub mod scheduler;
mod worker;

use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, error};
use serde_json::json;
use tiny_http::{Request, Server};

use crate::auth::{AuthConfig, AuthError, Identity, JwksCache, KeySet, KeySource, Verdict, Verifier};
use crate::db::Database;
use crate::http::error::ApiError;
use crate::http::router::{PublicRoute, Target};
use crate::http::{
    Response, cors, header, is_preflight, path_and_query, request_id, router, single_value, trace_context,
};
use crate::ops::access_log::{AccessLogEntry, UserPseudonyms};
use crate::ops::metrics::Metrics;
use crate::ops::origin_log::{RefusedOrigins, is_same_origin};
use crate::ops::{admin, docs};
use crate::tasks::handlers::{Endpoint, TaskCall, TaskPlan};
use job::{Job, PendingRequest, Work};
use job_queue::JobQueue;
use scheduler::{Owner, QUEUE_TIMEOUT};

/// How often expired requests are shed. Far shorter than their timeouts.
const SHED_INTERVAL: Duration = Duration::from_millis(100);

/// Admits requests, and runs their jobs.
pub struct Dispatcher {
    cors: Arc<cors::Policy>,
    refused_origins: RefusedOrigins,
    verifier: Verifier,
    jwks: JwksCache<PendingRequest>,
    database: Arc<Database>,
    queue: JobQueue<Box<Job>>,
    owner_hasher: RandomState,
    metrics: Metrics,
    pseudonyms: UserPseudonyms,
}

/// The work for a request, or its response.
type Admission = Result<Work, Response>;

impl Dispatcher {
    /// A dispatcher for this many workers.
    pub fn new(
        cors: Arc<cors::Policy>,
        auth: AuthConfig,
        keys: KeySource,
        database: Arc<Database>,
        workers: usize,
    ) -> Self {
        Self {
            cors,
            refused_origins: RefusedOrigins::default(),
            pseudonyms: UserPseudonyms::new(&auth.secrets),
            verifier: Verifier::new(auth),
            jwks: JwksCache::new(keys),
            database,
            queue: JobQueue::new(workers),
            owner_hasher: RandomState::new(),
            metrics: Metrics::default(),
        }
    }

    /// Answers a request, or queues its job.
    pub fn admit(&self, request: Request) {
        let id = request_id::from_header_or_new(header(&request, request_id::HEADER));
        let mut log = AccessLogEntry::new(request.method());
        log.trace_id = header(&request, "traceparent").and_then(trace_context::trace_id).map(str::to_owned);
        let mut pending = PendingRequest { request, id, log, deadline: Instant::now() };
        let _scope = pending.enter("admission");
        let admission = self.decide(&pending.request, &mut pending.log, None);
        self.proceed(pending, admission);
    }

    /// Decides by the head of a request alone. Every path under `/api` needs a token, even an unknown one. A token that
    /// is signed with a key is a job of its own, which decides again with the `keys`.
    fn decide(&self, request: &Request, log: &mut AccessLogEntry, keys: Option<&KeySet>) -> Admission {
        let (path, query) = path_and_query(request.url());
        let (route, target) = router::match_route(request.method(), path);
        log.route = route;
        if is_preflight(request) {
            let requested = header(request, "Access-Control-Request-Headers");
            return Err(cors::preflight(self.allowed_origin(request), requested));
        }
        let found = match target {
            Target::Public(route) => return public_admission(route?, path, request),
            Target::Api(found) => found,
        };
        let authenticate = || self.verifier.authenticate(authorization(request)?, keys, now_seconds());
        Ok(match log.auth.measure(authenticate).map_err(ApiError::from)? {
            Verdict::NeedsKey { kid } => Work::Verify { kid, has_waited: false },
            Verdict::Verified(Identity { user, .. }) => {
                log.set_user(&user, &self.pseudonyms);
                let (route, id) = found?;
                Work::Task(TaskCall { user, endpoint: Endpoint::parse(route, id, query)? })
            }
        })
    }

    /// Queues the work of a request with a new deadline, or answers it.
    fn proceed(&self, mut pending: PendingRequest, admission: Admission) {
        pending.deadline = Instant::now() + QUEUE_TIMEOUT;
        match admission {
            Ok(work) => self.submit(pending, work),
            Err(response) => self.respond(pending, response),
        }
    }

    /// Queues a job, or sheds it if too many are queued.
    fn submit(&self, pending: PendingRequest, work: Work) {
        let deadline = pending.deadline;
        let owner = match &work {
            Work::Probe => Owner::Probes,
            Work::Verify { .. } => Owner::Verification,
            Work::Task(call) | Work::Retry(TaskPlan { call, .. }) | Work::RemainingList(call, _) => {
                Owner::User(self.owner_hasher.hash_one(call.user.as_str()))
            }
        };
        if let Err(job) = self.queue.submit(owner, work.class(), Box::new(Job { pending, work }), deadline) {
            self.shed(job.pending);
        }
    }

    /// Fetches the issuer's keys whenever a request needs them, for ever.
    pub fn run_key_fetches(&self) {
        loop {
            // After a failed fetch, too.
            for (kid, pending) in self.jwks.fetch_when_needed() {
                self.proceed(pending, Ok(Work::Verify { kid, has_waited: true }));
            }
        }
    }

    /// Answers 503 to requests that waited too long for a worker or a key set, for ever.
    pub fn run_shedding(&self) {
        loop {
            sleep(SHED_INTERVAL);
            let now = Instant::now();
            self.queue.expire(now).into_iter().for_each(|job| self.shed(job.pending));
            for pending in self.jwks.take_expired(now) {
                self.respond(pending, ApiError::from(AuthError::KeysUnavailable));
            }
        }
    }

    /// Answers 503 to a request that got no place in the queue, or no worker in time.
    fn shed(&self, pending: PendingRequest) {
        self.metrics.shed.inc();
        self.respond(pending, ApiError::Unavailable);
    }

    /// Sends the response, and logs the request. A panic drops this request, and spares the thread.
    fn respond(&self, pending: PendingRequest, response: impl Into<Response>) {
        drop(catch_unwind(AssertUnwindSafe(|| self.send(pending, response.into()))));
    }

    fn send(&self, pending: PendingRequest, response: Response) {
        let _scope = pending.enter("response");
        let PendingRequest { request, id, log, .. } = pending;
        let duration = log.duration();
        let response = response
            .with_common_headers(self.allowed_origin(&request), &id)
            .with_header("Server-Timing", log.server_timing(duration));
        let (mut status, mut bytes) = (response.status(), response.body().map(<[u8]>::len));
        match request.respond(response.into_tiny_http()) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                error!("a response is invalid, the client gets 500: {error}");
                (status, bytes) = (500, None); // the engine has sent this instead
            }
            Err(error) => debug!("the client did not get its response: {error}"),
            Ok(()) => {}
        }
        log.log_and_count(status, bytes, duration, &self.metrics);
    }

    /// The origin of the page that sent the request, if it may read the response.
    fn allowed_origin<'r>(&self, request: &'r Request) -> Option<&'r str> {
        let origin = header(request, "Origin")?;
        let allowed = self.cors.allowed_origin(Some(origin));
        if allowed.is_none() && !is_same_origin(origin, header(request, "Host")) {
            self.refused_origins.note(origin, Instant::now());
        }
        allowed
    }

    /// All metrics, in Prometheus's text format.
    pub fn metrics(&self, server: &Server) -> String {
        let keys = self.jwks.status(Instant::now());
        admin::render(&self.metrics, &server.stats(), self.queue.queued(), &self.database.stats(), &keys)
    }
}

/// The decision on a request that needs no token.
fn public_admission(route: PublicRoute, path: &str, request: &Request) -> Admission {
    let name_and_version = || json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") });
    Err(match route {
        PublicRoute::Ready => return Ok(Work::Probe),
        PublicRoute::About => Response::json(200, &name_and_version()),
        PublicRoute::Health => Response::json(200, &json!({ "status": "ok" })),
        PublicRoute::OpenApi => Response::raw_json(200, docs::OPENAPI_JSON),
        PublicRoute::Docs => {
            docs::response(path, header(request, "Accept-Encoding"), header(request, "If-None-Match"))?
        }
    })
}

/// The value of the `Authorization` header.
fn authorization(request: &Request) -> Result<Option<&str>, AuthError> {
    let value = single_value(request.header_values("Authorization"));
    value.map_err(|_| AuthError::Invalid("more than one Authorization header, or not ASCII"))
}

/// Seconds since 1970.
fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
