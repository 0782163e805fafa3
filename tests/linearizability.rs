//! Reads, writes, toggles and compare-and-sets of one task are linearizable, through two servers over one PostgreSQL,
//! while servers and database are killed and restarted.
//!
//! Each response carries the entity tag of the state that it shows. No response, a cut one and a 503 mean that a change
//! happened once at any time since its start, or never. `LINEARIZABILITY_SECONDS` says for how long (default: 10),
//! `SEED` repeats the choices of a run.

mod support;

#[path = "linearizability/checker.rs"]
mod checker;
#[path = "linearizability/history.rs"]
mod history;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use checker::{Failure, check};
use history::{Call, Operation, Outcome, Seen, Tag};
use serde_json::json;
use support::proxy::listen;
use support::random::Random;
use support::{Cluster, Response, Server, signal, token, wait_until};

const CLIENTS: usize = 6;
/// Kinds of faults.
const FAULTS: usize = 6;
const USER: &str = "ada";
/// Bounds the memory of the search to some hundred megabytes. A good history takes about one for each operation.
const MAX_CONFIGURATIONS: usize = 3_000_000;

/// What all clients share.
struct World {
    token: String,
    path: String,
    clock: Instant,
    /// Of the two servers.
    ports: [AtomicU16; 2],
    is_over: AtomicBool,
    responses: AtomicUsize,
    next_title: AtomicU32,
    /// Numbers of the entity tags.
    tags: Mutex<HashMap<String, Tag>>,
}

/// Why a request has no response that shows a state.
enum Silence {
    NotSent,
    Unknown,
}

impl World {
    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn tag_number(&self, tag: &str) -> Tag {
        let mut tags = self.tags.lock().unwrap();
        let next = tags.len() as Tag;
        *tags.entry(tag.to_owned()).or_insert(next)
    }

    /// What a response with a task shows, and its entity tag.
    fn seen(&self, response: &Response) -> (Seen, String) {
        let (task, tag) = (response.json(), response.header("etag").expect("a response with a task has an ETag"));
        let title = task["title"].as_str().unwrap().parse().unwrap();
        (Seen { tag: self.tag_number(tag), title, completed: task["completed"].as_bool().unwrap() }, tag.to_owned())
    }

    fn request(&self, port: u16, call: Call, if_match: &str) -> Result<Response, Silence> {
        let (method, path, body) = match call {
            Call::Read => ("GET", self.path.clone(), String::new()),
            Call::Toggle => ("PATCH", format!("{}/complete", self.path), String::new()),
            Call::Write(title) | Call::CompareAndSet(_, title) => {
                ("PUT", self.path.clone(), json!({ "title": title.to_string() }).to_string())
            }
        };
        let condition = match call {
            Call::CompareAndSet(..) => format!("If-Match: {if_match}\r\n"),
            _ => String::new(),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             {condition}Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|_| Silence::NotSent)?;
        stream.write_all(request.as_bytes()).map_err(|_| Silence::Unknown)?;
        let response = Response::try_read(stream).map_err(|_| Silence::Unknown)?;
        if response.status == 503 { Err(Silence::Unknown) } else { Ok(response) }
    }

    /// Sends a request and notes what came of it; the entity tag of what was seen.
    fn perform(&self, port: u16, call: Call, if_match: &str, history: &mut Vec<Operation>) -> Option<String> {
        let start = self.now();
        let result = self.request(port, call, if_match);
        let end = self.now();
        let (outcome, tag) = match result {
            Err(Silence::NotSent) => return None,
            Err(Silence::Unknown) => (Outcome::Unknown, None),
            Ok(response) if response.status == 412 && matches!(call, Call::CompareAndSet(..)) => {
                (Outcome::Refused, None)
            }
            Ok(response) => {
                assert_eq!(response.status, 200, "{call:?}: {response:?}");
                let (seen, tag) = self.seen(&response);
                (Outcome::Done(seen), Some(tag))
            }
        };
        if outcome != Outcome::Unknown {
            self.responses.fetch_add(1, Ordering::SeqCst);
        }
        history.push(Operation { call, outcome, start, end });
        tag
    }

    /// Sends one request after the other, each to either server.
    fn keep_calling(&self, mut random: Random, mut last_tag: String) -> Vec<Operation> {
        let mut history = Vec::new();
        while !self.is_over.load(Ordering::SeqCst) {
            let title = || self.next_title.fetch_add(1, Ordering::SeqCst);
            let call = match random.below(8) {
                0 => Call::Toggle,
                1 | 2 => Call::Write(title()),
                3 | 4 => Call::CompareAndSet(self.tag_number(&last_tag), title()),
                _ => Call::Read,
            };
            let port = random.pick(&self.ports).load(Ordering::SeqCst);
            let tag = self.perform(port, call, &last_tag, &mut history);
            last_tag = tag.unwrap_or(last_tag);
            // So that the history stays short enough to be checked, and clients do not always meet.
            thread::sleep(Duration::from_micros(random.below(4_000) as u64));
        }
        history
    }
}

/// The network between the servers and PostgreSQL. It can lose a response: PostgreSQL has committed, and the connection
/// ends.
struct Network {
    port: u16,
    responses_to_lose: Arc<AtomicUsize>,
}

