//! TLS to the node: what each mode verifies, how each failure is reported, and what an
//! attacker on the network can learn.
#![cfg(feature = "tls")]

mod support;
#[path = "support/tls.rs"]
mod tls;

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galera_probe::galera::{Policy, judge};
use galera_probe::health::Role;
use galera_probe::monitor::{Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Answer, Deadlines, Probe, Questions};
use galera_probe::node::security::Security;
use galera_probe::node::tls::{Check, Files, Fingerprint, Identity, Tls};
use galera_probe::node::transport::{Transport, TransportFuture};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

use support::node::{Fault, Node, PASSWORD, Plugin, Script, USER};
use support::wire;
use tls::{Authority, Client, Issued, server, server_of, server_with};

/// Runs one probe. Returns `serve` or the reason, and the text of the failure.
async fn probe(node: &dyn Connect) -> (&'static str, String) {
    let source = CredentialSource::fixed(Credentials::new(USER, Password::new(PASSWORD)).unwrap());
    let second = Duration::from_secs(1);
    let deadlines = Deadlines { step: second, whole: 2 * second };
    match Probe::begin(node, &source, deadlines, Questions::default()).run().await {
        Ok(Ok(Answer { facts, .. })) => {
            (judge(&facts, Policy::default(), Role::ReadWrite).as_str(), String::new())
        }
        Ok(Err(failure)) => (failure.reason().as_str(), failure.to_string()),
        Err(stalled) => (stalled.reason().as_str(), stalled.to_string()),
    }
}

/// The verdict on a node with this side of TLS, probed with this security.
async fn verdict(tls: support::node::Tls, security: Security) -> &'static str {
    let script = Script { tls: Some(tls), ..Script::synced() };
    probe(&Node::new(script).over(security)).await.0
}

const MODES: [Check; 3] = [Check::Nothing, Check::Ca, Check::Identity];

