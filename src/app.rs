//! The way of a request, from the queue to the answer.
//!
//! A worker answers one request at a time. Those that take next to no time ([`api::is_brief`]) it answers together when several
//! wait: what they ask of the database goes out at once, and comes back in one round trip.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, error};
use tiny_http::{Method, Request, Server};

use crate::api::Reply;
use crate::auth::{Identity, KeySource, Patience, Refusal, Trust, Verifier};
use crate::database::{Failure, Question};
use crate::error::Error;
use crate::http::{Response, conditions, read_body, sole_header, split_target};
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::router::{self, Match, PRIVATE, PUBLIC, Private, Public};
use crate::seal::Seal;
use crate::store::Store;
use crate::turns::{Left, Turn, Turns};
use crate::visit::{self, Visit};
use crate::{admin, api, cors, logging, request_id};

/// How many requests may wait for a worker. When full, the next is answered 503 at once.
const QUEUE_REQUESTS: usize = 1_024;
/// How many of these may be one user's, once it is known whose they are.
const LINE_REQUESTS: usize = QUEUE_REQUESTS / 2;
/// Of the workers no more than one in so many wait for the issuer, whatever it does.
const WORKERS_PER_WAIT_FOR_KEYS: usize = 2;
/// How many requests that take next to no time a worker answers together at most.
const MAX_TOGETHER: usize = 16;
/// How long a request may wait for a worker before it is answered 503.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is needed to answer a request.
pub struct App {
    cors: Arc<cors::Policy>,
    verifier: Verifier,
    store: Arc<Store>,
    queue: Queue<Job>,
    turns: Turns<Call>,
    metrics: Metrics,
    tags: visit::Tags,
    seal: Seal,
}

/// What waits for a worker.
#[allow(clippy::large_enum_variant)] // nearly all are of the large one
enum Job {
    New(Arrival),
    /// Requests of a user whose turn it is, which would hold up others' where they were.
    Left(Left, Vec<Call>),
}

/// A request, and when it came in.
struct Arrival {
    request: Request,
    since: Instant,
    /// It takes next to no time.
    is_brief: bool,
}

/// A request that a worker looks at.
struct Call {
    request: Request,
    id: String,
    visit: Visit,
    is_brief: bool,
    /// Who sent it, where that matters.
    identity: Option<Result<Identity, Error>>,
}

/// Requests that a worker answers: of a user whose turn it is, or one of nobody.
struct Held<'a> {
    turn: Option<Turn<'a, Call>>,
    calls: Vec<Call>,
}

impl Call {
    fn new(Arrival { request, since, is_brief }: Arrival) -> Self {
        let id = request_id::choose(sole_header(request.headers(), request_id::HEADER));
        let visit = Visit::new(request.method(), split_target(request.url()).0, since);
        Self { request, id, visit, is_brief, identity: None }
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
        let (tags, seal) = (visit::Tags::new(&trust.secrets), Seal::new(&trust.secrets));
        Self {
            cors,
            verifier: Verifier::new(trust, keys, (workers / WORKERS_PER_WAIT_FOR_KEYS).max(1)),
            store,
            queue: Queue::new(QUEUE_REQUESTS),
            turns: Turns::new(workers, pages, LINE_REQUESTS),
            metrics: Metrics::default(),
            tags,
            seal,
        }
    }

    /// Lets a request wait for a worker. `/health` is answered right here, so that no database can delay it.
    pub fn admit(&self, request: Request) {
        let (path, query) = split_target(request.url());
        let (is_health, is_brief) = (path == "/health", api::is_brief(request.method(), path, query));
        let arrival = Arrival { request, since: Instant::now(), is_brief };
        if is_health {
            self.attend(vec![Call::new(arrival)]);
        } else {
            self.queue(arrival);
        }
    }

    /// Whether no request waits for a worker.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Answers the requests that have waited for too long.
    pub fn refuse_late(&self) {
        while let Some(Job::New(arrival)) = self.queue.pop_older_than(QUEUE_TIMEOUT) {
            self.refuse(Call::new(arrival));
        }
    }

