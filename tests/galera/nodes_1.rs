//! One real node on loopback; needs no root.

use crate::cluster::{cluster, counter, make_account, sql};
use crate::program::{Serve, run};

/// The ways in to the node.
fn targets() -> [String; 2] {
    make_account("localhost");
    make_account("127.0.0.1");
    [cluster(["address", "1"]), format!("unix:{}", cluster(["socket", "1"]))]
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn a_healthy_node_serves_by_tcp_and_by_its_socket() {
    for target in targets() {
        let probe = Serve::start(&["--target", &target, "--max-age", "0s"]).await;
        probe.assert(200, "serve").await;
        let check = run(&["check", "--target", &target]).await;
        assert_eq!(check.status.code(), Some(0));
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn healthy_probes_leave_no_trace_in_the_servers_counters() {
    for target in targets() {
        let probe = Serve::start(&["--target", &target, "--max-age", "0s"]).await;
        let before = ["Aborted_clients", "Aborted_connects"].map(|name| counter("1", name));
        let connections = counter("1", "Connections");
        for _ in 0..100 {
            probe.assert(200, "serve").await;
        }
        assert!(counter("1", "Connections") >= connections + 100);
        // A server thread that has yet to see its client's end would count it.
        while counter("1", "Threads_connected") > 1 {}
        let after = ["Aborted_clients", "Aborted_connects"].map(|name| counter("1", name));
        assert_eq!(before, after, "{target}");
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn an_account_without_a_password_logs_in_and_a_wrong_one_is_denied() {
    let [target, _] = targets();
    sql("1", "CREATE OR REPLACE USER nobody@127.0.0.1");
    let mut open = crate::program::command(&["check", "--target", &target, "--user", "nobody"]);
    open.env_remove("GALERA_PROBE_PASSWORD");
    assert_eq!(crate::program::output(open).await.status.code(), Some(0));

    let denied = run(&["check", "--target", &target, "--user", "nobody"]).await;
    assert!(denied.stdout.starts_with(b"access-denied: "));
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn a_node_in_no_cluster_is_refused_and_standalone_does_not_hide_it() {
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
async fn accounts_that_are_locked_expired_or_of_another_plugin_are_said_so() {
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
        let said = String::from_utf8(check.stdout).unwrap();
        assert!(said.starts_with(word), "{account}: {said}");
    }
}

/// A probe that keeps its connection, asked once, and the connection's number.
async fn keeping(target: &str) -> (Serve, String) {
    let arguments = ["--target", target, "--max-age", "0s", "--keep-connection", "60s"];
    let probe = Serve::start(&arguments).await;
    probe.assert(200, "serve").await;
    (probe, connection_of_the_probe())
}

/// Empty when there is none.
fn connection_of_the_probe() -> String {
    sql("1", "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'galera_probe'")
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn a_kept_connection_is_asked_again_and_leaves_no_trace_at_its_end() {
    for target in targets() {
        let (mut probe, connection) = keeping(&target).await;
        let before = counter("1", "Aborted_clients");
        for _ in 0..100 {
            probe.assert(200, "serve").await;
        }
        assert_eq!(connection_of_the_probe(), connection, "{target}");
        assert_eq!(probe.end("TERM").await.0, Some(0));
        while !connection_of_the_probe().is_empty() {}
        assert_eq!(counter("1", "Aborted_clients"), before, "{target}");
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn a_kept_connection_that_the_server_ends_costs_no_answer() {
    for target in targets() {
        let (probe, killed) = keeping(&target).await;
        sql("1", &format!("KILL {killed}"));
        probe.assert(200, "serve").await;
        assert_ne!(connection_of_the_probe(), killed);

        sql("1", "SET GLOBAL wait_timeout=1");
        let (probe, idle) = keeping(&target).await;
        sql("1", "SET GLOBAL wait_timeout=DEFAULT");
        while connection_of_the_probe().contains(&idle) {}
        probe.assert(200, "serve").await;
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn every_state_is_seen_on_a_kept_connection() {
    let [target, _] = targets();
    let (probe, connection) = keeping(&target).await;
    let addresses = sql("1", "SELECT @@wsrep_cluster_address");
    for (change, word, undo) in [
        ("SET GLOBAL read_only=ON", "read-only", "SET GLOBAL read_only=OFF"),
        ("SET GLOBAL wsrep_desync=ON", "desynced", "SET GLOBAL wsrep_desync=OFF"),
        // The session has one of its own, which stays ON.
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
        // A node that leaves its cluster ends all connections.
        if word != "wsrep-disconnected" {
            assert_eq!(connection_of_the_probe(), connection, "{word}");
        }
        sql("1", undo);
        probe.eventually("serve").await;
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn a_restart_is_seen_for_as_long_as_it_takes() {
    let [target, _] = targets();
    let (probe, _) = keeping(&target).await;
    cluster(["shutdown", "1"]);
    probe.assert(503, "connection-refused").await;
    cluster(["start-node", "1"]);
    probe.eventually("serve").await;
}
