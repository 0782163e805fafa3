//! The way of a request, from the queue to the answer.
//!
//! A worker answers one request at a time, or when several wait those that may be answered together ([`api::company`]): what they
//! ask of the database goes out at once, and comes back in one round trip.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, error};
use tiny_http::{Method, Request};

use crate::auth::{Identity, KeySource, Patience, Refusal, Trust, Verifier};
use crate::dispatch::queue::{Queue, Share};
use crate::dispatch::turns::{Left, Turn, Turns};
use crate::http::error::Error;
use crate::http::router::{self, Match, PRIVATE, PUBLIC, Private, Public};
use crate::http::{Response, conditions, read_body, sole, split_target};
use crate::http::{cors, request_id, trace_context};
use crate::ops::access_log::{AccessLogEntry, UserPseudonyms};
use crate::ops::log as logging;
use crate::ops::metrics::Metrics;
use crate::ops::origin_log::{RefusedOrigins, is_same_origin};
use crate::tasks::handlers as api;
use crate::tasks::handlers::{Company, Reply};
use crate::tasks::seal::Seal;
use crate::tasks::store::Store;

pub mod queue;
pub mod turns;
mod worker;

/// How many requests may wait for a worker. When full, the next is answered 503 at once.
const QUEUE_REQUESTS: usize = 1_024;
/// How many of these may be one user's, once it is known whose they are.
const LINE_REQUESTS: usize = QUEUE_REQUESTS / 2;
/// Of the workers no more than one in so many wait for the issuer, whatever it does.
const WORKERS_PER_WAIT_FOR_KEYS: usize = 2;
/// How many requests a worker answers together at most.
const MAX_TOGETHER: usize = 16;
/// The same of lists, each of which takes as long as several tasks.
const MAX_LISTS_TOGETHER: usize = 8;
/// How long a request may wait for a worker before it is answered 503.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is needed to answer a request.
pub struct App {
    cors: Arc<cors::Policy>,
    verifier: Verifier,
    store: Arc<Store>,
    queue: Queue<Job, { Company::ALL.len() }>,
    turns: Turns<Call>,
    metrics: Metrics,
    refused_origins: RefusedOrigins,
    pseudonyms: UserPseudonyms,
    seal: Seal,
}

/// What waits for a worker.
enum Job {
    Call(Call),
    /// Requests of a user whose turn it is, which would hold up others' where they were. They go first.
    Left(Left, Vec<Call>),
}

/// A request.
struct Call {
    request: Request,
    /// Once it was read.
    body: Option<String>,
    id: Arc<str>,
    visit: AccessLogEntry,
    company: Company,
    /// Who sent it, where that matters.
    identity: Option<Result<Identity, Error>>,
}

/// Requests that a worker answers: of a user whose turn it is, one or several that go together; or one of nobody.
struct Held<'a> {
    turn: Option<Turn<'a, Call>>,
    calls: Vec<Call>,
}

impl Held<'_> {
    /// Whom these go with.
    fn company(&self) -> Company {
        self.calls.first().map_or(Company::None, |call| call.company)
    }
}

impl Call {
    fn new(request: Request) -> Self {
        let id = request_id::choose(sole(request.header_values(request_id::HEADER)));
        let (path, query) = split_target(request.url());
        let mut visit = AccessLogEntry::new(request.method(), router::PATHS[router::label(path)]);
        visit.set_trace(trace_context::trace_id(
            sole(request.header_values(trace_context::HEADER)).unwrap_or_default(),
        ));
        let company = api::company(request.method(), path, query);
        Self { request, body: None, id, visit, company, identity: None }
    }

    /// Whether they may be answered together.
    fn goes_with(&self, other: &Self) -> bool {
        self.company == other.company && self.company != Company::None
    }
}

impl App {
    /// What so many workers answer, of whose connections pages of long lists take up to `pages`.
    pub fn new(
        cors: Arc<cors::Policy>,
        trust: Trust,
        keys: KeySource,
        store: Arc<Store>,
        workers: usize,
        pages: usize,
    ) -> Self {
        let (pseudonyms, seal) = (UserPseudonyms::new(&trust.secrets), Seal::new(&trust.secrets));
        Self {
            cors,
            verifier: Verifier::new(trust, keys, (workers / WORKERS_PER_WAIT_FOR_KEYS).max(1)),
            store,
            queue: Queue::new(QUEUE_REQUESTS, Company::ALL.map(share)),
            turns: Turns::new(workers, pages, LINE_REQUESTS),
            metrics: Metrics::default(),
            refused_origins: RefusedOrigins::default(),
            pseudonyms,
            seal,
        }
    }

    /// Lets a request wait for a worker. `/health` is answered right here, so that no database can delay it.
    pub fn admit(&self, request: Request) {
        let is_health = split_target(request.url()).0 == "/health";
        let mut call = Call::new(request);
        if self.store.database().is_pooled() {
            call.company = Company::None;
        }
        if is_health { self.attend(vec![call]) } else { self.queue(call) }
    }

