//! A simulation of the server and the monitor, without sockets and on tokio's paused
//! clock. A seed decides what the node, the network and the clients do; the laws of the
//! program must hold for every seed.
//!
//! `GALERA_PROBE_SEEDS=7` runs one seed again, `GALERA_PROBE_SEEDS=0..100000` runs many.
//!
//! The laws, and what is checked of them:
//!
//! 1. Every step has a deadline, and the whole probe run has one. A response comes within
//!    the deadline of the whole.
//! 2. One probe run at a time, however many callers. The node sees one connection at a
//!    time.
//! 3. No caller waits for a silent node. Once a caller was refused because the node
//!    stalled, later callers are answered at once while it stays silent.
//! 4. A handshake begun is a handshake finished. After one that is not, the monitor backs
//!    off.
//! 5. Everything can be cancelled. At the end, no connection and no task is left.
//! 6. After any doubt, 200 is proven and not believed. After a stall, a node settles
//!    before it is served. A 200 always rests on facts that are recent enough.
//! 7. No refusal outlives its fault. A node that is healthy again is served again.

mod support;

use std::env;
use std::future::pending;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use galera_probe::galera::Policy;
use galera_probe::health::Reason;
use galera_probe::http::{self, Format, Problem, Route};
use galera_probe::monitor::{CausalityCheck, Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use galera_probe::node::transport::TransportFuture;
use galera_probe::server::{MAX_CONNECTIONS, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{self, Builder};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use support::counted::OpenGuard;
use support::node::{Contact, Fault, Node, PASSWORD, Script, USER};
use support::wire;

const SEEDS: Range<u64> = 0..2000;
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// For how long new clients connect.
const RUN_TIME: Duration = Duration::from_secs(120);

/// The rounding error of a time in a response, which has one decimal.
const ROUNDING: Duration = Duration::from_millis(50);

/// The limit for the recovery of a healthy node within the first quarter of an hour: the
/// first hold, a scout, and settling.
const MAX_RECOVERY: Duration = Duration::from_secs(80 + 5 + 12);

const MODES: [CausalityCheck; 3] =
    [CausalityCheck::AfterStall, CausalityCheck::Always, CausalityCheck::Never];

#[test]
#[expect(clippy::print_stdout, reason = "prints the figures")]
fn keeps_the_laws_under_random_faults() {
    let seeds = match env::var("GALERA_PROBE_SEEDS") {
        Ok(seeds) => parse_seeds(&seeds).expect("a seed, or FROM..TO"),
        Err(_) => SEEDS,
    };
    let mut total = Verdicts::default();
    for seed in seeds.clone() {
        let verdicts = catch_unwind(AssertUnwindSafe(|| simulate(seed)));
        let verdicts =
            verdicts.unwrap_or_else(|_| panic!("a law is broken: GALERA_PROBE_SEEDS={seed}"));
        total.serve += verdicts.serve;
        total.refuse += verdicts.refuse;
        total.stalled += verdicts.stalled;
    }
    println!("{} seeds: {total:?}", seeds.end - seeds.start);
    // Seeds without faults or without verdicts prove nothing.
    if seeds.end - seeds.start >= 100 {
        assert!(total.serve > 1000 && total.refuse > 1000 && total.stalled > 1000, "{total:?}");
    }
}

fn parse_seeds(seeds: &str) -> Option<Range<u64>> {
    match seeds.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => seeds.parse().ok().map(|seed| seed..seed + 1),
    }
}

/// How many responses had each kind of verdict.
#[derive(Debug, Default)]
struct Verdicts {
    serve: usize,
    refuse: usize,
    stalled: usize,
}

fn simulate(seed: u64) -> Verdicts {
    let mut random = Rng::with_seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let tasks = || runtime::Handle::current().metrics().num_alive_tasks();
        let node = SimulatedNode::new(&mut random);
        let (monitor, handle) = Monitor::new(node.clone(), node.settings());
        let monitor = tokio::spawn(monitor.run());
        let server = Server::new(Vec::new(), MAX_CONNECTIONS, move |route, format| {
            answer(handle.clone(), route, format)
        });
        let connect = async |random: &mut Rng| {
            let (client, accepted) = duplex(random.usize(16..4096));
            server.serve_connection(accepted).await;
            client
        };

        let faults = tokio::spawn(node.clone().change_at_random(random.fork()));
        let mut clients = JoinSet::new();
        let end = Instant::now() + RUN_TIME;
        while Instant::now() < end {
            // One client at a time, sometimes up to four.
            for _ in 0..random.usize(1..20).saturating_sub(15).max(1) {
                clients.spawn(run_client(connect(&mut random).await, random.fork()));
            }
            sleep(random_time(&mut random, 8 * SECOND)).await;
        }
        faults.abort();
        let _ = faults.await;

        // Law 7.
        node.change(Script::synced(), Network::Up);
        let healthy = Instant::now();
        while request(connect(&mut random).await, REQUESTS[0], None).await.word != "serve" {
            assert!(healthy.elapsed() < MAX_RECOVERY, "a healthy node is not served");
            sleep(SECOND).await;
        }

        // Stop the monitor while clients wait.
        node.change(script(&mut random), Network::Up);
        sleep(node.timing.max_age).await;
        for _ in 0..4 {
            clients.spawn(run_client(connect(&mut random).await, random.fork()));
        }
        sleep(random_time(&mut random, SECOND)).await;
        monitor.abort();
        assert!(monitor.await.unwrap_err().is_cancelled());
        let responses: Vec<_> = clients.join_all().await.into_iter().flatten().collect();

        let verdicts = node.check_responses(&responses);
        // Law 5. The node's own tasks end once it answers again.
        assert_eq!(node.open.load(SeqCst), 0, "a connection is left");
        node.inner.set_script(Script::synced());
        server.stop(Duration::ZERO).await;
        sleep(2 * SECOND).await;
        assert_eq!(tasks(), 0, "a task is left");
        node.check_unfinished_handshakes();
        verdicts
    })
}

