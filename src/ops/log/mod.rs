//! The log: `log`'s macros, `env_logger`'s filter, lines as [`Format`] says, written to standard error by a thread of its own.
//!
//! Whoever logs never waits for whoever reads: see `buffer.rs`. Every line that is written while a thread answers a request
//! carries that request's id, wherever in the program it comes from.

mod buffer;
mod line;

use std::cell::RefCell;
use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::time::Duration;

use env_logger::Target;
use log::{error, warn};

use crate::ops::threads::spawn;
use buffer::Buffer;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `[2026-01-31T12:34:56.789Z INFO  target] message key=value`
    Text,
    /// `{"time":"…","level":"info","target":"…","message":"…","key":value}`
    Json,
}

/// Room for most lines, in bytes.
const LINE_BYTES: usize = 320;
/// How long [`finish`] waits for whoever reads the log.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

static BUFFER: Buffer = Buffer::new();

thread_local! {
    static REQUEST_ID: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Starts the log; once in a process. From now on a panic is a line of it, too.
///
/// # Errors
/// When there is no thread for it.
pub fn start(filter: &str, format: Format) -> Result<(), String> {
    let write = match format {
        Format::Text => line::write_text,
        Format::Json => line::write_json,
    };
    env_logger::Builder::new()
        .parse_filters(filter)
        .target(Target::Pipe(Box::new(&BUFFER)))
        .format(move |out, record| {
            let (time, mut line) = (out.timestamp_millis(), Vec::with_capacity(LINE_BYTES));
            REQUEST_ID
                .with_borrow(|id| write(&mut line, &time, record, id.as_deref().unwrap_or_default()))?;
            out.write_all(&line)
        })
        .init();
    spawn("log", || BUFFER.write_to(&mut io::stderr(), tell_of_dropped))?;
    panic::set_hook(Box::new(|panic| {
        error!("{panic}");
        finish();
    }));
    Ok(())
}

fn tell_of_dropped(lines: u64) {
    warn!("{lines} lines of this log were dropped, for nobody read it fast enough");
}

/// Waits until what was logged is written, but not for a reader that has stopped reading.
pub fn finish() {
    BUFFER.wait_until_written(FINISH_TIMEOUT);
}

/// How many lines were dropped since the start.
pub fn dropped_lines() -> u64 {
    BUFFER.dropped()
}

/// While it lives, every line of this thread carries a request's id.
#[must_use]
pub struct InRequest {
    outer: Option<Arc<str>>,
}

/// From now on this thread answers the request with this id.
pub fn enter_request(id: impl Into<Option<Arc<str>>>) -> InRequest {
    InRequest { outer: REQUEST_ID.replace(id.into()) }
}

/// The id of the request that this thread answers, for what goes on with it elsewhere; `None` where it answers none.
pub fn request_id() -> Option<Arc<str>> {
    REQUEST_ID.with_borrow(Option::clone)
}

impl Drop for InRequest {
    fn drop(&mut self) {
        REQUEST_ID.set(self.outer.take());
    }
}
