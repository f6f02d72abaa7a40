//! Tests real nodes that stall, vanish and wake, and that they count no connect error for
//! the prober's address afterwards.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::cluster::{
    NODE, PROBER, SCRIPT, check, cluster, connect_errors, counter, create_account, healthy, serve,
    serve_address, sql, try_cluster,
};
use crate::program::{Serve, request};
use crate::support::node::{PASSWORD, USER};

/// Lower than the default, so that a prober's connect errors show soon.
const MAX_CONNECT_ERRORS: u64 = 10;

/// Sends twenty requests per second for this time, one after the other: no response takes
/// longer than the total deadline of 2 s. Appends the words of the responses to `words`,
/// without repetitions.
async fn request_for(probe: &Serve, time: Duration, words: &mut Vec<String>) {
    request_until(probe, words, |began, _| began.elapsed() >= time).await;
}

/// Does the same until a response has this word.
async fn request_until_word(probe: &Serve, last: &str, words: &mut Vec<String>) {
    let requests = request_until(probe, words, |_, word| word == last);
    let outcome = timeout(Duration::from_secs(60), requests).await;
    assert!(outcome.is_ok(), "not {last}: {words:?}");
}

async fn request_until(
    probe: &Serve,
    words: &mut Vec<String>,
    done: impl Fn(Instant, &str) -> bool,
) {
    let began = Instant::now();
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        let response = probe.get("/").await;
        if words.last().is_none_or(|last| last != response.word()) {
            words.push(response.word().to_owned());
        }
        if done(began, response.word()) {
            return;
        }
    }
}

/// The prober's connections that the node's kernel holds, including those that the server
/// has not accepted yet.
fn open_connections(address: &str) -> usize {
    let states = ["ss", "-Htn", "state", "established", "state", "close-wait"];
    let filter = ["src", ":3306", "dst", address];
    let all = ["exec", NODE].iter().chain(&states).chain(&filter);
    cluster(all).lines().count()
}

/// The node's counters of connect errors for this address, and of aborted connections.
fn error_counters(address: &str) -> [u64; 3] {
    [
        connect_errors(NODE, address),
        counter(NODE, "Aborted_connects"),
        counter(NODE, "Aborted_clients"),
    ]
}

fn limit_connect_errors() {
    sql(NODE, &format!("SET GLOBAL max_connect_errors={MAX_CONNECT_ERRORS}"));
    sql(NODE, "FLUSH LOCAL HOSTS");
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "prints the times")]
async fn a_freeze_of_a_minute_under_20_requests_a_second_causes_no_connect_error() {
    drop(healthy().await);
    limit_connect_errors();
    let probe = serve(NODE, &[]).await;
    let before = error_counters(PROBER.1);
    let mut words = Vec::new();
    request_for(&probe, Duration::from_secs(3), &mut words).await;

    cluster(["freeze", NODE]);
    for _ in 0..60 {
        request_for(&probe, Duration::from_secs(1), &mut words).await;
        // The one that is held, and two scouts.
        assert!(open_connections(PROBER.1) <= 3);
    }
    cluster(["thaw", NODE]);
    let oracle = tokio::task::spawn_blocking(first_write);
    request_until_word(&probe, "serve", &mut words).await;
    let served = Instant::now();
    let wrote = oracle.await.unwrap();

    // The node learns that it was voted out, and rejoins. It is served when it has proven that.
    let [first, stalled, .., last] = &words[..] else { panic!("{words:?}") };
    assert_eq!([first, last], ["serve", "serve"], "{words:?}");
    assert!(stalled.starts_with("stalled-"), "{words:?}");
    assert_eq!(words.iter().filter(|word| *word == "serve").count(), 2, "{words:?}");
    let late = served.saturating_duration_since(wrote);
    let early = wrote.saturating_duration_since(served);
    println!("served {late:?} after the first write, or {early:?} before it: {words:?}");
    assert!(late <= Duration::from_secs(2) && early <= Duration::from_secs(2), "{words:?}");
    // The two scouts were dropped when the first login succeeded, which resets the count.
    let [errors, connects, clients] = error_counters(PROBER.1);
    assert_eq!([before[0], errors], [0, 0]);
    assert!(connects + clients <= before[1] + before[2] + 2, "{connects}, {clients}");
    assert!(check(PROBER.0, &[]).await.starts_with("serve: "));
}