async fn answer(handle: Handle, route: Route, format: Format) -> http::Response {
    match route {
        Route::Health(role) => http::Response::health(handle.health(role).await, format),
        Route::Problem(problem) => http::Response::problem(problem, format),
        _ => http::Response::problem(Problem::NotFound, format),
    }
}

/// A random time below `limit`. Short ones are more likely.
fn random_time(random: &mut Rng, limit: Duration) -> Duration {
    let share = random.f64() * random.f64();
    limit.mul_f64(share)
}

/// A node that changes at random, the network to it, and the settings of its monitor.
#[derive(Clone)]
struct SimulatedNode {
    inner: Node,
    timing: Timing,
    deadlines: Deadlines,
    network: Arc<Mutex<Network>>,
    /// The node's states so far, each with its start.
    states: Arc<Mutex<Vec<(Instant, NodeState)>>>,
    /// The monitor's open connections and connection attempts.
    open: Arc<AtomicUsize>,
}

/// What happens to a connection attempt.
#[derive(Clone, Copy, Debug)]
enum Network {
    /// It succeeds at once.
    Up,
    /// It succeeds after a delay.
    Slow(Duration),
    /// The node's kernel refuses it.
    Refused,
    /// Its packets are lost.
    Lost,
    /// There is no route to the node.
    Unreachable,
}

/// The state of the node between two changes.
#[derive(Clone, Copy, Debug)]
struct NodeState {
    /// Whether the reply to SHOW STATUS is that of a fit node.
    status_fit: bool,
    /// The same for SHOW VARIABLES. The node may change between the two replies.
    variables_fit: bool,
    /// Once the node falls silent, it stays silent until the next change.
    silent: bool,
    contact: Contact,
}

