//! A server that says what it is told to, whatever it is asked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::task::Context;

use postgres::tls::{ChannelBinding, TlsStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::db::Param;

const BOUND: &[u8] = b"2\0\0\0\x04";
const COMPLETE: &[u8] = b"C\0\0\0\x0dSELECT 1\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
/// What may come at any time: a notice, a parameter of the session, a notification.
const NOTICE: &[u8] = b"N\0\0\0\x05\0S\0\0\0\x08a\0b\0A\0\0\0\x0c\0\0\0\x01c\0d\0";
const SYNC: &[u8] = b"S\0\0\0\x04";
const FLUSH: &[u8] = b"H\0\0\0\x04";
/// One column, `n`, an integer.
const COLUMNS: &[u8] = b"T\0\0\0\x1a\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01";
const QUERY: Query = Query { prepared: None, sql: "select 1 as n", params: &[] };

fn row(n: u8) -> Vec<u8> {
    [b"D\0\0\0\x0e\0\x01\0\0\0\x04\0\0\0".as_slice(), &[n]].concat()
}

/// The answer to [`QUERY`], but for the end.
fn one(n: u8) -> Vec<u8> {
    [BOUND, COLUMNS, NOTICE, &row(n), COMPLETE].concat()
}

fn refused(severity: &str) -> Vec<u8> {
    let content = format!("SNEIN\0V{severity}\0C22012\0Mno\0\0");
    [b"E".as_slice(), &(4 + content.len() as u32).to_be_bytes(), content.as_bytes()].concat()
}

/// Says each of these, and ends. It rests before each.
#[derive(Default)]
struct Script {
    said: VecDeque<Vec<u8>>,
    /// Receives nothing before all but the last is said.
    is_deaf: bool,
    /// Nothing has come before this is so.
    is_awaited: Option<Arc<AtomicBool>>,
    has_rested: bool,
    sent: Sent,
}

type Sent = Arc<Mutex<Vec<u8>>>;

impl Script {
    fn start(self) -> (Client, Sent) {
        let sent = Arc::clone(&self.sent);
        let wire = Wire::new(Box::new(self), b"");
        (Client { wire, runtime: runtime().unwrap(), is_closed: false }, sent)
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let has_come = self.is_awaited.as_ref().is_none_or(|awaited| awaited.load(Ordering::Relaxed));
        self.has_rested = !self.has_rested;
        if self.has_rested || !has_come {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        buffer.put_slice(&self.said.pop_front().unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_deaf && self.said.len() > 1 {
            return Poll::Pending;
        }
        let some = &bytes[..bytes.len().min(100)];
        self.sent.lock().unwrap().extend_from_slice(some);
        Poll::Ready(Ok(some.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Script {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// A client of a server that says this, piece by piece; and what it has sent.
fn client(said: impl IntoIterator<Item = Vec<u8>>) -> (Client, Sent) {
    let said = said.into_iter().filter(|piece| !piece.is_empty()).collect();
    Script { said, ..Script::default() }.start()
}

fn number(rows: &Rows) -> i32 {
    rows.first().unwrap().unwrap().try_get(0).unwrap()
}

/// How three statements are answered by a server that says this, whatever two pieces it comes in: with a number, `refused`, or
/// `nothing`; and whether the connection goes on.
fn answered(said: &[&[u8]], as_bundle: bool) -> (Vec<String>, bool) {
    let said = said.concat();
    let mut all: Vec<_> = (0..said.len())
        .map(|cut| {
            let (mut client, _) = client([said[..cut].to_vec(), said[cut..].to_vec()]);
            let read = |_, answer: Result<Rows, Fault>| answer.map(|rows| number(&rows));
            let Answers { answers, end } = client.query_all(&[QUERY; 3], as_bundle, read);
            assert_eq!(end.is_some(), client.is_closed(), "{end:?}");
            let tell = |answer: Option<Result<i32, Fault>>| match answer {
                Some(Ok(number)) => number.to_string(),
                Some(Err(Fault::Server { .. })) => "refused".to_owned(),
                Some(Err(other)) => panic!("{other}"),
                None => "nothing".to_owned(),
            };
            (answers.into_iter().map(tell).collect::<Vec<_>>(), !client.is_closed())
        })
        .collect();
    all.dedup();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn all(answers: [&str; 3], goes_on: bool) -> (Vec<String>, bool) {
    (answers.map(str::to_owned).to_vec(), goes_on)
}

#[test]
fn a_bundle_has_one_sync_and_a_flush_half_way() {
    for (count, as_bundle) in [(1, true), (2, true), (3, true), (16, true), (3, false)] {
        let (mut client, sent) = client([]);
        let queries: Vec<_> = (0..count).map(|_| QUERY).collect();
        client.query_all(&queries, as_bundle, |_, answer| answer);
        let mut one = BytesMut::new();
        assert!(QUERY.write(&mut one).is_ok());
        let mut expected = Vec::new();
        for index in 1..=count {
            expected.extend_from_slice(&one);
            match as_bundle {
                true if index == count => expected.extend_from_slice(SYNC),
                true if index == count / 2 => expected.extend_from_slice(FLUSH),
                true => {}
                false => expected.extend_from_slice(SYNC),
            }
        }
        assert_eq!(*sent.lock().unwrap(), expected, "{count}, {as_bundle}");
    }
}

#[test]
fn answers_come_in_the_order_of_the_statements() {
    let (a, b, c) = (one(1), one(2), one(3));
    assert_eq!(answered(&[&a, &b, &c, READY], true), all(["1", "2", "3"], true));
    assert_eq!(answered(&[&a, READY, &b, READY, &c, READY], false), all(["1", "2", "3"], true));
}

#[test]
fn of_a_bundle_those_behind_one_that_failed_have_no_answer() {
    let (a, b, c, no) = (one(1), one(2), one(3), refused("ERROR"));
    assert_eq!(answered(&[&a, BOUND, &no, READY], true), all(["1", "refused", "nothing"], true));
    assert_eq!(answered(&[&no, READY], true), all(["refused", "nothing", "nothing"], true));
    // At the `Sync`, where the transaction ends.
    assert_eq!(answered(&[&a, &b, &c, &no, READY], true), all(["1", "2", "refused"], true));
    // Where each has a `Sync` they do.
    assert_eq!(answered(&[&a, READY, BOUND, &no, READY, &c, READY], false), all(["1", "refused", "3"], true));
    assert_eq!(answered(&[&a, READY, &b, &no, READY, &c, READY], false), all(["1", "refused", "3"], true));
}

#[test]
fn what_was_answered_before_the_end_is_answered() {
    let (a, no, end) = (one(1), refused("ERROR"), refused("FATAL"));
    for (as_bundle, ready) in [(true, b"".as_slice()), (false, READY)] {
        for half in [b"".as_slice(), BOUND, &[BOUND, COLUMNS, &row(2)].concat()] {
            assert_eq!(answered(&[&a, ready, half], as_bundle), all(["1", "nothing", "nothing"], false));
            for last in [&no, &end] {
                assert_eq!(
                    answered(&[&a, ready, half, last], as_bundle),
                    all(["1", "refused", "nothing"], false)
                );
            }
        }
    }
}

#[test]
fn a_server_that_is_ready_too_early_is_not_trusted() {
    for as_bundle in [true, false] {
        let answers = answered(&[&one(1), READY, READY, READY], as_bundle);
        assert_eq!(answers, all(["1", "nothing", "nothing"], false), "{as_bundle}");
    }
    let (mut client, _) = client([[BOUND, COLUMNS, &row(1), READY].concat()]);
    let mut rows = 0;
    let listed = client.for_each(&QUERY, |_| {
        rows += 1;
        Ok(())
    });
    assert!(matches!(listed, Err(Fault::Connection(_))), "a list that may have more: {listed:?}");
    assert_eq!(rows, 1);
}

#[test]
fn what_follows_a_failure_is_heard_to_the_end() {
    let (a, b, no) = (one(1), one(2), refused("ERROR"));
    let first = [&*a, &no, READY].concat();
    let (mut client, _) = client([first.clone(), [&*b, READY].concat(), first, [&*b, READY].concat()]);
    assert!(matches!(client.query(&QUERY), Err(Fault::Server { .. })), "it was refused at the end");
    assert_eq!(number(&client.query(&QUERY).unwrap()), 2);
    let given_up = client.for_each(&QUERY, |_| Err(Fault::value("n", "is no title")));
    assert_eq!(given_up.unwrap_err().to_string(), "`n`: is no title");
    assert_eq!(number(&client.query(&QUERY).unwrap()), 2);
}

#[test]
fn nothing_is_sent_to_a_server_that_has_said_good_bye() {
    for look in [true, false] {
        let has_come = Arc::new(AtomicBool::new(false));
        let script = Script {
            said: [refused("FATAL")].into(),
            is_awaited: Some(Arc::clone(&has_come)),
            has_rested: true,
            ..Script::default()
        };
        let (mut client, sent) = script.start();
        // The runtime learns of it when it looks.
        client.runtime.spawn(async move { has_come.store(true, Ordering::Relaxed) });
        client.begin(look);
        assert_eq!(client.query(&QUERY).unwrap_err().to_string(), "FATAL: no (22012)");
        assert!(client.began_with_error() && client.is_closed());
        assert_eq!((client.has_sent(), sent.lock().unwrap().is_empty()), (!look, look));
    }
}

#[test]
fn what_the_server_says_is_heard_while_it_takes_nothing() {
    let said = [NOTICE.to_vec(), NOTICE.to_vec(), [&*one(1), READY].concat()].into();
    let (mut client, sent) = Script { said, is_deaf: true, ..Script::default() }.start();
    assert_eq!(number(&client.query(&QUERY).unwrap()), 1);
    assert!(sent.lock().unwrap().ends_with(SYNC));
    // What is answered before it was heard is no answer.
    let said = [[&*one(1), READY].concat(), NOTICE.to_vec()].into();
    let (mut client, _) = Script { said, is_deaf: true, ..Script::default() }.start();
    assert!(matches!(client.query(&QUERY), Err(Fault::Connection(_))) && client.is_closed());
}

#[test]
fn a_statement_is_prepared_once_and_sent_with_its_parameters() {
    let parsed = [b"1\0\0\0\x04t\0\0\0\x06\0\0".as_slice(), COLUMNS, READY].concat();
    let answer = [BOUND, &row(7), COMPLETE, READY].concat();
    let forgotten = [b"3\0\0\0\x04", &*one(8), READY].concat();
    let (mut client, sent) = client([parsed, answer, forgotten]);
    let take = || std::mem::take(&mut *sent.lock().unwrap());
    let prepared = client.prepare("select $1 as n", &[Type::INT4, Type::TEXT]).unwrap();
    let name = prepared.name.as_bytes();
    let parse = [name, b"\0select $1 as n\0\0\x02\0\0\0\x17\0\0\0\x19"].concat();
    assert!(take()[5..].starts_with(&parse));
    let params = [Param::Id(7), Param::Text(None)];
    let query = Query { prepared: Some(prepared.clone()), sql: "not sent", params: &params };
    assert_eq!(number(&client.query(&query).unwrap()), 7);
    let values = b"\0\x02\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff";
    let bind = [b"\0", name, b"\0\0\x01\0\x01", values, b"\0\x01\0\x01"].concat();
    assert_eq!(take()[5..], [&*bind, b"E\0\0\0\x09\0\0\0\0\0", SYNC].concat());
    // It is forgotten with the next statement, whatever that is.
    client.forget(&prepared);
    assert!(take().is_empty());
    assert_eq!(number(&client.query(&QUERY).unwrap()), 8);
    assert!(take()[5..].starts_with(&[b"S", name, b"\0P"].concat()));
}

#[test]
fn a_parameter_that_cannot_be_sent_fails_alone() {
    let params = vec![Param::Flag(None); 70_000]; // the protocol counts them in two bytes
    for (as_bundle, ready) in [(true, b"".as_slice()), (false, READY)] {
        let (mut client, sent) = client([[&one(1), ready, &one(3), READY].concat()]);
        let queries = [QUERY, Query { params: &params, ..QUERY }, QUERY];
        let Answers { answers, end } = client.query_all(&queries, as_bundle, |_, answer| answer);
        assert!(end.is_none(), "{end:?}");
        let [Some(Ok(first)), Some(Err(Fault::Value(_))), Some(Ok(last))] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!((number(first), number(last)), (1, 3));
        let sent = String::from_utf8_lossy(&sent.lock().unwrap()).into_owned();
        assert_eq!(sent.matches(QUERY.sql).count(), 2, "{sent}");
    }
    let (mut client, sent) = client([]);
    let Answers { end, .. } =
        client.query_all(&[Query { params: &params, ..QUERY }], true, |_, answer| answer);
    assert!(end.is_none() && sent.lock().unwrap().is_empty() && !client.is_closed());
}

#[test]
fn what_is_no_answer_to_what_was_asked_costs_the_connection() {
    let unasked = [COMPLETE, READY].concat();
    for said in [
        &*unasked,
        READY,
        &[COLUMNS, COMPLETE, READY].concat(),
        &[BOUND, COMPLETE, READY].concat(),
        b"?\0\0\0\x04",
    ] {
        let (mut client, _) = client([said.to_vec()]);
        assert!(matches!(client.query(&QUERY), Err(Fault::Connection(_))), "{said:?}");
        assert!(client.is_closed(), "{said:?}");
    }
    for said in [READY, &unasked] {
        let (mut client, _) = client([said.to_vec()]);
        assert!(matches!(client.prepare("select 1", &[]), Err(Fault::Connection(_))), "{said:?}");
        assert!(client.is_closed(), "{said:?}");
    }
    let (mut client, _) = client([READY.to_vec()]);
    assert!(matches!(client.simple_query(""), Err(Fault::Connection(_))));
    assert!(client.is_closed());
}

#[test]
fn the_simple_protocol_gives_texts() {
    let columns = b"T\0\0\0\x2e\0\x02n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0m\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    let row = b"D\0\0\0\x10\0\x02\0\0\0\x0242\xff\xff\xff\xff";
    let said = [b"C\0\0\0\x08SET\0".as_slice(), columns, row, COMPLETE, READY].concat();
    let (mut client, _) = client([said, b"I\0\0\0\x04Z\0\0\0\x05I".to_vec()]);
    assert_eq!(
        client.simple_query("set a = b; select 42 as n, null as m").unwrap(),
        [[Some("42".to_owned()), None]]
    );
    assert_eq!(client.simple_query("").unwrap(), Vec::<Texts>::new());
}

#[test]
fn a_message_may_be_long_and_the_room_for_it_is_not_kept() {
    let title = "x".repeat(1_000_000);
    let length = |bytes: usize| (bytes as u32).to_be_bytes();
    let columns = [&COLUMNS[..COLUMNS.len() - 12], b"\0\0\0\x19", &COLUMNS[COLUMNS.len() - 8..]].concat();
    let row =
        [b"D", &length(10 + title.len())[..], b"\0\x01", &length(title.len()), title.as_bytes()].concat();
    let said = [BOUND, &columns, &row, COMPLETE, READY].concat();
    let (mut client, _) = client(said.chunks(10_000).map(<[u8]>::to_vec));
    let params = [Param::Text(Some(title.clone()))];
    let rows = client.query(&Query { params: &params, ..QUERY }).unwrap();
    assert_eq!(rows.first().unwrap().unwrap().try_get::<&str>(0).unwrap(), title);
    assert!(!client.wire.keeps_more_than(100_000));
}

#[test]
fn what_came_with_the_login_is_heard_first() {
    let said = [NOTICE, &one(1), READY].concat();
    for cut in 0..said.len() {
        let (mut client, _) = client([]);
        let script = Script { said: [said[cut..].to_vec()].into(), ..Script::default() };
        client.wire = Wire::new(Box::new(script), &said[..cut]);
        assert_eq!(number(&client.query(&QUERY).unwrap()), 1, "{cut}");
    }
}

#[test]
fn a_panic_in_the_middle_costs_the_connection() {
    let (mut client, _) = client([[&*one(1), READY].concat(), [&*one(2), READY].concat()]);
    let panicking = AssertUnwindSafe(|| client.for_each(&QUERY, |_| panic!("a defect")));
    assert!(catch_unwind(panicking).is_err());
    assert!(client.is_closed());
    assert!(matches!(client.query(&QUERY), Err(Fault::Connection(_))));
}

#[test]
fn leave_is_taken() {
    let (client, sent) = client([]);
    drop(client);
    assert_eq!(*sent.lock().unwrap(), b"X\0\0\0\x04");
}
