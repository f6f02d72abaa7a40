//! Compares probe runs over HTTP with those of the prototype: the time of a response, and
//! the processor time of the prober and of the server.

use std::env;
use std::error::Error;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::process::{NodeAccess, Process, exchange, free_address};
use crate::{Outcome, median, median_figure, micros};

/// The whole comparison is repeated, which shows how far its ratios vary.
const RUNS: usize = 3;

/// Rounds of a run. The programs take turns in each.
const ROUNDS: usize = 50;

/// Exchanges of each program in a round.
const BATCH: usize = 20;

/// The time that the server gets to close the last connection of a batch.
const SETTLE: Duration = Duration::from_millis(5);

/// Of one exchange in µs: the response time, and the processor time of the prober and of
/// the server. The last is NaN if the server's process is not known.
type Figures = [f64; 3];

pub fn compare(node: &NodeAccess) -> Outcome {
    let mut all = vec![("a constant, without a node", constant()?)];
    match env::var("PROTOTYPE") {
        Ok(path) => all.push(("the prototype", prototype(&path, node)?)),
        Err(_) => println!("no prototype: benches/run builds it and passes its path in PROTOTYPE"),
    }
    for (name, flags) in [
        ("galera-probe", &["--max-age", "0s"][..]),
        ("galera-probe --keep-connection 1h", &["--max-age", "0s", "--keep-connection", "1h"]),
    ] {
        all.push((name, Process::probe(node, flags)?.0));
    }
    for (_, process) in &all {
        // Work that is done only once is not measured.
        batch(process, node)?;
    }
    for run in 1..=RUNS {
        print_run(run, &all, node)?;
    }
    Ok(())
}

/// Prints the medians of the rounds, and the median ratio to the prototype. The ratio is
/// taken within each round, because a machine may be twice as fast in one second as in the
/// next. Without the prototype, the ratio is to galera-probe.
fn print_run(run: usize, all: &[(&str, Process)], node: &NodeAccess) -> Outcome {
    let mut rounds = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for ((_, process), rounds) in all.iter().zip(&mut rounds) {
            rounds.push(batch(process, node)?);
        }
    }
    print!("{:<36}", format!("over HTTP, run {run} of {RUNS}"));
    for column in ["median µs", "prober µs", "server µs"] {
        print!("{column:>12}{:>8}", "ratio");
    }
    println!();
    let reference = &rounds[1];
    for ((name, _), rounds) in all.iter().zip(&rounds) {
        print!("{name:<36}");
        for column in 0..3 {
            let figures = rounds.iter().map(|round| round[column]);
            let ratios = rounds.iter().zip(reference).map(|(a, b)| a[column] / b[column]);
            print!("{:>12.1}{:>8.2}", median_figure(figures), median_figure(ratios));
        }
        println!();
    }
    Ok(())
}

fn batch(process: &Process, node: &NodeAccess) -> Result<Figures, Box<dyn Error>> {
    let (prober, server) = (process.processor_time()?, node.processor_time()?);
    let times: Result<Vec<_>, _> = (0..BATCH).map(|_| exchange(process.http)).collect();
    thread::sleep(SETTLE);
    let each = |used| micros(used) / BATCH as f64;
    let prober = process.processor_time()?.saturating_sub(prober);
    let server = node.processor_time()?.zip(server).map(|(now, then)| now.saturating_sub(then));
    Ok([micros(median(&mut times?)), each(prober), server.map_or(f64::NAN, each)])
}

/// Starts the floor for HTTP: a constant response.
pub fn constant() -> Result<Process, Box<dyn Error>> {
    let http = free_address()?;
    let mut command = Command::new(env::current_exe()?);
    Ok(Process::start(command.args(["constant", &http.to_string()]), http)?.0)
}

fn prototype(path: &str, node: &NodeAccess) -> Result<Process, Box<dyn Error>> {
    let http = free_address()?;
    let NodeAccess { address, user, password, .. } = node;
    let mut command = Command::new(path);
    command.env("PROTOTYPE_DSN", format!("{user}:{password}@tcp({address})/"));
    command.env("PROTOTYPE_LISTEN", http.to_string());
    Ok(Process::start(&mut command, http)?.0)
}
