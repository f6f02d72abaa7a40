//! Tests the program with one real node on loopback; needs no root.

use crate::cluster::{cluster, counter, create_account, sql};
use crate::program::{Serve, run};

/// The node's TCP address and Unix socket, for `--target`. Creates the accounts for both.
fn targets() -> [String; 2] {
    create_account("localhost");
    create_account("127.0.0.1");
    [cluster(["address", "1"]), format!("unix:{}", cluster(["socket", "1"]))]
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn serves_a_healthy_node_over_tcp_and_over_its_socket() {
    for target in targets() {
        let probe = Serve::start(&["--target", &target, "--max-age", "0s"]).await;
        probe.assert(200, "serve").await;
        let check = run(&["check", "--target", &target]).await;
        assert_eq!(check.status.code(), Some(0));
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn healthy_probe_runs_do_not_count_as_aborted() {
    for target in targets() {
        let probe = Serve::start(&["--target", &target, "--max-age", "0s"]).await;
        let before = ["Aborted_clients", "Aborted_connects"].map(|name| counter("1", name));
        let connections = counter("1", "Connections");
        for _ in 0..100 {
            probe.assert(200, "serve").await;
        }
        assert!(counter("1", "Connections") >= connections + 100);
        // Waits for the server threads that have not yet seen their client's end, so that
        // the counters are final.
        while counter("1", "Threads_connected") > 1 {}
        let after = ["Aborted_clients", "Aborted_connects"].map(|name| counter("1", name));
        assert_eq!(before, after, "{target}");
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn an_account_without_a_password_logs_in_without_one_and_is_denied_with_one() {
    let [target, _] = targets();
    sql("1", "CREATE OR REPLACE USER nobody@127.0.0.1");
    let mut command = crate::program::command(&["check", "--target", &target, "--user", "nobody"]);
    command.env_remove("GALERA_PROBE_PASSWORD");
    assert_eq!(crate::program::output(command).await.status.code(), Some(0));

    let denied = run(&["check", "--target", &target, "--user", "nobody"]).await;
    assert!(denied.stdout.starts_with(b"access-denied: "));
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn refuses_a_node_that_left_its_cluster_even_with_standalone() {
    let [target, _] = targets();
    let probe = Serve::start(&["--target", &target, "--max-age", "0s", "--standalone"]).await;
    let addresses = sql("1", "SELECT @@wsrep_cluster_address");
    sql("1", "SET GLOBAL wsrep_cluster_address=''");
    probe.assert(503, "wsrep-disconnected").await;
    sql("1", &format!("SET GLOBAL wsrep_cluster_address='{addresses}'"));
    probe.eventually("serve").await;
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn a_refused_login_has_the_reason_for_its_account() {
    let [target, _] = targets();
    sql("1", "INSTALL PLUGIN IF NOT EXISTS pam SONAME 'auth_pam'");
    for (account, word) in [
        ("IDENTIFIED BY 'secret' ACCOUNT LOCK", "account-locked: "),
        ("IDENTIFIED BY 'secret' PASSWORD EXPIRE", "password-expired: "),
        ("IDENTIFIED VIA pam", "unsupported-plugin: "),
        ("IDENTIFIED BY 'secret' REQUIRE SSL", "access-denied: "),
        ("IDENTIFIED BY 'other'", "access-denied: "),
    ] {
        sql("1", &format!("CREATE OR REPLACE USER special@127.0.0.1 {account}"));
        let check = run(&["check", "--target", &target, "--user", "special"]).await;
        let output = String::from_utf8(check.stdout).unwrap();
        assert!(output.starts_with(word), "{account}: {output}");
    }
}

/// Starts a probe that keeps its connection, and makes it probe once. Returns the
/// connection's ID too.
async fn serve_keeping(target: &str) -> (Serve, String) {
    let arguments = ["--target", target, "--max-age", "0s", "--keep-connection", "60s"];
    let probe = Serve::start(&arguments).await;
    probe.assert(200, "serve").await;
    (probe, probe_connection())
}

/// The ID of the probe's connection, or an empty string without one.
fn probe_connection() -> String {
    sql("1", "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'galera_probe'")
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn a_kept_connection_is_reused_and_its_end_does_not_count_as_aborted() {
    for target in targets() {
        let (mut probe, connection) = serve_keeping(&target).await;
        let before = counter("1", "Aborted_clients");
        for _ in 0..100 {
            probe.assert(200, "serve").await;
        }
        assert_eq!(probe_connection(), connection, "{target}");
        assert_eq!(probe.end("TERM").await.0, Some(0));
        while !probe_connection().is_empty() {}
        assert_eq!(counter("1", "Aborted_clients"), before, "{target}");
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn serves_on_when_the_server_ends_the_kept_connection() {
    for target in targets() {
        let (probe, killed) = serve_keeping(&target).await;
        sql("1", &format!("KILL {killed}"));
        probe.assert(200, "serve").await;
        assert_ne!(probe_connection(), killed);

        sql("1", "SET GLOBAL wait_timeout=1");
        let (probe, idle) = serve_keeping(&target).await;
        sql("1", "SET GLOBAL wait_timeout=DEFAULT");
        while probe_connection().contains(&idle) {}
        probe.assert(200, "serve").await;
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn detects_every_state_on_a_kept_connection() {
    let [target, _] = targets();
    let (probe, connection) = serve_keeping(&target).await;
    let addresses = sql("1", "SELECT @@wsrep_cluster_address");
    for (change, word, undo) in [
        ("SET GLOBAL read_only=ON", "read-only", "SET GLOBAL read_only=OFF"),
        ("SET GLOBAL wsrep_desync=ON", "desynced", "SET GLOBAL wsrep_desync=OFF"),
        // The session's own wsrep_on stays ON.
        ("SET GLOBAL wsrep_on=OFF", "wsrep-off", "SET GLOBAL wsrep_on=ON"),
        (
            "SET GLOBAL wsrep_reject_queries=ALL",
            "rejecting-queries",
            "SET GLOBAL wsrep_reject_queries=NONE",
        ),
        (
            "SET GLOBAL wsrep_cluster_address=''",
            "wsrep-disconnected",
            &format!("SET GLOBAL wsrep_cluster_address='{addresses}'"),
        ),
    ] {
        sql("1", change);
        probe.assert(503, word).await;
        probe.assert(503, word).await;
        // A node that leaves its cluster closes all connections.
        if word != "wsrep-disconnected" {
            assert_eq!(probe_connection(), connection, "{word}");
        }
        sql("1", undo);
        probe.eventually("serve").await;
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn refuses_a_node_during_a_restart_with_a_kept_connection() {
    let [target, _] = targets();
    let (probe, _) = serve_keeping(&target).await;
    cluster(["shutdown", "1"]);
    probe.assert(503, "connection-refused").await;
    cluster(["start-node", "1"]);
    probe.eventually("serve").await;
}