impl SimulatedNode {
    fn new(random: &mut Rng) -> Self {
        let choose =
            |from: &[u64], random: &mut Rng| Duration::from_millis(*random.choice(from).unwrap());
        let step = choose(&[300, 1000], random);
        let node = Self {
            inner: Node::new(Script::synced()),
            timing: Timing {
                causality_check: *random.choice(&MODES).unwrap(),
                max_age: choose(&[0, 500, 1000, 3000], random),
                settle: choose(&[0, 4000, 10_000], random),
                grace: choose(&[0, 0, 5000], random),
                keep_connection: choose(&[0, 1000, 30_000], random),
            },
            deadlines: Deadlines { step, whole: step.max(choose(&[0, 2000], random)) },
            network: Arc::new(Mutex::new(Network::Up)),
            states: Arc::default(),
            open: Arc::default(),
        };
        node.change(Script::synced(), Network::Up);
        node
    }

    fn settings(&self) -> Settings {
        Settings {
            credentials: CredentialSource::fixed(
                Credentials::new(USER, Password::new(PASSWORD)).unwrap(),
            ),
            deadlines: self.deadlines,
            policy: Policy::default(),
            timing: self.timing,
        }
    }

    /// Puts the node and the network into another state.
    fn change(&self, script: Script, network: Network) {
        let has = |name: &str, value: &str| script.variables[name] == value;
        let answers = script.statement_error.is_none();
        let stalls = matches!(script.fault, Fault::StallAfter(_) | Fault::FreezeAfter(_));
        let state = NodeState {
            status_fit: answers && has("wsrep_local_state", "4") && has("wsrep_ready", "ON"),
            variables_fit: answers && has("read_only", "OFF"),
            silent: matches!(network, Network::Up) && (script.frozen || stalls),
            contact: script.contact,
        };
        self.states.lock().unwrap().push((Instant::now(), state));
        *self.network.lock().unwrap() = network;
        self.inner.set_script(script);
    }

    async fn change_at_random(self, mut random: Rng) {
        loop {
            let network = match random.u8(0..20) {
                0 => Network::Slow(random_time(&mut random, 3 * SECOND)),
                1 => Network::Refused,
                2 => Network::Lost,
                3 => Network::Unreachable,
                _ => Network::Up,
            };
            self.change(script(&mut random), network);
            sleep(random_time(&mut random, 60 * SECOND)).await;
        }
    }

    /// The node's state at `time`, with its start.
    fn state_at(&self, time: Instant) -> (Instant, NodeState) {
        *self.states.lock().unwrap().iter().rev().find(|(start, _)| *start <= time).unwrap()
    }

    /// The node's states between `from` and `to`.
    fn states_between(&self, from: Instant, to: Instant) -> Vec<NodeState> {
        let states = self.states.lock().unwrap();
        let ends = states.iter().skip(1).map(|(end, _)| *end).chain([to]);
        let overlapping =
            states.iter().zip(ends).filter(|((start, _), end)| *start <= to && *end >= from);
        overlapping.map(|((_, state), _)| *state).collect()
    }

    /// Whether each of the two replies could be that of a fit node at some time between
    /// `from` and `to`.
    fn was_fit(&self, from: Instant, to: Instant) -> bool {
        let states = self.states_between(from, to);
        states.iter().any(|state| state.status_fit)
            && states.iter().any(|state| state.variables_fit)
    }

    /// Whether a causality check could pass at some time between `from` and `to`, or be
    /// answered by a server that has none.
    fn had_contact(&self, from: Instant, to: Instant) -> bool {
        let has = |state: &NodeState| matches!(state.contact, Contact::Proven | Contact::Unknown);
        self.states_between(from, to).iter().any(has)
    }

