//! The same tests as this crate's own, compiled against the published `tiny_http`.

#[path = "../tests/api.rs"]
mod api;
