//! Every sequence of faults up to a depth, with the real monitor on tokio's paused clock. The
//! simulation (`tests/seeds.rs`) draws faults at random; this leaves out none.
//!
//! A sequence is three states of the node or the network, each for 3 s or 25 s, and then a
//! healthy node. It covers two stalls, scouts, the back-off and a proof between them. A caller
//! asks each second. `GALERA_PROBE_SEQUENCE=always:F25,L3,D3` runs one sequence again.

mod support;

use std::env;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use galera_probe::galera::Policy;
use galera_probe::health::Role;
use galera_probe::monitor::{CausalityCheck, Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use galera_probe::node::transport::{Transport, TransportFuture};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep_until};

use support::node::{Contact, Node, PASSWORD, Script, USER};
use support::wire;

const SECOND: Duration = Duration::from_secs(1);
const WHOLE: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_secs(10);

/// A state of the node or of the network to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Healthy,
    /// Accepts connections and sends nothing.
    Frozen,
    /// Says Primary and Synced, and does not answer a causality check.
    VotedOut,
    NonPrimary,
    /// Healthy, but the connections that were open are lost.
    Lost,
    /// Refuses the login.
    Denied,
    /// Its port is closed.
    Refused,
}

use State::{Denied, Frozen, Healthy, Lost, NonPrimary, Refused, VotedOut};

const STATES: [(char, State); 7] = [
    ('H', Healthy),
    ('F', Frozen),
    ('V', VotedOut),
    ('N', NonPrimary),
    ('L', Lost),
    ('D', Denied),
    ('R', Refused),
];

const SECONDS: [u32; 2] = [3, 25];
const DEPTH: u32 = 3;

type Sequence = Vec<(State, u32)>;

#[test]
#[expect(clippy::print_stdout, reason = "prints the figures")]
fn keeps_the_laws_in_every_sequence_of_faults() {
    if let Ok(text) = env::var("GALERA_PROBE_SEQUENCE") {
        let (mode, sequence) = text.split_once(':').expect("MODE:SEQUENCE");
        let mode =
            if mode == "always" { CausalityCheck::Always } else { CausalityCheck::AfterStall };
        let served = simulate(mode, &parse(sequence));
        println!("served after {served:?}");
        return;
    }
    let kinds = STATES.len() * SECONDS.len();
    let mut longest = (Duration::ZERO, String::new());
    let count = kinds.pow(DEPTH);
    for mode in [CausalityCheck::AfterStall, CausalityCheck::Always] {
        for number in 0..count {
            let sequence: Sequence = (0..DEPTH)
                .map(|place| number / kinds.pow(place) % kinds)
                .map(|kind| (STATES[kind / SECONDS.len()].1, SECONDS[kind % SECONDS.len()]))
                .collect();
            let served = simulate(mode, &sequence);
            if served > longest.0 {
                longest = (served, show(mode, &sequence));
            }
        }
    }
    println!("{} sequences; served at the latest after {:?}: {}", 2 * count, longest.0, longest.1);
}

fn show(mode: CausalityCheck, sequence: &Sequence) -> String {
    let mode = if mode == CausalityCheck::Always { "always" } else { "after-stall" };
    let letter = |state| STATES.iter().find(|(_, other)| *other == state).unwrap().0;
    let parts: Vec<_> =
        sequence.iter().map(|(state, seconds)| format!("{}{seconds}", letter(*state))).collect();
    format!("{mode}:{}", parts.join(","))
}

fn parse(text: &str) -> Sequence {
    let state = |letter| STATES.iter().find(|(other, _)| *other == letter).unwrap().1;
    let part = |part: &str| (state(part.chars().next().unwrap()), part[1..].parse().unwrap());
    text.split(',').map(part).collect()
}

/// Runs a sequence. Returns how long the healthy node at its end is refused.
fn simulate(mode: CausalityCheck, sequence: &Sequence) -> Duration {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let name = show(mode, sequence);
        let network = Network::new();
        let (monitor, handle) = Monitor::new(network.clone(), settings(mode));
        let monitor = tokio::spawn(monitor.run());
        let mut caller = Caller { name, mode, handle, network, next: Instant::now(), last: None };
        caller.run(2).await;
        let mut was_frozen = false;
        for (state, seconds) in sequence {
            was_frozen |= *state == Frozen;
            caller.enter(*state, was_frozen);
            // A node that is served has proven itself.
            was_frozen &= caller.run(*seconds).await != "serve";
        }
        caller.enter(Healthy, false);
        let recovered = Instant::now();
        let limit = caller.limit_of_recovery(sequence);
        while caller.ask().await != "serve" {
            let refused = recovered.elapsed();
            assert!(refused <= limit, "{}: law 7: refused for {refused:?}", caller.name);
        }
        let served = recovered.elapsed();
        // Law 4. A server does not count a login that it refused.
        let denied = sequence.iter().any(|(state, _)| *state == Denied);
        let unfinished = caller.network.node.seen.unfinished();
        assert!(denied || unfinished <= 8, "{}: law 4: {unfinished} unfinished", caller.name);
        // Law 5.
        monitor.abort();
        let _ = monitor.await;
        assert_eq!(caller.network.open.load(SeqCst), 0, "{}: law 5", caller.name);
        served
    })
}

fn settings(causality_check: CausalityCheck) -> Settings {
    Settings {
        credentials: CredentialSource::fixed(
            Credentials::new(USER, Password::new(PASSWORD)).unwrap(),
        ),
        deadlines: Deadlines { step: SECOND, whole: WHOLE },
        policy: Policy::default(),
        timing: Timing { causality_check, settle: SETTLE, ..Timing::default() },
    }
}

