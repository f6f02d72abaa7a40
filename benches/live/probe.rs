//! One probe: alone, and behind HTTP beside the prototype.

use std::env;
use std::error::Error;
use std::io;
use std::net::ToSocketAddrs;
use std::process::Command;
use std::time::{Duration, Instant};

use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::address::Address;
use galera_probe::node::connector::Connector;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Deadlines, Probe};
use tokio::runtime::{Builder, Runtime};

use crate::floor::{Kept, Recording};
use crate::process::{NodeAccess, Process, exchange, free_address};
use crate::{Outcome, median, micros};

const ROUNDS: usize = 1000;

const DEADLINES: Deadlines =
    Deadlines { step: Duration::from_secs(1), whole: Duration::from_secs(1) };

/// Longer than all rounds take.
const FOR_ALL: Duration = Duration::from_secs(3600);

type Took = Result<Duration, Box<dyn Error>>;

pub fn compare() -> Outcome {
    let target = NodeAccess::given()?;
    let kind = if target.node.is_some() { "the stand-in" } else { "a real server" };
    println!("one probe of {kind}, {ROUNDS} rounds in turns");
    probes(&target)?;
    exchanges(&target)
}

/// Probe runs in this process, and the same by blocking sockets: with a login each, and
/// on connections that are kept (`--keep-connection`).
fn probes(target: &NodeAccess) -> Outcome {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let address = target.address.to_socket_addrs()?.next().ok_or("BENCH_NODE has no address")?;
    let address = Address::Tcp { host: address.ip().to_string(), port: address.port() };
    let credentials = Credentials::new(target.user.clone(), Password::new(&*target.password))?;
    let login = CredentialSource::fixed(credentials);
    let connector = Connector::new(&address);
    let begin = move || Probe::begin(&connector, &login, DEADLINES);
    println!("{:<42}{:>10}{:>8}", "", "median µs", "ratio");
    let recording = Recording::of(target)?;
    in_turns(
        ["blocking socket", "a probe of ours"],
        || timed(|| recording.replay()),
        || {
            let begin = begin.clone();
            Ok(run(&runtime, move || Some(begin()))?.0)
        },
    )?;
    let mut bare = Kept::open(target)?;
    let (_, mut kept) = run(&runtime, move || Some(begin().kept(FOR_ALL)))?;
    in_turns(
        ["blocking socket, logged in already", "ours on a kept connection"],
        || timed(|| bare.query()),
        || {
            let probe = kept.take();
            let (took, again) = run(&runtime, move || probe?.repeat(DEADLINES))?;
            kept = again;
            Ok(took)
        },
    )
}

/// The floor and ours. What either leaves the server to do falls to the other, so that
/// only those that leave it the same take turns.
fn in_turns(
    names: [&str; 2],
    mut floor: impl FnMut() -> Took,
    mut ours: impl FnMut() -> Took,
) -> Outcome {
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        times[0].push(floor()?);
        times[1].push(ours()?);
    }
    let medians = times.each_mut().map(|times| micros(median(times)));
    for (name, median) in names.iter().zip(medians) {
        println!("{name:<42}{median:>10.1}{:>8.2}", median / medians[0]);
    }
    Ok(())
}

fn timed(task: impl FnOnce() -> io::Result<()>) -> Took {
    let began = Instant::now();
    task()?;
    Ok(began.elapsed())
}

/// A probe run to its end, how long that took, and the probe run where it is kept.
fn run(
    runtime: &Runtime,
    begin: impl FnOnce() -> Option<Probe> + Send + 'static,
) -> Result<(Duration, Option<Probe>), Box<dyn Error>> {
    // In a task, as in the program.
    let task = runtime.spawn(async move {
        let began = Instant::now();
        let mut probe = begin()?;
        let is_answered = matches!(probe.run().await, Ok(Ok(_)));
        let kept = probe.is_kept().then_some(probe);
        is_answered.then_some((began.elapsed(), kept))
    });
    Ok(runtime.block_on(task)?.ok_or("the node did not answer")?)
}

/// Whole probes over HTTP, each with a login of its own.
fn exchanges(target: &NodeAccess) -> Outcome {
    let constant = constant()?;
    let (probe, _) = Process::probe(target, &["--max-age", "0s"])?;
    let mut all = vec![("a constant, without a node", constant), ("ours", probe)];
    match env::var("PROTOTYPE") {
        Ok(path) => all.push(("the prototype", prototype(&path, target)?)),
        Err(_) => println!("no prototype: benches/run builds it and names it in PROTOTYPE"),
    }
    let mut before = Vec::new();
    for (_, process) in &all {
        // What is done only once is done by now.
        for _ in 0..20 {
            exchange(process.http)?;
        }
        before.push(process.processor_time()?);
    }
    let mut times = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for ((_, process), times) in all.iter().zip(&mut times) {
            times.push(exchange(process.http)?);
        }
    }
    println!("{:<42}{:>10}{:>20}", "over HTTP", "median µs", "processor µs, each");
    for (((name, process), times), before) in all.iter().zip(&mut times).zip(before) {
        let used = process.processor_time()? - before;
        println!("{name:<42}{:>10.1}{:>20.1}", micros(median(times)), micros(used) / ROUNDS as f64);
    }
    Ok(())
}

/// The floor of HTTP.
pub fn constant() -> Result<Process, Box<dyn Error>> {
    let http = free_address()?;
    let mut command = Command::new(env::current_exe()?);
    Ok(Process::start(command.args(["constant", &http.to_string()]), http)?.0)
}

fn prototype(path: &str, target: &NodeAccess) -> Result<Process, Box<dyn Error>> {
    let http = free_address()?;
    let NodeAccess { address, user, password, .. } = target;
    let mut command = Command::new(path);
    command.env("PROTOTYPE_DSN", format!("{user}:{password}@tcp({address})/"));
    command.env("PROTOTYPE_LISTEN", http.to_string());
    Ok(Process::start(&mut command, http)?.0)
}
