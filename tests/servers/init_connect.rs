//! An account for which the server's init_connect fails. The server accepts the login,
//! refuses the first command and closes the connection.

use super::Server;

/// Probe runs. A reply that is lost now and then shows in this many.
const PROBES: usize = 50;

/// A failing init_connect, until it is dropped.
struct FailingInitConnect(Server);

impl FailingInitConnect {
    fn set(server: Server) -> Self {
        server.sql("SET GLOBAL init_connect='SELECT * FROM no_such'");
        Self(server)
    }
}

impl Drop for FailingInitConnect {
    fn drop(&mut self) {
        self.0.sql("SET GLOBAL init_connect=''");
    }
}

async fn assert_explained(server: Server) {
    server.create_account("initial", "IDENTIFIED BY ''");
    let arguments = &["--ssl-mode", "disabled"];
    assert_eq!(server.tcp("initial", "", arguments).await.0, "serve");
    let failing = FailingInitConnect::set(server);
    for _ in 0..PROBES {
        let (word, log) = failing.0.tcp("initial", "", arguments).await;
        assert_eq!(word, "server-error", "{log}");
        assert!(log.contains("error 1184") && log.contains("its init_connect"), "{log}");
    }
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn mysql_9_is_refused_with_advice() {
    assert_explained(Server::mysql()).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn mariadb_11_8_is_refused_with_advice() {
    assert_explained(Server::mariadb()).await;
}

#[tokio::test]
#[ignore = "needs a real server: tests/servers/run"]
async fn a_galera_node_is_refused_with_advice() {
    assert_explained(Server::galera_node()).await;
}
