//! How long the parts take that need no socket: medians, and what is
//! allocated, by divan.

mod jobs;

use divan::{AllocProfiler, Bencher, black_box};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench]
fn session_over_a_captured_probe(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(jobs::credentials).bench_values(jobs::session);
}

#[divan::bench]
fn session_floor() -> usize {
    jobs::session_floor()
}

#[divan::bench]
fn request_to_answer() -> Vec<u8> {
    jobs::answer(black_box(jobs::REQUEST))
}

#[divan::bench]
fn request_to_answer_floor(bencher: Bencher<'_, '_>) {
    let constant = jobs::constant();
    bencher.bench(|| jobs::answer_floor(black_box(jobs::REQUEST), &constant));
}

#[divan::bench]
fn rows_to_facts(bencher: Bencher<'_, '_>) {
    let replies = jobs::session(jobs::credentials());
    bencher.bench(|| jobs::facts(black_box(&replies)));
}

#[divan::bench]
fn facts_to_the_verdicts_of_all_roles(bencher: Bencher<'_, '_>) {
    let facts = jobs::facts(&jobs::session(jobs::credentials()));
    bencher.bench(|| jobs::verdicts(black_box(&facts)));
}

#[divan::bench]
fn probe_of_the_stand_in(bencher: Bencher<'_, '_>) {
    let probe = jobs::StandIn::new();
    bencher.bench_local(|| probe.ask());
}

#[divan::bench]
fn probe_of_the_stand_in_floor(bencher: Bencher<'_, '_>) {
    let probe = jobs::StandIn::new();
    bencher.bench_local(|| probe.floor());
}