    /// Whether no request waits for a worker.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Answers the requests that have waited for too long.
    pub fn refuse_late(&self) {
        while let Some(Job::Call(call)) = self.queue.pop_older_than(QUEUE_TIMEOUT) {
            self.refuse(call);
        }
    }

    /// Answers requests for ever.
    pub fn work(&self) {
        loop {
            let mut calls = Vec::new();
            for job in self.queue.pop() {
                match job {
                    Job::Call(call) => calls.push(call),
                    Job::Left(turn, calls) => {
                        self.go_on(vec![Held { turn: Some(self.turns.resume(turn)), calls }]);
                    }
                }
            }
            self.attend(calls);
        }
    }

    /// Answers requests when it is their users' turn.
    fn attend(&self, calls: Vec<Call>) {
        // Of several none waits until it is known who sent another.
        let patience = if calls.len() > 1 { Patience::None } else { Patience::Some };
        let mut held = Vec::new();
        for mut call in calls {
            call.identity = self.identify(&call, patience);
            match call.identity {
                Some(Err(Error::Unauthenticated(Refusal::NotNow))) if patience == Patience::None => {
                    call.company = Company::None;
                    self.queue(call);
                }
                _ => self.hold(&mut held, call),
            }
        }
        self.go_on(held);
    }

    /// Answers requests, and then those of the same users that have waited for their turn.
    fn go_on<'a>(&'a self, mut held: Vec<Held<'a>>) {
        while !held.is_empty() {
            held = self.answer_all(self.leave_slow(held));
        }
    }

    /// Leaves to other workers what does not go together, so that it holds up none of the others that are held with it.
    fn leave_slow<'a>(&self, held: Vec<Held<'a>>) -> Vec<Held<'a>> {
        let turned = held.iter().filter(|held| held.turn.is_some());
        let company = turned.map(Held::company).find(|company| *company != Company::None);
        let stays = |held: &Held| held.turn.is_none() || Some(held.company()) == company;
        let (mut kept, mut left): (Vec<_>, Vec<_>) = held.into_iter().partition(stays);
        if kept.is_empty() {
            kept.extend(left.pop());
        }
        for (turn, calls) in left.into_iter().filter_map(|Held { turn, calls }| Some((turn?, calls))) {
            self.queue.push_first(Job::Left(turn.leave(), calls));
        }
        kept
    }

    fn queue(&self, call: Call) {
        if let Err(Job::Call(call)) = self.queue.push(call.company as usize, Job::Call(call)) {
            self.refuse(call);
        }
    }

    /// Adds a request to those that are held if it is its user's turn.
    fn hold<'a>(&'a self, held: &mut Vec<Held<'a>>, mut call: Call) {
        let Some(Ok(identity)) = &call.identity else {
            return held.push(Held { turn: None, calls: vec![call] });
        };
        call.visit.set_user(&identity.user, &self.pseudonyms);
        let user = self.turns.key(identity.user.as_str());
        for Held { turn, calls } in held.iter_mut() {
            if let Some(turn) = turn.as_ref().filter(|turn| turn.is_of(user)) {
                return match turn.share(call, |next| calls.iter().all(|call| call.goes_with(next))) {
                    Ok(shares) => calls.extend(shares),
                    Err(call) => self.refuse(call),
                };
            }
        }
        match self.turns.begin(user, call, Instant::now()) {
            Ok(Some((turn, call))) => held.push(Held { turn: Some(turn), calls: vec![call] }),
            Ok(None) => {}
            Err(call) => self.refuse(call),
        }
    }

    /// Answers all of these, and tells whose turn it is then. What several ask of the database they ask together.
    fn answer_all<'a>(&'a self, held: Vec<Held<'a>>) -> Vec<Held<'a>> {
        let share = (MAX_TOGETHER / held.len()).max(1);
        let (mut turns, mut asking) = (Vec::with_capacity(held.len()), Vec::new());
        for Held { turn, calls } in held {
            for mut call in calls {
                if turn.is_some() && call.visit.elapsed() > QUEUE_TIMEOUT {
                    self.refuse(call);
                    continue;
                }
                match self.begin(&mut call) {
                    Reply::Ask(question) => asking.push((call, question)),
                    Reply::Now(response) => self.answer(call, response),
                }
            }
            turns.extend(turn);
        }
        self.ask_all(asking);
        let pass_on = |turn: Turn<'a, Call>| turn.pass_on(Instant::now(), share, Call::goes_with);
        turns.into_iter().filter_map(pass_on).map(|(turn, calls)| Held { turn: Some(turn), calls }).collect()
    }

    /// Answers a request that nobody has time for.
    fn refuse(&self, call: Call) {
        self.metrics.shed.inc();
        // Without its preflight a page is not even told so.
        let response = self.preflight(&call.request).unwrap_or_else(|| Error::Unavailable.into());
        self.answer(call, response);
    }

    /// Whoever asks for something under `/api` is asked for an identity first, also where there is nothing. `None` for others.
    fn identify(&self, call: &Call, patience: Patience) -> Option<Result<Identity, Error>> {
        let Call { request, visit, .. } = call;
        if is_preflight(request) || !router::needs_identity(split_target(request.url()).0) {
            return None;
        }
        let _in_request = logging::enter_request(Arc::clone(&call.id));
        let authorization = sole(request.header_values("Authorization"));
        let identify = || Ok(self.verifier.identify(authorization, now_seconds(), patience)?);
        Some(guarded(|| visit.auth.measure(identify)))
    }

    /// What becomes of a request: its answer, or the question on which that depends.
    fn begin(&self, call: &mut Call) -> Reply<'_> {
        let _in_request = logging::enter_request(Arc::clone(&call.id));
        if let Some(response) = self.preflight(&call.request) {
            return response.into();
        }
        guarded(|| self.serve(call)).unwrap_or_else(|error| Response::from(error).into())
    }

    /// The answer to a preflight.
    fn preflight(&self, request: &Request) -> Option<Response> {
        let asked = || sole(request.header_values("Access-Control-Request-Headers")).unwrap_or_default();
        is_preflight(request).then(|| cors::preflight(self.allowed_origin(request), asked()))
    }

    /// Sends the answer.
    fn answer(&self, call: Call, response: Response) {
        let Call { request, id, visit, .. } = call;
        let response = finish(response, self.allowed_origin(&request), &id);
        let _in_request = logging::enter_request(id);
        let (response, mut completed) = visit.finish(response);
        match request.respond(response.into_tiny_http()) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                error!("an answer cannot be sent: {error}");
                completed.set_engine_status(500);
            }
            Err(error) => debug!("an answer could not be sent: {error}"),
            Ok(()) => {}
        }
        completed.log_and_count(&self.metrics);
    }

    fn allowed_origin<'r>(&self, request: &'r Request) -> Option<&'r str> {
        let origin = sole(request.header_values("Origin")).unwrap_or_default();
        let allowed = self.cors.judge(origin);
        if let (Some(origin), None) = (origin, allowed)
            && !is_same_origin(origin, sole(request.header_values("Host")).unwrap_or_default())
        {
            self.refused_origins.note(origin, Instant::now());
        }
        allowed
    }

    fn serve(&self, Call { request, body, visit, identity, .. }: &mut Call) -> Result<Reply<'_>, Error> {
        let target = request.url().to_owned();
        let (path, query) = split_target(&target);
        let Some(identity) = identity.take() else {
            let response = match router::find(&PUBLIC, request.method(), path)?.endpoint {
                Public::About => api::about(),
                Public::Health => api::health(),
                Public::Ready => visit.database.measure(|| api::ready(self.store.database()))?,
                Public::OpenApi => api::openapi(),
                Public::Docs => api::docs(),
            };
            return Ok(response.into());
        };
        let identity = identity?;
        let tasks = self.store.tasks(&identity.user, &visit.database);
        let seal = &self.seal;
        let Match { endpoint, id } = router::find(&PRIVATE, request.method(), path)?;
        match endpoint {
            Private::ListTasks => api::list(&tasks, query),
            Private::GetTask => api::get(&tasks, id, conditions(request, seal)?, seal),
            Private::CreateTask => api::create(&tasks, read(body, request)?, seal),
            Private::UpdateTask => {
                api::update(&tasks, id, read(body, request)?, conditions(request, seal)?, seal)
            }
            Private::CompleteTask => {
                api::complete(&tasks, id, read(body, request)?, &conditions(request, seal)?, seal)
            }
            Private::DeleteTask => api::delete(&tasks, id, &conditions(request, seal)?),
        }
    }
}

