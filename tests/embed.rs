//! `examples/embed.rs` gives the same verdicts as the program.

#[path = "../examples/embed.rs"]
mod embed;
mod support;

use galera_probe::mysql::{Credentials, Password};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use support::node::{Node, PASSWORD, Script, USER};

/// Probes a simulated node over a real socket. Returns the verdict's word, or the error.
async fn probe(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(Node::new(script).listen(listener));
    let result = spawn_blocking(move || {
        let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
        match embed::probe(&address, credentials) {
            Ok(verdict) => verdict.as_str().to_owned(),
            Err(error) => error.to_string(),
        }
    });
    result.await.unwrap()
}

#[tokio::test]
async fn a_session_over_a_blocking_socket_gives_a_verdict() {
    assert_eq!(probe(Script::synced()).await, "serve");
    assert_eq!(probe(Script::donor()).await, "donor");
    let expired = Script { statement_error: Some((1820, "no".into())), ..Script::synced() };
    assert_eq!(probe(expired).await, "statement failed: error 1820: no");
    let wrong = Script { password: "another".into(), ..Script::synced() };
    assert!(probe(wrong).await.starts_with("server refused: error 1045: "));
}
