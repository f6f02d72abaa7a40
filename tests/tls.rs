//! TLS to the node: what each mode asks of it, each way in which it fails, and who
//! stands in between.
#![cfg(feature = "tls")]

mod support;
#[path = "support/tls.rs"]
mod tls;

use std::io;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galera_probe::galera::{Policy, judge};
use galera_probe::health::Role;
use galera_probe::monitor::{Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Deadlines, Probe};
use galera_probe::node::security::Security;
use galera_probe::node::tls::{Check, Files, Identity, Tls};
use galera_probe::node::transport::{Transport, TransportFuture};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

use support::node::{Fault, Node, PASSWORD, Plugin, Script, USER};
use support::wire;
use tls::{Authority, Client, Issued, server, server_of};

/// The word, and what the log says beside it.
async fn ask(node: &dyn Connect) -> (&'static str, String) {
    let login = CredentialSource::fixed(Credentials::new(USER, Password::new(PASSWORD)).unwrap());
    let second = Duration::from_secs(1);
    let deadlines = Deadlines { step: second, whole: 2 * second };
    match Probe::begin(node, &login, deadlines).run().await {
        Ok(Ok(facts)) => {
            (judge(&facts, Policy::default(), Role::ReadWrite).as_str(), String::new())
        }
        Ok(Err(failure)) => (failure.reason().as_str(), failure.to_string()),
        Err(stalled) => (stalled.reason().as_str(), stalled.to_string()),
    }
}

async fn word(tls: support::node::Tls, security: Security) -> &'static str {
    let script = Script { tls: Some(tls), ..Script::synced() };
    ask(&Node::new(script).over(security)).await.0
}

const MODES: [Check; 3] = [Check::Nothing, Check::Ca, Check::Identity];

