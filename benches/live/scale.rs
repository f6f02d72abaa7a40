//! What more callers and more connections cost, and what nobody costs.

use std::io;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::process::{NodeAccess, Process, exchange};
use crate::{Outcome, median, micros};

const ASKERS: [u64; 5] = [1, 10, 100, 1_000, 10_000];
const CONNECTIONS: [usize; 6] = [1, 100, 500, 1_000, 2_000, 5_000];

/// How long each load lasts.
const WHILE: Duration = Duration::from_secs(5);

/// How many threads ask: one gets no further than some thousands a second.
const THREADS: u32 = 4;

pub fn tables() -> Outcome {
    raise_the_limit()?;
    callers()?;
    connections()
}

/// As many open files as this process may have, and its children.
fn raise_the_limit() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn callers() -> Outcome {
    let target = NodeAccess::stand_in()?;
    let (probe, _) = Process::probe(&target, &[])?;
    println!("callers, each with a connection of its own; --max-age 1s, before the stand-in");
    println!(
        "{:>10}{:>12}{:>16}{:>14}{:>14}{:>16}",
        "asked/s", "answered/s", "processor %", "µs an answer", "resident KiB", "node's logins/s"
    );
    for rate in ASKERS {
        let logins =
            || target.node.as_ref().map_or(0, |node| node.seen.connections.load(Ordering::SeqCst));
        let (before, logins_before) = (probe.processor_time()?, logins());
        let answered = ask(&probe, rate);
        let used = probe.processor_time()? - before;
        println!(
            "{rate:>10}{:>12.0}{:>16.2}{:>14.1}{:>14}{:>16.1}",
            answered as f64 / WHILE.as_secs_f64(),
            100.0 * used.as_secs_f64() / WHILE.as_secs_f64(),
            micros(used) / answered.max(1) as f64,
            probe.memory()?,
            (logins() - logins_before) as f64 / WHILE.as_secs_f64()
        );
    }
    Ok(())
}

/// Asks so often a second, as far as that goes; how many were answered.
fn ask(probe: &Process, rate: u64) -> u64 {
    let answered = AtomicU64::new(0);
    let threads = if rate < 100 { 1 } else { THREADS };
    let pause = Duration::from_secs_f64(f64::from(threads) / rate as f64);
    thread::scope(|scope| {
        for thread in 0..threads {
            let answered = &answered;
            scope.spawn(move || {
                let began = Instant::now();
                let mut due = pause * thread / threads;
                while due < WHILE {
                    thread::sleep(due.saturating_sub(began.elapsed()));
                    if exchange(probe.http).is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    // Who is late asks at once, but does not ask twice.
                    due = (due + pause).max(began.elapsed());
                }
            });
        }
    });
    answered.into_inner()
}

fn connections() -> Outcome {
    let target = NodeAccess::stand_in()?;
    println!("connections that ask nothing, and a caller among them");
    println!(
        "{:>10}{:>12}{:>14}{:>18}{:>16}",
        "opened", "kept open", "resident KiB", "KiB a connection", "µs an answer"
    );
    for count in CONNECTIONS {
        let (probe, _) = Process::probe(&target, &["--max-age", "1h"])?;
        let (before, descriptors) = (probe.memory()?, probe.descriptors()?);
        let mut open = Vec::new();
        for _ in 0..count {
            open.push(TcpStream::connect(probe.http)?);
        }
        // The last of them are accepted before this is answered.
        exchange(probe.http)?;
        let kept = probe.descriptors()? - descriptors;
        let memory = probe.memory()?;
        let mut times = Vec::new();
        for _ in 0..50 {
            times.push(exchange(probe.http)?);
        }
        println!(
            "{count:>10}{kept:>12}{memory:>14}{:>18.2}{:>16.1}",
            (memory - before) as f64 / kept.max(1) as f64,
            micros(median(&mut times))
        );
    }
    Ok(())
}

/// Nobody asks: what the program does, and what it holds.
pub fn idle() -> Outcome {
    let target = NodeAccess::stand_in()?;
    let mut starts = Vec::new();
    for _ in 0..50 {
        starts.push(Process::probe(&target, &[])?.1);
    }
    println!(
        "from start to the first answer, a node asked: {:.1} ms at the median",
        micros(median(&mut starts)) / 1e3
    );
    let (probe, _) = Process::probe(&target, &[])?;
    // What the first answer left to be done is done by now.
    thread::sleep(Duration::from_secs(6));
    println!("resident: {} KiB", probe.memory()?);
    let seconds = "10";
    let mut strace = Command::new("timeout");
    strace.args(["--signal=INT", seconds, "strace", "-f", "-qq", "-o", "/dev/stdout", "-p"]);
    let calls = strace.arg(probe.id().to_string()).output()?;
    let calls = String::from_utf8_lossy(&calls.stdout);
    // What each thread waits in is said to begin when strace comes.
    let made: Vec<_> = calls.lines().filter(|line| !line.contains("strace: Process")).collect();
    println!("system calls in {seconds} s, waits that strace cut short among them:");
    for call in made {
        println!("    {call}");
    }
    Ok(())
}
