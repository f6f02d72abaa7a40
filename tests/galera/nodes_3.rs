//! Three real nodes, each in a network namespace of its own, and the probe in
//! another: every state, with its reason.

use crate::cluster::{
    EAGER, NODE, PROBER, check, cluster, connect_errors, counter, healthy, serve, sql, try_cluster,
};

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn every_synced_node_is_200() {
    drop(healthy().await);
    for node in ["1", "2", "3"] {
        serve(node, EAGER).await.assert(200, "serve").await;
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn variables_set_by_an_operator_refuse_the_node_and_give_it_back() {
    let probe = healthy().await;
    for (set, reset, word) in [
        (&["desync", NODE, "on"][..], &["desync", NODE, "off"][..], "desynced"),
        (&["reject", NODE, "ALL"], &["reject", NODE, "NONE"], "rejecting-queries"),
        (&["read-only", NODE, "on"], &["read-only", NODE, "off"], "read-only"),
        (
            &["sql", NODE, "SET GLOBAL wsrep_on=OFF"],
            &["sql", NODE, "SET GLOBAL wsrep_on=ON"],
            "wsrep-off",
        ),
        (&["background", NODE, "FLUSH TABLES WITH READ LOCK"], &["background-end", NODE], "donor"),
    ] {
        cluster(set);
        assert_eq!(probe.eventually(word).await.status, 503);
        cluster(reset);
        probe.eventually("serve").await;
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_partitioned_node_is_non_primary_and_the_others_serve_on_until_it_is_healed() {
    let probe = healthy().await;
    cluster(["partition", NODE]);
    let response = probe.eventually("non-primary").await;
    assert_eq!(response.status, 503);
    for other in ["1", "2"] {
        serve(other, EAGER).await.eventually("serve").await;
    }
    cluster(["heal", NODE]);
    assert_eq!(probe.eventually("serve").await.status, 200);
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_joiner_is_joining_until_it_is_synced() {
    let probe = healthy().await;
    cluster(["shutdown", NODE]);
    probe.assert(503, "connection-refused").await;
    cluster(["join-held", NODE, "ist"]);
    probe.assert(503, "joining").await;
    cluster(["join-release", NODE]);
    probe.eventually("serve").await;
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn during_a_full_copy_the_joiner_refuses_connections_and_the_donor_is_a_donor() {
    let probe = healthy().await;
    cluster(["kill", NODE]);
    let donor = cluster(["join-held", NODE, "sst"]);
    probe.assert(503, "connection-refused").await;
    let donor = serve(&donor, EAGER).await;
    donor.assert(503, "donor").await;
    cluster(["join-release", NODE]);
    probe.eventually("serve").await;
    donor.eventually("serve").await;
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_frozen_node_and_a_black_hole_are_refused_at_the_deadline_by_the_step_that_stalled() {
    let probe = healthy().await;
    for (fault, mend, word) in
        [("freeze", "thaw", "stalled-greeting"), ("blackhole", "unblackhole", "stalled-connect")]
    {
        cluster([fault, NODE]);
        probe.assert(503, word).await;
        cluster([mend, NODE]);
        probe.eventually("serve").await;
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_login_that_the_node_refuses_is_a_reason_of_its_own() {
    let probe = healthy().await;
    let wrong = check("p1", &["--user", "nobody"]).await;
    assert!(wrong.starts_with("access-denied: "), "{wrong}");

    let stranger = check("p2", &[]).await;
    assert!(stranger.starts_with("host-denied: "), "{stranger}");

    sql("1", "CREATE OR REPLACE USER holder@'10.77.0.254' IDENTIFIED BY 'secret'");
    let limit = sql(NODE, "SELECT @@GLOBAL.max_connections");
    sql(NODE, "SET GLOBAL max_connections=10");
    // Ten are max_connections; the eleventh is the spare one for an administrator.
    cluster(["hold", NODE, "10", "holder", "secret"]);
    probe.assert(503, "too-many-connections").await;
    cluster(["background-end", NODE]);
    sql(NODE, &format!("SET GLOBAL max_connections={limit}"));
    probe.eventually("serve").await;
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn an_address_that_the_node_blocked_is_host_blocked_until_its_hosts_are_flushed() {
    let probe = healthy().await;
    let limit = sql(NODE, "SELECT @@GLOBAL.max_connect_errors");
    sql(NODE, "FLUSH LOCAL HOSTS");
    // The checks that this program replaces: connect, and close without a login.
    let address = cluster(["address", NODE]).replace(':', "/");
    let tcp_check = format!("for i in 1 2 3; do read -rn1 byte < /dev/tcp/{address}; done");
    cluster(["exec", PROBER.0, "bash", "-c", &tcp_check]);
    assert!(connect_errors(NODE, PROBER.1) >= 3);
    sql(NODE, "SET GLOBAL max_connect_errors=3");
    probe.assert(503, "host-blocked").await;
    sql(NODE, &format!("SET GLOBAL max_connect_errors={limit}"));
    sql(NODE, "FLUSH LOCAL HOSTS");
    assert_eq!(probe.eventually("serve").await.status, 200);
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_node_that_lags_under_wsrep_sync_wait_is_answered_for_without_waiting() {
    drop(healthy().await);
    sql(NODE, "SET GLOBAL wsrep_provider_options='repl.causal_read_timeout=PT5S'");
    sql(NODE, "SET GLOBAL wsrep_sync_wait=15");
    sql("1", "CREATE DATABASE IF NOT EXISTS lag");
    sql("1", "CREATE OR REPLACE TABLE lag.lag (id INT PRIMARY KEY)");
    cluster(["background", NODE, "FLUSH TABLES WITH READ LOCK"]);
    sql("1", "INSERT INTO lag.lag VALUES (1)");

    // Without our SET, SHOW waits on such a node, for as long as it was told.
    let error = try_cluster(["sql", NODE, "SHOW STATUS LIKE 'wsrep_ready'"]).unwrap_err();
    assert!(error.contains("ERROR 1205"), "{error}");

    let answer = serve(NODE, &["--step-timeout", "100ms"]).await.get("/").await;
    assert_eq!((answer.status, answer.word()), (503, "donor"));

    cluster(["background-end", NODE]);
    sql(NODE, "SET GLOBAL wsrep_sync_wait=0");
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn healthy_probes_leave_no_trace_in_what_the_node_holds_against_an_address() {
    let probe = healthy().await;
    sql(NODE, "FLUSH LOCAL HOSTS");
    let trace = || {
        (
            counter(NODE, "Aborted_clients"),
            counter(NODE, "Aborted_connects"),
            connect_errors(NODE, PROBER.1),
        )
    };
    let before = trace();
    for _ in 0..100 {
        probe.assert(200, "serve").await;
    }
    assert_eq!(before, trace());
    assert_eq!(before.2, 0);
}
