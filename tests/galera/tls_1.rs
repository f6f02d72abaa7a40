//! TLS and the logins of one real node on loopback; needs no root.

use std::fs;

use crate::cluster::{cluster, sql, try_cluster};
use crate::program::run;
use crate::support::node::PASSWORD;
use crate::tls::{Authority, Client, Issued};

/// A node with TLS by certificates that can be changed, until it is dropped.
struct Server {
    files: Client,
    target: String,
}

impl Server {
    fn start(ca: &Authority, issued: &Issued) -> Self {
        let files = Client::new(Some(ca), Some(issued));
        cluster(["tls", "1", files.path().to_str().unwrap()]);
        Self { files, target: cluster(["address", "1"]) }
    }

    /// The node shows another certificate.
    fn show(&self, issued: &Issued) {
        fs::write(self.files.path().join("cert.pem"), &issued.certificate).unwrap();
        fs::write(self.files.path().join("key.pem"), &issued.key).unwrap();
        sql("1", "FLUSH SSL");
    }

    async fn check(&self, arguments: &[&str]) -> String {
        check(&[&["--target", &self.target], arguments].concat()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = try_cluster(["tls", "1", "off"]);
    }
}

/// The word that `check` prints.
async fn check(arguments: &[&str]) -> String {
    let output = run(&[&["check"], arguments].concat()).await;
    String::from_utf8(output.stdout).unwrap().split(':').next().unwrap().to_owned()
}

/// An account for the address 127.0.0.1.
fn account(name: &str, how: &str) {
    sql("1", &format!("CREATE OR REPLACE USER {name}@127.0.0.1 {how}"));
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn each_mode_asks_of_a_real_node_what_it_says() {
    account("galera_probe", &format!("IDENTIFIED BY '{PASSWORD}'"));
    let (ours, other) = (Authority::new(), Authority::new());
    let server = Server::start(&ours, &ours.issue(&["127.0.0.1"]));
    let (trusting, wrong) = (Client::new(Some(&ours), None), Client::new(Some(&other), None));
    let ca = |client: &Client| client.path().join("ca.pem").to_str().unwrap().to_owned();
    let (ca, wrong_ca) = (ca(&trusting), ca(&wrong));
    let modes: [&[&str]; 5] = [
        &["--ssl-mode", "disabled"],
        &["--ssl-mode", "required"],
        &["--ssl-mode", "verify-ca", "--ssl-ca", &ca],
        &["--ssl-mode", "verify-identity", "--ssl-ca", &ca],
        &["--ssl-mode", "verify-ca", "--ssl-ca", &wrong_ca],
    ];
    for (issued, expected) in [
        (ours.issue(&["127.0.0.1"]), ["serve", "serve", "serve", "serve", "tls-untrusted"]),
        (
            ours.issue(&["elsewhere"]),
            ["serve", "serve", "serve", "tls-wrong-name", "tls-untrusted"],
        ),
        (
            ours.issue_until(&["127.0.0.1"], 2020),
            ["serve", "serve", "tls-expired", "tls-expired", "tls-expired"],
        ),
    ] {
        server.show(&issued);
        for (mode, expected) in modes.iter().zip(expected) {
            assert_eq!(server.check(mode).await, expected, "{mode:?}");
        }
    }
    server.show(&ours.issue(&["db.example"]));
    let named = [modes[3], &["--ssl-server-name", "db.example"]].concat();
    assert_eq!(server.check(&named).await, "serve");
    // Over its socket as well.
    sql("1", &format!("CREATE OR REPLACE USER galera_probe@localhost IDENTIFIED BY '{PASSWORD}'"));
    let socket = format!("unix:{}", cluster(["socket", "1"]));
    assert_eq!(check(&[&["--target", &socket], &named[..]].concat()).await, "serve");
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn accounts_that_require_tls_or_a_certificate_log_in_with_it() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = Server::start(&ours, &ours.issue(&["127.0.0.1"]));
    let (shown, wrong) = (ours.issue(&["probe"]), other.issue(&["probe"]));
    let (shown, wrong) = (Client::new(None, Some(&shown)), Client::new(None, Some(&wrong)));
    let files = |client: &Client| {
        ["cert.pem", "key.pem"].map(|name| client.path().join(name).to_str().unwrap().to_owned())
    };
    let ([cert, key], [wrong_cert, wrong_key]) = (files(&shown), files(&wrong));
    let ways: [&[&str]; 4] = [
        &[],
        &["--ssl-mode", "required"],
        &["--ssl-mode", "required", "--ssl-cert", &cert, "--ssl-key", &key],
        &["--ssl-mode", "required", "--ssl-cert", &wrong_cert, "--ssl-key", &wrong_key],
    ];
    for (require, expected) in [
        ("SSL", ["access-denied", "serve", "serve", "tls-refused"]),
        ("X509", ["access-denied", "access-denied", "serve", "tls-refused"]),
    ] {
        account("strict", &format!("IDENTIFIED BY '{PASSWORD}' REQUIRE {require}"));
        for (way, expected) in ways.iter().zip(expected) {
            let arguments = [&["--user", "strict"], *way].concat();
            assert_eq!(server.check(&arguments).await, expected, "{require} {way:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn tls_asked_of_a_node_without_it_is_not_offered_and_nothing_falls_back() {
    account("galera_probe", &format!("IDENTIFIED BY '{PASSWORD}'"));
    let ours = Authority::new();
    let client = Client::new(Some(&ours), None);
    let ca = client.path().join("ca.pem");
    let ca = ca.to_str().unwrap();
    let target = cluster(["address", "1"]);
    let modes: [&[&str]; 3] =
        [&["required"], &["verify-ca", "--ssl-ca", ca], &["verify-identity", "--ssl-ca", ca]];
    for mode in modes {
        let arguments = [&["--target", &target, "--ssl-mode"], mode].concat();
        assert_eq!(check(&arguments).await, "tls-not-offered");
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn ed25519_accounts_log_in_with_their_password_and_no_other() {
    sql("1", "INSTALL PLUGIN IF NOT EXISTS ed25519 SONAME 'auth_ed25519'");
    let target = cluster(["address", "1"]);
    for (password, expected) in [(PASSWORD, "serve"), ("other", "access-denied")] {
        account("signer", &format!("IDENTIFIED VIA ed25519 USING PASSWORD('{password}')"));
        assert_eq!(check(&["--target", &target, "--user", "signer"]).await, expected);
    }
    // The server tries one after the other, each with a switch.
    account(
        "signer",
        "IDENTIFIED VIA mysql_native_password USING PASSWORD('wrong') \
         OR ed25519 USING PASSWORD('secret')",
    );
    assert_eq!(check(&["--target", &target, "--user", "signer"]).await, "serve");
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn unix_socket_accounts_log_in_as_the_system_user() {
    let user = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap();
    let user = user.trim();
    let target = format!("unix:{}", cluster(["socket", "1"]));
    // With the password that the probe has, only the socket lets it in.
    let how = "IDENTIFIED VIA unix_socket OR mysql_native_password USING ''";
    let make = if user == "root" { "ALTER USER" } else { "CREATE OR REPLACE USER" };
    sql("1", &format!("{make} {user}@localhost {how}"));
    sql("1", "CREATE OR REPLACE USER nobody@localhost IDENTIFIED VIA unix_socket");
    let mine = check(&["--target", &target, "--user", user]).await;
    let other = check(&["--target", &target, "--user", "nobody"]).await;
    if user == "root" {
        sql("1", "ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING ''");
    }
    assert_eq!([mine.as_str(), &other], ["serve", "access-denied"]);
}
