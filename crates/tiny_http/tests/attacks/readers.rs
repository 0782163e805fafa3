//! Clients that do not read their responses, read too slowly, or disconnect.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::process::Setup;
use crate::served::{PAGE_BYTES, WORKERS};
use crate::support::client::{Client, MAX_WAIT, brief};
use crate::{HEALTH, Target, attack, attack_with, ms};

/// Waits until a response arrives, and reads none of it.
pub fn wait_for_response_start(client: &Client) {
    let there = client.stream.peek(&mut [0]).expect("a response begins");
    assert_eq!(there, 1, "closed instead of a response");
}

/// Waits until the server has closed every attacker's connection, which is still open on the client's side.
fn wait_for_close(target: &Target, what: &str) -> String {
    // The healthy client has up to two connections.
    let began = Instant::now();
    let back = target.server.wait_for(usize::MAX, target.before.descriptors + 2, MAX_WAIT);
    let now = back.unwrap_or_else(|now| panic!("{what}: the server still holds {now:?}, before {:?}", target.before));
    format!("closed after {:.1?} at a peak of {} KiB", began.elapsed(), now.peak_kib)
}

#[test]
fn readers_when_they_never_read_are_closed() {
    attack("16 readers of 8 MB that never read", |target| {
        let readers: Vec<Client> = (0..4 * WORKERS)
            .map(|_| {
                let mut client = target.client();
                client.send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
                client
            })
            .collect();
        readers.iter().for_each(wait_for_response_start);
        let summary = wait_for_close(target, "readers that never read");
        format!("{} readers, {summary}", readers.len())
    });
}

#[test]
fn readers_when_they_stall_in_a_stream_are_closed() {
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
        let summary = wait_for_close(target, "stalled readers of a stream");
        format!("{} readers, {summary}", streams.len())
    });
}

/// Complete lists beside stalled ones: the application needs 20 ms for a page, and each complete list has 50.
#[test]
fn lists_read_page_by_page_beside_stalled_ones_are_complete() {
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
        stalled.iter().for_each(wait_for_response_start);
        let began = Instant::now();
        let threads = thread::scope(|scope| {
            for mut client in (0..8).map(|_| ask()) {
                scope.spawn(move || {
                    let list = client.read_response("GET").expect("a whole list").expect("a response");
                    assert_eq!(list.body.len(), PAGES * PAGE_BYTES);
                });
            }
            target.server.figures().threads
        });
        let took = began.elapsed();
        format!("8 lists in {took:.1?}, {threads} threads; stalled: {}", wait_for_close(target, "stalled lists"))
    });
}

/// Readers that read slowly but steadily never stall for long, and would hold a response for hours.
#[test]
fn readers_below_the_minimum_rate_are_closed() {
    // Socket buffers hold megabytes, so only a high minimum rate shows soon that a client reads slowly.
    let setup = Setup { write_kib_per_second: 4096, ..Setup::default() };
    attack_with("16 readers of a KiB now and then", &setup, |target| {
        let readers: Vec<Client> = (0..4 * WORKERS).map(|_| target.client()).collect();
        let stop = AtomicBool::new(false);
        let summary = thread::scope(|scope| {
            for mut reader in readers {
                let stop = &stop;
                reader.send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request is sent");
                wait_for_response_start(&reader);
                scope.spawn(move || {
                    // Ends when the server or the test closes the connection.
                    while !stop.load(Ordering::Relaxed) && reader.stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {
                        thread::sleep(ms(100));
                    }
                });
            }
            let summary = wait_for_close(target, "readers of a drop");
            stop.store(true, Ordering::Relaxed);
            summary
        });
        format!("{} readers, {summary}", 4 * WORKERS)
    });
}

#[test]
fn clients_when_they_disconnect_before_the_response_leave_nothing_behind() {
    attack("clients gone before their response", |target| {
        const COUNT: usize = 400;
        let urls = ["/big", "/stream", "/sleep?1", "/panic"];
        for i in 0..COUNT {
            let mut client = target.client();
            client
                .send(format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", urls[i % urls.len()]))
                .expect("a request is sent");
        }
        format!("{COUNT} clients, {}", wait_for_close(target, "clients gone"))
    });
}

#[test]
fn pipelined_requests_when_responses_are_not_read_are_stopped() {
    attack("100,000 pipelined requests, nothing read", |target| {
        const COUNT: usize = 100_000;
        let batch = HEALTH.repeat(100);
        let sent = AtomicU64::new(0);
        let clients: Vec<Client> = (0..4).map(|_| target.client()).collect();
        let summary = thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| {
                    for _ in 0..COUNT / 100 {
                        // The server stops reading requests while responses are not read, and then closes.
                        if (&client.stream).write_all(batch.as_bytes()).is_err() {
                            break;
                        }
                        sent.fetch_add(100, Ordering::Relaxed);
                    }
                });
            }
            clients.iter().for_each(wait_for_response_start);
            wait_for_close(target, "pipelines without a reader")
        });
        format!("{} requests taken from {} clients, {summary}", sent.into_inner(), clients.len())
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    attack("100,000 pipelined requests, read", |target| {
        const COUNT: usize = 100_000;
        let mut reader = target.client();
        let writer = reader.stream.try_clone().expect("a connected socket");
        let began = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut writer = writer;
                for start in (0..COUNT).step_by(100) {
                    let batch: String =
                        (start..start + 100).map(|i| format!("GET /echo?{i} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
                    writer.write_all(batch.as_bytes()).expect("the server takes requests that are answered");
                }
            });
            for i in 0..COUNT {
                let response = reader.read_response("GET").unwrap_or_else(|e| panic!("response {i}: {e}"));
                assert_eq!(response.map(|a| a.text()), Some(i.to_string()), "response {i}");
            }
        });
        format!("{COUNT} responses in {:.1?}", began.elapsed())
    });
}
