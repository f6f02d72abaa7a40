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
