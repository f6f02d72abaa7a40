//! A stand-in node, shared by the tests, the benchmarks and the demo.
//!
//! `program.rs` and `tls.rs` are not declared here: only some users have the binary or the
//! feature `tls`, so each includes them with `#[path]`.
#![allow(dead_code, reason = "each user needs only a part")]

pub mod counted;
pub mod node;
pub mod wire;
