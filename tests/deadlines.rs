//! Every step has a deadline, and the whole probe run has one, wherever the node
//! stops: at every byte of the probe run, on a clock that only the test moves.

mod support;
#[cfg(feature = "tls")]
#[path = "support/tls.rs"]
mod tls;

use std::future::pending;
use std::io;
use std::time::Duration;

use galera_probe::galera::{Facts, Policy, judge};
use galera_probe::health::{Role, Verdict};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Deadlines, Failure, Probe, Stalled, Step};
use galera_probe::node::security::Security;
use galera_probe::node::transport::{Transport, TransportFuture};
use tokio::io::duplex;
use tokio::time::Instant;

use support::node::{Fault, Node, PASSWORD, Plugin, Script, USER};

const STEP: Duration = Duration::from_secs(1);
const WHOLE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(900);

fn begin(node: &dyn Connect) -> Probe {
    let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
    Probe::begin(
        node,
        &CredentialSource::fixed(credentials),
        Deadlines { step: STEP, whole: WHOLE },
    )
}

type Outcome = Result<Result<Facts, Failure>, Stalled>;

/// A node, the way to it, and where its steps end.
struct Way {
    script: Script,
    security: Security,
    ends: [usize; 4],
}

impl Way {
    async fn new(script: Script, security: Security) -> Self {
        let node = Node::new(script.clone()).over(security.clone());
        let facts = begin(&node).run().await.unwrap().unwrap();
        assert_eq!(judge(&facts, Policy::default(), Role::ReadWrite), Verdict::Serve);
        // The node has read COM_QUIT when it has no connection open.
        while node.seen.open.load(std::sync::atomic::Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
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

    /// Bytes of the whole probe run.
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

/// Every kind of login, over every kind of way.
async fn ways() -> Vec<Way> {
    let plugin = |plugin| Script { plugin: Some(plugin), ..Script::synced() };
    let plain = Security::default;
    let socket = Security { is_socket: true, ..plain() };
    #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "there are no more"))]
    let mut ways = vec![
        Way::new(Script::synced(), plain()).await,
        Way::new(Script { switch: true, ..plugin(Plugin::Parsec) }, plain()).await,
        Way::new(plugin(Plugin::CachingSha2 { cached: true }), plain()).await,
        Way::new(plugin(Plugin::CachingSha2 { cached: false }), socket).await,
    ];
    #[cfg(feature = "tls")]
    for version in rustls::ALL_VERSIONS {
        let authority = tls::Authority::new();
        let server = tls::server_of(&authority.issue_countable(&["node"]), None, &[version]);
        let client = tls::Client::new(Some(&authority), None);
        let security = client.security(galera_probe::node::tls::Check::Identity, "node");
        let plugin = plugin(Plugin::CachingSha2 { cached: false });
        ways.push(Way::new(Script { tls: Some(server), ..plugin }, security).await);
    }
    ways
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stalls_after_any_byte_is_refused_at_the_deadline_of_that_step() {
    for way in ways().await {
        for byte in 0..way.bytes() {
            let (outcome, took) = way.probe(Fault::StallAfter(byte)).await;
            let stalled = outcome.expect_err("the node stalls");
            assert_eq!(stalled, Stalled { step: way.step_of(byte), waited: STEP }, "{byte}");
            assert_eq!(took, STEP, "{byte}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_closes_after_any_byte_is_refused_at_once_with_that_step() {
    for way in ways().await {
        for byte in 0..way.bytes() {
            let (outcome, took) = way.probe(Fault::CloseAfter(byte)).await;
            let failure = outcome.unwrap().expect_err("the node closes");
            let Failure::Broken { step, error } = failure else { panic!("{byte}: {failure}") };
            // TLS may still have something to say to a node that is gone.
            let gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe];
            assert!(gone.contains(&error.kind()), "{byte}: {error}");
            assert_eq!(step, way.step_of(byte), "{byte}");
            assert_eq!(took, Duration::ZERO);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_every_900_ms_does_not_move_the_deadline_of_its_step() {
    for way in ways().await {
        for byte in 0..way.bytes() {
            let (outcome, took) = way.probe(Fault::DripAfter(byte, PAUSE)).await;
            let step = way.step_of(byte);
            // The last byte of a step comes after 900 ms, and the next step begins:
            // it has 1 s of its own.
            let last_of_step = way.ends.contains(&(byte + 1));
            if byte + 1 == way.bytes() {
                assert!(outcome.is_ok(), "{byte}");
                assert_eq!(took, PAUSE);
            } else if last_of_step {
                let next = way.step_of(byte + 1);
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
async fn steps_that_each_keep_their_deadline_are_ended_at_the_deadline_of_the_whole() {
    /// Takes 900 ms to connect; then the node needs 900 ms for every byte.
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
    let [greeting, ..] = Way::new(Script::synced(), Security::default()).await.ends;
    let node = Node::new(Script::fault(Fault::DripAfter(greeting - 1, PAUSE)));
    let began = Instant::now();
    let stalled = begin(&Slow(node)).run().await.unwrap_err();
    assert_eq!(stalled, Stalled { step: Step::Login, waited: WHOLE - 2 * PAUSE });
    assert_eq!(began.elapsed(), WHOLE);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_comes_about_is_refused_at_the_deadline() {
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
async fn a_node_that_takes_no_bytes_is_refused_at_the_deadline() {
    /// Sends its greeting and reads nothing; its window is 16 bytes.
    struct Full;
    impl Connect for Full {
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
    let stalled = begin(&Full).run().await.unwrap_err();
    assert_eq!(stalled, Stalled { step: Step::Login, waited: STEP });
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_stalled_runs_on_to_its_facts_when_the_node_wakes() {
    let node = Node::new(Script::frozen());
    let mut probe = begin(&node);
    assert_eq!(probe.run().await.unwrap_err().step, Step::Greeting);
    node.set_script(Script::synced());
    let facts = probe.finish().await.unwrap();
    assert_eq!(judge(&facts, Policy::default(), Role::ReadWrite), Verdict::Serve);
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_at_any_byte_closes_its_connection() {
    for way in ways().await {
        for byte in 0..way.bytes() {
            let node = way.node(Fault::StallAfter(byte));
            let mut probe = begin(&node);
            probe.run().await.unwrap_err();
            assert_eq!(node.seen.open.load(std::sync::atomic::Ordering::SeqCst), 1);
            drop(probe);
            while node.seen.open.load(std::sync::atomic::Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}
