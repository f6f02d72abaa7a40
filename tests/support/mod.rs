//! Shared by the tests, the benchmarks and the demo.
#![allow(dead_code, unreachable_pub, reason = "each of its users needs another part")]

pub mod node;
pub mod program;
pub mod wire;
