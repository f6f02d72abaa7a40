//! After a hundred thousand callers before a node that misbehaves at random,
//! nothing is left behind: no file descriptor, no thread, no task.

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
const ASKERS: usize = 100;

/// What one process has open and running.
#[derive(Debug, PartialEq)]
struct Held {
    descriptors: usize,
    threads: usize,
    tasks: usize,
}

fn held() -> Held {
    let count = |directory| std::fs::read_dir(directory).unwrap().count();
    Held {
        descriptors: count("/proc/self/fd"),
        threads: count("/proc/self/task"),
        tasks: runtime::Handle::current().metrics().num_alive_tasks(),
    }
}

/// Mostly well, or a fault at a random byte, or any of the states.
fn misbehave(random: &mut Rng) -> Script {
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
        login: CredentialSource::fixed(Credentials::new(USER, Password::new(PASSWORD)).unwrap()),
        deadlines: Deadlines { step: Duration::from_millis(2), whole: Duration::from_millis(4) },
        policy: Policy::default(),
        timing: Timing::default(),
    }
}

/// A hundred callers at once, of whom some go away before they are answered.
async fn ask(handle: &Handle, random: &mut Rng) -> usize {
    let mut callers = JoinSet::new();
    for _ in 0..ASKERS {
        let handle = handle.clone();
        let budget = Duration::from_micros(random.u64(1..20_000));
        callers.spawn(async move { timeout(budget, handle.health(Role::ReadWrite)).await.is_ok() });
    }
    callers.join_all().await.into_iter().filter(|answered| *answered).count()
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figures are to be seen")]
async fn a_hundred_thousand_askers_leave_nothing_behind() {
    let mut random = Rng::with_seed(SEED);
    let node = Node::new(Script::synced());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let listening = tokio::spawn(node.clone().listen(listener));
    let before = held();

    let mut answered = 0;
    // A target that backs off asks no more for a while, so each round has a new one.
    for round in 0..ROUNDS {
        node.set_script(misbehave(&mut random));
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
        let (monitor, handle) = Monitor::new(Connector::new(&address), settings());
        let target = tokio::spawn(monitor.run());
        answered += ask(&handle, &mut random).await;
        if round % 2 == 0 {
            // A target ends when nobody can ask it any more, or as it is stopped.
            drop(handle);
            target.await.unwrap();
        } else {
            target.abort();
        }
    }
    node.set_script(Script::synced());
    let left = timeout(Duration::from_secs(20), async {
        while held() != before {
            sleep(Duration::from_millis(10)).await;
        }
    });
    let ended = left.await;
    let connections = node.seen.connections.load(SeqCst);
    println!("{answered} of {} callers answered by {connections} probes", ROUNDS * ASKERS);
    ended.unwrap_or_else(|_| panic!("{:?} is left of {before:?}", held()));
    assert_eq!(node.seen.open.load(SeqCst), 0);
    assert!(answered > ROUNDS * ASKERS / 4);

    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
    let (monitor, handle) = Monitor::new(Connector::new(&address), settings());
    let target = tokio::spawn(monitor.run());
    while handle.health(Role::ReadWrite).await.verdict != Verdict::Serve {}
    target.abort();
    listening.abort();
}