#[tokio::test(start_paused = true)]
async fn each_mode_asks_what_it_says_and_no_more() {
    let (ours, other) = (Authority::new(), Authority::new());
    for (authority, name, year, expected) in [
        (&ours, "node", 2500, ["serve", "serve", "serve"]),
        (&ours, "elsewhere", 2500, ["serve", "serve", "tls-wrong-name"]),
        (&ours, "node", 2020, ["serve", "tls-expired", "tls-expired"]),
        (&other, "node", 2500, ["serve", "tls-untrusted", "tls-untrusted"]),
    ] {
        let certificate = authority.issue_until(&[name], year);
        for (check, expected) in MODES.into_iter().zip(expected) {
            let ca = (check != Check::Nothing).then_some(&ours);
            let security = Client::new(ca, None).security(check, "node");
            assert_eq!(word(server(&certificate, None), security).await, expected, "{check:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_may_be_an_address() {
    let authority = Authority::new();
    let certificate = authority.issue(&["10.0.0.7", "fd00::7"]);
    for (name, expected) in
        [("10.0.0.7", "serve"), ("fd00::7", "serve"), ("10.0.0.8", "tls-wrong-name")]
    {
        let security = Client::new(Some(&authority), None).security(Check::Identity, name);
        assert_eq!(word(server(&certificate, None), security).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn both_versions_of_tls_are_spoken_and_carry_every_login() {
    let authority = Authority::new();
    let certificate = authority.issue(&["node"]);
    for version in rustls::ALL_VERSIONS {
        for plugin in [None, Some(Plugin::Parsec), Some(Plugin::CachingSha2 { cached: false })] {
            let tls = Some(server_of(&certificate, None, &[version]));
            let node = Node::new(Script { tls, plugin, ..Script::synced() });
            let security = Client::new(Some(&authority), None).security(Check::Identity, "node");
            assert_eq!(ask(&node.over(security)).await.0, "serve", "{version:?}");
        }
    }
}

/// The server names the plugin: whoever is in its place could ask so for any account.
#[tokio::test(start_paused = true)]
async fn only_a_server_that_is_verified_may_have_the_password_itself() {
    let authority = Authority::new();
    let tls = Some(server(&authority.issue(&["node"]), None));
    let plugin = Some(Plugin::CachingSha2 { cached: false });
    for (check, allow_cleartext, expected) in [
        (Check::Nothing, false, "needs-tls"),
        (Check::Nothing, true, "serve"),
        (Check::Ca, false, "serve"),
        (Check::Identity, false, "serve"),
    ] {
        let ca = (check != Check::Nothing).then_some(&authority);
        let security = Client::new(ca, None).security(check, "node");
        let security = Security { allow_cleartext, ..security };
        let node = Node::new(Script { tls: tls.clone(), plugin, ..Script::synced() });
        assert_eq!(ask(&node.over(security)).await.0, expected, "{check:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_a_certificate_gets_the_one_that_was_given() {
    let (ours, other) = (Authority::new(), Authority::new());
    let certificate = ours.issue(&["node"]);
    for version in rustls::ALL_VERSIONS {
        for (shown, expected) in [
            (Some(ours.issue(&["probe"])), "serve"),
            (Some(other.issue(&["probe"])), "tls-refused"),
            (None, "tls-refused"),
        ] {
            let security = Client::new(None, shown.as_ref()).security(Check::Nothing, "node");
            let server = server_of(&certificate, Some(&ours), &[version]);
            assert_eq!(word(server, security).await, expected, "{version:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_fault_says_what_to_do() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = |issued| Some(server(&issued, None));
    for (tls, expected, advice) in [
        (None, "tls-not-offered", "--ssl-mode disabled"),
        (server(other.issue(&["node"])), "tls-untrusted", "--ssl-ca"),
        (server(ours.issue_until(&["node"], 2020)), "tls-expired", "renew"),
        (server(ours.issue(&["elsewhere"])), "tls-wrong-name", "--ssl-server-name"),
    ] {
        let security = Client::new(Some(&ours), None).security(Check::Identity, "node");
        let node = Node::new(Script { tls, ..Script::synced() }).over(security);
        let (word, log) = ask(&node).await;
        assert_eq!(word, expected);
        assert!(log.contains(advice), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_certificate_holds_reaches_the_log_bounded_and_printable() {
    let authority = Authority::new();
    let names: Vec<_> = (0..100).map(|n| format!("name-{n}.example")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let tls = Some(server(&authority.issue(&names), None));
    let security = Client::new(Some(&authority), None).security(Check::Identity, "node");
    let (word, log) = ask(&Node::new(Script { tls, ..Script::synced() }).over(security)).await;
    assert_eq!(word, "tls-wrong-name");
    assert!(log.len() < 400 && log.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{log}");
}

#[tokio::test(start_paused = true)]
async fn the_password_itself_is_never_asked_for_over_plain_tcp() {
    let script = Script { plugin: Some(Plugin::CachingSha2 { cached: false }), ..Script::synced() };
    assert_eq!(ask(&Node::new(script.clone())).await.0, "needs-tls");
    let socket = Security { is_socket: true, ..Security::default() };
    assert_eq!(ask(&Node::new(script).over(socket)).await.0, "serve");
}

/// Stands between the probe and the node. Whatever the probe says is written down.
struct Between {
    node: Node,
    what: Meddling,
    heard: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone, Copy, Debug)]
enum Meddling {
    /// Takes the offer of TLS out of the greeting.
    Strips,
    /// Puts an OK behind the greeting, where TLS cannot protect it.
    Injects,
    /// Answers SSLRequest in plain text, as if the login were done.
    Answers,
    /// The same with an error.
    Refuses,
}

impl Connect for Between {
    fn connect(&self, budget: Duration) -> TransportFuture {
        let (what, heard) = (self.what, Arc::clone(&self.heard));
        let opening = self.node.connect(budget);
        Box::pin(async move {
            let node = opening.await?;
            let (client, probe) = duplex(4096);
            tokio::spawn(meddle(what, node, probe, heard));
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }

    fn security(&self) -> Security {
        self.node.security()
    }
}

async fn meddle(
    what: Meddling,
    mut node: Box<dyn Transport>,
    mut probe: DuplexStream,
    heard: Arc<Mutex<Vec<u8>>>,
) -> io::Result<()> {
    let (_, mut greeting) = wire::read_packet(&mut node).await?;
    if let Meddling::Strips = what {
        greeting.clone_from(&wire::greeting_of(false)[4..].to_vec());
    }
    let mut first = wire::packet(0, &greeting);
    if let Meddling::Injects = what {
        first.extend(wire::ok(2));
    }
    probe.write_all(&first).await?;
    let mut bytes = [0; 4096];
    let mut said = false;
    loop {
        let length = probe.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        heard.lock().unwrap().extend(&bytes[..length]);
        if !std::mem::replace(&mut said, true) {
            match what {
                Meddling::Answers => probe.write_all(&wire::ok(2)).await?,
                Meddling::Refuses => probe.write_all(&wire::err(2, 1045, "no")).await?,
                Meddling::Strips | Meddling::Injects => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_stands_between_gets_no_login_no_user_and_no_password() {
    let authority = Authority::new();
    let certificate = authority.issue(&["node"]);
    for check in MODES {
        for (what, expected, said) in [
            (Meddling::Strips, "tls-not-offered", 0..=0),
            (Meddling::Injects, "protocol-error", 0..=0),
            // SSLRequest, and the beginning of a handshake.
            (Meddling::Answers, "tls-failed", 36..=400),
            (Meddling::Refuses, "tls-failed", 36..=400),
        ] {
            let ca = (check != Check::Nothing).then_some(&authority);
            let security = Client::new(ca, None).security(check, "node");
            let tls = Some(server(&certificate, None));
            let node = Node::new(Script { tls, ..Script::synced() }).over(security);
            let heard = Arc::default();
            let between = Between { node: node.clone(), what, heard: Arc::clone(&heard) };
            assert_eq!(ask(&between).await.0, expected, "{what:?}");
            let heard = heard.lock().unwrap();
            assert!(said.contains(&heard.len()), "{what:?}: {} bytes", heard.len());
            let name = USER.as_bytes();
            assert!(!heard.windows(name.len()).any(|part| part == name), "{what:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_shows_a_certificate_of_his_own_learns_neither_user_nor_password() {
    let (ours, his) = (Authority::new(), Authority::new());
    for check in [Check::Ca, Check::Identity] {
        let tls = Some(server(&his.issue(&["node"]), None));
        let security = Client::new(Some(&ours), None).security(check, "node");
        let node = Node::new(Script { tls, ..Script::synced() }).over(security);
        assert_eq!(ask(&node).await.0, "tls-untrusted");
        // Inside of TLS nothing came to the server.
        assert_eq!(node.seen.logins.load(SeqCst), 0);
    }
}

fn settings() -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        credentials: CredentialSource::fixed(
            Credentials::new(USER, Password::new(PASSWORD)).unwrap(),
        ),
        deadlines: Deadlines { step: second, whole: 2 * second },
        policy: Policy::default(),
        timing: Timing { max_age: second, ..Timing::default() },
    }
}

fn start(node: &Node) -> Handle {
    start_with(node, settings())
}

fn start_with(node: &Node, settings: Settings) -> Handle {
    let (monitor, handle) = Monitor::new(node.clone(), settings);
    tokio::spawn(monitor.run());
    handle
}

/// Each is an unfinished handshake for the server: 5 s after the first, then ever
/// less often.
#[tokio::test(start_paused = true)]
async fn an_hour_of_askers_a_second_before_a_node_with_each_fault_costs_ten_connections() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = |issued: &Issued| Some(server(issued, None));
    let asks_for_clients = Some(tls::server(&ours.issue(&["node"]), Some(&other)));
    for (tls, expected) in [
        (None, "tls-not-offered"),
        (server(&other.issue(&["node"])), "tls-untrusted"),
        (server(&ours.issue_until(&["node"], 2020)), "tls-expired"),
        (server(&ours.issue(&["elsewhere"])), "tls-wrong-name"),
        (asks_for_clients, "tls-refused"),
    ] {
        let security = Client::new(Some(&ours), None).security(Check::Identity, "node");
        let node = Node::new(Script { tls, ..Script::synced() }).over(security);
        let handle = start(&node);
        for _ in 0..3600 {
            assert_eq!(handle.health(Role::ReadWrite).await.verdict.as_str(), expected);
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(node.seen.connections.load(SeqCst), 10, "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_freezes_at_any_byte_of_tls_is_held_and_its_login_completed_when_it_wakes() {
    let authority = Authority::new();
    let tls = Some(server(&authority.issue(&["node"]), None));
    let security = Client::new(Some(&authority), None).security(Check::Identity, "node");
    let healthy = Script { tls, ..Script::synced() };
    let greeting = wire::greeting_of(true).len();
    for byte in greeting..greeting + 300 {
        let frozen = Script { fault: Fault::FreezeAfter(byte), ..healthy.clone() };
        let node = Node::new(frozen).over(security.clone());
        let handle = start(&node);
        assert_eq!(handle.health(Role::ReadWrite).await.verdict.as_str(), "stalled-tls", "{byte}");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(handle.health(Role::ReadWrite).await.verdict.as_str(), "stalled-tls", "{byte}");
        node.set_script(healthy.clone());
        while handle.health(Role::ReadWrite).await.verdict.as_str() != "serve" {
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(node.seen.unfinished(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_kept_over_tls_is_asked_again_until_the_certificates_change() {
    let authority = Authority::new();
    let tls = Some(server(&authority.issue(&["node"]), None));
    let client = Client::new(Some(&authority), None);
    let security = client.security(Check::Identity, "node");
    let node = Node::new(Script { tls, ..Script::synced() }).over(security);
    let second = Duration::from_secs(1);
    let timing = Timing { keep_connection: u32::MAX * second, ..Timing::default() };
    let handle = start_with(&node, Settings { timing, ..settings() });
    for _ in 0..100 {
        assert_eq!(handle.health(Role::ReadWrite).await.verdict.as_str(), "serve");
        sleep(second).await;
        let seen = [&node.seen.connections, &node.seen.quits].map(|seen| seen.load(SeqCst));
        assert_eq!(seen, [1, 0]);
    }
    let other = Authority::new().certificate;
    std::fs::write(client.path().join("ca.pem"), other).unwrap();
    // The clock moves on while a thread reads the file.
    let began = std::time::Instant::now();
    while handle.health(Role::ReadWrite).await.verdict.as_str() == "serve" {
        assert!(began.elapsed() < 10 * second, "the old certificates serve on");
        sleep(second).await;
    }
    let seen = [&node.seen.connections, &node.seen.quits].map(|seen| seen.load(SeqCst));
    assert_eq!(seen, [2, 1]);
}

/// The clock stands still, as long as this task has something to do: nothing else
/// ends the back-off.
#[tokio::test(start_paused = true)]
async fn certificates_that_were_mended_end_the_back_off() {
    let (ours, other) = (Authority::new(), Authority::new());
    let tls = Some(server(&ours.issue(&["node"]), None));
    let client = Client::new(Some(&other), None);
    let node = Node::new(Script { tls, ..Script::synced() })
        .over(client.security(Check::Identity, "node"));
    let handle = start(&node);
    let ask = async || handle.health(Role::ReadWrite).await.verdict.as_str();
    assert_eq!(ask().await, "tls-untrusted");
    std::fs::write(client.path().join("ca.pem"), &ours.certificate).unwrap();
    // The files are looked at every five seconds, beside a handshake that may have the
    // old ones yet.
    sleep(Duration::from_secs(5)).await;
    ask().await;
    while handle.report().await.back_off.is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask().await, "serve");
    assert!(node.seen.connections.load(SeqCst) <= 3);
}

#[test]
fn files_that_cannot_be_used_are_refused_with_the_flag_and_the_fix() {
    let (ours, other) = (Authority::new(), Authority::new());
    let client = Client::new(Some(&ours), Some(&ours.issue(&["probe"])));
    let path = |name: &str, text: &[u8]| {
        let path = client.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let Files { ca, identity } = client.files.clone();
    let Identity { certificate, key } = identity.unwrap();
    let other_key = path("other.pem", other.issue(&["probe"]).key.as_bytes());
    let empty = path("empty.pem", b"");
    let huge = path("huge.pem", &vec![b'x'; 1024 * 1024 + 1]);
    let missing = client.path().join("missing.pem");
    let identity =
        |certificate, key| Files { ca: ca.clone(), identity: Some(Identity { certificate, key }) };
    for (files, expected) in [
        (Files { ca: Some(empty.clone()), identity: None }, ["--ssl-ca", "no PEM certificate"]),
        (Files { ca: Some(missing.clone()), identity: None }, ["--ssl-ca", "cannot be read"]),
        (Files { ca: Some(huge), identity: None }, ["--ssl-ca", "over 1 MiB"]),
        (Files { ca: Some(key.clone()), identity: None }, ["--ssl-ca", "no PEM certificate"]),
        (identity(empty.clone(), key.clone()), ["--ssl-cert", "no PEM certificate"]),
        (identity(certificate.clone(), empty), ["--ssl-key", "no PEM key"]),
        (identity(certificate.clone(), missing), ["--ssl-key", "cannot be read"]),
        (identity(certificate, other_key), ["--ssl-cert and --ssl-key", "do not go together"]),
    ] {
        let error = Tls::new(Check::Ca, "node".try_into().unwrap(), files).unwrap_err();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    }
}
