//! The server's proof of its certificate by the account's password.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::relay::{Learnt, assert_only_a_login, relay};
use super::support::node::PASSWORD;
use super::tls::Authority;
use super::{REQUIRED, Server, mysql_file, system_user};

const PROVEN: &[&str] = &["--ssl-mode", "verify-password"];

/// Passwords whose hashes differ in how they are made: one byte, more than one block of the
/// hashes, other letters.
const PASSWORDS: [&str; 4] = [PASSWORD, "x", "with spaces and \u{fc}", LONG];
const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
    0123456789012345678901234567890123456789012345678901234567890123456789";

fn with_plugin(plugin: &str, password: &str) -> String {
    format!("IDENTIFIED VIA {plugin} USING PASSWORD('{password}')")
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn mariadb_11_8_proves_the_certificate_that_it_made_itself() {
    let server = Server::mariadb();
    for plugin in ["ed25519", "parsec"] {
        server.install(plugin);
    }
    for plugin in ["mysql_native_password", "ed25519", "parsec"] {
        for password in PASSWORDS {
            server.create_account("proven", &with_plugin(plugin, password));
            let (word, log) = server.tcp("proven", password, PROVEN).await;
            assert_eq!((word.as_str(), log.as_str()), ("serve", ""), "{plugin}, {password}");
            let (word, log) = server.tcp("proven", "other", PROVEN).await;
            assert_eq!(word, "access-denied", "{plugin}: {log}");
        }
    }
    // The proof is that of the plugin which accepts the password.
    for plugin in ["ed25519", "parsec", "mysql_native_password"] {
        let how = format!(
            "IDENTIFIED VIA mysql_native_password USING PASSWORD('wrong') \
             OR ed25519 USING PASSWORD('wrong') OR {plugin} USING PASSWORD('{PASSWORD}')"
        );
        server.create_account("proven", &how);
        let (word, log) = server.tcp("proven", PASSWORD, PROVEN).await;
        assert_eq!(word, "serve", "{plugin}: {log}");
    }
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn mariadb_11_8_cannot_prove_it_by_an_account_without_a_secret() {
    let server = Server::mariadb();
    for plugin in ["ed25519", "parsec"] {
        server.install(plugin);
    }
    for how in
        ["IDENTIFIED BY ''".to_owned(), with_plugin("ed25519", ""), with_plugin("parsec", "")]
    {
        server.create_account("unproven", &how);
        let (word, log) = server.tcp("unproven", "", PROVEN).await;
        assert_eq!(word, "tls-no-proof", "{how}: {log}");
    }
    // Over TCP, the server denies such a login.
    server.create_account("unproven", "IDENTIFIED VIA unix_socket");
    let (word, log) = server.tcp("unproven", PASSWORD, PROVEN).await;
    assert_eq!(word, "access-denied", "{log}");
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn mysql_9_cannot_prove_its_certificate() {
    let server = Server::mysql();
    let ca = mysql_file("ca.pem");
    server.create_account("unproven", &format!("IDENTIFIED BY '{PASSWORD}'"));
    // The password goes only over verified TLS. Then the server has it in its cache.
    assert_eq!(server.tcp("unproven", PASSWORD, PROVEN).await.0, "needs-tls");
    let verified = &["--ssl-mode", "verify-ca", "--ssl-ca", &ca];
    assert_eq!(server.tcp("unproven", PASSWORD, verified).await.0, "serve");
    let (word, log) = server.tcp("unproven", PASSWORD, PROVEN).await;
    assert_eq!(word, "tls-no-proof", "{log}");
    server.create_account("unproven", "IDENTIFIED BY ''");
    assert_eq!(server.tcp("unproven", "", PROVEN).await.0, "tls-no-proof");
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn a_galera_node_of_mariadb_10_11_cannot_prove_its_certificate() {
    let server = Server::galera_node();
    server.install("ed25519");
    for plugin in ["mysql_native_password", "ed25519"] {
        server.create_account("unproven", &with_plugin(plugin, PASSWORD));
        let (word, log) = server.tcp("unproven", PASSWORD, PROVEN).await;
        assert_eq!(word, "tls-no-proof", "{log}");
        assert_eq!(server.tcp("unproven", "other", PROVEN).await.0, "access-denied");
    }
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn mariadb_11_8_serves_an_account_of_the_socket_whatever_password_is_given() {
    let server = Server::mariadb();
    let how = format!("IDENTIFIED VIA unix_socket AS '{}'", system_user());
    server.create_account("local", &how);
    for password in ["", PASSWORD] {
        let (word, log) = server.check(&server.socket_address(), "local", password, REQUIRED).await;
        assert_eq!(word, "serve", "{log}");
    }
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn a_man_in_the_middle_before_mariadb_11_8_is_refused_and_learns_only_the_login() {
    let server = Server::mariadb();
    server.install("ed25519");
    for plugin in ["mysql_native_password", "ed25519"] {
        server.create_account("relayed", &with_plugin(plugin, PASSWORD));
        for mode in [PROVEN, REQUIRED] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = listener.local_addr().unwrap().to_string();
            let learnt = Learnt::default();
            let (upstream, heard) = (server.address, Arc::clone(&learnt));
            let attack = tokio::spawn(async move {
                let (probe, _) = listener.accept().await.unwrap();
                let server = Box::new(TcpStream::connect(upstream).await.unwrap());
                relay(probe, server, Authority::new().issue(&["any"]), heard).await
            });
            let (word, log) = server.check(&target, "relayed", PASSWORD, mode).await;
            assert_eq!(word, "tls-false-proof", "{plugin}: {log}");
            let _ = attack.await.unwrap();
            assert_only_a_login(&learnt, "relayed", PASSWORD);
        }
    }
}
