//! The `cluster` script, and a probe before one of its nodes.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

pub const PASSWORD: &str = "secret";

/// The script, as `tests/run` calls it.
pub const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/galera/cluster");

/// Runs the script and gives what it printed.
pub fn cluster<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    try_cluster(arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// The same, or what it printed to standard error.
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

/// A counter of SHOW GLOBAL STATUS.
pub fn counter(node: &str, name: &str) -> u64 {
    let row = sql(node, &format!("SHOW GLOBAL STATUS LIKE '{name}'"));
    row.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Connect errors that the node holds against an address.
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

/// Makes the probe's account anew, as the README has it.
pub fn make_account(host: &str) {
    sql(
        "1",
        &format!(
            "CREATE OR REPLACE USER galera_probe@'{host}' IDENTIFIED BY '{PASSWORD}' \
             WITH MAX_USER_CONNECTIONS 3"
        ),
    );
}
