//! The recipe for HAProxy in `deploy/`, word for word: three real nodes, each with
//! its probe beside it, and clients that come through the three pools.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

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
const PATIENCE: Duration = Duration::from_secs(60);

/// The probes at the nodes' own addresses, as the recipe has them, and HAProxy in a
/// namespace of its own. Dropped, they end.
async fn start() -> (Vec<Serve>, Child) {
    make_account("127.0.0.1");
    let mut haproxy = Command::new(SCRIPT);
    haproxy.args(["exec", PROBER.0, "haproxy", "-f", RECIPE]);
    let mut probes = Vec::new();
    for node in NODES {
        let address = cluster(["address", node]);
        let (ip, port) = address.split_once(':').unwrap();
        haproxy.env(format!("NODE{node}"), ip);
        let listen = format!("{ip}:9200");
        let target = format!("127.0.0.1:{port}");
        let arguments = ["serve", "--listen", &listen, "--target", &target];
        probes.push(Serve::start_command(command(node, &arguments)).await);
    }
    let haproxy = haproxy.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn();
    (probes, haproxy.unwrap())
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
        assert!(began.elapsed() < PATIENCE, "pool {pool}: {arrived:?}, not {expected:?}");
    }
}

/// Waits until all clients of the writer's pool arrive at one node, which is it.
async fn writer() -> &'static str {
    let began = Instant::now();
    loop {
        let arrived = arrive(WRITER).await;
        let found = NODES.into_iter().find(|node| arrived == [format!("n{node}")].into());
        if let Some(node) = found {
            return node;
        }
        assert!(began.elapsed() < PATIENCE, "the writers are {arrived:?}");
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
    let _running = start().await;

    until_arrive(READ_WRITE, &NODES).await;
    until_arrive(READER, &NODES).await;
    let writes = writer().await;
    let other = if writes == "1" { "2" } else { "1" };
    let rest = NODES.into_iter().filter(|node| *node != other).collect::<Vec<_>>();

    cluster(["read-only", other, "on"]);
    until_arrive(READ_WRITE, &rest).await;
    until_arrive(READER, &NODES).await;
    until_arrive(WRITER, &[writes]).await;
    cluster(["read-only", other, "off"]);
    until_arrive(READ_WRITE, &NODES).await;

    let mut session = session_on(other).await;
    cluster(["desync", other, "on"]);
    for pool in [READ_WRITE, READER] {
        until_arrive(pool, &rest).await;
    }
    until_arrive(WRITER, &[writes]).await;
    let cut_off = timeout(PATIENCE, session.wait()).await.expect("its session is cut off");
    assert!(!cut_off.unwrap().success());
    cluster(["desync", other, "off"]);
    until_arrive(READER, &NODES).await;

    cluster(["kill", writes]);
    let rest = NODES.into_iter().filter(|node| *node != writes).collect::<Vec<_>>();
    for pool in [READ_WRITE, READER] {
        until_arrive(pool, &rest).await;
    }
    assert_ne!(writer().await, writes);
    cluster(["start-node", writes]);
    for pool in [READ_WRITE, READER] {
        until_arrive(pool, &NODES).await;
    }
    writer().await;
}
