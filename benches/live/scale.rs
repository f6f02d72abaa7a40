//! Measures the cost of more callers, of more connections, and of an idle program.

use std::io;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::process::{NodeAccess, Process, exchange};
use crate::{Outcome, median, micros};

const RATES: [u64; 5] = [1, 10, 100, 1_000, 10_000];
const CONNECTIONS: [usize; 6] = [1, 100, 500, 1_000, 2_000, 5_000];

/// The duration of each load.
const DURATION: Duration = Duration::from_secs(5);

/// Threads that send requests. One thread reaches only some thousands per second.
const THREADS: u32 = 4;

pub fn tables() -> Outcome {
    raise_descriptor_limit()?;
    callers()?;
    connections()
}

/// Raises the limit of open files to its maximum, for this process and its children.
fn raise_descriptor_limit() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn callers() -> Outcome {
    let node = NodeAccess::stand_in()?;
    let (probe, _) = Process::probe(&node, &[])?;
    println!("callers, each with its own connection; --max-age 1s, the stand-in as node");
    println!(
        "{:>10}{:>12}{:>16}{:>14}{:>14}{:>16}",
        "requests/s",
        "responses/s",
        "processor %",
        "µs/response",
        "resident KiB",
        "node's logins/s"
    );
    for rate in RATES {
        let logins = || {
            node.stand_in.as_ref().map_or(0, |node| node.seen.connections.load(Ordering::SeqCst))
        };
        let (before, logins_before) = (probe.processor_time()?, logins());
        let answered = send_requests(&probe, rate);
        let used = probe.processor_time()? - before;
        println!(
            "{rate:>10}{:>12.0}{:>16.2}{:>14.1}{:>14}{:>16.1}",
            answered as f64 / DURATION.as_secs_f64(),
            100.0 * used.as_secs_f64() / DURATION.as_secs_f64(),
            micros(used) / answered.max(1) as f64,
            probe.memory()?,
            (logins() - logins_before) as f64 / DURATION.as_secs_f64()
        );
    }
    Ok(())
}

/// Sends `rate` requests per second, or as many as it can. Returns the number of 200s.
fn send_requests(probe: &Process, rate: u64) -> u64 {
    let answered = AtomicU64::new(0);
    let threads = if rate < 100 { 1 } else { THREADS };
    let pause = Duration::from_secs_f64(f64::from(threads) / rate as f64);
    thread::scope(|scope| {
        for thread in 0..threads {
            let answered = &answered;
            scope.spawn(move || {
                let began = Instant::now();
                let mut due = pause * thread / threads;
                while due < DURATION {
                    thread::sleep(due.saturating_sub(began.elapsed()));
                    if exchange(probe.http).is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    // A late request is sent at once. Requests that were missed are
                    // not made up for.
                    due = (due + pause).max(began.elapsed());
                }
            });
        }
    });
    answered.into_inner()
}

fn connections() -> Outcome {
    let node = NodeAccess::stand_in()?;
    println!("connections that send nothing, and one caller besides");
    println!(
        "{:>10}{:>12}{:>14}{:>18}{:>16}",
        "opened", "kept open", "resident KiB", "KiB/connection", "µs/response"
    );
    for count in CONNECTIONS {
        let (probe, _) = Process::probe(&node, &["--max-age", "1h"])?;
        let (before, descriptors) = (probe.memory()?, probe.descriptors()?);
        let mut open = Vec::new();
        for _ in 0..count {
            open.push(TcpStream::connect(probe.http)?);
        }
        // When this is answered, all connections before it have been accepted.
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

/// Measures start-up, and the memory and system calls of a program without requests.
pub fn idle() -> Outcome {
    let node = NodeAccess::stand_in()?;
    let mut starts = Vec::new();
    for _ in 0..50 {
        starts.push(Process::probe(&node, &[])?.1);
    }
    println!(
        "from start to the first response, a probe run included: median {:.1} ms",
        micros(median(&mut starts)) / 1e3
    );
    let (probe, _) = Process::probe(&node, &[])?;
    // Wait until the work that follows the first response has ended.
    thread::sleep(Duration::from_secs(6));
    println!("resident: {} KiB", probe.memory()?);
    let seconds = "10";
    let mut strace = Command::new("timeout");
    strace.args(["--signal=INT", seconds, "strace", "-f", "-qq", "-o", "/dev/stdout", "-p"]);
    let calls = strace.arg(probe.id().to_string()).output()?;
    let calls = String::from_utf8_lossy(&calls.stdout);
    // When strace attaches, it prints a line for each thread.
    let made: Vec<_> = calls.lines().filter(|line| !line.contains("strace: Process")).collect();
    println!("system calls in {seconds} s, including waits that strace interrupted:");
    for call in made {
        println!("    {call}");
    }
    Ok(())
}
