//! Counts the instructions of the parts that need no socket.
//!
//! The counts hardly vary from run to run. gungraun needs valgrind and its own runner:
//! see `benches/run instructions`.
#![allow(missing_docs, reason = "the macros generate modules")]

mod jobs;

use std::hint::black_box;
use std::sync::Arc;

use galera_probe::galera::Facts;
use galera_probe::health::Verdict;
use galera_probe::mysql::{Credentials, Reply};
use gungraun::{library_benchmark, library_benchmark_group, main};

fn replies() -> Vec<Reply> {
    jobs::session(jobs::credentials())
}

fn facts() -> Facts {
    jobs::facts(&replies())
}

#[library_benchmark]
#[bench::captured(jobs::credentials())]
fn session(credentials: Arc<Credentials>) -> Vec<Reply> {
    black_box(jobs::session(credentials))
}

#[library_benchmark]
fn session_floor() -> usize {
    black_box(jobs::session_floor())
}

#[library_benchmark]
fn request_to_response() -> Vec<u8> {
    black_box(jobs::response(black_box(jobs::REQUEST)))
}

#[library_benchmark]
#[bench::constant(jobs::constant())]
fn request_to_response_floor(constant: Vec<u8>) -> Option<Vec<u8>> {
    black_box(jobs::response_floor(black_box(jobs::REQUEST), &constant))
}

#[library_benchmark]
#[bench::captured(replies())]
fn rows_to_facts(replies: Vec<Reply>) -> Facts {
    black_box(jobs::facts(&replies))
}

#[library_benchmark]
#[bench::captured(facts())]
fn facts_to_verdicts(facts: Facts) -> [Verdict; 3] {
    black_box(jobs::verdicts(&facts))
}

// Returns the stand-in, so that dropping its runtime is not counted.
#[library_benchmark]
#[bench::stand_in(jobs::StandIn::new())]
fn probe_of_the_stand_in(stand_in: jobs::StandIn) -> (Facts, jobs::StandIn) {
    (black_box(stand_in.probe()), stand_in)
}

#[library_benchmark]
#[bench::stand_in(jobs::StandIn::new())]
fn probe_of_the_stand_in_floor(stand_in: jobs::StandIn) -> jobs::StandIn {
    stand_in.floor();
    stand_in
}

library_benchmark_group!(
    name = parts,
    benchmarks = [
        session,
        session_floor,
        request_to_response,
        request_to_response_floor,
        rows_to_facts,
        facts_to_verdicts,
        probe_of_the_stand_in,
        probe_of_the_stand_in_floor
    ]
);

main!(library_benchmark_groups = parts);
