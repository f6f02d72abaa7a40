//! Shared by the tests, the benchmarks and the demo. `program` is for those tests
//! alone that have the program built for them, and is theirs to include.
#![allow(dead_code, reason = "each of its users needs another part")]

pub mod node;
pub mod wire;
