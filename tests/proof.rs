//! The server's proof of its certificate by the account's password (`--ssl-mode
//! verify-password`): which servers are served or refused, and what an impostor learns.
#![cfg(feature = "tls")]

#[path = "support/relay.rs"]
mod relay;
mod support;
#[path = "support/tls.rs"]
mod tls;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use galera_probe::galera::{Policy, judge};
use galera_probe::health::Role;
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Answer, Deadlines, LoginNotice, Probe, Questions};
use galera_probe::node::security::Security;
use galera_probe::node::tls::Check;
use galera_probe::node::transport::{Transport, TransportFuture};
use tokio::io::duplex;

use relay::{Learnt, assert_only_a_login, relay};
use support::node::{Node, PASSWORD, Plugin, Script, USER};
use tls::{Authority, Client, Issued, fingerprint, server, server_of};

/// Runs one probe with the account's password.
async fn probe(node: &dyn Connect) -> (&'static str, Option<LoginNotice>, String) {
    probe_with(node, PASSWORD).await
}

/// Runs one probe. Returns the word, the notice about the login, and the failure's text.
async fn probe_with(
    node: &dyn Connect,
    password: &str,
) -> (&'static str, Option<LoginNotice>, String) {
    let source = CredentialSource::fixed(Credentials::new(USER, Password::new(password)).unwrap());
    let second = Duration::from_secs(1);
    let deadlines = Deadlines { step: second, whole: 2 * second };
    let mut probe = Probe::begin(node, &source, deadlines, Questions::default());
    let outcome = probe.run().await;
    let notice = probe.login_notice();
    drop(probe);
    // Lets the node's tasks run until they are idle.
    tokio::time::sleep(second).await;
    match outcome {
        Ok(Ok(Answer { facts, .. })) => {
            let word = judge(&facts, Policy::default(), Role::ReadWrite).as_str();
            (word, notice, String::new())
        }
        Ok(Err(failure)) => (failure.reason().as_str(), notice, failure.to_string()),
        Err(stalled) => (stalled.reason().as_str(), notice, stalled.to_string()),
    }
}

fn security(check: Check) -> Security {
    Client::new(None, None).security(check, "node")
}

/// A node with this certificate, which proves the certificate with this fingerprint.
fn node(check: Check, issued: &Issued, proves: Option<[u8; 32]>) -> Node {
    let script = Script { tls: Some(server(issued, None)), proves, ..Script::synced() };
    Node::new(script).over(security(check))
}

fn self_signed() -> Issued {
    Authority::new().issue(&["any name"])
}

#[tokio::test(start_paused = true)]
async fn a_server_that_proves_its_certificate_serves_without_a_ca() {
    let issued = self_signed();
    for version in rustls::ALL_VERSIONS {
        for switch in [false, true] {
            let tls = Some(server_of(&issued, None, &[version]));
            let proves = Some(fingerprint(&issued));
            let script = Script { tls, proves, switch, ..Script::synced() };
            let node = Node::new(script).over(security(Check::Password));
            assert_eq!(probe(&node).await, ("serve", None, String::new()));
            assert_eq!(node.seen.quits.load(SeqCst), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_proof_gets_no_statement() {
    let issued = self_signed();
    let node = node(Check::Password, &issued, None);
    let (word, _, text) = probe(&node).await;
    assert_eq!(word, "tls-no-proof");
    assert!(text.contains("MariaDB 11.4") && text.contains("--ssl-fingerprint"), "{text}");
    let seen = &node.seen;
    assert_eq!((seen.statements.load(SeqCst), seen.quits.load(SeqCst)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_account_without_a_password_proves_nothing() {
    let issued = self_signed();
    let tls = Some(server(&issued, None));
    let password = String::new();
    let script = Script { tls, password, proves: Some(fingerprint(&issued)), ..Script::synced() };
    let node = Node::new(script).over(security(Check::Password));
    assert_eq!(probe_with(&node, "").await.0, "tls-no-proof");
}

#[tokio::test(start_paused = true)]
async fn required_checks_a_proof_that_is_offered_and_names_the_better_mode() {
    let issued = self_signed();
    for (proves, word, notice) in [
        (None, "serve", None),
        (Some(fingerprint(&issued)), "serve", Some(LoginNotice::IsProven)),
        (Some([7; 32]), "tls-false-proof", None),
    ] {
        let node = node(Check::Nothing, &issued, proves);
        let (found, found_notice, _) = probe(&node).await;
        assert_eq!((found, found_notice), (word, notice));
    }
}

/// The man in the middle relays a login between the probe and the node.
struct Relayed {
    node: Node,
    issued: Issued,
    learnt: Learnt,
}

impl Connect for Relayed {
    fn connect(&self, budget: Duration) -> TransportFuture {
        let opening = self.node.connect(budget);
        let Issued { certificate, key } = &self.issued;
        let issued = Issued { certificate: certificate.clone(), key: key.clone() };
        let learnt = Arc::clone(&self.learnt);
        Box::pin(async move {
            let server = opening.await?;
            let (client, probe) = duplex(4096);
            tokio::spawn(relay(probe, server, issued, learnt));
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }

    fn security(&self) -> Security {
        self.node.security()
    }
}

#[tokio::test(start_paused = true)]
async fn a_man_in_the_middle_who_relays_the_login_is_refused_and_learns_only_the_login() {
    let issued = self_signed();
    for check in [Check::Password, Check::Nothing] {
        let node = node(check, &issued, Some(fingerprint(&issued)));
        let relayed = Relayed { node, issued: self_signed(), learnt: Learnt::default() };
        let (word, notice, text) = probe(&relayed).await;
        assert_eq!((word, notice), ("tls-false-proof", None));
        assert!(text.contains("relays the login"), "{text}");
        assert_only_a_login(&relayed.learnt, USER, PASSWORD);
        let seen = &relayed.node.seen;
        assert_eq!((seen.statements.load(SeqCst), seen.logins.load(SeqCst)), (0, 1));
    }
}

/// The certificate is public; its key is not.
#[tokio::test(start_paused = true)]
async fn a_man_in_the_middle_with_the_servers_certificate_lacks_its_key() {
    let issued = self_signed();
    let impostor = Issued { key: self_signed().key, certificate: issued.certificate.clone() };
    for version in rustls::ALL_VERSIONS {
        let tls = Some(server_of(&impostor, None, &[version]));
        let script = Script { tls, proves: Some(fingerprint(&issued)), ..Script::synced() };
        let node = Node::new(script).over(security(Check::Password));
        assert_eq!(probe(&node).await.0, "tls-untrusted", "{version:?}");
        assert_eq!(node.seen.logins.load(SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_cleartext_password_is_never_sent_to_a_server_that_has_yet_to_prove_itself() {
    let issued = self_signed();
    for allow_cleartext in [false, true] {
        let tls = Some(server(&issued, None));
        let plugin = Some(Plugin::CachingSha2 { cached: false });
        let script = Script { tls, plugin, proves: Some(fingerprint(&issued)), ..Script::synced() };
        let security = Security { allow_cleartext, ..security(Check::Password) };
        let node = Node::new(script).over(security);
        assert_eq!(probe(&node).await.0, "needs-tls");
        assert_eq!(node.seen.logins.load(SeqCst), 0);
    }
}
