//! The whole program but for its sockets, before a node and among clients that do
//! whatever a seed says, on a clock that runs as fast as they let it. Whatever
//! happens, the laws hold.
//!
//! `GALERA_PROBE_SEEDS=7` runs one seed again, `GALERA_PROBE_SEEDS=0..100000` many.

mod support;

use std::env;
use std::future::pending;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use fastrand::Rng;
use galera_probe::galera::Policy;
use galera_probe::health::Reason;
use galera_probe::http::{self, Problem, Route};
use galera_probe::monitor::{Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use galera_probe::node::transport::{Transport, TransportFuture};
use galera_probe::server::{MAX_CONNECTIONS, Server};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use support::node::{Fault, Node, PASSWORD, Script, USER};
use support::wire;

const SEEDS: Range<u64> = 0..2000;
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// For how long clients come.
const LONG: Duration = Duration::from_secs(120);

/// How far off a time in an answer may be.
const ROUNDED: Duration = Duration::from_millis(50);

/// The longest back-off and hold, and settling.
const LONGEST: Duration = Duration::from_secs(21 * 60);

#[test]
#[expect(clippy::print_stdout, reason = "the figure is to be seen")]
fn the_laws_hold_whatever_happens() {
    let mut seen = Verdicts::default();
    let seeds = match env::var("GALERA_PROBE_SEEDS") {
        Ok(seeds) => read(&seeds).expect("a seed, or FROM..TO"),
        Err(_) => SEEDS,
    };
    for seed in seeds.clone() {
        let verdicts = catch_unwind(AssertUnwindSafe(|| simulate(seed)));
        let verdicts =
            verdicts.unwrap_or_else(|_| panic!("a law is broken: GALERA_PROBE_SEEDS={seed}"));
        seen.serve += verdicts.serve;
        seen.refuse += verdicts.refuse;
        seen.stalled += verdicts.stalled;
    }
    println!("{} seeds: {seen:?}", seeds.end - seeds.start);
    // Seeds in which nothing happens prove nothing.
    if seeds.end - seeds.start >= 100 {
        assert!(seen.serve > 1000 && seen.refuse > 1000 && seen.stalled > 1000, "{seen:?}");
    }
}

fn read(seeds: &str) -> Option<Range<u64>> {
    match seeds.split_once("..") {
        Some((from, to)) => Some(from.parse().ok()?..to.parse().ok()?),
        None => seeds.parse().ok().map(|seed| seed..seed + 1),
    }
}

/// Answers of each kind.
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
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let world = World::new(&mut random);
        let (monitor, handle) = Monitor::new(world.clone(), world.settings());
        let target = tokio::spawn(monitor.run());
        let server = Server::new(Vec::new(), MAX_CONNECTIONS, move |route, format| {
            let handle = handle.clone();
            async move {
                match route {
                    Route::Health(role) => {
                        http::Response::health(handle.health(role).await, format)
                    }
                    Route::Problem(problem) => http::Response::problem(problem, format),
                    _ => http::Response::problem(Problem::NotFound, format),
                }
            }
        });

        let connect = async |random: &mut Rng| {
            let (client, accepted) = duplex(random.usize(16..4096));
            server.begin(accepted).await;
            client
        };

        let faults = tokio::spawn(world.clone().change_for_ever(random.fork()));
        let mut clients = JoinSet::new();
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            // Now and then several at once.
            for _ in 0..random.usize(1..20).saturating_sub(15).max(1) {
                clients.spawn(ask(connect(&mut random).await, random.fork()));
            }
            sleep(random_time(&mut random, 8 * SECOND)).await;
        }
        faults.abort();
        let _ = faults.await;

        // A node that is well again is served again, however it was before.
        world.set_script(Script::synced(), Way::Free);
        let well = Instant::now();
        while request(connect(&mut random).await, REQUESTS[0], None).await.word != "serve" {
            assert!(well.elapsed() < LONGEST, "it does not come back");
            sleep(SECOND).await;
        }

        // Some still wait when it ends.
        world.set_script(script(&mut random), Way::Free);
        sleep(world.timing.max_age).await;
        for _ in 0..4 {
            clients.spawn(ask(connect(&mut random).await, random.fork()));
        }
        sleep(random_time(&mut random, SECOND)).await;
        target.abort();
        assert!(target.await.unwrap_err().is_cancelled());
        let answers: Vec<_> = clients.join_all().await.into_iter().flatten().collect();

        let verdicts = world.hold_to_the_laws(&answers);
        // Law 5: nothing is left, but for the node's own connections.
        assert_eq!(world.open.load(SeqCst), 0, "a connection is left");
        world.node.set_script(Script::synced());
        server.stop(Duration::ZERO).await;
        sleep(2 * SECOND).await;
        assert_eq!(tasks(), 0, "a task is left");
        world.finishes_its_handshakes();
        verdicts
    })
}

