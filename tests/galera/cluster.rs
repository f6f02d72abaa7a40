//! Runs the script `cluster`, and the program against one of its nodes.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Serve, output};

pub const PASSWORD: &str = "secret";

/// The path of the script.
pub const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/galera/cluster");

/// Runs the script and returns its output.
///
/// # Panics
/// If the script fails.
pub fn cluster<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    try_cluster(arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs the script and returns its output, or its standard error if it fails.
pub fn try_cluster<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Result<String, String> {
    let output = Command::new(SCRIPT).args(arguments).stdin(Stdio::null()).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

pub fn sql(node: &str, statement: &str) -> String {
    cluster(["sql", node, statement])
}

/// Reads a counter from SHOW GLOBAL STATUS.
pub fn counter(node: &str, name: &str) -> u64 {
    let row = sql(node, &format!("SHOW GLOBAL STATUS LIKE '{name}'"));
    row.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The connect errors that the node has counted for this address.
pub fn connect_errors(node: &str, address: &str) -> u64 {
    let errors = sql(
        node,
        &format!(
            "SELECT COALESCE(SUM(SUM_CONNECT_ERRORS), 0) FROM performance_schema.host_cache \
             WHERE IP = '{address}'"
        ),
    );
    errors.parse().unwrap()
}

/// Creates the probe's account, as in the README, or resets it.
pub fn create_account(host: &str) {
    replicate(
        "1",
        &format!(
            "CREATE OR REPLACE USER galera_probe@'{host}' IDENTIFIED BY '{PASSWORD}' \
             WITH MAX_USER_CONNECTIONS 3"
        ),
    );
}

/// Runs a statement that replicates. Repeats it for up to a minute: while the group votes a
/// node out or takes one in, it fails on every node.
fn replicate(node: &str, statement: &str) {
    let began = Instant::now();
    while let Err(error) = try_cluster(["sql", node, statement]) {
        assert!(began.elapsed() < Duration::from_secs(60), "{error}");
    }
}

/// The prober's namespace and its address there.
pub const PROBER: (&str, &str) = ("p1", "10.77.0.11");

/// The node that gets the faults.
pub const NODE: &str = "3";

/// Flags that turn the cached verdict off: each request gets its own probe run.
pub const UNCACHED: &[&str] = &["--max-age", "0s"];

/// A command that runs the program in a prober's namespace.
pub fn command(namespace: &str, arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(SCRIPT);
    command.args(["exec", namespace, env!("CARGO_BIN_EXE_galera-probe")]).args(arguments);
    command.env("GALERA_PROBE_PASSWORD", PASSWORD).kill_on_drop(true);
    // The nodes are not on loopback, where TLS would be off by default, and they have no
    // TLS unless a test configures it.
    command.env("GALERA_PROBE_SSL_MODE", "disabled");
    command
}

/// Starts `serve` for this node.
pub async fn serve(node: &str, arguments: &[&str]) -> Serve {
    serve_address(&cluster(["address", node]), arguments).await
}

/// Starts `serve` for a node at this address.
pub async fn serve_address(address: &str, arguments: &[&str]) -> Serve {
    let listen = format!("{}:0", PROBER.1);
    let all = [&["serve", "--listen", &listen, "--target", address], arguments].concat();
    Serve::start_command(command(PROBER.0, &all)).await
}

/// Runs `check` for [`NODE`] and returns its output.
pub async fn check(namespace: &str, arguments: &[&str]) -> String {
    let address = cluster(["address", NODE]);
    let all = [&["check", "--target", &address], arguments].concat();
    String::from_utf8(output(command(namespace, &all)).await.stdout).unwrap()
}

/// Undoes every fault of an earlier test and waits until the cluster is complete. Returns
/// `serve` for [`NODE`].
pub async fn healthy() -> Serve {
    for node in ["1", "2", "3"] {
        if try_cluster(["thaw", node]).is_err() {
            cluster(["start-node", node]);
        }
    }
    for undo in ["heal", "unblackhole", "background-end"] {
        cluster([undo, NODE]);
    }
    // A node that was frozen reports Synced at first, even if the others have voted it out.
    // Only a statement that replicates proves that it is a member again.
    replicate(NODE, "CREATE DATABASE IF NOT EXISTS healthy");
    for node in ["1", "2", "3"] {
        cluster(["wait-size", node, "3"]);
        cluster(["wait", node, "wsrep_local_state_comment", "Synced"]);
    }
    sql(NODE, "SET GLOBAL max_connect_errors=DEFAULT");
    sql(NODE, "FLUSH LOCAL HOSTS");
    create_account(PROBER.1);
    let probe = serve(NODE, UNCACHED).await;
    probe.eventually("serve").await;
    probe
}
