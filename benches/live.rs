//! The program as it runs, beside the floor: what is not to be had for less. Each
//! section prints a table; what it compares takes turns, so that a busy machine is
//! as hard on one as on the other. benches/run calls it.
#![allow(clippy::print_stdout, reason = "the figures are to be seen")]

#[path = "live/answer.rs"]
mod answer;
#[path = "live/calls.rs"]
mod calls;
#[path = "live/floor.rs"]
mod floor;
#[path = "live/probe.rs"]
mod probe;
#[path = "live/process.rs"]
mod process;
#[path = "live/scale.rs"]
mod scale;
#[path = "../tests/support/mod.rs"]
mod support;

use std::env;
use std::error::Error;
use std::time::Duration;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // Sections are named by benches/run: `cargo bench` alone has nothing to do here.
        [] => Ok(()),
        ["answer"] => answer::compare(),
        ["probe"] => probe::compare(),
        ["scale"] => scale::tables(),
        ["idle"] => scale::idle(),
        ["calls"] => calls::count(),
        ["constant", address] => floor::answer_a_constant(address),
        _ => Err("give answer, calls, probe, scale, idle or constant ADDRESS".into()),
    }
}

fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
