//! Tests every state of a node and its reason, with three real nodes. Each node and the
//! prober have their own network namespace.

use crate::cluster::{
    NODE, PROBER, UNCACHED, check, cluster, connect_errors, counter, healthy, serve, sql,
    try_cluster,
};

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn serves_every_synced_node() {
    drop(healthy().await);
    for node in ["1", "2", "3"] {
        serve(node, UNCACHED).await.assert(200, "serve").await;
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn refuses_a_node_while_an_operator_has_set_a_variable_against_it() {
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
async fn a_partitioned_node_is_non_primary_and_the_others_keep_serving() {
    let probe = healthy().await;
    cluster(["partition", NODE]);
    let response = probe.eventually("non-primary").await;
    assert_eq!(response.status, 503);
    for other in ["1", "2"] {
        serve(other, UNCACHED).await.eventually("serve").await;
    }
    cluster(["heal", NODE]);
    assert_eq!(probe.eventually("serve").await.status, 200);
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn refuses_a_joiner_until_it_is_synced() {
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
async fn refuses_joiner_and_donor_during_a_full_copy() {
    let probe = healthy().await;
    cluster(["kill", NODE]);
    let donor = cluster(["join-held", NODE, "sst"]);
    probe.assert(503, "connection-refused").await;
    let donor = serve(&donor, UNCACHED).await;
    donor.assert(503, "donor").await;
    cluster(["join-release", NODE]);
    probe.eventually("serve").await;
    donor.eventually("serve").await;
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn the_reason_for_a_frozen_or_unreachable_node_names_the_step_that_stalled() {
    let probe = healthy().await;
    for (fault, repair, word) in
        [("freeze", "thaw", "stalled-greeting"), ("blackhole", "unblackhole", "stalled-connect")]
    {
        cluster([fault, NODE]);
        probe.assert(503, word).await;
        cluster([repair, NODE]);
        probe.eventually("serve").await;
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn each_kind_of_refused_login_has_its_own_reason() {
    let probe = healthy().await;
    let wrong = check("p1", &["--user", "nobody"]).await;
    assert!(wrong.starts_with("access-denied: "), "{wrong}");

    let unknown_host = check("p2", &[]).await;
    assert!(unknown_host.starts_with("host-denied: "), "{unknown_host}");

    sql("1", "CREATE OR REPLACE USER holder@'10.77.0.254' IDENTIFIED BY 'secret'");
    let limit = sql(NODE, "SELECT @@GLOBAL.max_connections");
    sql(NODE, "SET GLOBAL max_connections=10");
    // These ten use up max_connections. The server admits an eleventh connection only for
    // an administrator.
    cluster(["hold", NODE, "10", "holder", "secret"]);
    probe.assert(503, "too-many-connections").await;
    cluster(["background-end", NODE]);
    sql(NODE, &format!("SET GLOBAL max_connections={limit}"));
    probe.eventually("serve").await;
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_blocked_address_is_host_blocked_until_the_host_cache_is_flushed() {
    let probe = healthy().await;
    let limit = sql(NODE, "SELECT @@GLOBAL.max_connect_errors");
    sql(NODE, "FLUSH LOCAL HOSTS");
    // A plain TCP check, such as this program replaces: connects and closes without a login.
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
async fn does_not_wait_for_a_lagging_node_with_wsrep_sync_wait() {
    drop(healthy().await);
    sql(NODE, "SET GLOBAL wsrep_provider_options='repl.causal_read_timeout=PT5S'");
    sql(NODE, "SET GLOBAL wsrep_sync_wait=15");
    sql("1", "CREATE DATABASE IF NOT EXISTS lag");
    sql("1", "CREATE OR REPLACE TABLE lag.lag (id INT PRIMARY KEY)");
    cluster(["background", NODE, "FLUSH TABLES WITH READ LOCK"]);
    sql("1", "INSERT INTO lag.lag VALUES (1)");

    // Without the probe's SET, SHOW waits on such a node until causal_read_timeout.
    let error = try_cluster(["sql", NODE, "SHOW STATUS LIKE 'wsrep_ready'"]).unwrap_err();
    assert!(error.contains("ERROR 1205"), "{error}");

    let response = serve(NODE, &["--step-timeout", "100ms"]).await.get("/").await;
    assert_eq!((response.status, response.word()), (503, "donor"));

    cluster(["background-end", NODE]);
    sql(NODE, "SET GLOBAL wsrep_sync_wait=0");
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn healthy_probe_runs_leave_no_connect_error_and_no_aborted_connection() {
    let probe = healthy().await;
    sql(NODE, "FLUSH LOCAL HOSTS");
    let error_counters = || {
        (
            counter(NODE, "Aborted_clients"),
            counter(NODE, "Aborted_connects"),
            connect_errors(NODE, PROBER.1),
        )
    };
    let before = error_counters();
    for _ in 0..100 {
        probe.assert(200, "serve").await;
    }
    assert_eq!(before, error_counters());
    assert_eq!(before.2, 0);
}