/// A caller that asks each second and checks the answers.
struct Caller {
    name: String,
    mode: CausalityCheck,
    handle: Handle,
    network: Network,
    next: Instant,
    last: Option<Entered>,
}

/// The state that the node entered last.
#[derive(Clone, Copy)]
struct Entered {
    state: State,
    at: Instant,
    /// Whether the node was frozen before, so that it has to prove itself.
    was_frozen: bool,
    /// Whether a caller was told of a stall since.
    is_silent: bool,
}

impl Caller {
    fn enter(&mut self, state: State, was_frozen: bool) {
        if self.last.is_some_and(|last| last.state == state && state != Lost) {
            return;
        }
        self.network.enter(state);
        self.last = Some(Entered { state, at: Instant::now(), was_frozen, is_silent: false });
    }

    /// Asks for some seconds. Returns the last word.
    async fn run(&mut self, seconds: u32) -> &'static str {
        let end = Instant::now() + seconds * SECOND;
        let mut word = "";
        while self.next < end {
            word = self.ask().await;
        }
        sleep_until(end).await;
        word
    }

    /// Asks at the next second, and checks the answer against the laws.
    async fn ask(&mut self) -> &'static str {
        sleep_until(self.next).await;
        let asked = Instant::now();
        let word = self.handle.health(Role::ReadWrite).await.verdict.as_str();
        let waited = asked.elapsed();
        assert!(waited <= WHOLE, "{}: law 1: {word} after {waited:?}", self.name);
        self.next = (asked + SECOND).max(Instant::now());
        let Some(entered) = &mut self.last else { return word };
        let lasts = Instant::now() - entered.at;
        let is_silent = match entered.state {
            Frozen => word.starts_with("stalled-") && word != "stalled-causality",
            VotedOut => word == "stalled-causality",
            Healthy | NonPrimary | Lost | Denied | Refused => false,
        };
        let name = &self.name;
        assert!(!entered.is_silent || waited.is_zero(), "{name}: law 3: {word} {waited:?}");
        // This caller waited for a stall that began in this state.
        entered.is_silent |= is_silent && !waited.is_zero();
        if word == "serve" && lasts > WHOLE + SECOND {
            // Law 6.
            let may_serve = match entered.state {
                Healthy | Lost => true,
                VotedOut => {
                    let settled = !entered.was_frozen || lasts >= SETTLE;
                    self.mode == CausalityCheck::AfterStall && settled
                }
                Frozen | NonPrimary | Denied | Refused => false,
            };
            let state = entered.state;
            assert!(may_serve, "{}: law 6: served {state:?} after {lasts:?}", self.name);
        }
        word
    }

    /// Law 7: a node that is healthy again is served within 6 s. Only where all three
    /// connections were lost is the next attempt a hold away.
    fn limit_of_recovery(&self, sequence: &Sequence) -> Duration {
        let is_lost = |(state, _): &(State, u32)| *state == Lost;
        let has_held = sequence.iter().any(|(state, _)| matches!(state, Frozen | VotedOut));
        match sequence.iter().any(is_lost) && has_held {
            true => 83 * SECOND,
            false => 6 * SECOND + WHOLE,
        }
    }
}

/// The node, and the network to it.
#[derive(Clone)]
struct Network {
    node: Node,
    is_refused: Arc<AtomicUsize>,
    /// How often connections were lost.
    losses: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Network {
    fn new() -> Self {
        let node = Node::new(Script::synced());
        let (is_refused, losses, open) = Default::default();
        Self { node, is_refused, losses, open }
    }

    fn enter(&self, state: State) {
        self.is_refused.store((state == Refused).into(), SeqCst);
        self.node.set_script(match state {
            Healthy | Lost | Refused => Script::synced(),
            Frozen => Script::frozen(),
            VotedOut => Script::synced().contact(Contact::Awaited),
            NonPrimary => Script::non_primary(),
            Denied => {
                Script { instead_of_login: Some(wire::err(2, 1045, "no")), ..Script::synced() }
            }
        });
        if state == Lost {
            self.losses.fetch_add(1, SeqCst);
        }
    }
}

impl Connect for Network {
    fn connect(&self, budget: Duration) -> TransportFuture {
        if self.is_refused.load(SeqCst) > 0 {
            return Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) });
        }
        // Law 2.
        assert!(self.open.fetch_add(1, SeqCst) < 3, "law 2: a fourth connection");
        let guard = Guard(Arc::clone(&self.open));
        let (losses, connecting) = (Arc::clone(&self.losses), self.node.connect(budget));
        let born = losses.load(SeqCst);
        Box::pin(async move {
            let stream = connecting.await?;
            Ok(Box::new(Losable { stream, losses, born, _guard: guard }) as Box<dyn Transport>)
        })
    }
}

struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A connection whose packets are lost from the next loss on.
struct Losable {
    stream: Box<dyn Transport>,
    losses: Arc<AtomicUsize>,
    born: usize,
    _guard: Guard,
}

impl Losable {
    fn is_lost(&self) -> bool {
        self.losses.load(SeqCst) > self.born
    }
}

impl Transport for Losable {}

impl AsyncRead for Losable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.is_lost() {
            true => Poll::Pending,
            false => Pin::new(&mut self.stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Losable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.is_lost() {
            true => Poll::Ready(Ok(bytes.len())),
            false => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
