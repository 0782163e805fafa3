//! All limits of the engine, each with its unit and its default. Each is enforced by the module that it concerns.

use std::time::Duration;

/// What clients may use of the server. The defaults suit a small JSON service in 64 MiB of memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request head: request line, headers and the empty line. Above it: 431. Default: 16,384 (16 KiB).
    pub max_head_bytes: usize,
    /// Headers of a request. Above it: 431. Default: 100; at most 256.
    pub max_headers: usize,
    /// Bytes of the request target. Above it: 414. Default: 8,192 (8 KiB).
    pub max_url_bytes: usize,
    /// Bytes of a request body, after decoding. Above it: 413. Default: 1,048,576 (1 MiB).
    pub max_body_bytes: usize,
    /// Bytes of all chunk extensions and trailers of a body; they are discarded. Above it: 400. Default: 4,096.
    pub max_chunk_extra_bytes: usize,
    /// Bytes of the unfinished heads and of the bodies of all connections. Above it the largest unfinished request is
    /// answered 503. Default: 33,554,432 (32 MiB).
    pub max_buffered_bytes: usize,
    /// Bytes of all responses that wait for their clients: what was read of each, and what its body retains
    /// ([`crate::Response::with_retained_bytes`]). Above it the connection whose client has read nothing for the
    /// longest time is closed. Default: 33,554,432 (32 MiB).
    pub max_unsent_bytes: usize,
    /// Open connections. Default: 16,384, and at most the number of files that the process may open, less
    /// [`Limits::reserved_descriptors`]. At the limit a new connection replaces one that has waited for its client
    /// for at least [`Limits::evictable_after`]: first one without any request, then one with an unfinished head or
    /// body, then one between two requests; of each kind the one that has waited the longest. Otherwise the new one
    /// is answered 503.
    pub max_connections: usize,
    /// How long a connection must have waited for its client before it may be evicted. Default: 100 ms.
    pub evictable_after: Duration,
    /// File descriptors reserved for the rest of the program. Default: 32.
    pub reserved_descriptors: usize,
    /// Complete requests that wait for a caller of `recv`. Above it: 503 at once. Default: 1,024.
    pub max_pending_requests: usize,
    /// Threads that read long response bodies while they are sent; they are started on demand. Above it a body waits,
    /// also behind bodies whose reads hang. Default: 8; at least 1.
    pub max_body_threads: usize,
    /// Time from the first byte of a head to its last. Above it: 408. Default: 10 s.
    pub head_timeout: Duration,
    /// Time from the end of the head to the last byte of the body. Above it: 408. Default: 20 s.
    pub body_timeout: Duration,
    /// Time without a byte before the first request and between two requests. Above it the connection is closed.
    /// Default: 75 s.
    pub idle_timeout: Duration,
    /// The same during a graceful shutdown. A connection that has been idle for longer is closed at once; a request
    /// that arrives in time is answered with `Connection: close`. Default: 500 ms.
    pub drain_idle_timeout: Duration,
    /// Time in which the socket accepts no byte of a response because the client does not read. Above it the
    /// connection is closed. A socket with a large buffer reports only every third of it that the client has read.
    /// Default: 20 s.
    pub write_timeout: Duration,
    /// Bytes per second that a client must read on average over a whole response, after one `write_timeout`. Below it
    /// the connection is closed. Default: 4,096.
    pub min_write_bytes_per_second: u32,
    /// How long input is read and discarded after the last response, so that a reset does not destroy the response
    /// (RFC 9112, section 9.6). Default: 1 s.
    pub linger_timeout: Duration,
    /// Bytes discarded in that time. Default: 262,144 (256 KiB).
    pub max_linger_bytes: usize,
    /// Bytes discarded after a 413, instead of [`Limits::max_linger_bytes`]: many clients send the whole body before
    /// they read the response. Input is discarded for at most [`Limits::body_timeout`], and until none arrives for
    /// [`Limits::linger_timeout`]. A body with a larger `Content-Length` gets the smaller limits. Default: 33,554,432
    /// (32 MiB).
    pub max_discard_bytes: usize,
    /// Connections that do so at the same time. Above it, a connection gets the smaller limits. Default: 32.
    pub max_discarding_connections: usize,
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
            max_discard_bytes: 32 * 1024 * 1024,
            max_discarding_connections: 32,
        }
    }
}