    /// Answers requests for ever.
    pub fn work(&self) {
        loop {
            let is_brief = |job: &Job| matches!(job, Job::New(arrival) if arrival.is_brief);
            let mut calls = Vec::new();
            for job in self.queue.pop(MAX_TOGETHER, is_brief) {
                match job {
                    Job::New(arrival) => calls.push(Call::new(arrival)),
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
                    self.queue_alone(call);
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

    /// Leaves to other workers what takes its time, so that it holds up none of the others that are held with it.
    fn leave_slow<'a>(&self, held: Vec<Held<'a>>) -> Vec<Held<'a>> {
        let is_brief = |held: &Held| held.turn.is_none() || held.calls.iter().all(|call| call.is_brief);
        let (mut kept, mut slow): (Vec<_>, Vec<_>) = held.into_iter().partition(is_brief);
        if kept.is_empty() {
            kept.extend(slow.pop());
        }
        for (turn, calls) in slow.into_iter().filter_map(|Held { turn, calls }| Some((turn?, calls))) {
            self.queue.push_first(Job::Left(turn.leave(), calls));
        }
        kept
    }

    /// Lets a request wait for a worker who has time for it alone.
    fn queue_alone(&self, Call { request, visit, .. }: Call) {
        self.queue(Arrival { request, since: visit.since(), is_brief: false });
    }

    fn queue(&self, arrival: Arrival) {
        if let Err(Job::New(arrival)) = self.queue.push(Job::New(arrival)) {
            self.refuse(Call::new(arrival));
        }
    }

    /// Adds a request to those that are held if it is its user's turn.
    fn hold<'a>(&'a self, held: &mut Vec<Held<'a>>, mut call: Call) {
        let Some(Ok(identity)) = &call.identity else {
            return held.push(Held { turn: None, calls: vec![call] });
        };
        call.visit.is_by(&identity.user, &self.tags);
        let user = self.turns.key(identity.user.as_str());
        for Held { turn, calls } in held.iter_mut() {
            if let Some(turn) = turn.as_ref().filter(|turn| turn.is_of(user)) {
                return calls.push(turn.share(call));
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
                if turn.is_some() && call.visit.age() > QUEUE_TIMEOUT {
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
        if !asking.is_empty() {
            self.ask_all(asking);
        }
        let pass_on = |turn: Turn<'a, Call>| turn.pass_on(Instant::now(), share, |call| call.is_brief);
        turns.into_iter().filter_map(pass_on).map(|(turn, calls)| Held { turn: Some(turn), calls }).collect()
    }

    /// Asks all these questions in one round trip, and answers the requests.
    fn ask_all(&self, asking: Vec<(Call, Question<'_, Response>)>) {
        let (calls, questions): (Vec<_>, Vec<_>) = asking.into_iter().unzip();
        let (lookups, answers): (Vec<_>, Vec<_>) = questions.into_iter().map(Question::apart).unzip();
        let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
        let read = |index: usize, rows| {
            let _in_request = logging::enter_request(calls[index].id.clone());
            let answer = answers[index].take().ok_or(Error::Internal);
            guarded(|| answer?(rows)).unwrap_or_else(Response::from)
        };
        let in_request = match &calls[..] {
            [call] => Some(logging::enter_request(call.id.clone())),
            _ => None, // what is logged now is said of all of them
        };
        let begun = Instant::now();
        let found = guarded(|| Ok(self.store.database().look_up(&lookups, read)));
        let time = begun.elapsed();
        drop(in_request);
        let mut found = found.unwrap_or_default().into_iter(); // too few where that panicked
        for call in calls {
            call.visit.database.add(time);
            let _in_request = logging::enter_request(call.id.clone());
            let found = found.next().map(|found| found.map_err(Failure::tell));
            let response = found.unwrap_or(Err(Error::Internal)).unwrap_or_else(Response::from);
            self.answer(call, response);
        }
    }

    /// Answers a request that nobody has time for.
    fn refuse(&self, call: Call) {
        self.metrics.shed.fetch_add(1, Ordering::Relaxed);
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
        let _in_request = logging::enter_request(call.id.clone());
        let authorization = sole_header(request.headers(), "Authorization");
        let identify = || Ok(self.verifier.identify(authorization, now_seconds(), patience)?);
        Some(guarded(|| visit.auth.time(identify)))
    }

    /// What becomes of a request: its answer, or the question on which that depends.
    fn begin(&self, call: &mut Call) -> Reply<'_> {
        let _in_request = logging::enter_request(call.id.clone());
        if let Some(response) = self.preflight(&call.request) {
            return response.into();
        }
        guarded(|| self.serve(call)).unwrap_or_else(|error| Response::from(error).into())
    }

    /// The answer to a preflight.
    fn preflight(&self, request: &Request) -> Option<Response> {
        let asked = || sole_header(request.headers(), "Access-Control-Request-Headers").unwrap_or_default();
        is_preflight(request).then(|| cors::preflight(self.allowed_origin(request), asked()))
    }

    /// Sends the answer.
    fn answer(&self, call: Call, response: Response) {
        let Call { request, id, visit, .. } = call;
        let _in_request = logging::enter_request(id.clone());
        let response = finish(response, self.allowed_origin(&request), id);
        let (response, finished) = visit.finish(response);
        if let Err(error) = request.respond(response.into_tiny_http()) {
            debug!("an answer could not be sent: {error}");
        }
        finished.tell(&self.metrics);
    }

    fn allowed_origin<'r>(&self, request: &'r Request) -> Option<&'r str> {
        self.cors.judge(sole_header(request.headers(), "Origin").unwrap_or_default())
    }

    fn serve(&self, Call { request, visit, identity, .. }: &mut Call) -> Result<Reply<'_>, Error> {
        let target = request.url().to_owned();
        let (path, query) = split_target(&target);
        let Some(identity) = identity.take() else {
            let response = match router::find(&PUBLIC, request.method(), path)?.endpoint {
                Public::About => api::about(),
                Public::Health => api::health(),
                Public::Ready => visit.database.time(|| api::ready(self.store.database()))?,
                Public::OpenApi => api::openapi(),
                Public::Docs => api::docs(),
            };
            return Ok(response.into());
        };
        let identity = identity?;
        let tasks = self.store.tasks(&identity.user, &visit.database);
        let seal = &self.seal;
        let Match { endpoint, id } = router::find(&PRIVATE, request.method(), path)?;
        let response = match endpoint {
            Private::ListTasks => return api::list(&tasks, query),
            Private::GetTask => return api::get(&tasks, id, conditions(request, seal)?, seal),
            Private::CreateTask => api::create(&tasks, &read_body(request)?, seal)?,
            Private::UpdateTask => {
                api::update(&tasks, id, &read_body(request)?, &conditions(request, seal)?, seal)?
            }
            Private::CompleteTask => {
                api::complete(&tasks, id, &read_body(request)?, &conditions(request, seal)?, seal)?
            }
            Private::DeleteTask => api::delete(&tasks, id, &conditions(request, seal)?)?,
        };
        Ok(response.into())
    }

    /// How it is doing, for Prometheus.
    pub fn metrics(&self, server: &Server) -> String {
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
pub fn finish(response: Response, allowed_origin: Option<&str>, request_id: String) -> Response {
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
