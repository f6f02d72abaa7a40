//! How many instructions the same parts take: the same on every run, by gungraun,
//! which needs valgrind and its own runner (benches/run instructions).
#![allow(missing_docs, reason = "the macros make modules")]

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
fn request_to_answer() -> Vec<u8> {
    black_box(jobs::answer(black_box(jobs::REQUEST)))
}

#[library_benchmark]
#[bench::constant(jobs::constant())]
fn request_to_answer_floor(constant: Vec<u8>) -> Option<Vec<u8>> {
    black_box(jobs::answer_floor(black_box(jobs::REQUEST), &constant))
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

// The probe comes back so that its runtime's end is not counted.
#[library_benchmark]
#[bench::stand_in(jobs::StandIn::new())]
fn probe_of_the_stand_in(probe: jobs::StandIn) -> (Facts, jobs::StandIn) {
    (black_box(probe.ask()), probe)
}

#[library_benchmark]
#[bench::stand_in(jobs::StandIn::new())]
fn probe_of_the_stand_in_floor(probe: jobs::StandIn) -> jobs::StandIn {
    probe.floor();
    probe
}

library_benchmark_group!(
    name = parts,
    benchmarks = [
        session,
        session_floor,
        request_to_answer,
        request_to_answer_floor,
        rows_to_facts,
        facts_to_verdicts,
        probe_of_the_stand_in,
        probe_of_the_stand_in_floor
    ]
);

main!(library_benchmark_groups = parts);
