//! A balancer among thousands who ask nothing, and a program that has run out of
//! file descriptors. Times and memory are printed, not judged: machines differ.
#![allow(clippy::print_stdout, reason = "the figures are to be seen")]

#[path = "support/program.rs"]
mod program;
mod support;

use std::time::Duration;

use galera_probe::server::MAX_CONNECTIONS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use program::Serve;
use support::node::{Node, PASSWORD, Script};

/// A stand-in node's address.
async fn node() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(Node::new(Script::synced()).listen(listener));
    address
}

/// Asks each 100 ms; all answers are 200, and this is the median of their times.
async fn median_of_probes(probe: &Serve, count: usize) -> Duration {
    let mut ticks = interval(Duration::from_millis(100));
    let mut times = Vec::new();
    for _ in 0..count {
        ticks.tick().await;
        let response = probe.get("/").await;
        assert_eq!((response.status, response.word()), (200, "serve"));
        times.push(response.took);
    }
    times.sort();
    times[count / 2]
}

/// A number of /proc/PID/status, in kB.
fn status(probe: &Serve, name: &str) -> u64 {
    let status = format!("/proc/{}/status", probe.child.id().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn open_files(probe: &Serve) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", probe.child.id().unwrap())).unwrap().count()
}

/// Processor time that the program has used, in ticks of 10 ms.
fn ticks(probe: &Serve) -> u64 {
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", probe.child.id().unwrap())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

async fn connect(probe: &Serve) -> TcpStream {
    TcpStream::connect(probe.http).await.unwrap()
}

#[tokio::test]
async fn a_balancer_is_answered_among_two_thousand_who_are_silent_slow_or_never_read() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let probe = Serve::start(&["--target", &node().await]).await;
    let alone = median_of_probes(&probe, 30).await;
    let before = status(&probe, "VmRSS:");

    // Two thousand, where this process may have as many files open.
    let silent_clients = most.map_or(2000, |most| most.saturating_sub(500).min(2000));
    println!("{silent_clients} silent clients");
    let mut silent = Vec::new();
    for _ in 0..silent_clients {
        silent.push(connect(&probe).await);
    }
    let mut slow = JoinSet::new();
    for _ in 0..200 {
        let mut stream = connect(&probe).await;
        slow.spawn(async move {
            let mut seconds = interval(Duration::from_secs(1));
            for byte in b"GET / HTTP/1.1\r\nHost: slow\r\n".iter().cycle() {
                seconds.tick().await;
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut never_read = Vec::new();
    for _ in 0..50 {
        let mut stream = connect(&probe).await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        never_read.push(stream);
    }
    let crowded = median_of_probes(&probe, 50).await;
    let (during, files) = (status(&probe, "VmRSS:"), open_files(&probe));
    assert!(files < MAX_CONNECTIONS + 20, "{files} files are open");

    drop((silent, never_read));
    slow.shutdown().await;
    median_of_probes(&probe, 10).await;
    let after = status(&probe, "VmRSS:");
    println!(
        "median of an answer: alone {alone:?}, in the crowd {crowded:?}, ratio {:.2}\n\
         resident memory: before {before} kB, during {during} kB, after {after} kB, at most {} kB",
        crowded.as_secs_f64() / alone.as_secs_f64(),
        status(&probe, "VmHWM:")
    );
}

/// SECURITY.md has the figure.
#[tokio::test]
async fn heads_that_do_not_end_on_every_connection_cost_less_than_24_mib() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let clients = most.map_or(MAX_CONNECTIONS, |most| {
        usize::try_from(most).unwrap().saturating_sub(500).min(MAX_CONNECTIONS)
    });
    let probe = Serve::start(&["--target", &node().await]).await;
    median_of_probes(&probe, 10).await;
    let before = status(&probe, "VmRSS:");
    let head = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(8000));
    let mut held = Vec::new();
    for _ in 0..clients {
        let mut stream = connect(&probe).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    median_of_probes(&probe, 10).await;
    let above = status(&probe, "VmHWM:") - before;
    println!("{clients} heads of 8 KiB without an end: {above} kB above idle");
    assert!(above < 24 * 1024, "{above} kB");
}

/// The program with few file descriptors.
async fn poor(descriptors: u32) -> Serve {
    let target = node().await;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh"]);
    command.args([&descriptors.to_string(), env!("CARGO_BIN_EXE_galera-probe"), "serve"]);
    command.args(["--listen", "127.0.0.1:0", "--target", &target]);
    command.env("GALERA_PROBE_PASSWORD", PASSWORD).kill_on_drop(true);
    Serve::start_command(command).await
}

async fn signal(probe: &Serve, signal: &str) {
    let pid = probe.child.id().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
}

#[tokio::test]
async fn a_burst_of_requests_beyond_the_places_is_answered_to_the_last() {
    for descriptors in [64, 40, 30] {
        let probe = poor(descriptors).await;
        // All stand in the queue before the first is accepted.
        signal(&probe, "-STOP").await;
        let mut burst = Vec::new();
        for _ in 0..120 {
            let mut stream = connect(&probe).await;
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            burst.push(stream);
        }
        signal(&probe, "-CONT").await;
        for mut stream in burst {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{descriptors}: {answer}");
        }
    }
}

#[tokio::test]
async fn with_64_file_descriptors_and_500_connections_it_lives_and_answers() {
    let probe = poor(64).await;

    let mut crowd = Vec::new();
    for _ in 0..500 {
        crowd.push(connect(&probe).await);
    }
    let (began, before) = (tokio::time::Instant::now(), ticks(&probe));
    // Also to the node: its connection has a file descriptor left.
    median_of_probes(&probe, 20).await;
    sleep(Duration::from_secs(1)).await;
    let used = ticks(&probe) - before;
    let percent = used as f64 / began.elapsed().as_secs_f64();
    println!("{} files open; {percent:.1} % of a processor", open_files(&probe));
    assert!(percent < 20.0, "{percent} % of a processor");
    drop(crowd);
    median_of_probes(&probe, 10).await;
}
