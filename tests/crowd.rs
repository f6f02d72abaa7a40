//! A balancer among thousands of other clients, and a program that is short of file
//! descriptors. Times are printed and not asserted, as machines differ.
#![allow(clippy::print_stdout, reason = "prints the figures")]

#[path = "support/program.rs"]
mod program;
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use galera_probe::server::MAX_CONNECTIONS;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use program::Serve;
use support::node::{Node, PASSWORD, Script};

/// Starts a healthy stand-in node. Returns its address.
async fn node() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(Node::new(Script::synced()).listen(listener));
    address
}

/// Sends a health request every 100 ms, asserts that each gets 200, and returns the median
/// time of a response.
async fn median_response_time(probe: &Serve, count: usize) -> Duration {
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

/// A memory field of /proc/PID/status, in KiB.
fn memory(probe: &Serve, field: &str) -> u64 {
    let status = format!("/proc/{}/status", probe.child.id().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn open_files(probe: &Serve) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", probe.child.id().unwrap())).unwrap().count()
}

/// The processor time that the program has used, in ticks of 10 ms.
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
async fn answers_a_balancer_among_2000_clients_that_are_silent_slow_or_never_read() {
    let hard_limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard_limit, maximum: hard_limit }).unwrap();
    let probe = Serve::start(&["--target", &node().await]).await;
    let alone = median_response_time(&probe, 30).await;
    let before = memory(&probe, "VmRSS:");

    // Fewer if this process may not open as many files.
    let silent_clients = hard_limit.map_or(2000, |limit| limit.saturating_sub(500).min(2000));
    println!("{silent_clients} silent clients");
    let mut silent = Vec::new();
    for _ in 0..silent_clients {
        silent.push(connect(&probe).await);
    }
    let mut slow = JoinSet::new();
    for _ in 0..200 {
        let mut stream = connect(&probe).await;
        slow.spawn(async move {
            let mut pause = interval(Duration::from_secs(1));
            for byte in b"GET / HTTP/1.1\r\nHost: slow\r\n".iter().cycle() {
                pause.tick().await;
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
    let crowded = median_response_time(&probe, 50).await;
    let (during, files) = (memory(&probe, "VmRSS:"), open_files(&probe));
    assert!(files < MAX_CONNECTIONS + 20, "{files} files are open");

    drop((silent, never_read));
    slow.shutdown().await;
    median_response_time(&probe, 10).await;
    let after = memory(&probe, "VmRSS:");
    println!(
        "median response time: alone {alone:?}, in the crowd {crowded:?}, ratio {:.2}\n\
         resident memory: before {before} KiB, during {during} KiB, after {after} KiB, at most {} KiB",
        crowded.as_secs_f64() / alone.as_secs_f64(),
        memory(&probe, "VmHWM:")
    );
}

/// SECURITY.md quotes the figure.
#[tokio::test]
async fn an_unfinished_head_of_8_kib_on_every_connection_costs_under_24_mib() {
    let hard_limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard_limit, maximum: hard_limit }).unwrap();
    let clients = hard_limit.map_or(MAX_CONNECTIONS, |limit| {
        usize::try_from(limit).unwrap().saturating_sub(500).min(MAX_CONNECTIONS)
    });
    let probe = Serve::start(&["--target", &node().await]).await;
    median_response_time(&probe, 10).await;
    let before = memory(&probe, "VmRSS:");
    let head = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(8000));
    let mut held = Vec::new();
    for _ in 0..clients {
        let mut stream = connect(&probe).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    median_response_time(&probe, 10).await;
    let above = memory(&probe, "VmHWM:") - before;
    println!("{clients} unfinished heads of 8 KiB: {above} KiB above idle");
    assert!(above < 24 * 1024, "{above} KiB");
}

/// Starts the program with at most this many file descriptors.
async fn start_with_descriptors(descriptors: u32) -> Serve {
    let node = node().await;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n \"$1\" && shift && exec \"$@\"", "sh"]);
    command.args([&descriptors.to_string(), env!("CARGO_BIN_EXE_galera-probe"), "serve"]);
    command.args(["--listen", "127.0.0.1:0", "--target", &node]);
    command.env("GALERA_PROBE_PASSWORD", PASSWORD).kill_on_drop(true);
    Serve::start_command(command).await
}

