//! Measures the time and the allocations of the parts that need no socket, with divan.

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
fn request_to_response() -> Vec<u8> {
    jobs::response(black_box(jobs::REQUEST))
}

#[divan::bench]
fn request_to_response_floor(bencher: Bencher<'_, '_>) {
    let constant = jobs::constant();
    bencher.bench(|| jobs::response_floor(black_box(jobs::REQUEST), &constant));
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
    let stand_in = jobs::StandIn::new();
    bencher.bench_local(|| stand_in.probe());
}

#[divan::bench]
fn probe_of_the_stand_in_floor(bencher: Bencher<'_, '_>) {
    let stand_in = jobs::StandIn::new();
    bencher.bench_local(|| stand_in.floor());
}
