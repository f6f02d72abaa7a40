//! The variables that a server is known to have: later probe runs SELECT them, and SHOW asks
//! again wherever another server may answer. On tokio's paused clock.

mod support;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use galera_probe::galera::Policy;
use galera_probe::health::Role;
use galera_probe::monitor::{Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use tokio::time::{Instant, sleep};

use support::node::{Fault, Node, PASSWORD, Script, USER};
use support::wire;

const SECOND: Duration = Duration::from_secs(1);
const KEEP: Duration = Duration::from_secs(60);

/// A monitor that caches no verdict, and its node.
struct Setup {
    node: Node,
    handle: Handle,
}

impl Setup {
    async fn start(keep_connection: Duration) -> Self {
        Self::start_with(keep_connection, Policy::default()).await
    }

    /// Starts with a synced node, after its first probe run.
    async fn start_with(keep_connection: Duration, policy: Policy) -> Self {
        let node = Node::new(Script::synced());
        let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
        let settings = Settings {
            credentials: CredentialSource::fixed(credentials),
            deadlines: Deadlines { step: SECOND, whole: 2 * SECOND },
            policy,
            timing: Timing { keep_connection, ..Timing::default() },
        };
        let (monitor, handle) = Monitor::new(node.clone(), settings);
        tokio::spawn(monitor.run());
        let setup = Self { node, handle };
        assert_eq!(setup.query().await, "serve");
        setup
    }

    async fn query(&self) -> &'static str {
        let health = self.handle.health(Role::ReadWrite).await;
        // Lets the node's tasks run until they are idle.
        sleep(SECOND / 1000).await;
        health.verdict.as_str()
    }

    /// How often the node was asked by SHOW VARIABLES and by SELECT, and how many connections
    /// it has seen.
    fn seen(&self) -> (usize, usize, usize) {
        let seen = &self.node.seen;
        (seen.shows.load(SeqCst), seen.selects.load(SeqCst), seen.connections.load(SeqCst))
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_first_probe_run_of_a_server_uses_show() {
    let fresh = Setup::start(Duration::ZERO).await;
    let kept = Setup::start(KEEP).await;
    for turn in 1..=3 {
        for (setup, connections) in [(&fresh, 1 + turn), (&kept, 1)] {
            assert_eq!(setup.query().await, "serve");
            assert_eq!(setup.seen(), (1, turn, connections));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_selected_value_counts_as_a_shown_one() {
    for (name, value, word) in [
        ("read_only", "1", "read-only"),
        ("read_only", "0", "serve"),
        ("wsrep_on", "0", "wsrep-off"),
        ("wsrep_on", "1", "serve"),
        ("wsrep_reject_queries", "ALL", "rejecting-queries"),
    ] {
        let setup = Setup::start(Duration::ZERO).await;
        setup.node.set_script(Script::synced().with(&[(name, value)]));
        assert_eq!(setup.query().await, word, "{name}={value}");
        assert_eq!(setup.seen(), (1, 1, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_select_without_the_expected_row_is_followed_by_show_on_the_same_connection() {
    let rows = wire::rows(&[("read_only".to_owned(), "OFF".to_owned())]);
    let row = |cells: &[&str]| {
        let row = cells.iter().map(|cell| (*cell).to_owned()).collect();
        wire::table(u8::try_from(cells.len()).unwrap(), &[row])
    };
    for reply in [
        wire::err(1, 1193, "Unknown system variable"),
        wire::err(1, 1047, "WSREP has not yet prepared node for application use"),
        wire::err(1, 1064, "You have an error in your SQL syntax"),
        wire::ok(1),
        rows,
        row(&["read_only"]),
        row(&["read_only", "OFF", "version", "10.11.19-MariaDB"]),
    ] {
        for keep in [Duration::ZERO, KEEP] {
            let setup = Setup::start(keep).await;
            let (_, _, connections) = setup.seen();
            let donor = Script { instead_of_select: Some(reply.clone()), ..Script::donor() };
            setup.node.set_script(donor);
            assert_eq!(setup.query().await, "donor");
            let new = usize::from(keep.is_zero());
            assert_eq!(setup.seen(), (2, 1, connections + new), "{reply:?}");
        }
    }
}

/// The new server has a variable that refuses it, and that the old one did not have.
#[tokio::test(start_paused = true)]
async fn another_server_at_the_address_is_never_judged_by_the_old_ones_variables() {
    let further = |version| Script::synced().with(&[("offline_mode", "ON"), ("version", version)]);
    let mut without_version = further("");
    without_version.variables.remove("version");
    let mut percona = further("8.0.37-29").with(&[("pxc_maint_mode", "DISABLED")]);
    percona.variables.remove("wsrep_reject_queries");
    for script in [further("12.0.1-MariaDB"), further("8.4.0"), without_version, percona] {
        for keep in [Duration::ZERO, KEEP] {
            let setup = Setup::start(keep).await;
            setup.node.set_script(script.clone());
            for _ in 0..3 {
                assert_eq!(setup.query().await, "offline", "{:?}", script.variables);
            }
            setup.node.set_script(Script::synced());
            assert_eq!(setup.query().await, "serve");
        }
    }
}

/// A build without Galera has the same version, and nothing that could refuse it.
#[tokio::test(start_paused = true)]
async fn a_galera_node_that_replaces_a_plain_server_is_asked_for_wsrep_on() {
    let policy = Policy { standalone: true, ..Policy::default() };
    let setup = Setup::start_with(Duration::ZERO, policy).await;
    let mut plain = Script::synced();
    plain.variables.retain(|name, _| !name.starts_with("wsrep_"));
    setup.node.set_script(plain);
    assert_eq!((setup.query().await, setup.query().await), ("serve", "serve"));
    setup.node.set_script(Script::non_primary());
    assert_eq!(setup.query().await, "non-primary");
}

#[tokio::test(start_paused = true)]
async fn select_and_show_share_the_deadlines() {
    let setup = Setup::start(Duration::ZERO).await;
    let fault = Fault::DripAfter(0, SECOND / 20);
    let select = Some(wire::err(1, 1047, "WSREP has not yet prepared node"));
    setup.node.set_script(Script { fault, instead_of_select: select, ..Script::synced() });
    let began = Instant::now();
    let word = setup.handle.health(Role::ReadWrite).await.verdict.as_str();
    assert!(word.starts_with("stalled-"), "{word}");
    assert!(began.elapsed() <= 2 * SECOND);
}