/// Mostly short, now and then as long as may be.
fn random_time(random: &mut Rng, most: Duration) -> Duration {
    let share = random.f64() * random.f64();
    most.mul_f64(share)
}

/// The node as it changes, and what the probe makes of it.
#[derive(Clone)]
struct World {
    node: Node,
    timing: Timing,
    deadlines: Deadlines,
    way: Arc<Mutex<Way>>,
    /// What the node was from when on.
    was: Arc<Mutex<Vec<(Instant, Was)>>>,
    /// The probe's connections and attempts at one.
    open: Arc<AtomicUsize>,
}

/// How connecting goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Free,
    Slow(Duration),
    Refused,
    Lost,
    Unreachable,
}

/// What the node is for a while.
#[derive(Clone, Copy, Debug)]
struct Was {
    /// Whether SHOW STATUS and SHOW VARIABLES would call it fit, each by itself:
    /// they are answered one after the other.
    status: bool,
    variables: bool,
    /// Once it says nothing, it says nothing more.
    silent: bool,
}

impl World {
    fn new(random: &mut Rng) -> Self {
        let seconds =
            |from: &[u64], random: &mut Rng| Duration::from_millis(*random.choice(from).unwrap());
        let step = seconds(&[300, 1000], random);
        let world = Self {
            node: Node::new(Script::synced()),
            timing: Timing {
                max_age: seconds(&[0, 500, 1000, 3000], random),
                settle: seconds(&[0, 4000, 10_000], random),
                grace: seconds(&[0, 0, 5000], random),
                keep_connection: seconds(&[0, 1000, 30_000], random),
            },
            deadlines: Deadlines { step, whole: step.max(seconds(&[0, 2000], random)) },
            way: Arc::new(Mutex::new(Way::Free)),
            was: Arc::default(),
            open: Arc::default(),
        };
        world.set_script(Script::synced(), Way::Free);
        world
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

    fn set_script(&self, script: Script, way: Way) {
        let says = |name: &str, value: &str| script.variables[name] == value;
        let answers = script.statement_error.is_none();
        let stalls = matches!(script.fault, Fault::StallAfter(_) | Fault::FreezeAfter(_));
        let was = Was {
            status: answers && says("wsrep_local_state", "4") && says("wsrep_ready", "ON"),
            variables: answers && says("read_only", "OFF"),
            silent: matches!(way, Way::Free) && (script.frozen || stalls),
        };
        self.was.lock().unwrap().push((Instant::now(), was));
        *self.way.lock().unwrap() = way;
        self.node.set_script(script);
    }

    async fn change_for_ever(self, mut random: Rng) {
        loop {
            let way = match random.u8(0..20) {
                0 => Way::Slow(random_time(&mut random, 3 * SECOND)),
                1 => Way::Refused,
                2 => Way::Lost,
                3 => Way::Unreachable,
                _ => Way::Free,
            };
            self.set_script(script(&mut random), way);
            sleep(random_time(&mut random, 60 * SECOND)).await;
        }
    }

    /// What the node was at `time`, and since when.
    fn was(&self, time: Instant) -> (Instant, Was) {
        *self.was.lock().unwrap().iter().rev().find(|(since, _)| *since <= time).unwrap()
    }

    /// Whether the node was fit, in each of two parts, at any time of the two.
    fn was_fit(&self, from: Instant, to: Instant) -> bool {
        let was = self.was.lock().unwrap();
        let ends = was.iter().skip(1).map(|(end, _)| *end).chain([to]);
        let of_then = was.iter().zip(ends).filter(|((begin, _), end)| *begin <= to && *end >= from);
        let (status, variables): (Vec<_>, Vec<_>) =
            of_then.map(|((_, was), _)| (was.status, was.variables)).unzip();
        status.contains(&true) && variables.contains(&true)
    }

    fn hold_to_the_laws(&self, answers: &[Response]) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let mut answers = answers.to_vec();
        answers.sort_by_key(|answer| answer.answered_at);
        for (at, answer) in answers.iter().enumerate() {
            // Law 1: within the deadline of the whole, by the timer's grain.
            let took = answer.answered_at - answer.sent_at;
            assert!(took <= self.deadlines.whole + MILLISECOND, "{answer:?} took {took:?}");
            match answer.word {
                "serve" => verdicts.serve += 1,
                word if word.starts_with("stalled-") => verdicts.stalled += 1,
                _ => verdicts.refuse += 1,
            }
            if answer.word == "serve" {
                let known = self.timing.max_age.max(self.timing.grace) + self.deadlines.whole;
                let from = answer.sent_at.checked_sub(known).unwrap_or(answer.sent_at);
                assert!(self.was_fit(from, answer.answered_at), "{answer:?} on old facts");
            }
            for earlier in
                answers[..at].iter().filter(|earlier| earlier.answered_at < answer.answered_at)
            {
                self.stays_refused(earlier, answer);
            }
        }
        verdicts
    }

