//! The fuzz targets: properties that hold for any bytes that a peer sends.
//!
//! Each target is a function of the fuzzer's bytes that panics if a property does not hold.
//! `fuzz/run` searches for such bytes with libFuzzer. `cargo test` replays the files in
//! `fuzz/corpus` on every run (`tests/corpus.rs`).
//!
//! A new target needs a module here, a line in [`TARGETS`], a `[[bin]]` in
//! `fuzz/Cargo.toml` with its file in `fuzz/fuzz_targets`, and a first file in
//! `fuzz/corpus`.

pub mod body;
pub mod option_file;
pub mod packet;
pub mod probe;
pub mod request;
pub mod session;
pub mod verdict;

mod account;
mod output;
mod wire;

/// A fuzz target: panics if a property does not hold for the bytes.
pub type Check = fn(&[u8]);

/// The name and function of every target.
pub const TARGETS: [(&str, Check); 7] = [
    ("session", session::check),
    ("probe", probe::check),
    ("packet", packet::check),
    ("request", request::check),
    ("body", body::check),
    ("verdict", verdict::check),
    ("option_file", option_file::check),
];