    fn check_responses(&self, responses: &[Response]) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let mut responses = responses.to_vec();
        responses.sort_by_key(|response| response.answered_at);
        for (index, response) in responses.iter().enumerate() {
            // Law 1, with the resolution of tokio's timer.
            let took = response.answered_at - response.sent_at;
            assert!(took <= self.deadlines.whole + MILLISECOND, "{response:?} took {took:?}");
            match response.word {
                "serve" => verdicts.serve += 1,
                word if word.starts_with("stalled-") => verdicts.stalled += 1,
                _ => verdicts.refuse += 1,
            }
            if response.word == "serve" {
                // Law 6.
                let max_age = self.timing.max_age.max(self.timing.grace) + self.deadlines.whole;
                let from = response.sent_at.checked_sub(max_age).unwrap_or(response.sent_at);
                assert!(self.was_fit(from, response.answered_at), "{response:?} on old facts");
                let always = self.timing.causality_check == CausalityCheck::Always;
                assert!(
                    !always || self.had_contact(from, response.answered_at),
                    "{response:?} without proof"
                );
            }
            let is_earlier = |earlier: &&Response| earlier.answered_at < response.answered_at;
            for earlier in responses[..index].iter().filter(is_earlier) {
                self.check_after_stall(earlier, response);
            }
        }
        verdicts
    }

    /// Checks a response that came after `earlier`, if that reported a stall.
    fn check_after_stall(&self, earlier: &Response, response: &Response) {
        let Some(stalled) = earlier.stalled else { return };
        // Law 3 applies if the node has not changed since the stalled step began.
        let (start, state) = self.state_at(response.answered_at);
        let is_silent = state.silent && earlier.word.starts_with("stalled-");
        let start = start + 2 * ROUNDING;
        if is_silent && earlier.word != "stalled-connect" && start <= earlier.answered_at - stalled
        {
            assert_eq!(response.answered_at, response.sent_at, "{response:?} after {earlier:?}");
        }
        // Law 6: a node that woke has to prove itself. One that cannot be asked has to stay fit
        // for twice as long as it was stalled, and one that does not answer for the limit.
        if self.timing.grace.is_zero()
            && response.word == "serve"
            && earlier.word != "stalled-causality"
        {
            let (from, to) = (earlier.answered_at, response.answered_at);
            let contacts = self.states_between(from, to).into_iter().map(|state| state.contact);
            let asks = self.timing.causality_check != CausalityCheck::Never;
            let contacts: Vec<_> = contacts.collect();
            let needed = match asks {
                true if contacts.contains(&Contact::Proven) => Duration::ZERO,
                true if !contacts.contains(&Contact::Unknown) => self.timing.settle,
                _ => (2 * stalled).min(self.timing.settle),
            };
            assert!(to >= from + needed, "{response:?} after {earlier:?}");
        }
    }

    /// Law 4: after an unfinished handshake the monitor backs off, whatever the state of the
    /// node. Between two changes of the node, that allows one such connection per 5 s.
    fn check_unfinished_handshakes(&self) {
        let changes = self.states.lock().unwrap().len();
        let unfinished = self.inner.seen.unfinished();
        let limit = 2 * changes + usize::try_from(RUN_TIME.as_secs() / 5).unwrap();
        assert!(unfinished <= limit, "{unfinished} handshakes unfinished in {changes} changes");
    }
}

/// A random state or fault of the node. Does not contain failed logins that the server does
/// not count, because no back-off follows them.
fn script(random: &mut Rng) -> Script {
    let byte = random.usize(0..700);
    let pause = random_time(random, SECOND);
    match random.u8(0..20) {
        0 => Script::fault(Fault::FreezeAfter(byte)),
        1 => Script::fault(Fault::StallAfter(byte)),
        2 => Script::fault(Fault::CloseAfter(byte)),
        3 => Script::fault(Fault::DripAfter(byte, pause)),
        4 | 5 => Script::frozen(),
        6 => Script {
            instead_of_greeting: Some((0..byte).map(|_| random.u8(..)).collect()),
            ..Script::synced()
        },
        7 => Script { statement_error: Some((random.u16(..), "no".into())), ..Script::synced() },
        8 => Script { instead_of_login: Some(wire::err(2, 1045, "no")), ..Script::synced() },
        9 => Script { instead_of_greeting: Some(wire::err(0, 1129, "no")), ..Script::synced() },
        10 => Script { switch: true, ..Script::synced() },
        11 => Script::donor(),
        12 => Script::synced().with(&[("read_only", "ON")]),
        13 => Script::synced().contact(Contact::Awaited),
        14 => Script::synced().contact(Contact::Lost),
        15 => Script::synced().contact(Contact::Unknown),
        _ => Script::synced(),
    }
}