/// Writes through the node again and again, until a write succeeds. Returns when that was.
fn first_write() -> Instant {
    let write = "CREATE DATABASE IF NOT EXISTS oracle; CREATE TABLE IF NOT EXISTS oracle.written \
                 (at TIMESTAMP); INSERT INTO oracle.written VALUES (NOW())";
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        // A write on a node that was voted out waits.
        let mut attempt = Command::new("timeout");
        attempt.args(["1", SCRIPT, "sql", NODE, write]).stderr(Stdio::null());
        if attempt.status().unwrap().success() {
            return Instant::now();
        }
    }
    panic!("no write succeeded")
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_naive_prober_that_gives_up_after_2_s_is_blocked_after_a_freeze() {
    drop(healthy().await);
    limit_connect_errors();
    cluster(["freeze", NODE]);
    let address = cluster(["address", NODE]).replace(':', "/");
    let attempt = format!("exec 3<>/dev/tcp/{address} && read -rt 2 -u 3");
    let naive = format!("for i in {{1..12}}; do ({attempt}) & done; wait");
    cluster(["exec", PROBER.0, "bash", "-c", &naive]);
    cluster(["thaw", NODE]);
    let woke = Instant::now();
    while connect_errors(NODE, PROBER.1) < MAX_CONNECT_ERRORS {
        assert!(woke.elapsed() < Duration::from_secs(10), "not counted");
    }
    assert!(check(PROBER.0, &[]).await.starts_with("host-blocked: "));
    sql(NODE, "FLUSH LOCAL HOSTS");
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_check_that_gives_up_on_a_frozen_node_causes_no_connect_error() {
    drop(healthy().await);
    limit_connect_errors();
    let aborted = counter(NODE, "Aborted_connects");
    cluster(["freeze", NODE]);
    for _ in 0..=MAX_CONNECT_ERRORS {
        let output = check(PROBER.0, &["--step-timeout", "50ms"]).await;
        assert!(output.starts_with("stalled-greeting: "), "{output}");
    }
    cluster(["thaw", NODE]);
    // Waits until the server has seen all the connections.
    let woke = Instant::now();
    while counter(NODE, "Aborted_connects") <= aborted + MAX_CONNECT_ERRORS {
        assert!(woke.elapsed() < Duration::from_secs(10), "not seen");
    }
    assert_eq!(connect_errors(NODE, PROBER.1), 0);
    assert!(!check(PROBER.0, &[]).await.starts_with("host-blocked: "));
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_stall_after_the_login_is_held_and_causes_no_connect_error() {
    const BRIDGE: &str = "10.77.0.254";
    drop(healthy().await);
    limit_connect_errors();
    create_account(BRIDGE);
    let node = cluster(["address", NODE]).parse().unwrap();
    let proxy = Proxy::start(BRIDGE, node).await;
    let address = proxy.address.to_string();
    let probe = serve_address(&address, &[]).await;
    let before = error_counters(BRIDGE);
    let mut words = Vec::new();
    request_for(&probe, Duration::from_secs(2), &mut words).await;
    let connections = *proxy.connections.borrow();

    proxy.stuck.send_replace(true);
    request_for(&probe, Duration::from_secs(10), &mut words).await;
    // A scout logs in after 5 s, and is held instead.
    assert_eq!(*proxy.connections.borrow(), connections + 2);
    proxy.stuck.send_replace(false);
    request_until_word(&probe, "serve", &mut words).await;

    assert_eq!(words, ["serve", "stalled-query", "serve"]);
    assert_eq!(error_counters(BRIDGE), before);
    assert_eq!(before[0], 0);
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn serves_again_when_another_host_takes_over_the_address_of_a_held_connection() {
    drop(healthy().await);
    let probe = serve(NODE, &[]).await;
    let mut words = Vec::new();
    request_for(&probe, Duration::from_secs(1), &mut words).await;
    cluster(["freeze", NODE]);
    request_for(&probe, Duration::from_secs(4), &mut words).await;
    // The node's interface goes down, and node 2 takes over its address.
    let address = "10.77.0.3/24";
    cluster(["exec", NODE, "ip", "link", "set", "eth0", "down"]);
    cluster(["exec", "2", "ip", "address", "add", address, "dev", "eth0"]);
    // Has the effect of a failover's gratuitous ARP: the prober forgets the old host.
    cluster(["exec", PROBER.0, "ip", "neighbour", "flush", "dev", "eth0"]);
    let _undo = Undo(vec![
        vec!["exec", "2", "ip", "address", "del", address, "dev", "eth0"],
        vec!["exec", NODE, "ip", "link", "set", "eth0", "up"],
    ]);
    request_until_word(&probe, "serve", &mut words).await;
    assert_eq!(words[0], "serve");
    assert!(words[1].starts_with("stalled-"), "{words:?}");
}

/// Arguments of `cluster` calls to make when a test ends, even if it fails.
struct Undo(Vec<Vec<&'static str>>);

impl Drop for Undo {
    fn drop(&mut self) {
        for arguments in &self.0 {
            let _ = try_cluster(arguments);
        }
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "prints the time to exit")]
async fn a_silent_name_server_delays_no_response_and_no_exit() {
    drop(healthy().await);
    // The name server's address is node 1, which drops the queries.
    let rule = |action| {
        vec!["exec", "1", "iptables", action, "INPUT", "-p", "udp", "--dport", "53", "-j", "DROP"]
    };
    cluster(rule("-A"));
    let _undo = Undo(vec![rule("-D")]);
    let resolv = "nameserver 10.77.0.1";
    let mut probe = serve_with("/etc/resolv.conf", resolv, &["--target", "db.example:3306"]).await;
    let pid = probe.child.id().unwrap();
    let threads_at_start = threads(pid);
    let mut most = 0;
    let mut callers = JoinSet::new();
    let mut ticks = interval(Duration::from_millis(300));
    for _ in 0..100 {
        ticks.tick().await;
        callers.spawn(request(probe.http, "GET / HTTP/1.0\r\n\r\n"));
        most = most.max(threads(pid));
    }
    for response in callers.join_all().await {
        // The system's resolver gives up after 10 s. From then on, the node is unreachable.
        assert_eq!(response.status, 503);
        assert!(["stalled-connect", "unreachable"].contains(&response.word()), "{response:?}");
        assert!(response.took < Duration::from_secs(2), "{response:?}");
    }
    assert!(most <= threads_at_start + 2, "{most} threads, {threads_at_start} at the start");
    let (code, took) = probe.end("TERM").await;
    println!("threads {threads_at_start}, at most {most}; exit after {took:?}");
    assert_eq!(code, Some(0));
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn serves_a_name_whose_first_address_is_dead() {
    drop(healthy().await);
    // No host has the first address. It shares a longer prefix with the prober's own
    // address, so the resolver returns it first.
    let hosts = "10.77.0.10 twins\n10.77.0.3 twins";
    let probe = serve_with("/etc/hosts", hosts, &["--target", "twins:3306"]).await;
    probe.assert(200, "serve").await;
}

/// Starts the probe in a mount namespace in which `file` contains `text`.
async fn serve_with(file: &str, text: &str, arguments: &[&str]) -> Serve {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, text).unwrap();
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let mut command = tokio::process::Command::new(SCRIPT);
    command.args(["exec", PROBER.0, "unshare", "-m", "bash", "-c", script, "bash"]);
    command.arg(&path).arg(file).arg(env!("CARGO_BIN_EXE_galera-probe"));
    command.args(["serve", "--listen", &format!("{}:0", PROBER.1), "--max-age", "0s"]);
    command.args(arguments).env("GALERA_PROBE_PASSWORD", PASSWORD).kill_on_drop(true);
    command.env("GALERA_PROBE_SSL_MODE", "disabled");
    let probe = Serve::start_command(command).await;
    // The mount keeps the file.
    drop(directory);
    probe
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// A proxy for a node. While it is stuck, it forwards only the node's greeting and its
/// reply to the login.
struct Proxy {
    address: SocketAddr,
    stuck: watch::Sender<bool>,
    connections: watch::Receiver<usize>,
}

impl Proxy {
    async fn start(host: &str, node: SocketAddr) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stuck, is_stuck) = watch::channel(false);
        let (count, connections) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.send_modify(|count| *count += 1);
                let server = TcpStream::connect(node).await.unwrap();
                tokio::spawn(forward(client, server, is_stuck.clone()));
            }
        });
        Self { address, stuck, connections }
    }
}