#[tokio::test]
async fn answers_every_request_of_a_burst_over_the_connection_limit() {
    for descriptors in [64, 40, 30] {
        let probe = start_with_descriptors(descriptors).await;
        // All requests are in the listener's queue before the first is accepted.
        probe.signal("STOP").await;
        let mut burst = Vec::new();
        for _ in 0..120 {
            let mut stream = connect(&probe).await;
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            burst.push(stream);
        }
        probe.signal("CONT").await;
        for mut stream in burst {
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{descriptors}: {response}");
        }
    }
}

#[tokio::test]
async fn answers_with_64_file_descriptors_and_500_connections() {
    let probe = start_with_descriptors(64).await;

    let mut crowd = Vec::new();
    for _ in 0..500 {
        crowd.push(connect(&probe).await);
    }
    let (began, before) = (tokio::time::Instant::now(), ticks(&probe));
    // A 200 also proves that the connection to the node still gets a file descriptor.
    median_response_time(&probe, 20).await;
    sleep(Duration::from_secs(1)).await;
    let used = ticks(&probe) - before;
    let percent = used as f64 / began.elapsed().as_secs_f64();
    println!("{} files open; {percent:.1} % of a processor", open_files(&probe));
    assert!(percent < 20.0, "{percent} % of a processor");
    drop(crowd);
    median_response_time(&probe, 10).await;
}

/// Lets the program open as many files as it has open, and this many more.
fn limit_descriptors(probe: &Serve, more: usize) {
    let pid = Pid::from_raw(probe.child.id().unwrap().try_into().unwrap()).unwrap();
    let open: BTreeSet<u64> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    // A new file gets the lowest free number, and the limit is on the number.
    let last = (0..).filter(|number| !open.contains(number)).nth(more).unwrap();
    let limit = Rlimit { current: Some(last), ..getrlimit(Resource::Nofile) };
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}

#[tokio::test]
async fn raises_the_soft_limit_of_file_descriptors_within_the_hard_one() {
    let node = node().await;
    // The connections, one listener, and the reserve.
    let wanted = MAX_CONNECTIONS as u64 + 1 + 36;
    for (soft, hard, expected) in
        [(64, 4096, wanted), (1024, 1500, 1500), (3000, 4096, 3000), (64, 64, 64)]
    {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn $1 && ulimit -Hn $2 && shift 2 && exec \"$@\"", "sh"]);
        command.args([&soft.to_string(), &hard.to_string(), env!("CARGO_BIN_EXE_galera-probe")]);
        command.args(["serve", "--listen", "127.0.0.1:0", "--target", &node]).kill_on_drop(true);
        let probe = Serve::start_command(command).await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", probe.child.id().unwrap()));
        let limits = limits.unwrap();
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        assert!(limit.trim_start().starts_with(&format!("{expected} ")), "{soft} {hard}: {limit}");
    }
}

#[tokio::test]
async fn a_shortage_of_file_descriptors_is_not_taken_for_a_fault_of_the_node() {
    let (node, address) = program::node(Script::synced()).await;
    let mut probe = Serve::start(&["--target", &address, "--max-age", "0s"]).await;
    // One for the request, and none for the connection to the node.
    limit_descriptors(&probe, 1);
    probe.assert(503, "probe-error").await;
    // The node does not settle afterwards.
    limit_descriptors(&probe, 16);
    probe.assert(200, "serve").await;
    assert_eq!(node.seen.connections.load(SeqCst), 1);
    probe.end("TERM").await;
    let mut log = String::new();
    probe.log.read_to_string(&mut log).await.unwrap();
    assert!(log.contains("Too many open files") && log.contains("LimitNOFILE"), "{log}");
}
