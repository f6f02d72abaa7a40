//! Scouts: while a stalled connection is held, two more are tried, so that a connection that
//! was lost does not keep a healthy node out. On tokio's paused clock.

mod support;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galera_probe::galera::Policy;
use galera_probe::health::Role;
use galera_probe::monitor::{Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use galera_probe::node::transport::TransportFuture;
use tokio::time::{Instant, sleep};

use support::counted::OpenGuard;
use support::node::{Fault, Node, PASSWORD, Script, USER};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A monitor that caches no verdict, and its node.
struct Setup {
    node: Node,
    network: Network,
    handle: Handle,
}

/// Connects to the node, unless the host refuses or loses connections.
#[derive(Clone)]
struct Network {
    node: Node,
    state: Arc<Mutex<State>>,
    /// The monitor's open connections.
    open: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Refused,
    Lost,
}

impl Connect for Network {
    fn connect(&self, budget: Duration) -> TransportFuture {
        match *self.state.lock().unwrap() {
            State::Up => {
                let open = OpenGuard::counted(&self.open);
                let connecting = self.node.connect(budget);
                Box::pin(async move { Ok(open.over(connecting.await?)) })
            }
            State::Refused => Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
            State::Lost => Box::pin(std::future::pending()),
        }
    }
}

impl Setup {
    fn start() -> Self {
        let node = Node::new(Script::synced());
        let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
        let settings = Settings {
            credentials: CredentialSource::fixed(credentials),
            deadlines: Deadlines { step: SECOND, whole: 2 * SECOND },
            policy: Policy::default(),
            timing: Timing { settle: 10 * SECOND, ..Timing::default() },
        };
        let state = Arc::new(Mutex::new(State::Up));
        let network = Network { node: node.clone(), state, open: Arc::default() };
        let (monitor, handle) = Monitor::new(network.clone(), settings);
        tokio::spawn(monitor.run());
        Self { node, network, handle }
    }

    async fn query(&self) -> &'static str {
        let word = self.handle.health(Role::ReadWrite).await.verdict.as_str();
        // Lets the other tasks run until they are idle.
        sleep(MILLISECOND).await;
        word
    }

    /// Asks every second until the node is served. Returns how long that took.
    async fn until_served(&self) -> Duration {
        let began = Instant::now();
        while self.query().await != "serve" {
            sleep(SECOND - MILLISECOND).await;
        }
        began.elapsed()
    }

    fn set_network(&self, state: State) {
        *self.network.state.lock().unwrap() = state;
    }

    /// How many connections the node has seen, and how many are open.
    fn connections(&self) -> (usize, usize) {
        (self.node.seen.connections.load(SeqCst), self.network.open.load(SeqCst))
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_lost_in_any_step_keeps_the_node_out_for_seven_seconds_at_most() {
    // Within the greeting, the login and the replies.
    for byte in [10, 106, 130, 300] {
        let setup = Setup::start();
        assert_eq!(setup.query().await, "serve");
        setup.node.set_script(Script::fault(Fault::StallAfter(byte)));
        assert!(setup.query().await.starts_with("stalled-"));
        // New connections work; the lost one stays silent.
        setup.node.set_script(Script::synced());
        let waited = setup.until_served().await;
        assert!(waited <= 7 * SECOND, "{byte}: {waited:?}");
        assert_eq!(setup.connections().1, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_node_has_at_most_three_connections_and_sees_each_login_to_its_end() {
    let setup = Setup::start();
    assert_eq!(setup.query().await, "serve");
    setup.node.set_script(Script::frozen());
    for (seconds, connections, open) in [(1, 2, 1), (6, 3, 2), (21, 4, 3), (75, 4, 3)] {
        let end = Instant::now() + SECOND;
        while setup.connections().0 < connections && Instant::now() < end + 80 * SECOND {
            assert_eq!(setup.query().await, "stalled-greeting");
            sleep(SECOND / 4).await;
        }
        assert_eq!(setup.connections(), (connections, open), "after {seconds} s");
    }
    setup.node.set_script(Script::synced());
    sleep(MILLISECOND).await;
    // The first login resets the server's count; the scouts are dropped.
    assert_eq!(setup.connections(), (4, 0));
    assert_eq!(setup.query().await, "serve");
}

#[tokio::test(start_paused = true)]
async fn one_connection_at_a_time_is_given_up_in_a_stall_of_a_day() {
    let setup = Setup::start();
    assert_eq!(setup.query().await, "serve");
    setup.node.set_script(Script::frozen());
    let mut most_open = 0;
    for _ in 0..24 * 60 {
        assert_eq!(setup.query().await, "stalled-greeting");
        sleep(60 * SECOND).await;
        most_open = most_open.max(setup.connections().1);
    }
    let (connections, open) = setup.connections();
    assert_eq!(most_open, 3);
    let given_up = connections - open - 1;
    assert!((80..=95).contains(&given_up), "{given_up} connections were given up");
}

#[tokio::test(start_paused = true)]
async fn a_scout_that_cannot_connect_costs_nothing_and_is_sent_again() {
    for state in [State::Refused, State::Lost] {
        let setup = Setup::start();
        assert_eq!(setup.query().await, "serve");
        setup.node.set_script(Script::fault(Fault::StallAfter(10)));
        assert_eq!(setup.query().await, "stalled-greeting");
        // The host goes down and comes back after a minute.
        setup.set_network(state);
        setup.node.set_script(Script::synced());
        for _ in 0..60 {
            assert_eq!(setup.query().await, "stalled-greeting");
            sleep(SECOND - MILLISECOND).await;
        }
        assert_eq!(setup.connections(), (2, 1));
        setup.set_network(State::Up);
        let waited = setup.until_served().await;
        assert!(waited <= 8 * SECOND, "{state:?}: {waited:?}");
    }
}

/// SIGHUP: the operator knows that the node is back.
#[tokio::test(start_paused = true)]
async fn a_reload_sends_a_scout_at_once_unless_three_connections_are_open() {
    for (seconds, all) in [(1, 3), (10, 4), (30, 4)] {
        let setup = Setup::start();
        assert_eq!(setup.query().await, "serve");
        setup.node.set_script(Script::fault(Fault::StallAfter(10)));
        assert_eq!(setup.query().await, "stalled-greeting");
        sleep(seconds * SECOND).await;
        setup.node.set_script(Script::synced());
        setup.handle.reload().await;
        sleep(MILLISECOND).await;
        assert_eq!(setup.connections().0, all, "after {seconds} s");
        let is_served = setup.query().await == "serve";
        assert_eq!(is_served, seconds < 30);
    }
}