impl Connect for SimulatedNode {
    fn connect(&self, budget: Duration) -> TransportFuture {
        // Law 2: one connection, and two scouts while it is held.
        let before = self.open.load(SeqCst);
        assert!(before < 3, "{before} connections are open already");
        let open = OpenGuard::counted(&self.open);
        let network = *self.network.lock().unwrap();
        let connecting = self.inner.connect(budget);
        Box::pin(async move {
            match network {
                Network::Up => {}
                Network::Slow(time) => sleep(time).await,
                Network::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                Network::Lost => pending().await,
                Network::Unreachable => return Err(io::ErrorKind::HostUnreachable.into()),
            }
            let stream = connecting.await?;
            Ok(open.over(stream))
        })
    }
}

/// The response that a client received.
#[derive(Clone, Debug)]
struct Response {
    /// When the client had sent the whole request.
    sent_at: Instant,
    answered_at: Instant,
    word: &'static str,
    /// The duration of the stall in the response's body, rounded down.
    stalled: Option<Duration>,
}

/// A client that behaves well or badly at random. Returns the response to a valid request.
async fn run_client(mut client: DuplexStream, mut random: Rng) -> Option<Response> {
    let complete: &[u8] = random.choice(REQUESTS).unwrap();
    let part = random.usize(0..complete.len());
    match random.u8(0..12) {
        0 => sleep(random_time(&mut random, 20 * SECOND)).await,
        1 => {
            let _ = client.write_all(&complete[..part]).await;
            sleep(random_time(&mut random, 20 * SECOND)).await;
        }
        2 => {
            // Closes before it has read the response, or all of it.
            let _ = client.write_all(complete).await;
            sleep(random_time(&mut random, 4 * SECOND)).await;
        }
        3 => {
            let bytes: Vec<u8> = (0..part).map(|_| random.u8(..)).collect();
            let _ = client.write_all(&bytes).await;
            let _ = client.shutdown().await;
            let mut response = Vec::new();
            let _ = client.read_to_end(&mut response).await;
            assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 4"));
        }
        4 | 5 => return Some(request(client, complete, Some(&mut random)).await),
        _ => return Some(request(client, complete, None).await),
    }
    None
}

/// Sends a request as a balancer does, whole or in pieces with pauses between them.
async fn request(mut client: DuplexStream, bytes: &[u8], pieces: Option<&mut Rng>) -> Response {
    match pieces {
        None => client.write_all(bytes).await.unwrap(),
        Some(random) => {
            for piece in bytes.chunks(random.usize(1..bytes.len())) {
                sleep(random_time(random, 50 * MILLISECOND)).await;
                client.write_all(piece).await.unwrap();
            }
        }
    }
    let sent_at = Instant::now();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    parse_response(&text, sent_at)
}

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nping",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nping\r\n0\r\n\r\n",
];

/// Parses a response, which must be 200 with `serve` or 503 with a known reason.
fn parse_response(text: &str, sent_at: Instant) -> Response {
    let answered_at = Instant::now();
    let word = text.split("\r\nGalera-Probe: ").nth(1).and_then(|rest| rest.lines().next());
    let (status, word) = if word == Some("serve") {
        ("200 OK", "serve")
    } else {
        let known = Reason::ALL.iter().map(|reason| reason.as_str());
        let word = known.into_iter().find(|known| word == Some(known));
        ("503 Service Unavailable", word.unwrap_or_else(|| panic!("no known reason: {text}")))
    };
    assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{text}");
    let stalled = text.split("; for ").nth(1).map(|rest| {
        let seconds: f64 = rest.trim_end_matches(" s\n").parse().unwrap();
        Duration::from_secs_f64(seconds).saturating_sub(ROUNDING)
    });
    Response { sent_at, answered_at, word, stalled }
}
