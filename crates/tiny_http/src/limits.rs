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
    /// Bytes that all connections' unfinished heads and all bodies may hold together. Past it the largest unfinished body
    /// is answered 503. Default: 33,554,432 (32 MiB).
    pub max_buffered_bytes: usize,
    /// Open connections. At the cap the longest-idle one is closed for a new one. Default: 16,384, and never more than
    /// the process may open files, less [`Limits::reserved_descriptors`].
    pub max_connections: usize,
    /// File descriptors left to the rest of the program. Default: 32.
    pub reserved_descriptors: usize,
    /// Complete requests that wait for a caller of `recv`. Past it: 503 at once. Default: 1,024.
    pub max_pending_requests: usize,
    /// From a head's first byte to its last. Past it: 408. Default: 10 s.
    pub head_timeout: Duration,
    /// From the end of the head to the last byte of the body. Past it: 408. Default: 20 s.
    pub body_timeout: Duration,
    /// Without a byte between two requests, or before the first. Past it the connection is closed. Default: 75 s.
    pub idle_timeout: Duration,
    /// Without the client taking a byte of an answer. Past it the connection is closed. Default: 20 s.
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
            max_connections: 16 * 1024,
            reserved_descriptors: 32,
            max_pending_requests: 1024,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(20),
            min_write_bytes_per_second: 4096,
            linger_timeout: Duration::from_secs(1),
            max_linger_bytes: 256 * 1024,
        }
    }
}
