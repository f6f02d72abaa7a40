//! Tests the unchanged HAProxy recipe of `deploy/` with three real nodes: each node has a
//! probe beside it, and clients connect through the three pools.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use tempfile::{NamedTempFile, TempPath};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::cluster::{PROBER, SCRIPT, cluster, command, create_account, healthy, sql};
use crate::program::Serve;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy/haproxy.cfg");

const READ_WRITE: &str = "3306";
const READER: &str = "3307";
const WRITER: &str = "3308";

const NODES: [&str; 3] = ["1", "2", "3"];

/// The longest time for the cluster to reach a state.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts the probes on the nodes' own addresses, as in the recipe, and HAProxy in its own
/// namespace, with the nodes in this order. Returns HAProxy's log too. All processes end
/// when they are dropped.
async fn start(nodes: [&str; 3]) -> (Vec<Serve>, Child, TempPath) {
    create_account("127.0.0.1");
    let mut haproxy = Command::new(SCRIPT);
    // The package or systemd creates the folder of HAProxy's socket. Here, the script does.
    let script = "mount -t tmpfs tmpfs /run && mkdir /run/haproxy && exec haproxy -f \"$0\"";
    haproxy.args(["exec", PROBER.0, "sh", "-c", script, RECIPE]);
    let mut probes = Vec::new();
    for (variable, node) in ["NODE1", "NODE2", "NODE3"].into_iter().zip(nodes) {
        let address = cluster(["address", node]);
        let (ip, port) = address.split_once(':').unwrap();
        haproxy.env(variable, ip);
        let listen = format!("{ip}:9200");
        let target = format!("127.0.0.1:{port}");
        let arguments = ["serve", "--listen", &listen, "--target", &target];
        probes.push(Serve::start_command(command(node, &arguments)).await);
    }
    // HAProxy logs each change to standard output and standard error; the log is standard
    // output. tests/deploy/run runs `haproxy -c`.
    let log = NamedTempFile::new().unwrap();
    haproxy.stdin(Stdio::null()).stdout(log.reopen().unwrap()).stderr(Stdio::null());
    (probes, haproxy.kill_on_drop(true).spawn().unwrap(), log.into_temp_path())
}

/// The node among these that has index 0 in its component.
fn writer<'a>(nodes: &[&'a str]) -> &'a str {
    let index = |node| sql(node, "SHOW STATUS LIKE 'wsrep_local_index'");
    nodes.iter().find(|node| index(node).ends_with("\t0")).expect("a node at index 0")
}

/// A command that runs statements through a pool.
fn client(pool: &str, statements: &str) -> Command {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--batch", "--skip-column-names", "--unbuffered"]);
    client.args(["--connect-timeout=5", "--user=app", "--host", PROBER.1, "--port", pool]);
    client.args(["--execute", statements]).env("MYSQL_PWD", "secret");
    client.stdin(Stdio::null()).kill_on_drop(true);
    client
}

/// The nodes that nine clients of a pool reach.
async fn reached(pool: &str) -> BTreeSet<String> {
    let mut nodes = BTreeSet::new();
    for _ in 0..9 {
        let output = client(pool, "SELECT @@wsrep_node_name").output().await.unwrap();
        nodes.extend(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned));
    }
    nodes
}

/// Waits until the clients of a pool reach exactly these nodes.
async fn until_reached(pool: &str, nodes: &[&str]) {
    let expected: BTreeSet<_> = nodes.iter().map(|node| format!("n{node}")).collect();
    let began = Instant::now();
    loop {
        let reached = reached(pool).await;
        if reached == expected {
            return;
        }
        assert!(began.elapsed() < TIMEOUT, "pool {pool}: {reached:?}, not {expected:?}");
    }
}

/// Opens a session on this node through the reader pool, which gives each node every third
/// session.
async fn session_on(node: &str) -> Child {
    let mut found = None;
    let mut others = Vec::new();
    while found.is_none() {
        assert!(others.len() < 3, "no session reaches node {node}");
        let mut session = client(READER, "SELECT @@wsrep_node_name; DO SLEEP(600)");
        let mut session = session.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(session.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        match line.trim() == format!("n{node}") {
            true => found = Some(session),
            false => others.push(session),
        }
    }
    found.unwrap()
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn clients_of_each_haproxy_pool_reach_exactly_the_nodes_that_serve_its_role() {
    drop(healthy().await);
    sql("1", &format!("CREATE OR REPLACE USER app@'{}' IDENTIFIED BY 'secret'", PROBER.1));
    // The writer comes last, so that the writer pool cannot pass by using the first node.
    let writing = writer(&NODES);
    let others: Vec<_> = NODES.into_iter().filter(|node| *node != writing).collect();
    let [other, third] = others[..] else { unreachable!("three nodes") };
    let (_probes, haproxy, log) = start([other, third, writing]).await;
    let all = || async {
        until_reached(READ_WRITE, &NODES).await;
        until_reached(READER, &NODES).await;
        until_reached(WRITER, &[writer(&NODES)]).await;
    };
    all().await;
    let process = format!("/proc/{}", haproxy.id().expect("HAProxy runs"));
    assert_ne!(fs::metadata(process).unwrap().uid(), 0, "HAProxy runs as root");

    cluster(["read-only", other, "on"]);
    until_reached(READ_WRITE, &[third, writing]).await;
    until_reached(READER, &NODES).await;
    cluster(["read-only", other, "off"]);
    all().await;

    let mut session = session_on(other).await;
    cluster(["desync", other, "on"]);
    until_reached(READ_WRITE, &[third, writing]).await;
    until_reached(READER, &[third, writing]).await;
    let ended = timeout(TIMEOUT, session.wait()).await.expect("HAProxy ends the session");
    assert!(!ended.unwrap().success());
    cluster(["desync", other, "off"]);
    all().await;

    cluster(["kill", writing]);
    cluster(["wait-size", other, "2"]);
    until_reached(READ_WRITE, &others).await;
    until_reached(READER, &others).await;
    until_reached(WRITER, &[writer(&others)]).await;
    cluster(["start-node", writing]);
    cluster(["wait-size", other, "3"]);
    cluster(["wait", writing, "wsrep_local_state_comment", "Synced"]);
    all().await;
    let log = fs::read_to_string(log).unwrap();
    for word in ["read-only", "desynced", "not-writer"] {
        assert!(log.contains(&format!("info: \"{word}\"")), "{word} is not in the log: {log}");
    }
}
