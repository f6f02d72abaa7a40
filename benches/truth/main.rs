//! How true the answers of several probers are: does faults on one node of a real cluster,
//! and compares what each prober says with what an oracle sees, which writes through the node.
//!
//! `benches/run truth` starts the cluster and runs this program against it. README.md says
//! what is compared, and how time is attributed.
#![allow(clippy::print_stdout, reason = "prints its figures")]

mod faults;
mod oracle;
mod picture;
mod probers;
mod report;
mod score;

use std::env;
use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep};

use faults::Fault;
use oracle::Oracle;
use probers::Prober;
use report::Report;
use score::Millis;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The pause after each fault. It lasts longer while the node or a prober has not recovered, so
/// that each fault begins on a healthy node that all probers find fit.
const PAUSE: Millis = 16_000;
const LONGEST_PAUSE: Millis = 60_000;

/// No fault begins later than this, which bounds the run.
const LAST_FAULT: Millis = 590_000;

/// How long the cluster and the probers may take to be ready.
const START: Millis = 30_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // benches/run names the directory. A plain `cargo bench` does not, and measures nothing.
        [] => Ok(()),
        ["inetd", address, script] => probers::inetd(address, script),
        ["run", directory] => run(Path::new(directory)).await,
        _ => Err("usage: truth run DIRECTORY | inetd ADDRESS SCRIPT".into()),
    }
}

/// Does all faults, and writes tables, timelines and picture to this directory.
async fn run(directory: &Path) -> Outcome<()> {
    let seed = match env::var("TRUTH_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => fastrand::u64(..1_000_000),
    };
    println!("seed {seed}; every fault is on node {}", faults::NODE);
    create_accounts().await?;
    let cluster = Observed::start(directory).await?;
    let done = cluster.suffer_all(fastrand::Rng::with_seed(seed)).await?;

    let Observed { clock, oracle, probers } = cluster;
    let report = Report::new(&done, &oracle, &probers, clock.now());
    let tables = report.tables();
    print!("{tables}");
    fs::write(directory.join("tables.md"), &tables)?;
    report.write_timelines(directory)?;
    let svg = directory.with_extension("svg");
    fs::write(&svg, picture::draw(&report))?;
    println!("\nsecond by second: {}; picture: {}", directory.display(), svg.display());
    Ok(())
}

/// A fault that was done, and when.
struct Done {
    fault: &'static Fault,
    time: Range<Millis>,
}

/// Creates the accounts and tables, through a node that gets no faults.
async fn create_accounts() -> Outcome<()> {
    let statements = format!(
        "CREATE DATABASE truth; CREATE TABLE truth.written (id BIGINT PRIMARY KEY); \
         CREATE TABLE truth.altered (id INT PRIMARY KEY); \
         CREATE USER oracle@'10.77.0.254' IDENTIFIED BY '{PASSWORD}'; \
         GRANT INSERT ON truth.written TO oracle@'10.77.0.254'; \
         CREATE USER holder@'10.77.0.254' IDENTIFIED BY '{PASSWORD}'; \
         CREATE USER prober@'10.77.0.1_' IDENTIFIED BY '{PASSWORD}'; \
         CREATE USER haproxy@'10.77.0.1_'"
    );
    cluster(&["sql", "1", &statements]).await
}

/// The cluster, and what observes it.
struct Observed {
    clock: Clock,
    oracle: Oracle,
    probers: Vec<Prober>,
}

impl Observed {
    /// Starts oracle and probers.
    ///
    /// # Errors
    /// If one of them does not find the healthy node fit.
    async fn start(directory: &Path) -> Outcome<Self> {
        let clock = Clock::default();
        let probers = probers::start(clock, directory).await?;
        let observed = Self { clock, oracle: Oracle::start(clock), probers };
        match observed.until_healthy(0, START).await {
            None => Ok(observed),
            Some(problem) => Err(format!("before the first fault: {problem}").into()),
        }
    }

    /// Does the chosen faults in random order.
    async fn suffer_all(&self, mut random: fastrand::Rng) -> Outcome<Vec<Done>> {
        let mut faults = faults::chosen(&env::var("TRUTH_FAULTS").unwrap_or_default());
        random.shuffle(&mut faults);
        let mut done = Vec::new();
        for fault in faults {
            let now = self.clock.now();
            if now > LAST_FAULT {
                println!("left out, because the run takes too long: {}", fault.name);
                continue;
            }
            println!("{:>4} s  {}", now / 1000, fault.name);
            // At any moment of the second in which the probers are asked.
            sleep(Duration::from_millis(random.u64(..1000))).await;
            let begun = self.clock.now();
            fault.perform().await.map_err(|error| format!("{}: {error}", fault.name))?;
            done.push(Done { fault, time: begun..self.clock.now() });
            if let Some(problem) = self.until_healthy(PAUSE, LONGEST_PAUSE).await {
                println!("        not recovered: {problem}");
            }
        }
        println!("{:>4} s  end\n", self.clock.now() / 1000);
        Ok(done)
    }

    /// Waits for at least the shorter time, and then until the node and all probers serve, but
    /// not for longer than the longer time. Returns what is not healthy then.
    async fn until_healthy(&self, shortest: Millis, longest: Millis) -> Option<String> {
        let began = self.clock.now();
        sleep(Duration::from_millis(shortest)).await;
        loop {
            let problem = self.problem()?;
            if self.clock.now() - began > longest {
                return Some(problem);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// What is not healthy now.
    fn problem(&self) -> Option<String> {
        if !self.oracle.writes_succeed() {
            return Some("writes fail".to_owned());
        }
        self.probers.iter().find_map(|prober| match prober.last() {
            Some((answer, _)) if answer.serves => None,
            Some((_, word)) => Some(format!("{} says {word}", prober.name)),
            None => Some(format!("{} has not answered", prober.name)),
        })
    }
}

const PASSWORD: &str = "secret";

/// The path of the script that runs the cluster.
const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/galera/cluster");

/// Runs a subcommand of the script.
async fn cluster(arguments: &[&str]) -> Outcome<()> {
    let mut command = Command::new(CLUSTER);
    let output = command.args(arguments).stdin(Stdio::null()).output().await?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", arguments.join(" "), text(&output.stderr)).into()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Measures the time since the start of the run.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    fn now(self) -> Millis {
        self.0.elapsed().as_millis().try_into().unwrap_or(Millis::MAX)
    }
}

/// What was seen, each with a word for the timelines. Its clones are the same log.
struct Log<T>(Arc<Mutex<Vec<(T, String)>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Copy> Log<T> {
    fn add(&self, seen: T, word: String) {
        self.0.lock().unwrap().push((seen, word));
    }

    fn all(&self) -> Vec<(T, String)> {
        self.0.lock().unwrap().clone()
    }

    fn last(&self) -> Option<(T, String)> {
        self.0.lock().unwrap().last().cloned()
    }
}
