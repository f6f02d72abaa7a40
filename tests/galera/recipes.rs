//! The recipe for HAProxy in `deploy/`, word for word: three real nodes, each with
//! its probe beside it, and clients that come through the three pools.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use tempfile::{NamedTempFile, TempPath};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::cluster::{PROBER, SCRIPT, cluster, command, healthy, make_account, sql};
use crate::program::Serve;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy/haproxy.cfg");

const READ_WRITE: &str = "3306";
const READER: &str = "3307";
const WRITER: &str = "3308";

const NODES: [&str; 3] = ["1", "2", "3"];

/// The longest that a state of the cluster may take to come about.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The probes at the nodes' own addresses, as the recipe has them, and HAProxy in a
/// namespace of its own, with the nodes in this order, and its log. Dropped, they end.
async fn start(nodes: [&str; 3]) -> (Vec<Serve>, Child, TempPath) {
    make_account("127.0.0.1");
    let mut haproxy = Command::new(SCRIPT);
    // Its socket is in a folder that the package, or systemd, makes.
    let run = "mount -t tmpfs tmpfs /run && mkdir /run/haproxy && exec haproxy -f \"$0\"";
    haproxy.args(["exec", PROBER.0, "sh", "-c", run, RECIPE]);
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
    // It tells each change on both; `haproxy -c` is in tests/deploy/run.
    let log = NamedTempFile::new().unwrap();
    haproxy.stdin(Stdio::null()).stdout(log.reopen().unwrap()).stderr(Stdio::null());
    (probes, haproxy.kill_on_drop(true).spawn().unwrap(), log.into_temp_path())
}

/// Of these nodes, the one at index 0 of its component.
fn writer<'a>(nodes: &[&'a str]) -> &'a str {
    let index = |node| sql(node, "SHOW STATUS LIKE 'wsrep_local_index'");
    nodes.iter().find(|node| index(node).ends_with("\t0")).expect("a node at index 0")
}

/// A client of a pool.
fn client(pool: &str, statements: &str) -> Command {
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--batch", "--skip-column-names", "--unbuffered"]);
    client.args(["--connect-timeout=5", "--user=app", "--host", PROBER.1, "--port", pool]);
    client.args(["--execute", statements]).env("MYSQL_PWD", "secret");
    client.stdin(Stdio::null()).kill_on_drop(true);
    client
}

/// The nodes that nine clients of a pool arrive at.
async fn arrive(pool: &str) -> BTreeSet<String> {
    let mut nodes = BTreeSet::new();
    for _ in 0..9 {
        let output = client(pool, "SELECT @@wsrep_node_name").output().await.unwrap();
        nodes.extend(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned));
    }
    nodes
}

/// Waits until the clients of a pool arrive at these nodes and no other.
async fn until_arrive(pool: &str, nodes: &[&str]) {
    let expected: BTreeSet<_> = nodes.iter().map(|node| format!("n{node}")).collect();
    let began = Instant::now();
    loop {
        let arrived = arrive(pool).await;
        if arrived == expected {
            return;
        }
        assert!(began.elapsed() < TIMEOUT, "pool {pool}: {arrived:?}, not {expected:?}");
    }
}

/// A session on this node, come about through the readers' pool, which gives each
/// node one of three.
async fn session_on(node: &str) -> Child {
    let mut found = None;
    let mut others = Vec::new();
    while found.is_none() {
        assert!(others.len() < 3, "no session arrives at node {node}");
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
async fn clients_of_each_pool_of_the_haproxy_recipe_arrive_at_the_nodes_that_are_fit_for_it() {
    drop(healthy().await);
    sql("1", &format!("CREATE OR REPLACE USER app@'{}' IDENTIFIED BY 'secret'", PROBER.1));
    // The writer last: that a pool of all nodes begins with the first proves nothing.
    let writes = writer(&NODES);
    let others: Vec<_> = NODES.into_iter().filter(|node| *node != writes).collect();
    let [other, third] = others[..] else { unreachable!("three nodes") };
    let (_probes, haproxy, log) = start([other, third, writes]).await;
    let all = || async {
        until_arrive(READ_WRITE, &NODES).await;
        until_arrive(READER, &NODES).await;
        until_arrive(WRITER, &[writer(&NODES)]).await;
    };
    all().await;
    let process = format!("/proc/{}", haproxy.id().expect("HAProxy runs"));
    assert_ne!(fs::metadata(process).unwrap().uid(), 0, "HAProxy runs as root");

    cluster(["read-only", other, "on"]);
    until_arrive(READ_WRITE, &[third, writes]).await;
    until_arrive(READER, &NODES).await;
    cluster(["read-only", other, "off"]);
    all().await;

    let mut session = session_on(other).await;
    cluster(["desync", other, "on"]);
    until_arrive(READ_WRITE, &[third, writes]).await;
    until_arrive(READER, &[third, writes]).await;
    let cut_off = timeout(TIMEOUT, session.wait()).await.expect("its session is cut off");
    assert!(!cut_off.unwrap().success());
    cluster(["desync", other, "off"]);
    all().await;

    cluster(["kill", writes]);
    cluster(["wait-size", other, "2"]);
    until_arrive(READ_WRITE, &others).await;
    until_arrive(READER, &others).await;
    until_arrive(WRITER, &[writer(&others)]).await;
    cluster(["start-node", writes]);
    cluster(["wait-size", other, "3"]);
    cluster(["wait", writes, "wsrep_local_state_comment", "Synced"]);
    all().await;
    let log = fs::read_to_string(log).unwrap();
    for word in ["read-only", "desynced", "not-writer"] {
        assert!(log.contains(&format!("info: \"{word}\"")), "{word} is not in the log: {log}");
    }
}
