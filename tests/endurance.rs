//! 100,000 callers of monitors whose node misbehaves at random leave nothing behind: no
//! file descriptor, no thread, no task.

mod support;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use fastrand::Rng;
use galera_probe::galera::Policy;
use galera_probe::health::{Role, Verdict};
use galera_probe::monitor::{Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::address::Address;
use galera_probe::node::connector::Connector;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use support::node::{Fault, Node, PASSWORD, Script, USER};
use support::wire;

const SEED: u64 = 9200;
const ROUNDS: usize = 1000;
const CALLERS: usize = 100;

/// What this process has open and running.
#[derive(Debug, PartialEq)]
struct Resources {
    descriptors: usize,
    threads: usize,
    tasks: usize,
}

fn resources() -> Resources {
    let count = |directory| std::fs::read_dir(directory).unwrap().count();
    Resources {
        descriptors: count("/proc/self/fd"),
        threads: count("/proc/self/task"),
        tasks: runtime::Handle::current().metrics().num_alive_tasks(),
    }
}

/// A fault at a random byte, an error, another state or a synced node, equally likely.
fn random_script(random: &mut Rng) -> Script {
    let byte = random.usize(0..700);
    match random.u8(0..10) {
        0 => Script::fault(Fault::FreezeAfter(byte)),
        1 => Script::fault(Fault::StallAfter(byte)),
        2 => Script::fault(Fault::CloseAfter(byte)),
        3 => Script::fault(Fault::DripAfter(byte, Duration::from_micros(100))),
        4 => Script::frozen(),
        5 => Script {
            instead_of_greeting: Some((0..byte).map(|_| random.u8(..)).collect()),
            ..Script::synced()
        },
        6 => Script { statement_error: Some((random.u16(..), "no".into())), ..Script::synced() },
        7 => Script {
            instead_of_login: Some(wire::err(2, random.u16(..), "no")),
            ..Script::synced()
        },
        8 => Script::donor(),
        _ => Script::synced(),
    }
}

fn settings() -> Settings {
    Settings {
        credentials: CredentialSource::fixed(
            Credentials::new(USER, Password::new(PASSWORD)).unwrap(),
        ),
        deadlines: Deadlines { step: Duration::from_millis(2), whole: Duration::from_millis(4) },
        policy: Policy::default(),
        timing: Timing::default(),
    }
}

/// Lets [`CALLERS`] callers wait at once. Some give up before they are answered.
/// Returns how many got an answer.
async fn call(handle: &Handle, random: &mut Rng) -> usize {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let handle = handle.clone();
        let limit = Duration::from_micros(random.u64(1..20_000));
        callers.spawn(async move { timeout(limit, handle.health(Role::ReadWrite)).await.is_ok() });
    }
    callers.join_all().await.into_iter().filter(|answered| *answered).count()
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "prints the figures")]
async fn leaves_nothing_behind_after_100_000_callers() {
    let mut random = Rng::with_seed(SEED);
    let node = Node::new(Script::synced());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let listening = tokio::spawn(node.clone().listen(listener));
    let before = resources();

    let mut answered = 0;
    // A monitor that backs off starts no probe run for a while, so each round has a new one.
    for round in 0..ROUNDS {
        node.set_script(random_script(&mut random));
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
        let (monitor, handle) = Monitor::new(Connector::new(&address), settings());
        let monitor = tokio::spawn(monitor.run());
        answered += call(&handle, &mut random).await;
        if round % 2 == 0 {
            // A monitor ends when its last handle is dropped, or when it is aborted.
            drop(handle);
            monitor.await.unwrap();
        } else {
            monitor.abort();
        }
    }
    node.set_script(Script::synced());
    let cleanup = timeout(Duration::from_secs(20), async {
        while resources() != before {
            sleep(Duration::from_millis(10)).await;
        }
    });
    let ended = cleanup.await;
    let connections = node.seen.connections.load(SeqCst);
    println!("{answered} of {} callers answered by {connections} probes", ROUNDS * CALLERS);
    ended.unwrap_or_else(|_| panic!("{:?} after, {before:?} before", resources()));
    assert_eq!(node.seen.open.load(SeqCst), 0);
    assert!(answered > ROUNDS * CALLERS / 4);

    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
    let (monitor, handle) = Monitor::new(Connector::new(&address), settings());
    let monitor = tokio::spawn(monitor.run());
    while handle.health(Role::ReadWrite).await.verdict != Verdict::Serve {}
    monitor.abort();
    listening.abort();
}