async fn forward(client: TcpStream, server: TcpStream, mut stuck: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    });
    let mut bytes = [0; 4096];
    for turn in 0.. {
        let Ok(length @ 1..) = from_server.read(&mut bytes).await else { return };
        if turn >= 2 && stuck.wait_for(|stuck| !stuck).await.is_err() {
            return;
        }
        if to_client.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_freeze_under_a_kept_connection_causes_no_connect_error() {
    drop(healthy().await);
    limit_connect_errors();
    let probe = serve(NODE, &["--keep-connection", "60s"]).await;
    let before = error_counters(PROBER.1);
    let mut words = Vec::new();
    for _ in 0..3 {
        request_until_word(&probe, "serve", &mut words).await;
        cluster(["freeze", NODE]);
        request_for(&probe, Duration::from_secs(10), &mut words).await;
        assert_eq!(words.last().unwrap(), "stalled-greeting");
        cluster(["thaw", NODE]);
    }
    request_until_word(&probe, "serve", &mut words).await;
    // In each freeze, the probe gave up the kept connection before the node could reply, and
    // dropped a scout when the node woke.
    let [errors, connects, clients] = error_counters(PROBER.1);
    assert_eq!([before[0], errors], [0, 0], "{words:?}");
    assert!(connects <= before[1] + 3 && clients <= before[2] + 3, "{words:?}");
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn serves_on_when_the_network_drops_the_packets_of_a_kept_connection() {
    drop(healthy().await);
    let probe = serve(NODE, &["--keep-connection", "60s", "--max-age", "0s"]).await;
    probe.assert(200, "serve").await;
    // The node's packets on the open connection are dropped.
    let port = cluster(["address", NODE]).split(':').next_back().unwrap().to_owned();
    let open = cluster(["exec", NODE, "ss", "-Htn", "state", "established", "dst", PROBER.1]);
    let prober_port =
        open.split_whitespace().last().unwrap().rsplit(':').next().unwrap().to_owned();
    let rule = |action: &'static str| {
        let rule = ["OUTPUT", "-p", "tcp", "--sport", &port, "--dport", &prober_port, "-j", "DROP"];
        cluster([&["exec", NODE, "iptables", action][..], &rule].concat());
    };
    rule("-A");
    let response = probe.get("/").await;
    rule("-D");
    assert_eq!(response.word(), "serve");
    assert!(response.took > Duration::from_millis(900), "{:?}", response.took);
}

/// The node's packets on the probe's open connection are lost, as behind a firewall that has
/// forgotten it. New connections work.
#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "prints the time")]
async fn a_lost_connection_keeps_a_healthy_node_out_for_8_s_at_most() {
    drop(healthy().await);
    let probe = serve(NODE, &["--keep-connection", "60s", "--max-age", "0s"]).await;
    probe.assert(200, "serve").await;
    cluster(["freeze", NODE]);
    assert_eq!(probe.get("/").await.word(), "stalled-greeting");
    // From here on, only the connections that are open now are lost.
    let open = cluster(["exec", NODE, "ss", "-Htn", "state", "established", "dst", PROBER.1]);
    let ports: Vec<_> = open
        .lines()
        .filter_map(|line| line.split_whitespace().last()?.rsplit(':').next())
        .collect();
    assert!(!ports.is_empty(), "{open}");
    let rule = |action: &str| {
        for port in &ports {
            let rule = ["OUTPUT", "-p", "tcp", "--sport", "3306", "--dport", port, "-j", "DROP"];
            cluster([&["exec", NODE, "iptables", action][..], &rule].concat());
        }
    };
    rule("-A");
    cluster(["thaw", NODE]);
    let began = Instant::now();
    let mut words = Vec::new();
    request_until_word(&probe, "serve", &mut words).await;
    let waited = began.elapsed();
    rule("-D");
    println!("served after {waited:?}: {words:?}");
    assert!(waited <= Duration::from_secs(8), "{waited:?}");
}

/// Galera's packets are lost, and MySQL's are not. The node believes itself Synced for
/// seconds.
#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "prints the times")]
async fn a_partitioned_node_is_refused_by_always_before_it_knows() {
    drop(healthy().await);
    let always = serve(NODE, &["--max-age", "0s", "--causality-check", "always"]).await;
    let default = serve(NODE, &["--max-age", "0s"]).await;
    always.assert(200, "serve").await;
    default.assert(200, "serve").await;
    cluster(["partition", NODE]);
    let began = Instant::now();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    request_until(&always, &mut first, |_, word| word != "serve").await;
    let refused = began.elapsed();
    request_until(&default, &mut second, |_, word| word != "serve").await;
    let noticed = began.elapsed();
    cluster(["heal", NODE]);
    println!("always: {refused:?}, {first:?}; after-stall: {noticed:?}, {second:?}");
    assert!(refused <= Duration::from_millis(2500) && refused < noticed);
    assert_eq!(second.last().unwrap(), "non-primary");
    let mut words = Vec::new();
    request_until_word(&always, "serve", &mut words).await;
    request_until_word(&default, "serve", &mut words).await;
}

/// An ALTER under TOI stalls the check on every node, and commits too.
#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "prints the words")]
async fn a_long_alter_refuses_nobody_unless_always_proof_is_asked_for() {
    drop(healthy().await);
    sql(
        NODE,
        "CREATE DATABASE IF NOT EXISTS big; CREATE OR REPLACE TABLE big.rows (id INT PRIMARY KEY, \
         text VARCHAR(200)); INSERT INTO big.rows SELECT seq, REPEAT('x', 200) FROM \
         big.seq_1_to_15000",
    );
    // Three probes share the account.
    let limit = |limit| {
        let account = format!("{USER}@'{}'", PROBER.1);
        sql(NODE, &format!("ALTER USER {account} WITH MAX_USER_CONNECTIONS {limit}"));
    };
    limit(9);
    let modes = ["after-stall", "always", "never"];
    let mut probes = Vec::new();
    for mode in modes {
        probes.push(serve(NODE, &["--max-age", "0s", "--causality-check", mode]).await);
    }
    // Each node computes a hash of 300 kB for each row.
    let alter = tokio::task::spawn_blocking(|| {
        let began = Instant::now();
        let hash = "SHA2(REPEAT(text, 1500), 512)";
        sql("2", &format!("ALTER TABLE big.rows ADD hash CHAR(128) AS ({hash}) PERSISTENT"));
        began.elapsed()
    });
    let mut second = 0;
    while !alter.is_finished() {
        for (mode, probe) in modes.iter().zip(&probes) {
            let mut words = Vec::new();
            for path in ["/", "/reader", "/writer"] {
                let response = probe.get(path).await;
                words.push(response.word().to_owned());
                let is_refused = response.status == 503 && response.word() != "not-writer";
                assert!(!is_refused || *mode == "always", "{mode}, {second} s: {response:?}");
            }
            println!("{second} s, {mode}: {words:?}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        second += 1;
    }
    let took = alter.await.unwrap();
    println!("the ALTER took {took:?}");
    assert!(took >= Duration::from_secs(10), "{took:?}");
    limit(3);
    sql(NODE, "DROP DATABASE big");
}
