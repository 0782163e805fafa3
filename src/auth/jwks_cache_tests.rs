//! Keys that appear while others are being fetched.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::jwks_cache::Issuer;
use super::jwks_source::KeySource;
use super::{Patience, Refusal};

const PATIENCE: Duration = Duration::from_secs(10);

/// An issuer whose fetches begin and end when the test says so.
struct Fixture {
    issuer: Arc<Issuer>,
    begun: Receiver<()>,
    end: Sender<Vec<Value>>,
}

impl Fixture {
    fn new() -> Self {
        let (begin, begun) = channel();
        let (end, answers) = channel();
        let answers = Mutex::new(answers);
        let source = KeySource::new("the test", move || {
            begin.send(()).unwrap();
            Ok(Some(answers.lock().unwrap().recv_timeout(PATIENCE).unwrap()))
        });
        Self { issuer: Arc::new(Issuer::new(source, 4)), begun, end }
    }

    /// A request whose token names this key: whether it is found.
    fn ask(&self, kid: &'static str) -> thread::JoinHandle<Result<bool, Refusal>> {
        let issuer = Arc::clone(&self.issuer);
        thread::spawn(move || {
            issuer.keys_for(kid, Instant::now(), Patience::Some).map(|keys| keys.knows(kid))
        })
    }

    fn wait_until_they_wait(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.issuer.waiting() != count {
            assert!(Instant::now() < deadline, "{count} requests should wait");
            thread::yield_now();
        }
    }

    fn end_fetch_with(&self, kids: &[&str]) {
        let key = |kid: &&str| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": PUBLIC_KEY});
        self.end.send(kids.iter().map(key).collect()).unwrap();
    }
}

/// Better Auth made it (`tests/vectors.json`).
const PUBLIC_KEY: &str = "zn_0HWaY1uvfYGJvnnO5iilm6aYLgCMHb_0GhmcSIP4";

#[test]
fn a_key_made_during_a_fetch_is_not_taken_for_a_forged_one() {
    let fixture = Fixture::new();
    let first = fixture.ask("first");
    fixture.begun.recv_timeout(PATIENCE).unwrap();
    let (second, third) = (fixture.ask("second"), fixture.ask("third"));
    fixture.wait_until_they_wait(3);
    fixture.end_fetch_with(&["first"]);
    assert_eq!(first.join().unwrap(), Ok(true));
    assert_eq!(second.join().unwrap(), Err(Refusal::NotNow));
    assert_eq!(third.join().unwrap(), Err(Refusal::NotNow));

    fixture.begun.recv_timeout(PATIENCE).unwrap();
    fixture.end_fetch_with(&["first", "second", "third"]);
    for kid in ["second", "third"] {
        assert_eq!(fixture.ask(kid).join().unwrap(), Ok(true));
    }
}

#[test]
fn a_forged_key_is_refused_though_the_fetch_was_for_another_forged_one() {
    let fixture = Fixture::new();
    let first = fixture.ask("forged");
    fixture.begun.recv_timeout(PATIENCE).unwrap();
    let second = fixture.ask("forged, too");
    fixture.wait_until_they_wait(2);
    fixture.end_fetch_with(&["first"]);
    assert_eq!(first.join().unwrap(), Ok(false));
    assert_eq!(second.join().unwrap(), Ok(false));
    assert!(fixture.begun.try_recv().is_err(), "one fetch is enough");
}
