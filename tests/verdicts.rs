//! The verdict of a whole probe run, for each state and failure of a node.

mod support;

use std::io;
use std::time::Duration;

use galera_probe::galera::{Policy, judge};
use galera_probe::health::Role;
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::address::Address;
use galera_probe::node::connector::{Connect, Connector};
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Answer, Deadlines, Probe, Questions};
use galera_probe::node::transport::TransportFuture;

use support::node::{Node, PASSWORD, Script, USER};
use support::wire;

async fn verdict_of(node: &dyn Connect, password: &str) -> &'static str {
    let credentials = Credentials::new(USER, Password::new(password)).unwrap();
    let credentials = CredentialSource::fixed(credentials);
    let second = Duration::from_secs(1);
    let deadlines = Deadlines { step: second, whole: 2 * second };
    match Probe::begin(node, &credentials, deadlines, Questions::default()).run().await {
        Ok(Ok(Answer { facts, .. })) => judge(&facts, Policy::default(), Role::ReadWrite).as_str(),
        Ok(Err(failure)) => failure.reason().as_str(),
        Err(stalled) => stalled.reason().as_str(),
    }
}

async fn verdict(script: Script) -> &'static str {
    verdict_of(&Node::new(script), PASSWORD).await
}

async fn verdict_on_greeting(bytes: Vec<u8>) -> &'static str {
    verdict(Script { instead_of_greeting: Some(bytes), ..Script::synced() }).await
}

async fn verdict_on_login_reply(bytes: Vec<u8>) -> &'static str {
    verdict(Script { instead_of_login: Some(bytes), ..Script::synced() }).await
}

#[tokio::test(start_paused = true)]
async fn serves_a_synced_node_and_refuses_other_states() {
    assert_eq!(verdict(Script::synced()).await, "serve");
    assert_eq!(verdict(Script::donor()).await, "donor");
    assert_eq!(verdict(Script::non_primary()).await, "non-primary");
    assert_eq!(verdict(Script::frozen()).await, "stalled-greeting");
    assert_eq!(verdict(Script::synced().with(&[("read_only", "ON")])).await, "read-only");
}