#[tokio::test(start_paused = true)]
async fn each_mode_verifies_what_it_promises_and_no_more() {
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
            let security = Client::new(ca, None).security(check.clone(), "node");
            assert_eq!(verdict(server(&certificate, None), security).await, expected, "{check:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_its_own_ca_is_accepted_in_its_dates_for_its_names() {
    let years = [2000, 2500];
    let same = Authority::named(&["node"], years);
    for (server, ca, expected) in [
        (same.itself(), &same, ["serve", "serve"]),
        (same.issue(&["node"]), &same, ["serve", "serve"]),
        (same.issue_ca(&["node"]), &same, ["tls-untrusted", "tls-untrusted"]),
        (Authority::named(&["node"], years).itself(), &same, ["tls-untrusted", "tls-untrusted"]),
        (same.itself(), &Authority::new(), ["tls-untrusted", "tls-untrusted"]),
    ] {
        assert_eq!(verdicts(&server, ca).await, expected);
    }
    for (names, years, expected) in [
        (&["10.0.0.7", "node"][..], years, ["serve", "serve"]),
        (&["elsewhere"], years, ["serve", "tls-wrong-name"]),
        (&[], years, ["serve", "tls-wrong-name"]),
        (&["node"], [2000, 2020], ["tls-expired", "tls-expired"]),
        (&["node"], [2400, 2500], ["tls-expired", "tls-expired"]),
        (&["elsewhere"], [2000, 2020], ["tls-expired", "tls-expired"]),
    ] {
        let ca = Authority::named(names, years);
        assert_eq!(verdicts(&ca.itself(), &ca).await, expected, "{names:?} {years:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_with_the_fingerprint_is_accepted_whatever_its_ca_names_and_dates() {
    let authority = Authority::new();
    let plain = authority.issue(&["node"]);
    let next = authority.issue(&["node"]).fingerprint();
    for certificate in [
        authority.issue(&["elsewhere"]),
        authority.issue_until(&["node"], 2020),
        Authority::named(&["node"], [2400, 2500]).itself(),
        authority.issue_ca(&[]),
    ] {
        let fingerprint = certificate.fingerprint();
        for (server, pinned, expected) in [
            (&certificate, vec![fingerprint], "serve"),
            (&certificate, vec![next, fingerprint], "serve"),
            (&certificate, vec![next], "tls-untrusted"),
            (&certificate, vec![], "tls-untrusted"),
            (&plain, vec![fingerprint], "tls-untrusted"),
        ] {
            let security = Client::new(None, None).security(Check::Fingerprint(pinned), "node");
            assert_eq!(verdict(tls::server(server, None), security).await, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_x509_version_1_needs_its_fingerprint() {
    let authority = Authority::new();
    // Long enough for lengths of two bytes.
    let issued = authority.issue(&["node", &"long-name.".repeat(20)]);
    let old = issued.as_version_1();
    for version in rustls::ALL_VERSIONS {
        for (check, key, expected, advice) in [
            (Check::Nothing, &issued.key, "serve", ""),
            (Check::Fingerprint(vec![Fingerprint::of(&old)]), &issued.key, "serve", ""),
            (
                Check::Fingerprint(vec![Fingerprint::of(&old)]),
                &authority.issue(&["node"]).key,
                "tls-untrusted",
                "impostor",
            ),
            (Check::Ca, &issued.key, "tls-untrusted", "version 3"),
            (Check::Identity, &issued.key, "tls-untrusted", "version 3"),
        ] {
            let security = Client::new(Some(&authority), None).security(check.clone(), "node");
            let tls = Some(server_with(old.clone(), key, None, &[version]));
            let node = Node::new(Script { tls, ..Script::synced() }).over(security);
            let (verdict, log) = probe(&node).await;
            assert_eq!(verdict, expected, "{check:?} {log}");
            assert!(log.contains(advice), "{log}");
        }
    }
}

/// Where OpenSSL is not installed, the certificate is rcgen's.
#[tokio::test(start_paused = true)]
async fn the_certificate_of_openssl_req_x509_is_accepted_as_its_own_ca() {
    let ca = Authority::named(&["node"], [2000, 2500]);
    let client = Client::new(Some(&ca), Some(&ca.itself()));
    let [certificate, key] = ["ca.pem", "key.pem"].map(|name| client.path().join(name));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=node", "-addext", "subjectAltName=DNS:node"])
        .args([Path::new("-out"), &certificate, Path::new("-keyout"), &key])
        .output();
    assert!(made.is_err() || made.is_ok_and(|made| made.status.success()));
    let [certificate, key] = [certificate, key].map(|path| fs::read_to_string(path).unwrap());
    let client = Client { files: Files { identity: None, ..client.files }, ..client };
    for (check, name, expected) in [
        (Check::Ca, "elsewhere", "serve"),
        (Check::Identity, "node", "serve"),
        (Check::Identity, "elsewhere", "tls-wrong-name"),
    ] {
        let issued = Issued { certificate: certificate.clone(), key: key.clone() };
        let security = client.security(check.clone(), name);
        assert_eq!(verdict(server(&issued, None), security).await, expected, "{check:?} {name}");
    }
}

/// The verdicts of `verify-ca` and `verify-identity` on a server with this certificate, for
/// this `--ssl-ca`.
async fn verdicts(server: &Issued, ca: &Authority) -> [&'static str; 2] {
    let verdict = async |check| {
        let security = Client::new(Some(ca), None).security(check, "node");
        verdict(tls::server(server, None), security).await
    };
    [verdict(Check::Ca).await, verdict(Check::Identity).await]
}

/// Anyone can present the node's certificate, which is public.
#[tokio::test(start_paused = true)]
async fn a_server_without_the_key_of_its_certificate_is_refused_in_each_mode_but_required() {
    let ca = Authority::named(&["node"], [2000, 2500]);
    let Issued { key, .. } = Authority::new().itself();
    for certificate in [ca.issue(&["node"]).certificate, ca.certificate.clone()] {
        let impostor = Issued { certificate, key: key.clone() };
        for version in rustls::ALL_VERSIONS {
            for (check, expected) in [
                (Check::Nothing, "serve"),
                (Check::Fingerprint(vec![impostor.fingerprint()]), "tls-untrusted"),
                (Check::Password, "tls-untrusted"),
                (Check::Ca, "tls-untrusted"),
                (Check::Identity, "tls-untrusted"),
            ] {
                let security = Client::new(Some(&ca), None).security(check.clone(), "node");
                let server = server_of(&impostor, None, &[version]);
                assert_eq!(verdict(server, security).await, expected, "{check:?} {version:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_ip_address_is_verified_against_the_certificate() {
    let authority = Authority::new();
    let certificate = authority.issue(&["10.0.0.7", "fd00::7"]);
    for (name, expected) in
        [("10.0.0.7", "serve"), ("fd00::7", "serve"), ("10.0.0.8", "tls-wrong-name")]
    {
        let security = Client::new(Some(&authority), None).security(Check::Identity, name);
        assert_eq!(verdict(server(&certificate, None), security).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn every_login_works_over_both_tls_versions() {
    let authority = Authority::new();
    let certificate = authority.issue(&["node"]);
    for version in rustls::ALL_VERSIONS {
        for plugin in [None, Some(Plugin::Parsec), Some(Plugin::CachingSha2 { cached: false })] {
            let tls = Some(server_of(&certificate, None, &[version]));
            let node = Node::new(Script { tls, plugin, ..Script::synced() });
            let security = Client::new(Some(&authority), None).security(Check::Identity, "node");
            assert_eq!(probe(&node.over(security)).await.0, "serve", "{version:?}");
        }
    }
}

/// The server chooses the plugin. An attacker in its place could choose one that sends the
/// password itself, for any account.
#[tokio::test(start_paused = true)]
async fn sends_the_password_itself_only_to_a_verified_server_or_if_allowed() {
    let authority = Authority::new();
    let certificate = authority.issue(&["node"]);
    let tls = Some(server(&certificate, None));
    let plugin = Some(Plugin::CachingSha2 { cached: false });
    for (check, allow_cleartext, expected) in [
        (Check::Nothing, false, "needs-tls"),
        (Check::Nothing, true, "serve"),
        (Check::Fingerprint(vec![certificate.fingerprint()]), false, "serve"),
        (Check::Password, false, "needs-tls"),
        (Check::Ca, false, "serve"),
        (Check::Identity, false, "serve"),
    ] {
        let security = Client::new(Some(&authority), None).security(check.clone(), "node");
        let security = Security { allow_cleartext, ..security };
        let node = Node::new(Script { tls: tls.clone(), plugin, ..Script::synced() });
        assert_eq!(probe(&node.over(security)).await.0, expected, "{check:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sends_the_configured_client_certificate_to_a_server_that_requires_one() {
    let (ours, other) = (Authority::new(), Authority::new());
    let certificate = ours.issue(&["node"]);
    for version in rustls::ALL_VERSIONS {
        for (client, expected) in [
            (Some(ours.issue(&["probe"])), "serve"),
            (Some(other.issue(&["probe"])), "tls-refused"),
            (None, "tls-refused"),
        ] {
            let security = Client::new(None, client.as_ref()).security(Check::Nothing, "node");
            let server = server_of(&certificate, Some(&ours), &[version]);
            assert_eq!(verdict(server, security).await, expected, "{version:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_failure_text_names_the_fix() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = |issued| Some(server(&issued, None));
    for (tls, expected, advice) in [
        (None, "tls-not-offered", "--ssl-mode disabled"),
        (server(other.itself()), "tls-untrusted", "name it in --ssl-ca itself"),
        (server(other.issue(&["node"])), "tls-untrusted", "--ssl-ca"),
        (server(ours.issue_until(&["node"], 2020)), "tls-expired", "renew"),
        (server(ours.issue(&["elsewhere"])), "tls-wrong-name", "--ssl-server-name"),
    ] {
        let security = Client::new(Some(&ours), None).security(Check::Identity, "node");
        let node = Node::new(Script { tls, ..Script::synced() }).over(security);
        let (verdict, log) = probe(&node).await;
        assert_eq!(verdict, expected);
        assert!(log.contains(advice), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_fingerprint_is_reported_with_the_one_that_the_server_presented() {
    let authority = Authority::new();
    let [old, new] = [authority.issue(&["node"]), authority.issue(&["node"])];
    let check = Check::Fingerprint(vec![old.fingerprint()]);
    let security = Client::new(None, None).security(check, "node");
    let script = Script { tls: Some(server(&new, None)), ..Script::synced() };
    let (verdict, log) = probe(&Node::new(script).over(security)).await;
    assert_eq!(verdict, "tls-untrusted");
    assert!(log.contains(&new.fingerprint().to_string()), "{log}");
    assert!(log.ends_with("give it in --ssl-fingerprint"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn certificate_contents_in_the_log_are_bounded_and_printable() {
    let authority = Authority::new();
    let names: Vec<_> = (0..100).map(|n| format!("name-{n}.example")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let tls = Some(server(&authority.issue(&names), None));
    let security = Client::new(Some(&authority), None).security(Check::Identity, "node");
    let (verdict, log) = probe(&Node::new(Script { tls, ..Script::synced() }).over(security)).await;
    assert_eq!(verdict, "tls-wrong-name");
    assert!(log.len() < 400 && log.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{log}");
}

#[tokio::test(start_paused = true)]
async fn never_sends_the_password_itself_over_plain_tcp() {
    let script = Script { plugin: Some(Plugin::CachingSha2 { cached: false }), ..Script::synced() };
    assert_eq!(probe(&Node::new(script.clone())).await.0, "needs-tls");
    let socket = Security { is_unix_socket: true, ..Security::default() };
    assert_eq!(probe(&Node::new(script).over(socket)).await.0, "serve");
}

/// An attacker between the probe and the node. It records what the probe sends.
struct Attacker {
    node: Node,
    attack: Attack,
    received: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone, Copy, Debug)]
enum Attack {
    /// Removes the offer of TLS from the greeting.
    StripTls,
    /// Appends an OK packet to the greeting, before TLS protects the stream.
    InjectOk,
    /// Answers SSLRequest with an OK packet in plain text, as if the login were complete.
    AnswerOk,
    /// Answers SSLRequest with an ERR packet in plain text.
    AnswerErr,
}

impl Connect for Attacker {
    fn connect(&self, budget: Duration) -> TransportFuture {
        let (attack, received) = (self.attack, Arc::clone(&self.received));
        let opening = self.node.connect(budget);
        Box::pin(async move {
            let node = opening.await?;
            let (client, probe) = duplex(4096);
            tokio::spawn(run_attack(attack, node, probe, received));
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }

    fn security(&self) -> Security {
        self.node.security()
    }
}

async fn run_attack(
    attack: Attack,
    mut node: Box<dyn Transport>,
    mut probe: DuplexStream,
    received: Arc<Mutex<Vec<u8>>>,
) -> io::Result<()> {
    let (_, mut greeting) = wire::read_packet(&mut node).await?;
    if let Attack::StripTls = attack {
        greeting.clone_from(&wire::greeting_of(false)[4..].to_vec());
    }
    let mut first = wire::packet(0, &greeting);
    if let Attack::InjectOk = attack {
        first.extend(wire::ok(2));
    }
    probe.write_all(&first).await?;
    let mut bytes = [0; 4096];
    let mut has_answered = false;
    loop {
        let length = probe.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        received.lock().unwrap().extend(&bytes[..length]);
        if !std::mem::replace(&mut has_answered, true) {
            match attack {
                Attack::AnswerOk => probe.write_all(&wire::ok(2)).await?,
                Attack::AnswerErr => probe.write_all(&wire::err(2, 1045, "no")).await?,
                Attack::StripTls | Attack::InjectOk => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attacker_on_the_network_learns_neither_user_nor_password() {
    let authority = Authority::new();
    let certificate = authority.issue(&["node"]);
    let pinned = Check::Fingerprint(vec![certificate.fingerprint()]);
    for check in MODES.into_iter().chain([Check::Password, pinned]) {
        for (attack, expected, length) in [
            (Attack::StripTls, "tls-not-offered", 0..=0),
            (Attack::InjectOk, "protocol-error", 0..=0),
            // SSLRequest and the TLS ClientHello.
            (Attack::AnswerOk, "tls-failed", 36..=400),
            (Attack::AnswerErr, "tls-failed", 36..=400),
        ] {
            let security = Client::new(Some(&authority), None).security(check.clone(), "node");
            let tls = Some(server(&certificate, None));
            let node = Node::new(Script { tls, ..Script::synced() }).over(security);
            let received = Arc::default();
            let attacker = Attacker { node, attack, received: Arc::clone(&received) };
            assert_eq!(probe(&attacker).await.0, expected, "{attack:?}");
            let received = received.lock().unwrap();
            assert!(length.contains(&received.len()), "{attack:?}: {} bytes", received.len());
            let user = USER.as_bytes();
            assert!(!received.windows(user.len()).any(|part| part == user), "{attack:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_untrusted_server_learns_neither_user_nor_password() {
    let (ours, other) = (Authority::new(), Authority::new());
    let pinned = Check::Fingerprint(vec![ours.issue(&["node"]).fingerprint()]);
    for check in [pinned, Check::Ca, Check::Identity] {
        let tls = Some(server(&other.issue(&["node"]), None));
        let security = Client::new(Some(&ours), None).security(check, "node");
        let node = Node::new(Script { tls, ..Script::synced() }).over(security);
        assert_eq!(probe(&node).await.0, "tls-untrusted");
        // The server received nothing inside TLS.
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

/// The server counts each connection as an unfinished handshake: 18 in the first quarter of
/// an hour.
#[tokio::test(start_paused = true)]
async fn an_hour_of_requests_every_second_costs_23_connections_for_each_tls_failure() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = |issued: &Issued| Some(server(issued, None));
    let requires_certificate = Some(tls::server(&ours.issue(&["node"]), Some(&other)));
    for (tls, expected) in [
        (None, "tls-not-offered"),
        (server(&other.issue(&["node"])), "tls-untrusted"),
        (server(&ours.issue_until(&["node"], 2020)), "tls-expired"),
        (server(&ours.issue(&["elsewhere"])), "tls-wrong-name"),
        (requires_certificate, "tls-refused"),
    ] {
        let security = Client::new(Some(&ours), None).security(Check::Identity, "node");
        let node = Node::new(Script { tls, ..Script::synced() }).over(security);
        let handle = start(&node);
        for _ in 0..3600 {
            assert_eq!(handle.health(Role::ReadWrite).await.verdict.as_str(), expected);
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(node.seen.connections.load(SeqCst), 23, "{expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_at_any_byte_of_tls_is_held_and_the_login_completed_when_the_node_wakes() {
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
async fn a_kept_tls_connection_is_reused_until_the_certificates_change() {
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
    fs::write(client.path().join("ca.pem"), other).unwrap();
    // The paused clock moves on while a thread reads the file, so use the real one.
    let began = std::time::Instant::now();
    while handle.health(Role::ReadWrite).await.verdict.as_str() == "serve" {
        assert!(began.elapsed() < 10 * second, "the old certificates stay in use");
        sleep(second).await;
    }
    let seen = [&node.seen.connections, &node.seen.quits].map(|seen| seen.load(SeqCst));
    assert_eq!(seen, [2, 1]);
}

/// The paused clock does not move while this task is busy, so the back-off does not expire
/// on its own.
#[tokio::test(start_paused = true)]
async fn corrected_certificates_end_the_back_off() {
    let (ours, other) = (Authority::new(), Authority::new());
    let tls = Some(server(&ours.issue(&["node"]), None));
    let client = Client::new(Some(&other), None);
    let node = Node::new(Script { tls, ..Script::synced() })
        .over(client.security(Check::Identity, "node"));
    let handle = start(&node);
    let verdict = async || handle.health(Role::ReadWrite).await.verdict.as_str();
    assert_eq!(verdict().await, "tls-untrusted");
    fs::write(client.path().join("ca.pem"), &ours.certificate).unwrap();
    // The files are read every five seconds, in parallel to a handshake that may still use
    // the old ones.
    sleep(Duration::from_secs(5)).await;
    verdict().await;
    while handle.report().await.back_off.is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(verdict().await, "serve");
    assert!(node.seen.connections.load(SeqCst) <= 3);
}

#[test]
fn errors_for_unusable_files_name_the_flag_and_the_problem() {
    let (ours, other) = (Authority::new(), Authority::new());
    let client = Client::new(Some(&ours), Some(&ours.issue(&["probe"])));
    let path = |name: &str, text: &[u8]| {
        let path = client.path().join(name);
        fs::write(&path, text).unwrap();
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
