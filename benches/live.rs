//! Measures the running program and compares it with a floor: a program that does the
//! least possible work for the same result.
//!
//! `benches/run` calls it. Each section prints a table. The compared programs take turns,
//! so that other load on the machine affects them alike.
#![allow(clippy::print_stdout, reason = "prints its figures")]

#[path = "live/answer.rs"]
mod answer;
#[path = "live/calls.rs"]
mod calls;
#[path = "live/exchanges.rs"]
mod exchanges;
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
        // benches/run names a section. A plain `cargo bench` does not, and measures nothing.
        [] => Ok(()),
        ["answer"] => answer::compare(),
        ["probe"] => {
            let node = process::NodeAccess::from_environment()?;
            probe::compare(&node)?;
            exchanges::compare(&node)
        }
        ["scale"] => scale::tables(),
        ["idle"] => scale::idle(),
        ["calls"] => calls::count(),
        ["constant", address] => floor::serve_constant(address),
        _ => Err("usage: live answer|calls|probe|scale|idle|constant ADDRESS".into()),
    }
}

fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

fn median_figure(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
