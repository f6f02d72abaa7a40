//! The deadlines of each step and of the whole probe run, on a paused clock.
//!
//! The node stalls, closes the connection or slows down after each byte of the probe run in
//! turn.

mod support;
#[cfg(feature = "tls")]
#[path = "support/tls.rs"]
mod tls;

use std::future::pending;
use std::io;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use galera_probe::galera::{Policy, judge};
use galera_probe::health::{Role, Verdict};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{
    Answer, Deadlines, Failure, Milestone, Probe, Questions, Stalled, Step,
};
use galera_probe::node::security::Security;
use galera_probe::node::transport::{Transport, TransportFuture};
use tokio::io::duplex;
use tokio::time::Instant;

use support::node::{Fault, Node, PASSWORD, Plugin, Script, USER};

const STEP: Duration = Duration::from_secs(1);
const WHOLE: Duration = Duration::from_secs(2);
/// A pause that one step can contain, but not two.
const PAUSE: Duration = Duration::from_millis(900);

fn begin(node: &dyn Connect) -> Probe {
    let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
    Probe::begin(
        node,
        &CredentialSource::fixed(credentials),
        Deadlines { step: STEP, whole: WHOLE },
        Questions::default(),
    )
}

/// Waits until the node has no open connection.
async fn all_closed(node: &Node) {
    while node.seen.open.load(SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}

type Outcome = Result<Result<Answer, Failure>, Stalled>;

/// A kind of login over a kind of transport, and where the steps of its probe run end.
struct Scenario {
    script: Script,
    security: Security,
    /// The bytes that the node has sent at the end of the greeting, tls, login and query
    /// steps.
    ends: [usize; 4],
}

impl Scenario {
    async fn new(script: Script, security: Security) -> Self {
        let node = Node::new(script.clone()).over(security.clone());
        let answer = begin(&node).run().await.unwrap().unwrap();
        assert_eq!(judge(&answer.facts, Policy::default(), Role::ReadWrite), Verdict::Serve);
        // The node counts the bytes when the connection ends.
        all_closed(&node).await;
        let sent = *node.seen.sent.lock().unwrap();
        let [greeting, tls, login, query] = sent;
        assert!(greeting > 50 && login >= 11 && query > 300);
        assert_eq!(tls > 200, security.tls.is_some());
        let mut end = 0;
        let ends = sent.map(|length| {
            end += length;
            end
        });
        Self { script, security, ends }
    }

    fn node(&self, fault: Fault) -> Node {
        Node::new(Script { fault, ..self.script.clone() }).over(self.security.clone())
    }

    async fn probe(&self, fault: Fault) -> (Outcome, Duration) {
        let began = Instant::now();
        let outcome = begin(&self.node(fault)).run().await;
        (outcome, began.elapsed())
    }

    /// The bytes that the node sends in the whole probe run.
    fn bytes(&self) -> usize {
        self.ends[3]
    }

    fn step_of(&self, byte: usize) -> Step {
        let [greeting, tls, login, _] = self.ends;
        match byte {
            _ if byte < greeting => Step::Greeting,
            _ if byte < tls => Step::Tls,
            _ if byte < login => Step::Login,
            _ => Step::Query,
        }
    }
}

/// Each kind of login, over each kind of transport.
async fn scenarios() -> Vec<Scenario> {
    let plugin = |plugin| Script { plugin: Some(plugin), ..Script::synced() };
    let plain = Security::default;
    let socket = Security { is_unix_socket: true, ..plain() };
    #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "only TLS adds to them"))]
    let mut scenarios = vec![
        Scenario::new(Script::synced(), plain()).await,
        Scenario::new(Script { switch: true, ..plugin(Plugin::Parsec) }, plain()).await,
        Scenario::new(plugin(Plugin::CachingSha2 { cached: true }), plain()).await,
        Scenario::new(plugin(Plugin::CachingSha2 { cached: false }), socket).await,
    ];
    #[cfg(feature = "tls")]
    for version in rustls::ALL_VERSIONS {
        let authority = tls::Authority::new();
        let server = tls::server_of(&authority.issue_ed25519(&["node"]), None, &[version]);
        let client = tls::Client::new(Some(&authority), None);
        let security = client.security(galera_probe::node::tls::Check::Identity, "node");
        let plugin = plugin(Plugin::CachingSha2 { cached: false });
        scenarios.push(Scenario::new(Script { tls: Some(server), ..plugin }, security).await);
    }
    scenarios
}

#[tokio::test(start_paused = true)]
async fn a_stall_after_any_byte_is_reported_at_the_deadline_of_that_step() {
    for scenario in scenarios().await {
        for byte in 0..scenario.bytes() {
            let (outcome, took) = scenario.probe(Fault::StallAfter(byte)).await;
            let stalled = outcome.expect_err("the node stalls");
            assert_eq!(stalled, Stalled { step: scenario.step_of(byte), waited: STEP }, "{byte}");
            assert_eq!(took, STEP, "{byte}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_after_any_byte_is_reported_at_once_with_that_step() {
    for scenario in scenarios().await {
        for byte in 0..scenario.bytes() {
            let (outcome, took) = scenario.probe(Fault::CloseAfter(byte)).await;
            let failure = outcome.unwrap().expect_err("the node closes");
            let Failure::Broken { step, error } = failure else { panic!("{byte}: {failure}") };
            // TLS may still write to the closed connection (BrokenPipe).
            let closed = [io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe];
            assert!(closed.contains(&error.kind()), "{byte}: {error}");
            assert_eq!(step, scenario.step_of(byte), "{byte}");
            assert_eq!(took, Duration::ZERO);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_every_900_ms_does_not_extend_the_deadline_of_the_step() {
    for scenario in scenarios().await {
        for byte in 0..scenario.bytes() {
            let (outcome, took) = scenario.probe(Fault::DripAfter(byte, PAUSE)).await;
            let step = scenario.step_of(byte);
            // The last byte of a step arrives after 900 ms. Then the next step begins, with a
            // deadline of 1 s.
            let is_last_of_step = scenario.ends.contains(&(byte + 1));
            if byte + 1 == scenario.bytes() {
                assert!(outcome.is_ok(), "{byte}");
                assert_eq!(took, PAUSE);
            } else if is_last_of_step {
                let next = scenario.step_of(byte + 1);
                assert_eq!(outcome.unwrap_err(), Stalled { step: next, waited: STEP }, "{byte}");
                assert_eq!(took, PAUSE + STEP);
            } else {
                assert_eq!(outcome.unwrap_err(), Stalled { step, waited: STEP }, "{byte}");
                assert_eq!(took, STEP);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_whole_probe_run_ends_steps_that_each_meet_their_own() {
    /// Takes 900 ms to connect.
    struct Slow(Node);
    impl Connect for Slow {
        fn connect(&self, budget: Duration) -> TransportFuture {
            let opening = self.0.connect(budget);
            Box::pin(async move {
                tokio::time::sleep(PAUSE).await;
                opening.await
            })
        }
    }
    let [greeting, ..] = Scenario::new(Script::synced(), Security::default()).await.ends;
    let node = Node::new(Script::fault(Fault::DripAfter(greeting - 1, PAUSE)));
    let began = Instant::now();
    let stalled = begin(&Slow(node)).run().await.unwrap_err();
    assert_eq!(stalled, Stalled { step: Step::Login, waited: WHOLE - 2 * PAUSE });
    assert_eq!(began.elapsed(), WHOLE);
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_hangs_is_reported_at_the_deadline() {
    struct BlackHole;
    impl Connect for BlackHole {
        fn connect(&self, _budget: Duration) -> TransportFuture {
            Box::pin(pending())
        }
    }
    let began = Instant::now();
    let stalled = begin(&BlackHole).run().await.unwrap_err();
    assert_eq!(stalled, Stalled { step: Step::Connect, waited: STEP });
    assert_eq!(began.elapsed(), STEP);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_reads_nothing_is_reported_at_the_deadline() {
    /// Sends its greeting and reads nothing. Its receive buffer has 16 bytes.
    struct NeverReads;
    impl Connect for NeverReads {
        fn connect(&self, _budget: Duration) -> TransportFuture {
            Box::pin(async {
                let (client, mut server) = duplex(16);
                tokio::spawn(async move {
                    let greeting = support::wire::greeting();
                    tokio::io::AsyncWriteExt::write_all(&mut server, &greeting).await.unwrap();
                    pending::<()>().await;
                });
                Ok(Box::new(client) as Box<dyn Transport>)
            })
        }
    }
    let stalled = begin(&NeverReads).run().await.unwrap_err();
    assert_eq!(stalled, Stalled { step: Step::Login, waited: STEP });
}

#[tokio::test(start_paused = true)]
async fn a_stalled_probe_run_can_be_finished_when_the_node_wakes() {
    let node = Node::new(Script::frozen());
    let mut probe = begin(&node);
    assert_eq!(probe.run().await.unwrap_err().step, Step::Greeting);
    node.set_script(Script::synced());
    assert!(matches!(probe.finish().await, Milestone::LoggedIn));
    let Milestone::Ended(Ok(answer)) = probe.finish().await else { panic!("no answer") };
    assert_eq!(judge(&answer.facts, Policy::default(), Role::ReadWrite), Verdict::Serve);
}

#[tokio::test(start_paused = true)]
async fn a_probe_run_dropped_at_any_byte_closes_its_connection() {
    for scenario in scenarios().await {
        for byte in 0..scenario.bytes() {
            let node = scenario.node(Fault::StallAfter(byte));
            let mut probe = begin(&node);
            probe.run().await.unwrap_err();
            assert_eq!(node.seen.open.load(SeqCst), 1);
            drop(probe);
            all_closed(&node).await;
        }
    }
}
