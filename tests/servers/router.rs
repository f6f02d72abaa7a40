//! MySQL Router in front of a server. It takes one command at a time, and has a greeting of
//! its own: the nonce and the plugin are not those of the server.

use super::support::node::PASSWORD;
use super::{REQUIRED, Server, mysql_file};

/// The routes without TLS and with it.
const MYSQL: [&str; 2] = ["127.0.0.1:13821", "127.0.0.1:13822"];
const GALERA: [&str; 2] = ["127.0.0.1:13823", "127.0.0.1:13824"];

const DISABLED: &[&str] = &["--ssl-mode", "disabled"];

/// Asserts that the account is served through the router without TLS, and with it where the
/// route offers it.
async fn assert_serves(server: &Server, [plain, tls]: [&str; 2], user: &str, password: &str) {
    let ca = mysql_file("ca.pem");
    let verified: &[&str] = &["--ssl-mode", "verify-ca", "--ssl-ca", &ca];
    for (route, arguments) in [(tls, verified), (tls, REQUIRED), (tls, DISABLED), (plain, DISABLED)]
    {
        let (word, log) = server.check(route, user, password, arguments).await;
        assert_eq!(word, "serve", "{user} through {route} with {arguments:?}: {log}");
    }
    let (word, log) = server.check(plain, user, password, REQUIRED).await;
    assert_eq!(word, "tls-not-offered", "{log}");
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn mysql_9_is_served_with_and_without_tls() {
    let server = Server::mysql();
    for password in ["", PASSWORD] {
        server.create_account("routed", &format!("IDENTIFIED BY '{password}'"));
        assert_serves(&server, MYSQL, "routed", password).await;
    }
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn a_galera_node_is_served_with_and_without_tls() {
    let server = Server::galera_node();
    for password in ["", PASSWORD] {
        let how = format!("IDENTIFIED VIA mysql_native_password USING PASSWORD('{password}')");
        server.create_account("routed", &how);
        assert_serves(&server, GALERA, "routed", password).await;
        for route in GALERA {
            let (word, log) = server.check(route, "routed", "other", DISABLED).await;
            assert_eq!(word, "access-denied", "{log}");
        }
    }
}
