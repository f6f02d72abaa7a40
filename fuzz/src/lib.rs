//! What holds for any bytes that a peer may send, one module for each fuzz target.
//!
//! Each target is a function of the fuzzer's bytes that panics where a property
//! does not hold. `fuzz/run` lets libFuzzer look for such bytes; `cargo test`
//! replays those in `fuzz/corpus` on every run (`tests/corpus.rs`).
//!
//! A new target is a module here, a line in [`TARGETS`], a `[[bin]]` in
//! `fuzz/Cargo.toml` with its file in `fuzz/fuzz_targets`, and a first file in
//! `fuzz/corpus`.

pub mod body;
pub mod option_file;
pub mod packet;
pub mod probe;
pub mod request;
pub mod session;
pub mod verdict;

mod wire;

/// Panics where a property does not hold.
pub type Check = fn(&[u8]);

/// Every target, by its name.
pub const TARGETS: [(&str, Check); 7] = [
    ("session", session::check),
    ("probe", probe::check),
    ("packet", packet::check),
    ("request", request::check),
    ("body", body::check),
    ("verdict", verdict::check),
    ("option_file", option_file::check),
];
