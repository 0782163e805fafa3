//! Log: `log`'s macros, `env_logger`'s filter, lines in a [`Format`], written to standard error by one thread.
//!
//! Logging never blocks on a slow reader (`buffer.rs`). Every line that is logged while a thread works on a request
//! carries that request's id, whichever module logs it.

mod buffer;
mod line;

use std::cell::RefCell;
use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::time::Duration;

use env_logger::Target;
use log::{LevelFilter, error, warn};

use crate::ops::threads::spawn;
use buffer::LineBuffer;

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `[2026-01-31T12:34:56.789Z INFO  target] message key=value`
    Text,
    /// `{"time":"…","level":"info","target":"…","message":"…","key":value}`
    Json,
}

/// Below `info` these crates log parameters of statements, which are texts of users, and the key set's URL, whose query
/// may contain a secret.
const NO_DEBUG_LOG: [&str; 3] = ["tokio_postgres", "ureq", "ureq_proto"];
/// How long [`finish`] waits for the reader of standard error.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

static BUFFER: LineBuffer = LineBuffer::new();

thread_local! {
    static REQUEST_ID: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Starts the log; once in a process. From now on panics are logged, too.
///
/// # Errors
/// When its thread cannot be started.
pub fn start(filter: &str, format: Format) -> Result<FinishOnDrop, String> {
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter);
    for module in NO_DEBUG_LOG {
        builder.filter_module(module, LevelFilter::Info);
    }
    builder
        .target(Target::Pipe(Box::new(&BUFFER)))
        .format(move |out, record| {
            let time = out.timestamp_millis();
            let line = REQUEST_ID.with_borrow(|id| line::write(format, &time, record, id.as_deref()));
            out.write_all(line.map_err(io::Error::other)?.as_bytes())
        })
        .init();
    spawn("log", || BUFFER.run_writer(&mut io::stderr(), log_dropped))?;
    panic::set_hook(Box::new(|panic| error!("{panic}")));
    Ok(FinishOnDrop)
}

/// Calls [`finish`] when dropped, also while a panic unwinds the main thread.
#[must_use]
pub struct FinishOnDrop;

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        finish();
    }
}

fn log_dropped(lines: u64) {
    warn!("{lines} log lines were dropped because standard error was not read fast enough");
}

/// Waits until every line is written, but at most a second if standard error is not read.
pub fn finish() {
    BUFFER.wait_until_written(FINISH_TIMEOUT);
}

/// Number of lines that were dropped since the start.
pub fn dropped_lines() -> u64 {
    BUFFER.dropped()
}

/// While it lives, every line of this thread carries the request's id.
#[must_use]
pub struct RequestScope {
    outer: Option<Arc<str>>,
}

/// From now on this thread works on the request with this id, or on none.
pub fn enter_request(id: impl Into<Option<Arc<str>>>) -> RequestScope {
    RequestScope { outer: REQUEST_ID.replace(id.into()) }
}

/// The id of the request that this thread works on; `None` without one.
pub fn request_id() -> Option<Arc<str>> {
    REQUEST_ID.with_borrow(Option::clone)
}

impl Drop for RequestScope {
    fn drop(&mut self) {
        REQUEST_ID.set(self.outer.take());
    }
}
