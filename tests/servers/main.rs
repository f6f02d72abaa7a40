//! Tests logins to MySQL 9 and MariaDB 11.8, which are newer than the servers of
//! `tests/galera`, and MySQL Router 9. `tests/servers/run` fetches and starts them, and a
//! Galera node to compare with.

mod init_connect;
#[path = "../support/program.rs"]
mod program;
mod proof;
#[path = "../support/relay.rs"]
mod relay;
mod router;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tls.rs"]
mod tls;

use std::env;
use std::path::PathBuf;
use std::process::Command;

use program::{command, output};
use support::node::PASSWORD;

/// A running server.
struct Server {
    socket: PathBuf,
    address: &'static str,
    /// Arguments that every `check` of this server needs.
    arguments: &'static [&'static str],
}

impl Server {
    fn mysql() -> Self {
        Self::from_suite("sid", "127.0.0.1:13811")
    }

    fn mariadb() -> Self {
        Self::from_suite("trixie", "127.0.0.1:13812")
    }

    /// A node of this system's MariaDB.
    fn galera_node() -> Self {
        let socket = env::var_os("GALERA_SOCKET").expect("tests/servers/run sets it").into();
        Self { socket, address: "127.0.0.1:13813", arguments: &[] }
    }

    fn from_suite(suite: &str, address: &'static str) -> Self {
        Self { socket: folder(suite).join("sock"), address, arguments: &["--standalone"] }
    }