/// How many that wait a worker takes at once. Of what is read it leaves half to other connections; writes all wait for the same disk.
fn share(company: Company) -> Share {
    match company {
        Company::Reads => Share { most: MAX_TOGETHER, one_in: 2 },
        Company::Lists => Share { most: MAX_LISTS_TOGETHER, one_in: 2 },
        Company::Writes => Share { most: MAX_TOGETHER, one_in: 1 },
        Company::None => Share { most: 1, one_in: 1 },
    }
}

/// Only `OPTIONS` with this header is one (Fetch standard, "CORS-preflight request").
fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::Options
        && sole(request.header_values("Access-Control-Request-Method")) != Ok(None)
}

/// The body, which is kept for when the request is tried once more.
fn read<'b>(body: &'b mut Option<String>, request: &mut Request) -> Result<&'b str, Error> {
    match body {
        Some(body) => Ok(body),
        None => Ok(body.insert(read_body(request)?)),
    }
}

/// A panic is a defect of ours, and ends one request only.
fn guarded<T>(serve: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|_| {
        error!("a request ended by a panic; see above");
        Err(Error::Internal)
    })
}

/// What every answer carries: it is one person's, and it is what it says it is.
pub fn finish(response: Response, allowed_origin: Option<&str>, request_id: &str) -> Response {
    cors::with_headers(response, allowed_origin)
        .with_header(request_id::HEADER, request_id.to_owned())
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
        let response = finish(response, Some("http://localhost:3000"), "7");
        assert_eq!(response.status(), 500);
        assert_eq!(response.header("Access-Control-Allow-Origin"), Some("http://localhost:3000"));
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        assert!(!String::from_utf8_lossy(response.body().unwrap()).contains("defect"));
    }
}
