//! What the test programs of this folder share.

pub mod client;
pub mod probes;
