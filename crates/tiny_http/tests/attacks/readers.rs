//! Clients that ask and then do not read, or not fast enough, or are gone.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::process::Setup;
use crate::served::{PAGE_BYTES, WORKERS};
use crate::support::client::{Client, PATIENCE, brief};
use crate::{HEALTH, Target, attack, attack_with, ms};

/// Waits until an answer is on its way, and reads none of it.
pub fn wait_begun(client: &Client) {
    let there = client.stream.peek(&mut [0]).expect("an answer begins");
    assert_eq!(there, 1, "closed instead of an answer");
}

/// Waits until the server has let go of every attacker, who still holds his end.
fn let_go(target: &Target, what: &str) -> String {
    // The healthy client holds up to two connections.
    let began = Instant::now();
    let back = target.server.wait_for(usize::MAX, target.before.descriptors + 2, PATIENCE);
    let now = back
        .unwrap_or_else(|now| panic!("{what}: the server still holds {now:?}, before {:?}", target.before));
    format!("let go after {:.1?} at a peak of {} KiB", began.elapsed(), now.peak_kib)
}

#[test]
fn sixteen_readers_that_never_read_eight_megabytes() {
    attack("16 readers of 8 MB that never read", |target| {
        let readers: Vec<Client> = (0..4 * WORKERS)
            .map(|_| {
                let mut client = target.client();
                client.send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
                client
            })
            .collect();
        readers.iter().for_each(wait_begun);
        let told = let_go(target, "readers that never read");
        format!("{} readers, {told}", readers.len())
    });
}

#[test]
fn fifty_stalled_readers_of_a_stream() {
    attack("50 stalled readers of a stream of unknown length", |target| {
        let mut streams = Vec::new();
        for i in 0..50 {
            let mut client = target.client();
            client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
            let mut first = [0; 1024];
            client.stream.read_exact(&mut first).unwrap_or_else(|e| panic!("stream {i}: {e}"));
            assert!(first.starts_with(b"HTTP/1.1 200 "), "stream {i} begins with {:?}", brief(&first));
            streams.push(client);
        }
        let told = let_go(target, "stalled readers of a stream");
        format!("{} readers, {told}", streams.len())
    });
}

/// Whole lists and stalled ones together: the program reads a page in 20 ms, and the whole ones need 50 each.
#[test]
fn eight_lists_read_page_by_page_beside_fifty_that_stall() {
    const PAGES: usize = 50;
    let setup = Setup { write_ms: 4000, ..Setup::default() };
    attack_with("8 lists of 50 pages, 50 more that stall", &setup, |target| {
        let request = format!("GET /pages?{PAGES} HTTP/1.1\r\nHost: h\r\n\r\n");
        let ask = || {
            let mut client = target.client();
            client.send(&request).expect("a request is sent");
            client
        };
        let stalled: Vec<Client> = (0..50).map(|_| ask()).collect();
        stalled.iter().for_each(wait_begun);
        let began = Instant::now();
        let threads = thread::scope(|scope| {
            for mut client in (0..8).map(|_| ask()) {
                scope.spawn(move || {
                    let list = client.answer("GET").expect("a whole list").expect("an answer");
                    assert_eq!(list.body.len(), PAGES * PAGE_BYTES);
                });
            }
            target.server.figures().threads
        });
        let took = began.elapsed();
        format!("8 lists in {took:.1?}, {threads} threads; stalled: {}", let_go(target, "stalled lists"))
    });
}

/// Readers that take a little now and then are never stalled for long, and still would hold an answer for
/// hours.
#[test]
fn sixteen_readers_of_a_drop_now_and_then() {
    // The sockets' own buffers take megabytes at once, so that only a high rate shows soon that nobody reads
    // them.
    let setup = Setup { write_kib_per_second: 4096, ..Setup::default() };
    attack_with("16 readers of a KiB now and then", &setup, |target| {
        let readers: Vec<Client> = (0..4 * WORKERS).map(|_| target.client()).collect();
        let stop = AtomicBool::new(false);
        let told = thread::scope(|scope| {
            for mut reader in readers {
                let stop = &stop;
                reader.send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
                wait_begun(&reader);
                scope.spawn(move || {
                    // Ends where the server has closed, which is the point, and where the test has.
                    while !stop.load(Ordering::Relaxed)
                        && reader.stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0)
                    {
                        thread::sleep(ms(100));
                    }
                });
            }
            let told = let_go(target, "readers of a drop");
            stop.store(true, Ordering::Relaxed);
            told
        });
        format!("{} readers, {told}", 4 * WORKERS)
    });
}

#[test]
fn clients_gone_before_their_answer() {
    attack("clients gone before their answer", |target| {
        const COUNT: usize = 400;
        let urls = ["/big", "/stream", "/sleep?1", "/panic"];
        for i in 0..COUNT {
            let mut client = target.client();
            client
                .send(format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", urls[i % urls.len()]))
                .expect("a request is sent");
        }
        format!("{COUNT} clients, {}", let_go(target, "clients gone"))
    });
}

#[test]
fn a_hundred_thousand_requests_without_reading() {
    attack("100,000 pipelined requests, nothing read", |target| {
        const COUNT: usize = 100_000;
        let batch = HEALTH.repeat(100);
        let sent = AtomicU64::new(0);
        let clients: Vec<Client> = (0..4).map(|_| target.client()).collect();
        let told = thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| {
                    for _ in 0..COUNT / 100 {
                        // The server stops taking requests whose answers nobody takes, and then closes.
                        if (&client.stream).write_all(batch.as_bytes()).is_err() {
                            break;
                        }
                        sent.fetch_add(100, Ordering::Relaxed);
                    }
                });
            }
            clients.iter().for_each(wait_begun);
            let_go(target, "pipelines without a reader")
        });
        format!("{} requests taken from {} clients, {told}", sent.into_inner(), clients.len())
    });
}

#[test]
fn a_hundred_thousand_pipelined_requests_are_answered_in_order() {
    attack("100,000 pipelined requests, read", |target| {
        const COUNT: usize = 100_000;
        let mut reader = target.client();
        let writer = reader.stream.try_clone().expect("a connected socket");
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut writer = writer;
                for start in (0..COUNT).step_by(100) {
                    let batch: String = (start..start + 100)
                        .map(|i| format!("GET /echo?{i} HTTP/1.1\r\nHost: h\r\n\r\n"))
                        .collect();
                    writer.write_all(batch.as_bytes()).expect("the server takes requests that are answered");
                }
            });
            for i in 0..COUNT {
                let answer = reader.answer("GET").unwrap_or_else(|e| panic!("answer {i}: {e}"));
                assert_eq!(answer.map(|a| a.text()), Some(i.to_string()), "answer {i}");
            }
        });
        format!("{COUNT} answers in {:.1?}", began.elapsed())
    });
}