    fn sql(&self, statements: &str) {
        let socket = format!("--socket={}", self.socket.display());
        let client = ["--no-defaults", "--user=root", &socket, "--execute", statements];
        let output = Command::new("mariadb").args(client).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Creates an account for logins over TCP and over the socket. It is one account for
    /// both, because the server caches passwords by account.
    fn create_account(&self, name: &str, how: &str) {
        self.sql(&format!("DROP USER IF EXISTS {name}; CREATE USER {name} {how}"));
    }

    /// Installs an authentication plugin of MariaDB.
    fn install(&self, plugin: &str) {
        self.sql(&format!("INSTALL PLUGIN IF NOT EXISTS {plugin} SONAME 'auth_{plugin}'"));
    }

    async fn tcp(&self, user: &str, password: &str, arguments: &[&str]) -> (String, String) {
        self.check(self.address, user, password, arguments).await
    }

    async fn socket(&self, user: &str, password: &str) -> (String, String) {
        self.check(&self.socket_address(), user, password, &[]).await
    }

    fn socket_address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// Runs `check`. Returns `serve` or the reason, and the log.
    async fn check(
        &self,
        target: &str,
        user: &str,
        password: &str,
        arguments: &[&str],
    ) -> (String, String) {
        let common = ["check", "--target", target, "--user", user];
        let mut command = command(&[&common[..], self.arguments, arguments].concat());
        command.env("GALERA_PROBE_PASSWORD", password);
        let output = output(command).await;
        let [stdout, log] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (stdout.split(':').next().unwrap().to_owned(), log)
    }
}

/// The folder of a server's programs and data.
fn folder(suite: &str) -> PathBuf {
    PathBuf::from(env::var_os("SERVERS_DIR").expect("tests/servers/run sets it")).join(suite)
}

/// The path of a certificate or key that MySQL generated.
fn mysql_file(name: &str) -> String {
    folder("sid").join("data").join(name).to_str().unwrap().to_owned()
}

/// The user that runs the tests.
fn system_user() -> String {
    let name = Command::new("id").arg("-un").output().unwrap().stdout;
    String::from_utf8(name).unwrap().trim().to_owned()
}

const REQUIRED: &[&str] = &["--ssl-mode", "required"];

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn caching_sha2_password_needs_verified_tls_or_the_socket_until_the_server_has_cached_it() {
    let server = Server::mysql();
    server.create_account("sha", &format!("IDENTIFIED WITH caching_sha2_password BY '{PASSWORD}'"));
    let ca = mysql_file("ca.pem");
    let verified = &["--ssl-mode", "verify-ca", "--ssl-ca", &ca];
    for over_socket in [true, false] {
        // Empties the cache, as a restart does.
        server.sql("FLUSH PRIVILEGES");
        for unverified in [&[][..], REQUIRED] {
            let (word, log) = server.tcp("sha", PASSWORD, unverified).await;
            assert_eq!(word, "needs-tls");
            assert!(log.contains("--ssl-mode verify-ca"), "{log}");
        }
        let (word, log) = match over_socket {
            true => server.socket("sha", PASSWORD).await,
            false => server.tcp("sha", PASSWORD, verified).await,
        };
        assert_eq!((word.as_str(), log.as_str()), ("serve", ""));
        for unverified in [&[][..], REQUIRED] {
            let (word, log) = server.tcp("sha", PASSWORD, unverified).await;
            assert_eq!(word, "serve", "over the socket: {over_socket}");
            assert!(log.contains("will fail after its next restart"), "{log}");
        }
        assert_eq!(server.tcp("sha", PASSWORD, verified).await, ("serve".into(), String::new()));
    }
    // The server cannot distinguish a wrong password from one that it has not cached.
    assert_eq!(server.tcp("sha", "other", &[]).await.0, "needs-tls");
    assert_eq!(server.tcp("sha", "other", verified).await.0, "access-denied");
    server.sql("FLUSH PRIVILEGES");
    let allowed = &["--ssl-mode", "required", "--allow-cleartext-password"];
    assert_eq!(server.tcp("sha", PASSWORD, allowed).await.0, "serve");
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn mysql_accounts_without_a_password_or_with_a_client_certificate_log_in() {
    let server = Server::mysql();
    server.create_account("bare", "IDENTIFIED BY ''");
    assert_eq!(server.tcp("bare", "", &[]).await.0, "serve");
    server.create_account("strict", &format!("IDENTIFIED BY '{PASSWORD}' REQUIRE X509"));
    let [ca, cert, key] = ["ca.pem", "client-cert.pem", "client-key.pem"].map(mysql_file);
    let verified = ["--ssl-mode", "verify-ca", "--ssl-ca", &ca];
    assert_eq!(server.tcp("strict", PASSWORD, &verified).await.0, "access-denied");
    let arguments = [&verified[..], &["--ssl-cert", &cert, "--ssl-key", &key]].concat();
    assert_eq!(server.tcp("strict", PASSWORD, &arguments).await.0, "serve");
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn mysql_auth_socket_accounts_log_in_as_the_system_user() {
    let server = Server::mysql();
    let user = system_user();
    server.sql("INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'");
    for (name, expected) in [(user.as_str(), "serve"), ("nobody", "access-denied")] {
        server.create_account("local", &format!("IDENTIFIED WITH auth_socket AS '{name}'"));
        assert_eq!(server.socket("local", PASSWORD).await.0, expected);
    }
    server.sql("UNINSTALL PLUGIN auth_socket");
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn parsec_and_ed25519_accounts_log_in_only_with_their_password() {
    let server = Server::mariadb();
    for plugin in ["parsec", "ed25519"] {
        server.install(plugin);
        for password in [PASSWORD, "", "with spaces and \u{fc}"] {
            let how = format!("IDENTIFIED VIA {plugin} USING PASSWORD('{password}')");
            server.create_account("signer", &how);
            // MariaDB 11.8 offers TLS by default.
            for arguments in [&[][..], REQUIRED] {
                assert_eq!(server.tcp("signer", password, arguments).await.0, "serve", "{how}");
                let other = server.tcp("signer", "other", arguments).await.0;
                assert_eq!(other, "access-denied", "{how}");
            }
        }
    }
    // The server tries the plugins in order and sends an AuthSwitchRequest for each.
    let wrong = "mysql_native_password USING PASSWORD('wrong') OR ed25519 USING PASSWORD('wrong')";
    server.create_account(
        "signer",
        &format!("IDENTIFIED VIA {wrong} OR parsec USING PASSWORD('{PASSWORD}')"),
    );
    assert_eq!(server.tcp("signer", PASSWORD, &[]).await.0, "serve");
}
