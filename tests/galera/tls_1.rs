//! Tests TLS and the login methods with one real node on loopback; needs no root.

use std::fs;

use crate::cluster::{cluster, sql, try_cluster};
use crate::program::run;
use crate::support::node::PASSWORD;
use crate::tls::{Authority, Client, Issued};

/// The node with TLS enabled. Dropping it disables TLS.
struct Server {
    files: Client,
    address: String,
}

impl Server {
    fn start(ca: &Authority, issued: &Issued) -> Self {
        let files = Client::new(Some(ca), Some(issued));
        cluster(["tls", "1", files.path().to_str().unwrap()]);
        Self { files, address: cluster(["address", "1"]) }
    }

    /// Makes the node use another certificate.
    fn use_certificate(&self, issued: &Issued) {
        fs::write(self.files.path().join("cert.pem"), &issued.certificate).unwrap();
        fs::write(self.files.path().join("key.pem"), &issued.key).unwrap();
        sql("1", "FLUSH SSL");
    }

    async fn check(&self, arguments: &[&str]) -> String {
        check(&[&["--target", &self.address], arguments].concat()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = try_cluster(["tls", "1", "off"]);
    }
}

/// Runs `check` and returns `serve` or the reason.
async fn check(arguments: &[&str]) -> String {
    let output = run(&[&["check"], arguments].concat()).await;
    String::from_utf8(output.stdout).unwrap().split(':').next().unwrap().to_owned()
}

/// Creates an account for the address 127.0.0.1.
fn create_account(name: &str, method: &str) {
    sql("1", &format!("CREATE OR REPLACE USER {name}@127.0.0.1 {method}"));
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn each_ssl_mode_verifies_what_it_names() {
    create_account("galera_probe", &format!("IDENTIFIED BY '{PASSWORD}'"));
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
        server.use_certificate(&issued);
        for (mode, expected) in modes.iter().zip(expected) {
            assert_eq!(server.check(mode).await, expected, "{mode:?}");
        }
    }
    server.use_certificate(&ours.issue(&["db.example"]));
    let named = [modes[3], &["--ssl-server-name", "db.example"]].concat();
    assert_eq!(server.check(&named).await, "serve");
    // The same over the socket.
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
    let variants: [&[&str]; 4] = [
        &[],
        &["--ssl-mode", "required"],
        &["--ssl-mode", "required", "--ssl-cert", &cert, "--ssl-key", &key],
        &["--ssl-mode", "required", "--ssl-cert", &wrong_cert, "--ssl-key", &wrong_key],
    ];
    for (require, expected) in [
        ("SSL", ["access-denied", "serve", "serve", "tls-refused"]),
        ("X509", ["access-denied", "access-denied", "serve", "tls-refused"]),
    ] {
        create_account("strict", &format!("IDENTIFIED BY '{PASSWORD}' REQUIRE {require}"));
        for (variant, expected) in variants.iter().zip(expected) {
            let arguments = [&["--user", "strict"], *variant].concat();
            assert_eq!(server.check(&arguments).await, expected, "{require} {variant:?}");
        }
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn a_node_without_tls_is_tls_not_offered_and_never_probed_in_cleartext() {
    create_account("galera_probe", &format!("IDENTIFIED BY '{PASSWORD}'"));
    let ours = Authority::new();
    let client = Client::new(Some(&ours), None);
    let ca = client.path().join("ca.pem");
    let ca = ca.to_str().unwrap();
    let address = cluster(["address", "1"]);
    let modes: [&[&str]; 3] =
        [&["required"], &["verify-ca", "--ssl-ca", ca], &["verify-identity", "--ssl-ca", ca]];
    for mode in modes {
        let arguments = [&["--target", &address, "--ssl-mode"], mode].concat();
        assert_eq!(check(&arguments).await, "tls-not-offered");
    }
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn ed25519_accounts_log_in_only_with_their_password() {
    sql("1", "INSTALL PLUGIN IF NOT EXISTS ed25519 SONAME 'auth_ed25519'");
    let address = cluster(["address", "1"]);
    for (password, expected) in [(PASSWORD, "serve"), ("other", "access-denied")] {
        create_account("signer", &format!("IDENTIFIED VIA ed25519 USING PASSWORD('{password}')"));
        assert_eq!(check(&["--target", &address, "--user", "signer"]).await, expected);
    }
    // The server tries the plugins in order and sends an AuthSwitchRequest for each.
    create_account(
        "signer",
        "IDENTIFIED VIA mysql_native_password USING PASSWORD('wrong') \
         OR ed25519 USING PASSWORD('secret')",
    );
    assert_eq!(check(&["--target", &address, "--user", "signer"]).await, "serve");
}

#[tokio::test]
#[ignore = "needs a real node: tests/run"]
async fn unix_socket_accounts_log_in_as_the_system_user() {
    let user = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap();
    let user = user.trim();
    let socket = format!("unix:{}", cluster(["socket", "1"]));
    // The probe's password is wrong for the account, so only unix_socket admits it.
    let method = "IDENTIFIED VIA unix_socket OR mysql_native_password USING ''";
    let statement = if user == "root" { "ALTER USER" } else { "CREATE OR REPLACE USER" };
    sql("1", &format!("{statement} {user}@localhost {method}"));
    sql("1", "CREATE OR REPLACE USER nobody@localhost IDENTIFIED VIA unix_socket");
    let mine = check(&["--target", &socket, "--user", user]).await;
    let other = check(&["--target", &socket, "--user", "nobody"]).await;
    if user == "root" {
        sql("1", "ALTER USER root@localhost IDENTIFIED VIA mysql_native_password USING ''");
    }
    assert_eq!([mine.as_str(), &other], ["serve", "access-denied"]);
}
