//! Answers from what is known, a connection for each: beside a constant, and beside
//! nginx's `return 200`. The load comes from wrk; whoever answers has one core to
//! itself, and wrk the other.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::probe::constant;
use crate::process::{NodeAccess, Process, free_address};
use crate::{Outcome, micros};

const ROUNDS: usize = 15;

/// One asks after the other's answer, as balancers do, or many at once.
const CONNECTIONS: [u32; 2] = [1, 16];

pub fn compare() -> Outcome {
    let target = NodeAccess::stand_in()?;
    let (probe, _) = Process::probe(&target, &["--max-age", "1h"])?;
    let folder = env::temp_dir().join(format!("galera-probe-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let all = [("a constant", constant()?), ("nginx", nginx(&folder)?), ("ours", probe)];
    for (_, process) in &all {
        pin(process)?;
    }
    for connections in CONNECTIONS {
        table(&all, connections)?;
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// A machine may be twice as fast in one second as in the next: ratios are of the same
/// round, and the medians of those.
fn table(all: &[(&str, Process)], connections: u32) -> Outcome {
    let mut rounds = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for ((_, process), rounds) in all.iter().zip(&mut rounds) {
            let before = process.processor_time()?;
            let (count, per_second) = load(process, connections)?;
            rounds.push([per_second, micros(process.processor_time()? - before) / count]);
        }
    }
    println!(
        "{:<20}{:>12}{:>10}{:>16}{:>10}",
        format!("{connections} at once"),
        "answers/s",
        "/nginx",
        "processor µs",
        "/nginx"
    );
    let nginx = &rounds[1];
    for ((name, _), ours) in all.iter().zip(&rounds) {
        let [rate, cost] = [0, 1].map(|figure| middle(ours.iter().map(|round| round[figure])));
        let [of_rate, of_cost] = [0, 1].map(|figure| {
            middle(ours.iter().zip(nginx).map(|(ours, nginx)| ours[figure] / nginx[figure]))
        });
        println!("{name:<20}{rate:>12.0}{of_rate:>10.2}{cost:>16.1}{of_cost:>10.2}");
    }
    Ok(())
}

fn middle(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// How many were answered in a second's load, and how many a second.
fn load(process: &Process, connections: u32) -> Result<(f64, f64), Box<dyn Error>> {
    let url = format!("http://{}/", process.http);
    let mut wrk = Command::new("taskset");
    wrk.args(["-c", "1", "wrk", "-t1", "-d1s", "-H", "Connection: close"]);
    let output = wrk.args(["-c", &connections.to_string(), &url]).output()?;
    let text = String::from_utf8(output.stdout)?;
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return Err(text.into());
    }
    let number = |mark: &str, place: usize| {
        let line = text.lines().find(|line| line.contains(mark))?;
        line.split_whitespace().nth(place)?.parse::<f64>().ok()
    };
    let count = number("requests in", 0).ok_or("wrk is missing, or said nothing")?;
    let per_second = number("Requests/sec", 1).ok_or("wrk said no rate")?;
    Ok((count, per_second))
}

fn pin(process: &Process) -> Outcome {
    let mut taskset = Command::new("taskset");
    let status = taskset.args(["-a", "-c", "-p", "0", &process.id().to_string()]).output()?.status;
    if status.success() { Ok(()) } else { Err("taskset failed".into()) }
}

/// One worker, no log, and the connection closed after each answer.
fn nginx(folder: &Path) -> Result<Process, Box<dyn Error>> {
    let http = free_address()?;
    let config = folder.join("nginx.conf");
    let place = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
        .concat();
    fs::write(
        &config,
        format!(
            "worker_processes 1;\nmaster_process off;\ndaemon off;\npid {place}/pid;\n\
             error_log stderr crit;\nevents {{}}\n\
             http {{\naccess_log off;\nkeepalive_timeout 0;\n{temporary}\
             server {{ listen {http} backlog=4096; location / {{ default_type text/plain; \
             return 200 \"serve\\nthe node is fit to serve\\n\"; }} }}\n}}\n"
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&config).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Ok(Process::start(&mut command, http)?.0)
}
