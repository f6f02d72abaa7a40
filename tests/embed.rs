//! The example for those who embed the protocol gives the verdicts that the
//! program gives.

#[path = "../examples/embed.rs"]
mod embed;
mod support;

use galera_probe::mysql::{Credentials, Password};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use support::node::{Node, PASSWORD, Script, USER};

/// Asks a stand-in over a real socket; the verdict, or what went wrong.
async fn ask(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(Node::new(script).listen(listener));
    let asked = spawn_blocking(move || {
        let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
        match embed::ask(&address, credentials) {
            Ok(verdict) => verdict.as_str().to_owned(),
            Err(error) => error.to_string(),
        }
    });
    asked.await.unwrap()
}

#[tokio::test]
async fn a_session_over_a_blocking_socket_comes_to_a_verdict() {
    assert_eq!(ask(Script::synced()).await, "serve");
    assert_eq!(ask(Script::donor()).await, "donor");
    let expired = Script { statement_error: Some((1820, "no".into())), ..Script::synced() };
    assert_eq!(ask(expired).await, "a statement was refused: error 1820: no");
    let wrong = Script { password: "another".into(), ..Script::synced() };
    assert!(ask(wrong).await.starts_with("server refused: error 1045: "));
}
