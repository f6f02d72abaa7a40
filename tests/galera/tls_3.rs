//! Tests how a real node counts failed TLS handshakes as connect errors.

use std::time::{Duration, Instant};

use crate::cluster::{NODE, PROBER, check, cluster, connect_errors, healthy, serve, sql};
use crate::tls::{Authority, Client};

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_failed_handshake_counts_as_one_connect_error_and_a_login_clears_the_count() {
    drop(healthy().await);
    let (ours, other) = (Authority::new(), Authority::new());
    let address = cluster(["address", NODE]);
    let host = address.split(':').next().unwrap();
    let server = Client::new(Some(&ours), Some(&ours.issue(&[host])));
    cluster(["tls", NODE, server.path().to_str().unwrap()]);
    let (trusting, wrong) = (Client::new(Some(&ours), None), Client::new(Some(&other), None));
    let ca = |client: &Client| client.path().join("ca.pem").to_str().unwrap().to_owned();
    let (ca, wrong_ca) = (ca(&trusting), ca(&wrong));
    let good: &[&str] = &["--ssl-mode", "verify-identity", "--ssl-ca", &ca];
    let named = [good, &["--ssl-server-name", "elsewhere"]].concat();
    let untrusted: &[&str] = &["--ssl-mode", "verify-ca", "--ssl-ca", &wrong_ca];
    sql(NODE, "FLUSH LOCAL HOSTS");

    assert!(check(PROBER.0, good).await.starts_with("serve: "));
    for (flags, word) in [(untrusted, "tls-untrusted: "), (&named, "tls-wrong-name: ")] {
        for expected in 1..=5 {
            assert!(check(PROBER.0, flags).await.starts_with(word));
            let began = Instant::now();
            while connect_errors(NODE, PROBER.1) < expected {
                assert!(began.elapsed() < Duration::from_secs(10), "not counted");
            }
            assert_eq!(connect_errors(NODE, PROBER.1), expected);
        }
        assert!(check(PROBER.0, good).await.starts_with("serve: "));
        assert_eq!(connect_errors(NODE, PROBER.1), 0);
    }

    // `serve` backs off: it connects at 0, 5 and 15 s.
    let probe = serve(NODE, &[&["--max-age", "0s"], untrusted].concat()).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        probe.assert(503, "tls-untrusted").await;
    }
    assert_eq!(connect_errors(NODE, PROBER.1), 2);
    cluster(["tls", NODE, "off"]);
    cluster(["wait-size", "1", "3"]);

    // If the node offers no TLS, the probe has still read its greeting. Each probe run
    // counts as at most one error.
    sql(NODE, "FLUSH LOCAL HOSTS");
    let before = connect_errors(NODE, PROBER.1);
    for _ in 0..5 {
        assert!(check(PROBER.0, good).await.starts_with("tls-not-offered: "));
    }
    assert!(connect_errors(NODE, PROBER.1) <= before + 5);
    assert!(check(PROBER.0, &[]).await.starts_with("serve: "));
    assert_eq!(connect_errors(NODE, PROBER.1), 0);
}
