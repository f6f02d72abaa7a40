//! The causality check (`--causality-check`): when a node is asked to prove that it is in
//! contact with its group, and what each role hears meanwhile. On tokio's paused clock.

mod support;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use galera_probe::galera::Policy;
use galera_probe::health::Role;
use galera_probe::monitor::{CausalityCheck, Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use tokio::time::{Instant, sleep};

use support::node::{Contact, Fault, Node, PASSWORD, Script, USER};
use support::wire;

const SECOND: Duration = Duration::from_secs(1);
const AT_ONCE: Duration = Duration::ZERO;
const SETTLE: Duration = Duration::from_secs(10);

/// A monitor that caches no verdict, and its node.
struct Setup {
    node: Node,
    handle: Handle,
}

impl Setup {
    /// Starts with a synced node, after its first probe run.
    async fn start(causality_check: CausalityCheck, keep_connection: Duration) -> Self {
        let node = Node::new(Script::synced());
        let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
        let timing =
            Timing { causality_check, settle: SETTLE, keep_connection, ..Timing::default() };
        let settings = Settings {
            credentials: CredentialSource::fixed(credentials),
            deadlines: Deadlines { step: SECOND, whole: 2 * SECOND },
            policy: Policy::default(),
            timing,
        };
        let (monitor, handle) = Monitor::new(node.clone(), settings);
        tokio::spawn(monitor.run());
        let setup = Self { node, handle };
        assert_eq!(setup.query(Role::ReadWrite).await, ("serve", AT_ONCE));
        setup
    }

    /// The word for one caller, and how long the caller waited.
    async fn query(&self, role: Role) -> (&'static str, Duration) {
        let began = Instant::now();
        let word = self.handle.health(role).await.verdict.as_str();
        let took = began.elapsed();
        // Lets the other tasks run until they are idle.
        sleep(SECOND / 1000).await;
        (word, took)
    }

    async fn words(&self) -> [&'static str; 3] {
        let mut words = [""; 3];
        for (word, role) in words.iter_mut().zip(Role::ALL) {
            *word = self.query(role).await.0;
        }
        words
    }

    /// Freezes the node until it has been silent for `time` after the first caller.
    async fn freeze(&self, time: Duration) {
        self.node.set_script(Script::frozen());
        assert_eq!(self.query(Role::Reader).await, ("stalled-greeting", SECOND));
        sleep(time - SECOND).await;
    }

    fn checks(&self) -> usize {
        self.node.seen.checks.load(SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_asked_only_after_a_stall_or_always_or_never() {
    for (mode, healthy, after) in [
        (CausalityCheck::AfterStall, 0, 1),
        (CausalityCheck::Always, 3, 5),
        (CausalityCheck::Never, 0, 0),
    ] {
        let setup = Setup::start(mode, Duration::ZERO).await;
        setup.query(Role::ReadWrite).await;
        setup.query(Role::Reader).await;
        assert_eq!(setup.checks(), healthy);
        setup.freeze(3 * SECOND).await;
        setup.node.set_script(Script::synced());
        sleep(SECOND / 1000).await;
        let woken = setup.query(Role::ReadWrite).await.0;
        assert_eq!(woken, if mode == CausalityCheck::Never { "settling" } else { "serve" });
        // The held probe run was answered too: its check is no proof.
        assert_eq!(setup.checks(), after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_wakes_voted_out_is_served_as_soon_as_it_proves_itself() {
    let setup = Setup::start(CausalityCheck::AfterStall, Duration::ZERO).await;
    setup.freeze(30 * SECOND).await;
    // It says Primary and Synced.
    setup.node.set_script(Script::synced().contact(Contact::Awaited));
    sleep(SECOND / 1000).await;
    assert_eq!(setup.query(Role::ReadWrite).await, ("stalled-causality", SECOND));
    for role in Role::ALL {
        assert_eq!(setup.query(role).await, ("stalled-causality", AT_ONCE));
    }
    // The check ends with 1205.
    setup.node.set_script(Script::synced().contact(Contact::Lost));
    sleep(SECOND / 1000).await;
    assert_eq!(setup.query(Role::Reader).await, ("settling", AT_ONCE));
    setup.node.set_script(Script::non_primary());
    assert_eq!(setup.query(Role::Reader).await.1, AT_ONCE);
    assert_eq!(setup.query(Role::Reader).await, ("non-primary", AT_ONCE));
    setup.node.set_script(Script::synced());
    assert_eq!(setup.query(Role::ReadWrite).await, ("serve", AT_ONCE));
    assert_eq!(setup.query(Role::ReadWrite).await, ("serve", AT_ONCE));
    assert_eq!(setup.checks(), 3);
}

/// As behind a long ALTER, which every node executes at the same time.
#[tokio::test(start_paused = true)]
async fn a_check_that_stalls_keeps_a_fit_node_out_for_settle_at_most() {
    let setup = Setup::start(CausalityCheck::AfterStall, Duration::ZERO).await;
    setup.freeze(3 * SECOND).await;
    setup.node.set_script(Script::synced().contact(Contact::Awaited));
    sleep(SECOND / 1000).await;
    assert_eq!(setup.query(Role::ReadWrite).await, ("stalled-causality", SECOND));
    let fit = Instant::now();
    while setup.query(Role::ReadWrite).await.0 != "serve" {
        sleep(SECOND / 10).await;
    }
    let waited = fit.elapsed();
    assert!(waited >= SETTLE - SECOND && waited <= SETTLE + SECOND / 4, "{waited:?}");
    assert_eq!(setup.words().await, ["serve"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_asked_settles_for_twice_the_stall() {
    let setup = Setup::start(CausalityCheck::AfterStall, Duration::ZERO).await;
    setup.freeze(2 * SECOND).await;
    setup.node.set_script(Script::synced().contact(Contact::Unknown));
    sleep(SECOND / 1000).await;
    let woke = Instant::now();
    assert_eq!(setup.query(Role::ReadWrite).await, ("settling", AT_ONCE));
    while setup.query(Role::ReadWrite).await.0 != "serve" {
        sleep(SECOND / 10).await;
    }
    let waited = woke.elapsed();
    assert!(waited >= 4 * SECOND && waited <= 5 * SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn always_refuses_a_partitioned_node_within_the_step_timeout_but_not_to_readers() {
    let setup = Setup::start(CausalityCheck::Always, Duration::ZERO).await;
    setup.node.set_script(Script::synced().contact(Contact::Awaited));
    assert_eq!(setup.query(Role::ReadWrite).await, ("stalled-causality", SECOND));
    for _ in 0..3 {
        assert_eq!(setup.query(Role::Reader).await, ("serve", AT_ONCE));
        assert_eq!(setup.query(Role::Writer).await, ("stalled-causality", AT_ONCE));
    }
    // The node has not noticed yet, and answers the check.
    setup.node.set_script(Script::synced().contact(Contact::Lost));
    sleep(SECOND / 1000).await;
    assert_eq!(setup.query(Role::ReadWrite).await, ("unproven", AT_ONCE));
    assert_eq!(setup.words().await, ["unproven", "serve", "unproven"]);
    setup.node.set_script(Script::non_primary());
    setup.query(Role::ReadWrite).await;
    assert_eq!(setup.words().await, ["non-primary"; 3]);
    setup.node.set_script(Script::synced());
    assert_eq!(setup.words().await, ["serve"; 3]);
}

/// A role's own reason comes before the missing proof.
#[tokio::test(start_paused = true)]
async fn a_read_only_node_without_proof_is_read_only() {
    let setup = Setup::start(CausalityCheck::Always, Duration::ZERO).await;
    let read_only = Script::synced().with(&[("read_only", "ON"), ("wsrep_local_index", "1")]);
    setup.node.set_script(read_only.contact(Contact::Lost));
    assert_eq!(setup.words().await, ["read-only", "serve", "read-only"]);
}

#[tokio::test(start_paused = true)]
async fn facts_are_read_without_waiting_on_a_connection_that_was_asked_before() {
    let setup = Setup::start(CausalityCheck::Always, 60 * SECOND).await;
    assert_eq!(setup.query(Role::ReadWrite).await, ("serve", AT_ONCE));
    // SHOW would wait as well, if the check were still on.
    setup.node.set_script(Script::donor().contact(Contact::Awaited));
    assert_eq!(setup.query(Role::ReadWrite).await, ("donor", AT_ONCE));
    assert_eq!(setup.node.seen.connections.load(SeqCst), 1);
}

/// Readers are served what the node has, not what it had minutes ago.
#[tokio::test(start_paused = true)]
async fn readers_hear_of_a_change_while_a_check_is_held() {
    let awaited = || Script::synced().contact(Contact::Awaited);
    let donor = Script::donor().contact(Contact::Awaited);
    let frozen = Script::frozen().contact(Contact::Awaited);
    for (changed, word) in [(donor, "donor"), (frozen, "stalled-greeting")] {
        for after in [2, 4, 15, 60] {
            let setup = Setup::start(CausalityCheck::Always, Duration::ZERO).await;
            setup.node.set_script(awaited());
            assert_eq!(setup.query(Role::ReadWrite).await.0, "stalled-causality");
            sleep(after * SECOND).await;
            assert_eq!(setup.query(Role::Reader).await, ("serve", AT_ONCE));
            setup.node.set_script(changed.clone());
            let began = Instant::now();
            while setup.query(Role::Reader).await.0 != word {
                sleep(SECOND / 4).await;
                assert!(began.elapsed() <= 8 * SECOND, "not {word}, {after} s after the stall");
            }
            assert!(setup.node.seen.checks.load(SeqCst) <= 3);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_row_of_the_check_is_a_proof() {
    let ones = wire::table(1, &[vec!["1".to_owned()], vec!["1".to_owned()]]);
    for (reply, word) in [
        (wire::err(1, 1047, "WSREP has not yet prepared node"), "unproven"),
        (wire::err(1, 1205, "Lock wait timeout exceeded"), "unproven"),
        (wire::err(1, 3024, "maximum statement execution time exceeded"), "unproven"),
        (wire::ok(1), "unproven"),
        (wire::table(1, &[]), "unproven"),
        (wire::table(1, &[vec!["0".to_owned()]]), "unproven"),
        (ones, "unproven"),
        (wire::table(1, &[vec!["1".to_owned()]]), "serve"),
    ] {
        let setup = Setup::start(CausalityCheck::Always, Duration::ZERO).await;
        let [set, status, variables] = replies();
        let replies = vec![set.clone(), status, variables, set, reply.clone()];
        setup.node.set_script(Script { replies, ..Script::synced() });
        assert_eq!(setup.query(Role::ReadWrite).await.0, word, "{reply:?}");
    }
}

/// The replies of a synced node to SET, SHOW STATUS and the variables.
fn replies() -> [Vec<u8>; 3] {
    let rows = wire::rows(&Script::synced().variables.into_iter().collect::<Vec<_>>());
    [wire::ok(1), rows.clone(), rows]
}

/// The scout that asked for the proof is lost, and a later one finds the node awake.
#[tokio::test(start_paused = true)]
async fn a_lost_scout_beside_a_held_check_does_not_keep_the_node_out() {
    let setup = Setup::start(CausalityCheck::Always, Duration::ZERO).await;
    setup.node.set_script(Script::synced().contact(Contact::Awaited));
    assert_eq!(setup.query(Role::ReadWrite).await.0, "stalled-causality");
    sleep(4 * SECOND).await;
    let lost = Script::fault(Fault::StallAfter(10)).contact(Contact::Awaited);
    setup.node.set_script(lost);
    sleep(3 * SECOND).await;
    assert_eq!(setup.query(Role::Reader).await.0, "stalled-greeting");
    setup.node.set_script(Script::synced().contact(Contact::Awaited));
    let began = Instant::now();
    // The check that is held stays without an answer.
    while setup.query(Role::Reader).await.0 == "stalled-greeting" {
        sleep(SECOND / 4).await;
        assert!(began.elapsed() <= 6 * SECOND);
    }
}