#[tokio::test(start_paused = true)]
async fn logs_in_with_and_without_a_plugin_switch_and_a_password() {
    for switch in [false, true] {
        for password in ["", PASSWORD] {
            let script = Script { switch, password: password.to_owned(), ..Script::synced() };
            assert_eq!(verdict_of(&Node::new(script), password).await, "serve");
        }
        let script = Script { switch, ..Script::synced() };
        assert_eq!(verdict_of(&Node::new(script), "wrong").await, "access-denied");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_instead_of_the_greeting_has_its_own_reason() {
    for (code, reason) in
        [(1040, "too-many-connections"), (1129, "host-blocked"), (1130, "host-denied")]
    {
        assert_eq!(verdict_on_greeting(wire::err(0, code, "no")).await, reason);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_reply_to_the_login_has_its_own_reason() {
    for (code, reason) in [
        (1040, "too-many-connections"),
        (1045, "access-denied"),
        (1698, "access-denied"),
        (1053, "shutting-down"),
        (1226, "user-limit"),
        (1862, "password-expired"),
        (3032, "offline"),
        (3118, "account-locked"),
        (4151, "account-locked"),
        (4150, "account-locked"),
        (3955, "account-locked"),
        (3159, "needs-tls"),
        (9999, "server-error"),
    ] {
        assert_eq!(verdict_on_login_reply(wire::err(2, code, "no")).await, reason, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_in_reply_to_the_statements_has_its_own_reason() {
    for (code, reason) in [
        (1820, "password-expired"),
        (1047, "not-ready"),
        (1205, "server-error"),
        (1927, "shutting-down"),
        // The first statement may fail so, but not the others.
        (1193, "server-error"),
    ] {
        let statement_error = Some((code, "no".to_owned()));
        let script = Script { statement_error, ..Script::synced() };
        assert_eq!(verdict(script).await, reason, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsupported_or_forbidden_plugin_has_its_own_reason() {
    let nonce = &[7; 32];
    for plugin in ["sha256_password", "dialog", "mysql_clear_password"] {
        let switch = wire::switch(2, plugin, nonce);
        assert_eq!(verdict_on_login_reply(switch).await, "unsupported-plugin");
    }
    assert_eq!(verdict_on_login_reply(wire::packet(2, b"\xFE")).await, "unsupported-plugin");
}

#[tokio::test(start_paused = true)]
async fn refuses_servers_of_other_protocols_within_their_first_bytes() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        &[0; 64],
        &[0xFF; 64],
    ] {
        assert_eq!(verdict_on_greeting(bytes.to_vec()).await, "protocol-error", "{bytes:?}");
    }
    assert_eq!(verdict_on_greeting(wire::packet(0, b"\x09old")).await, "unsupported-server");
}

#[tokio::test(start_paused = true)]
async fn refuses_replies_without_rows() {
    for (replies, word) in [
        (vec![wire::ok(1), wire::ok(1)], "protocol-error"),
        (vec![wire::ok(1), wire::rows(&[]), wire::rows(&[])], "no-galera"),
    ] {
        assert_eq!(verdict(Script { replies, ..Script::synced() }).await, word);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_connection_has_its_own_reason() {
    struct Fails(io::ErrorKind);
    impl Connect for Fails {
        fn connect(&self, _budget: Duration) -> TransportFuture {
            let error = self.0.into();
            Box::pin(async { Err(error) })
        }
    }
    for (kind, reason) in [
        (io::ErrorKind::ConnectionRefused, "connection-refused"),
        (io::ErrorKind::ConnectionReset, "disconnected"),
        // The kernel's connect timeout, and a Unix socket whose backlog is full.
        (io::ErrorKind::TimedOut, "stalled-connect"),
        (io::ErrorKind::WouldBlock, "stalled-connect"),
        (io::ErrorKind::HostUnreachable, "unreachable"),
        (io::ErrorKind::NotFound, "unreachable"),
    ] {
        assert_eq!(verdict_of(&Fails(kind), PASSWORD).await, reason);
    }
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "reports what it skips")]
async fn probes_a_node_over_ipv4_ipv6_a_host_name_and_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.sock");
    let unix = tokio::net::UnixListener::bind(&path).unwrap();
    let node = Node::new(Script::synced());
    tokio::spawn(node.clone().listen_unix(unix));
    assert_eq!(verdict_of(&Connector::new(&Address::Unix(path)), PASSWORD).await, "serve");

    for (listen, host) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.0.0.1", "localhost")] {
        let listener = match tokio::net::TcpListener::bind((listen, 0)).await {
            Ok(listener) => listener,
            Err(error) if listen == "::1" => {
                eprintln!("SKIPPED: IPv6, which this machine does not have: {error}");
                continue;
            }
            Err(error) => panic!("{listen}: {error}"),
        };
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(node.clone().listen(listener));
        let address = Address::Tcp { host: host.to_owned(), port };
        assert_eq!(verdict_of(&Connector::new(&address), PASSWORD).await, "serve", "{host}");
    }
}

#[tokio::test]
async fn refuses_an_address_without_a_node() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
    assert_eq!(verdict_of(&Connector::new(&address), PASSWORD).await, "connection-refused");
    let address = Address::Unix("/nonexistent/mysqld.sock".into());
    assert_eq!(verdict_of(&Connector::new(&address), PASSWORD).await, "unreachable");
}

#[tokio::test(start_paused = true)]
async fn captures_of_real_nodes_have_their_verdicts() {
    const VARIABLES: &[u8] = include_bytes!("captures/resultset-variables-eof.bin");
    for (status, word) in [
        (&include_bytes!("captures/resultset-status-eof.bin")[..], "serve"),
        (include_bytes!("captures/resultset-status-desynced.bin"), "donor"),
        (include_bytes!("captures/resultset-status-nonprimary.bin"), "non-primary"),
        (include_bytes!("captures/resultset-status-inconsistent.bin"), "inconsistent"),
        // The variables have wsrep_on=ON, but the status has no wsrep variables.
        (include_bytes!("captures/resultset-status-nogalera.bin"), "incomplete-facts"),
    ] {
        let replies = vec![wire::ok(1), status.to_vec(), VARIABLES.to_vec()];
        assert_eq!(verdict(Script { replies, ..Script::synced() }).await, word);
    }
}
