//! Code shared by the tests of this folder.

pub mod client;
pub mod probes;
