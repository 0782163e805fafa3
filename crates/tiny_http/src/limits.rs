//! Every limit of the engine in one place, each with its unit and its default.
//!
//! Nothing here enforces anything: a limit is named beside its check.

use std::time::Duration;

/// What a client may take of the server. The defaults suit a small JSON service in 64 MiB of memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request head: request line, headers and the empty line. Past it: 431. Default: 16,384 (16 KiB).
    pub max_head_bytes: usize,
    /// Headers in a request. Past it: 431. Default: 100; never more than 256.
    pub max_headers: usize,
    /// Bytes of the request target. Past it: 414. Default: 8,192 (8 KiB).
    pub max_url_bytes: usize,
    /// Bytes of a request body, after decoding. Past it: 413. Default: 1,048,576 (1 MiB).
    pub max_body_bytes: usize,
    /// Bytes of all chunk extensions and trailers of one body together; all are read over. Past it: 400. Default: 4,096.
    pub max_chunk_extra_bytes: usize,
    /// Bytes that all connections' unfinished heads and all bodies may hold together. Past it the largest unfinished request
    /// is answered 503. Default: 33,554,432 (32 MiB).
    pub max_buffered_bytes: usize,
    /// Bytes of all answers together that wait for their clients: what was read of each, and what its body holds
    /// ([`crate::Response::with_held_bytes`]). Past it the connection whose client has taken nothing
    /// for the longest time is closed. Default: 33,554,432 (32 MiB).
    pub max_unsent_bytes: usize,
    /// Open connections. Default: 16,384, and never more than the process may open files, less
    /// [`Limits::reserved_descriptors`]. At the cap a new one takes the place of one that waits for its client for at
    /// least [`Limits::evictable_after`]: first of one that was never served, then of one whose head or body is unfinished,
    /// then of one between two requests; of each kind the longest-waiting. Without such a one the new one is answered 503.
    pub max_connections: usize,
    /// How long a connection at least waits for its client before it is closed to make a place. Default: 100 ms.
    pub evictable_after: Duration,
    /// File descriptors left to the rest of the program. Default: 32.
    pub reserved_descriptors: usize,
    /// Complete requests that wait for a caller of `recv`. Past it: 503 at once. Default: 1,024.
    pub max_pending_requests: usize,
    /// Threads that read long bodies of answers while these are sent; they exist while there is something to read. Past it a
    /// body waits for its turn, as does everything behind bodies whose reads hang. Default: 8; at least 1.
    pub max_body_threads: usize,
    /// From a head's first byte to its last. Past it: 408. Default: 10 s.
    pub head_timeout: Duration,
    /// From the end of the head to the last byte of the body. Past it: 408. Default: 20 s.
    pub body_timeout: Duration,
    /// Without a byte between two requests, or before the first. Past it the connection is closed. Default: 75 s.
    pub idle_timeout: Duration,
    /// The same once the server ends gracefully: who has been idle for longer goes at once, and a client that was about to
    /// send its next request still gets it answered, with `Connection: close`. Default: 500 ms.
    pub drain_idle_timeout: Duration,
    /// Without the socket taking a byte of an answer, for the client does not. Past it the connection is closed. A socket with
    /// a large buffer reports only every third of it that the client has taken. Default: 20 s.
    pub write_timeout: Duration,
    /// Bytes a second that a client must take of an answer over its whole length, after one `write_timeout`. Below it
    /// the connection is closed. Default: 4,096.
    pub min_write_bytes_per_second: u32,
    /// How long a connection that we end is still read from, so that its last answer is not lost to a reset (RFC 9112,
    /// section 9.6). Default: 1 s.
    pub linger_timeout: Duration,
    /// Bytes read over in that time. Default: 262,144 (256 KiB).
    pub max_linger_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_head_bytes: 16 * 1024,
            max_headers: 100,
            max_url_bytes: 8 * 1024,
            max_body_bytes: 1024 * 1024,
            max_chunk_extra_bytes: 4 * 1024,
            max_buffered_bytes: 32 * 1024 * 1024,
            max_unsent_bytes: 32 * 1024 * 1024,
            max_connections: 16 * 1024,
            evictable_after: Duration::from_millis(100),
            reserved_descriptors: 32,
            max_pending_requests: 1024,
            max_body_threads: 8,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(75),
            drain_idle_timeout: Duration::from_millis(500),
            write_timeout: Duration::from_secs(20),
            min_write_bytes_per_second: 4096,
            linger_timeout: Duration::from_secs(1),
            max_linger_bytes: 256 * 1024,
        }
    }
}