impl Network {
    fn start(database: u16) -> Self {
        let responses_to_lose = Arc::new(AtomicUsize::new(0));
        let to_lose = Arc::clone(&responses_to_lose);
        let port = listen(move |client| {
            let Ok(database) = TcpStream::connect(("127.0.0.1", database)) else { return };
            let (mut from, mut to) = (client.try_clone().unwrap(), database.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            Self::pass_responses(&database, &client, &to_lose);
            let _ = client.shutdown(Shutdown::Both);
            let _ = database.shutdown(Shutdown::Both);
        });
        Self { port, responses_to_lose }
    }

    fn pass_responses(mut database: &TcpStream, mut client: &TcpStream, to_lose: &AtomicUsize) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = database.read(&mut buffer) {
            let response = &buffer[..length];
            // The end of a statement about one row.
            let may_be_lost = response.windows(8).any(|tag| matches!(tag, b"UPDATE 1" | b"SELECT 1"));
            let lose_one =
                || to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if may_be_lost && lose_one() || client.write_all(response).is_err() {
                return;
            }
        }
    }

    fn url(&self) -> String {
        format!("postgresql://todo@127.0.0.1:{}/postgres", self.port)
    }
}

/// Kills and restarts the parts until the time is over, and waits each time until the clients get answers again.
fn disturb(
    world: &World,
    random: &mut Random,
    cluster: &mut Cluster,
    network: &Network,
    servers: &mut [Server; 2],
) -> usize {
    let seconds =
        std::env::var("LINEARIZABILITY_SECONDS").map_or(10, |text| text.parse().expect("a number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut faults = 0;
    while Instant::now() < end || faults < FAULTS {
        for _ in 0..5 {
            network.responses_to_lose.store(1, Ordering::SeqCst);
            wait_until("a lost response", || network.responses_to_lose.load(Ordering::SeqCst) == 0);
            thread::sleep(Duration::from_millis(random.below(20) as u64));
        }
        // Each once at first.
        match if faults < FAULTS { faults } else { random.below(FAULTS) } {
            number @ (0 | 1) => {
                signal(servers[number].id(), "KILL");
                servers[number].wait();
                servers[number] = Server::start(&network.url());
                world.ports[number].store(servers[number].port, Ordering::SeqCst);
            }
            2 => {
                cluster.kill();
                cluster.resume();
            }
            3 => {
                cluster.stop();
                cluster.resume();
            }
            4 => drop(cluster.end_connections()),
            _ => {
                let server = random.pick(servers).id();
                signal(server, "STOP");
                thread::sleep(Duration::from_millis(200));
                signal(server, "CONT");
            }
        }
        faults += 1;
        let before = world.responses.load(Ordering::SeqCst);
        wait_until("responses", || world.responses.load(Ordering::SeqCst) > before + CLIENTS * 10);
    }
    faults
}

/// Ends the clients, also when the test fails.
struct SetOnDrop<'b>(&'b AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn task_when_servers_and_database_are_killed_is_linearizable() {
    let mut random = Random::from_env();
    let mut cluster = Cluster::start();
    let network = Network::start(cluster.port);
    let mut servers = [(); 2].map(|()| Server::start(&network.url()));
    let id = servers[0].create(USER, "0");
    let world = World {
        token: token(USER),
        path: format!("/api/tasks/{id}"),
        clock: Instant::now(),
        ports: [servers[0].port.into(), servers[1].port.into()],
        is_over: AtomicBool::new(false),
        responses: AtomicUsize::new(0),
        next_title: AtomicU32::new(1),
        tags: Mutex::default(),
    };
    let (initial, first_tag) = world.seen(&servers[0].request("GET", &world.path, Some(&world.token), None));

    let (mut history, faults) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (world, random, tag) = (&world, Random(1 | random.below(usize::MAX) as u64), first_tag.clone());
                scope.spawn(move || world.keep_calling(random, tag))
            })
            .collect();
        let end = SetOnDrop(&world.is_over);
        let faults = disturb(&world, &mut random, &mut cluster, &network, &mut servers);
        drop(end);
        let histories = clients.into_iter().flat_map(|client| client.join().unwrap());
        (histories.collect::<Vec<_>>(), faults)
    });
    // Nothing that was acknowledged is lost in the end.
    for server in &servers {
        world.perform(server.port, Call::Read, "", &mut history).expect("both servers answer again");
    }

    let count = |of: fn(&Operation) -> bool| history.iter().filter(|operation| of(operation)).count();
    let unknown = count(|operation| operation.outcome == Outcome::Unknown && operation.call != Call::Read);
    let refused = count(|operation| operation.outcome == Outcome::Refused);
    let set =
        count(|Operation { call, outcome, .. }| matches!((call, outcome), (Call::CompareAndSet(..), Outcome::Done(_))));
    println!(
        "{faults} faults, {} operations: {unknown} changes unanswered, {set} compare-and-sets done, {refused} refused",
        history.len()
    );
    let began = Instant::now();
    match check(initial, &history, MAX_CONFIGURATIONS) {
        Ok(()) => println!("linearizable, found in {:?}", began.elapsed()),
        Err(Failure::NotLinearizable(why)) => panic!("the history is not linearizable: {why}"),
        Err(Failure::TooManyConfigurations) => panic!("undecided after {MAX_CONFIGURATIONS} configurations"),
    }
    assert!(set > 0 && refused > 0 && unknown > 0, "too little happened to show anything");
}
