//! The API tests of this crate, compiled against the published `tiny_http`.

#[path = "../tests/api.rs"]
mod api;
