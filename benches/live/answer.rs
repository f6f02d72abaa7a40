//! Compares responses from the cached verdict with a constant response and with nginx's
//! `return 200`.
//!
//! Each request has its own connection. wrk makes the load. The server under test has
//! one core to itself, and wrk the other.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::exchanges::constant;
use crate::process::{NodeAccess, Process, free_address};
use crate::{Outcome, median_figure, micros};

const ROUNDS: usize = 15;

/// Concurrent connections: one after the other, as balancers check, or many at once.
const CONNECTIONS: [u32; 2] = [1, 16];

pub fn compare() -> Outcome {
    let node = NodeAccess::stand_in()?;
    let (probe, _) = Process::probe(&node, &["--max-age", "1h"])?;
    let folder = env::temp_dir().join(format!("galera-probe-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let all = [("a constant", constant()?), ("nginx", nginx(&folder)?), ("galera-probe", probe)];
    for (_, process) in &all {
        pin(process)?;
    }
    for connections in CONNECTIONS {
        table(&all, connections)?;
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// Prints the medians, and the median ratio to nginx. The ratio is taken within each
/// round, because a machine may be twice as fast in one second as in the next.
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
        "responses/s",
        "/nginx",
        "processor µs",
        "/nginx"
    );
    let nginx = &rounds[1];
    for ((name, _), rounds) in all.iter().zip(&rounds) {
        let [rate, cost] =
            [0, 1].map(|figure| median_figure(rounds.iter().map(|round| round[figure])));
        let [rate_ratio, cost_ratio] = [0, 1].map(|figure| {
            median_figure(
                rounds.iter().zip(nginx).map(|(round, nginx)| round[figure] / nginx[figure]),
            )
        });
        println!("{name:<20}{rate:>12.0}{rate_ratio:>10.2}{cost:>16.1}{cost_ratio:>10.2}");
    }
    Ok(())
}

/// Loads the server for a second. Returns the number of responses, and the rate per second.
fn load(process: &Process, connections: u32) -> Result<(f64, f64), Box<dyn Error>> {
    let url = format!("http://{}/", process.http);
    let mut wrk = Command::new("taskset");
    wrk.args(["-c", "1", "wrk", "-t1", "-d1s", "-H", "Connection: close"]);
    let output = wrk.args(["-c", &connections.to_string(), &url]).output()?;
    let text = String::from_utf8(output.stdout)?;
    if text.contains("Socket errors") || text.contains("Non-2xx") {
        return Err(text.into());
    }
    let number = |label: &str, column: usize| {
        let line = text.lines().find(|line| line.contains(label))?;
        line.split_whitespace().nth(column)?.parse::<f64>().ok()
    };
    let count = number("requests in", 0).ok_or("wrk is missing, or printed no count")?;
    let per_second = number("Requests/sec", 1).ok_or("wrk printed no rate")?;
    Ok((count, per_second))
}

/// Pins all threads of the process to core 0.
fn pin(process: &Process) -> Outcome {
    let mut taskset = Command::new("taskset");
    let status = taskset.args(["-a", "-c", "-p", "0", &process.id().to_string()]).output()?.status;
    if status.success() { Ok(()) } else { Err("taskset failed".into()) }
}

/// Starts nginx with one worker and without a log. It closes each connection after the
/// response.
fn nginx(folder: &Path) -> Result<Process, Box<dyn Error>> {
    let http = free_address()?;
    let config = folder.join("nginx.conf");
    let path = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
        .concat();
    fs::write(
        &config,
        format!(
            "worker_processes 1;\nmaster_process off;\ndaemon off;\npid {path}/pid;\n\
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