    fn stays_refused(&self, earlier: &Response, answer: &Response) {
        let Some(stalled) = earlier.stalled else { return };
        // Law 3: while the node is as it was when the step began that stalled, nobody
        // waits for it.
        let (since, was) = self.was(answer.answered_at);
        let is_silent = was.silent && earlier.word.starts_with("stalled-");
        let since = since + 2 * ROUNDED;
        if is_silent && earlier.word != "stalled-connect" && since <= earlier.answered_at - stalled
        {
            assert_eq!(answer.answered_at, answer.sent_at, "{answer:?} waited after {earlier:?}");
        }
        // Law 4: who wakes has to stay fit, for twice as long as it was stalled.
        if self.timing.grace.is_zero() && answer.word == "serve" {
            let settling = (2 * stalled).min(self.timing.settle);
            assert!(
                answer.answered_at >= earlier.answered_at + settling,
                "{answer:?} after {earlier:?}"
            );
        }
    }

    /// Law 4: what is left unfinished backs off, whatever the node is. Between two
    /// changes of it that is at most one connection each 5 s.
    fn finishes_its_handshakes(&self) {
        let changes = self.was.lock().unwrap().len();
        let unfinished = self.node.seen.unfinished();
        let most = 2 * changes + usize::try_from(LONG.as_secs() / 5).unwrap();
        assert!(unfinished <= most, "{unfinished} handshakes unfinished in {changes} changes");
    }
}

/// Any state or fault, but for errors that a server does not hold against anybody.
fn script(random: &mut Rng) -> Script {
    let byte = random.usize(0..700);
    let pause = random_time(random, SECOND);
    match random.u8(0..16) {
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
        _ => Script::synced(),
    }
}

/// One connection, or an attempt at it, until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Connect for World {
    fn connect(&self, budget: Duration) -> TransportFuture {
        // Law 2.
        assert_eq!(self.open.fetch_add(1, SeqCst), 0, "a second connection");
        let open = Open(Arc::clone(&self.open));
        let way = *self.way.lock().unwrap();
        let opening = self.node.connect(budget);
        Box::pin(async move {
            match way {
                Way::Free => {}
                Way::Slow(time) => sleep(time).await,
                Way::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                Way::Lost => pending().await,
                Way::Unreachable => return Err(io::ErrorKind::HostUnreachable.into()),
            }
            let counted = Counted { stream: opening.await?, _open: open };
            Ok(Box::new(counted) as Box<dyn Transport>)
        })
    }
}

struct Counted {
    stream: Box<dyn Transport>,
    _open: Open,
}

impl Transport for Counted {}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What a balancer was told.
#[derive(Clone, Debug)]
struct Response {
    /// When its request was complete.
    sent_at: Instant,
    answered_at: Instant,
    word: &'static str,
    /// For how long the node had been stalled, at the least.
    stalled: Option<Duration>,
}

/// A client of any kind. What is asked as it should be is answered.
async fn ask(mut client: DuplexStream, mut random: Rng) -> Option<Response> {
    let complete: &[u8] = random.choice(REQUESTS).unwrap();
    let part = random.usize(0..complete.len());
    match random.u8(0..12) {
        0 => sleep(random_time(&mut random, 20 * SECOND)).await,
        1 => {
            let _ = client.write_all(&complete[..part]).await;
            sleep(random_time(&mut random, 20 * SECOND)).await;
        }
        2 => {
            // It goes before it has read its answer, or all of it.
            let _ = client.write_all(complete).await;
            sleep(random_time(&mut random, 4 * SECOND)).await;
        }
        3 => {
            let bytes: Vec<u8> = (0..part).map(|_| random.u8(..)).collect();
            let _ = client.write_all(&bytes).await;
            let _ = client.shutdown().await;
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer).await;
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"));
        }
        4 | 5 => return Some(request(client, complete, Some(&mut random)).await),
        _ => return Some(request(client, complete, None).await),
    }
    None
}

/// Asks as a balancer does, at once or in pieces with pauses between them.
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
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    read_answer(&answer, sent_at)
}

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nping",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nping\r\n0\r\n\r\n",
];

/// 200 and serve, or 503 and a reason that is known: nothing else.
fn read_answer(answer: &str, sent_at: Instant) -> Response {
    let answered_at = Instant::now();
    let word = answer.split("\r\nGalera-Probe: ").nth(1).and_then(|rest| rest.lines().next());
    let (status, word) = if word == Some("serve") {
        ("200 OK", "serve")
    } else {
        let known = Reason::ALL.iter().map(|reason| reason.as_str());
        let word = known.into_iter().find(|known| word == Some(known));
        ("503 Service Unavailable", word.unwrap_or_else(|| panic!("no word: {answer}")))
    };
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
    let stalled = answer.split("; for ").nth(1).map(|rest| {
        let seconds: f64 = rest.trim_end_matches(" s\n").parse().unwrap();
        Duration::from_secs_f64(seconds).saturating_sub(ROUNDED)
    });
    Response { sent_at, answered_at, word, stalled }
}
