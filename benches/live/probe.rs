//! One probe: alone, and behind HTTP beside the prototype.

use std::env;
use std::error::Error;
use std::net::ToSocketAddrs;
use std::process::Command;
use std::time::{Duration, Instant};

use galera_probe::connect::{Address, Connector};
use galera_probe::login::Login;
use galera_probe::mysql::{Credentials, Password};
use galera_probe::probe::{Deadlines, Dialogue};
use tokio::runtime::{Builder, Runtime};

use crate::floor::Recording;
use crate::process::{Process, Target, exchange, free_address};
use crate::{Outcome, median, micros};

const ROUNDS: usize = 1000;

pub fn compare() -> Outcome {
    let target = Target::given()?;
    let kind = if target.node.is_some() { "the stand-in" } else { "a real server" };
    println!("one probe of {kind}, {ROUNDS} rounds in turns");
    dialogues(&target)?;
    exchanges(&target)
}

/// The dialogue in this process, and the same by a blocking socket.
fn dialogues(target: &Target) -> Outcome {
    let recording = Recording::of(target)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let address = target.address.to_socket_addrs()?.next().ok_or("BENCH_NODE has no address")?;
    let address = Address::Tcp { host: address.ip().to_string(), port: address.port() };
    let credentials = Credentials::new(target.user.clone(), Password::new(&*target.password))?;
    let login = Login::fixed(credentials);
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        recording.replay()?;
        floor.push(began.elapsed());
        ours.push(dialogue(&runtime, &address, &login)?);
    }
    let floor = median(&mut floor);
    println!("{:<42}{:>10}{:>8}", "", "median µs", "ratio");
    for (name, time) in [("blocking socket", floor), ("a dialogue of ours", median(&mut ours))] {
        let ratio = micros(time) / micros(floor);
        println!("{name:<42}{:>10.1}{ratio:>8.2}", micros(time));
    }
    Ok(())
}

fn dialogue(
    runtime: &Runtime,
    address: &Address,
    login: &Login,
) -> Result<Duration, Box<dyn Error>> {
    let (address, login) = (address.clone(), login.clone());
    // In a task, as in the program.
    let task = runtime.spawn(async move {
        let connector = Connector::new(&address);
        let second = Duration::from_secs(1);
        let began = Instant::now();
        let deadlines = Deadlines { step: second, whole: second };
        let outcome = Dialogue::begin(&connector, &login, deadlines).run().await;
        (matches!(outcome, Ok(Ok(_))), began.elapsed())
    });
    match runtime.block_on(task)? {
        (true, took) => Ok(took),
        (false, _) => Err("the node did not answer".into()),
    }
}

/// Whole probes over HTTP, each with a login of its own.
fn exchanges(target: &Target) -> Outcome {
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

fn prototype(path: &str, target: &Target) -> Result<Process, Box<dyn Error>> {
    let http = free_address()?;
    let Target { address, user, password, .. } = target;
    let mut command = Command::new(path);
    command.env("PROTOTYPE_DSN", format!("{user}:{password}@tcp({address})/"));
    command.env("PROTOTYPE_LISTEN", http.to_string());
    Ok(Process::start(&mut command, http)?.0)
}
