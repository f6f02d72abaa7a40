//! Compares one probe run with a blocking socket.

use std::error::Error;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::address::Address;
use galera_probe::node::connector::Connector;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Deadlines, Probe, Questions};
use tokio::runtime::{Builder, Runtime};

use crate::floor::{Kept, Recording, known_variables};
use crate::process::NodeAccess;
use crate::{Outcome, median, micros};

const ROUNDS: usize = 1000;

const DEADLINES: Deadlines =
    Deadlines { step: Duration::from_secs(1), whole: Duration::from_secs(1) };

/// How long a connection is kept: longer than all rounds take.
const KEEP: Duration = Duration::from_secs(3600);

type Elapsed = Result<Duration, Box<dyn Error>>;

/// Compares probe runs in this process with blocking sockets: first with a login each,
/// then on kept connections (`--keep-connection`). The node has been probed before.
pub fn compare(node: &NodeAccess) -> Outcome {
    let kind = if node.stand_in.is_some() { "the stand-in" } else { "a real server" };
    println!("one probe run of {kind}, {ROUNDS} rounds in turns");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let address = node.address.to_socket_addrs()?.next().ok_or("BENCH_NODE has no address")?;
    let address = Address::Tcp { host: address.ip().to_string(), port: address.port() };
    let credentials = Credentials::new(node.user.clone(), Password::new(&*node.password))?;
    let credentials = CredentialSource::fixed(credentials);
    let connector = Connector::new(&address);
    let variables = known_variables(node)?;
    let questions = Questions { known: Some(Arc::new(variables.clone())), causality: None };
    let first = questions.clone();
    let begin = move || Probe::begin(&connector, &credentials, DEADLINES, first.clone());
    println!("{:<42}{:>10}{:>8}", "", "median µs", "ratio");
    let recording = Recording::new(node, &variables)?;
    in_turns(
        ["blocking socket", "galera-probe"],
        || timed(|| recording.replay()),
        || {
            let begin = begin.clone();
            Ok(run(&runtime, move || Some(begin()))?.0)
        },
    )?;
    let mut floor = Kept::open(node, &variables)?;
    let (_, mut kept) = run(&runtime, move || Some(begin().kept(KEEP)))?;
    in_turns(
        ["blocking socket, already logged in", "galera-probe on a kept connection"],
        || timed(|| floor.query()),
        || {
            let probe = kept.take();
            let questions = questions.clone();
            let (elapsed, probe) = run(&runtime, move || probe?.repeat(DEADLINES, questions))?;
            kept = probe;
            Ok(elapsed)
        },
    )
}

/// Measures the floor and the probe in turns. Work that one leaves to the server delays
/// the other, so only pairs that leave the server the same work are compared.
fn in_turns(
    names: [&str; 2],
    mut floor: impl FnMut() -> Elapsed,
    mut probe: impl FnMut() -> Elapsed,
) -> Outcome {
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        times[0].push(floor()?);
        times[1].push(probe()?);
    }
    let medians = times.each_mut().map(|times| micros(median(times)));
    for (name, median) in names.iter().zip(medians) {
        println!("{name:<42}{median:>10.1}{:>8.2}", median / medians[0]);
    }
    Ok(())
}

fn timed(task: impl FnOnce() -> io::Result<()>) -> Elapsed {
    let began = Instant::now();
    task()?;
    Ok(began.elapsed())
}

/// Runs a probe to its end. Returns the elapsed time, and the probe if its connection is
/// kept.
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
