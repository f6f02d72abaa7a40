//! A connection that is kept and asked again (`--keep-connection`), on a clock that
//! only the test moves: it saves the login, and costs no answer whatever becomes of it.

mod support;

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use galera_probe::galera::Policy;
use galera_probe::health::{Health, Reason, Role, Time};
use galera_probe::monitor::{Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use galera_probe::node::transport::{Transport, TransportFuture};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use support::node::{Node, PASSWORD, Script, USER};
use support::wire;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const AT_ONCE: Duration = Duration::ZERO;
const WHOLE: Duration = Duration::from_secs(2);
const KEEP: Duration = Duration::from_secs(60);

/// A probe that keeps its connections and asks for each caller, before a synced node.
struct Probe {
    node: Node,
    handle: Handle,
    paths: Paths,
    target: JoinHandle<()>,
}

impl Probe {
    fn start() -> Self {
        Self::start_as(CredentialSource::fixed(credentials(PASSWORD)))
    }

    fn start_as(login: CredentialSource) -> Self {
        Self::start_with(login, Deadlines { step: SECOND, whole: WHOLE })
    }

    fn start_with(login: CredentialSource, deadlines: Deadlines) -> Self {
        let node = Node::new(Script::synced());
        let paths = Paths { node: node.clone(), last: Arc::default() };
        let settings = Settings {
            credentials: login,
            deadlines,
            policy: Policy::default(),
            timing: Timing { keep_connection: KEEP, settle: 10 * SECOND, ..Timing::default() },
        };
        let (monitor, handle) = Monitor::new(paths.clone(), settings);
        Self { node, handle, paths, target: tokio::spawn(monitor.run()) }
    }

    /// The word and how long the answer took.
    async fn ask(&self) -> (&'static str, Duration) {
        let (health, took) = self.ask_health().await;
        (health.verdict.as_str(), took)
    }

    async fn ask_health(&self) -> (Health, Duration) {
        let began = Instant::now();
        let health = self.handle.health(Role::ReadWrite).await;
        let took = began.elapsed();
        // Lets the other tasks come to rest.
        sleep(MILLISECOND).await;
        (health, took)
    }

    fn connections(&self) -> usize {
        self.node.seen.connections.load(SeqCst)
    }

    /// Connections that are open, and those that COM_QUIT ended.
    fn open_and_quit(&self) -> (usize, usize) {
        (self.node.seen.open.load(SeqCst), self.node.seen.quits.load(SeqCst))
    }

    async fn replaced(&self) -> Option<u64> {
        self.handle.report().await.counters.probes.get("replaced").copied()
    }
}

fn credentials(password: &str) -> Credentials {
    Credentials::new(USER, Password::new(password)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_asked_again_until_it_is_as_old_as_it_may_be() {
    let probe = Probe::start();
    for minute in 1..=3 {
        let began = Instant::now();
        while began.elapsed() < KEEP {
            assert_eq!(probe.ask().await, ("serve", AT_ONCE));
            assert_eq!((probe.connections(), probe.open_and_quit()), (minute, (1, minute - 1)));
            sleep(SECOND - MILLISECOND).await;
        }
    }
    assert_eq!(probe.node.seen.unfinished(), 0);
    assert_eq!(probe.replaced().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_the_node_says_is_never_older_than_the_question() {
    let probe = Probe::start();
    for (script, word) in [
        (Script::synced(), "serve"),
        (Script::donor(), "donor"),
        (Script::non_primary(), "non-primary"),
        (Script::synced().with(&[("read_only", "1")]), "read-only"),
        (Script::synced(), "serve"),
    ] {
        probe.node.set_script(script);
        assert_eq!(probe.ask().await, (word, AT_ONCE));
    }
    assert_eq!(probe.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_every_variable_is_asked_again_for_all_of_them() {
    let probe = Probe::start();
    let percona =
        [("super_read_only", "OFF"), ("offline_mode", "OFF"), ("pxc_maint_mode", "DISABLED")];
    for (name, value, word) in [
        ("offline_mode", "OFF", "serve"),
        ("super_read_only", "1", "read-only"),
        ("offline_mode", "1", "offline"),
        ("pxc_maint_mode", "MAINTENANCE", "maintenance"),
    ] {
        probe.node.set_script(Script::synced().with(&percona).with(&[(name, value)]));
        assert_eq!(probe.ask().await, (word, AT_ONCE));
    }
    assert_eq!(probe.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_variable_that_is_gone_is_asked_for_no_more_on_a_new_connection() {
    let probe = Probe::start();
    probe.ask().await;
    let mut script = Script::synced().with(&[("super_read_only", "OFF")]);
    script.variables.remove("wsrep_desync");
    probe.node.set_script(script);
    for _ in 0..3 {
        assert_eq!(probe.ask().await, ("serve", AT_ONCE));
        assert_eq!((probe.connections(), probe.replaced().await), (2, Some(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ended_while_nobody_asked_costs_no_answer() {
    for became in [
        Became::Closed,
        Became::Reset,
        Became::Broken,
        // ER_CONNECTION_KILLED, ER_CLIENT_INTERACTION_TIMEOUT.
        Became::Said(wire::err(1, 1927, "Connection was killed")),
        Became::Said(wire::err(0, 4031, "disconnected by the server because of inactivity")),
    ] {
        let probe = Probe::start();
        probe.ask().await;
        probe.paths.set_script(became.clone());
        sleep(SECOND).await;
        assert_eq!(probe.ask().await, ("serve", AT_ONCE), "{became:?}");
        assert_eq!((probe.connections(), probe.node.seen.open.load(SeqCst)), (2, 1), "{became:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_nobody_asked_for_are_never_taken_for_the_next_ones() {
    let probe = Probe::start();
    probe.ask().await;
    let variables = |script: Script| wire::rows(&script.variables.into_iter().collect::<Vec<_>>());
    let healthy = variables(Script::synced());
    let replies = [wire::ok(1), healthy.clone(), healthy].concat();
    probe.paths.set_script(Became::Said(replies));
    probe.node.set_script(Script::donor());
    assert_eq!(probe.ask().await, ("donor", AT_ONCE));
    assert_eq!(probe.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dead_path_is_replaced_within_the_same_askers_time() {
    // The kept connection has its step's time, and at most half of the whole.
    for (step, took) in [(WHOLE / 4, WHOLE / 4), (WHOLE / 2, WHOLE / 2), (WHOLE, WHOLE / 2)] {
        let login = CredentialSource::fixed(credentials(PASSWORD));
        let probe = Probe::start_with(login, Deadlines { step, whole: WHOLE });
        probe.ask().await;
        probe.paths.set_script(Became::Silent);
        assert_eq!(probe.ask().await, ("serve", took));
        assert_eq!((probe.connections(), probe.replaced().await), (2, Some(1)));
        // It was the path that was silent, and not the node: nothing settles.
        assert_eq!(probe.ask().await, ("serve", AT_ONCE));
        assert_eq!((probe.connections(), probe.node.seen.unfinished()), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_freezes_is_found_by_the_new_connection_which_is_held() {
    let probe = Probe::start();
    probe.ask().await;
    probe.node.set_script(Script::frozen());
    // The stall began with the question on the connection before.
    let (health, took) = probe.ask_health().await;
    assert_eq!((health.verdict.as_str(), took), ("stalled-greeting", WHOLE));
    assert_eq!(health.time, Some(Time::For(WHOLE)));
    sleep(KEEP).await;
    assert_eq!(probe.ask().await, ("stalled-greeting", AT_ONCE));
    assert_eq!(probe.connections(), 2);
    // It wakes, and the connection that was held is kept no longer than it may be.
    probe.node.set_script(Script::synced());
    sleep(MILLISECOND).await;
    assert_eq!((probe.node.seen.unfinished(), probe.open_and_quit()), (0, (0, 1)));
    assert_eq!(probe.ask().await.0, "settling");
    sleep(10 * SECOND).await;
    assert_eq!(probe.ask().await, ("serve", AT_ONCE));
    assert_eq!(probe.connections(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_error_on_a_kept_connection_is_believed_on_a_new_one_alone() {
    let probe = Probe::start();
    probe.ask().await;
    let error = Some((1820, "expired".to_owned()));
    probe.node.set_script(Script { statement_error: error, ..Script::synced() });
    for connections in 2..=4 {
        assert_eq!(probe.ask().await, ("password-expired", AT_ONCE));
        assert_eq!(probe.connections(), connections);
    }
    assert_eq!((probe.replaced().await, probe.open_and_quit().0), (Some(1), 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_is_said_to_be_gone() {
    let probe = Probe::start();
    probe.ask().await;
    probe.paths.set_script(Became::Closed);
    let closes = Script { instead_of_greeting: Some(Vec::new()), ..Script::synced() };
    probe.node.set_script(closes);
    assert_eq!(probe.ask().await, ("disconnected", AT_ONCE));
}

#[tokio::test(start_paused = true)]
async fn maintenance_lets_the_connection_go() {
    let probe = Probe::start();
    probe.ask().await;
    probe.handle.refuse(Reason::Maintenance).await;
    sleep(MILLISECOND).await;
    assert_eq!((probe.connections(), probe.open_and_quit()), (1, (0, 1)));
    // Also the one that is under way.
    probe.node.set_script(Script::frozen());
    let (asked, ()) = tokio::join!(probe.ask(), async {
        sleep(10 * MILLISECOND).await;
        probe.handle.refuse(Reason::Maintenance).await;
        probe.node.set_script(Script::synced());
    });
    assert_eq!(asked.0, "serve");
    assert_eq!((probe.connections(), probe.open_and_quit()), (2, (0, 2)));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_dropped_takes_leave() {
    let probe = Probe::start();
    probe.ask().await;
    probe.target.abort();
    sleep(MILLISECOND).await;
    assert_eq!(probe.open_and_quit(), (0, 1));
}

/// The time is tokio's; the thread that reads the password takes none of it.
#[tokio::test]
async fn new_credentials_let_the_connection_go() {
    let password = Arc::new(Mutex::new(PASSWORD));
    let read = Arc::clone(&password);
    let login = CredentialSource::reloaded(credentials(PASSWORD), move || {
        Ok(credentials(*read.lock().unwrap()))
    });
    let probe = Probe::start_as(login.clone());
    probe.ask().await;
    *password.lock().unwrap() = "other";
    login.schedule_reread();
    while probe.open_and_quit() != (0, 1) {
        sleep(MILLISECOND).await;
    }
    assert_eq!(probe.ask().await.0, "access-denied");
}

/// The ways to a node, of which the last may become another.
#[derive(Clone)]
struct Paths {
    node: Node,
    last: Arc<Mutex<Arc<Mutex<Became>>>>,
}

/// What became of an open connection.
#[derive(Clone, Debug, Default)]
enum Became {
    #[default]
    Whole,
    /// Nothing comes through.
    Silent,
    /// The server has closed it.
    Closed,
    /// The server has reset it.
    Reset,
    /// It cannot be written on.
    Broken,
    /// The server has said this and closed it.
    Said(Vec<u8>),
}

impl Paths {
    fn set_script(&self, became: Became) {
        *self.last.lock().unwrap().lock().unwrap() = became;
    }
}

impl Connect for Paths {
    fn connect(&self, budget: Duration) -> TransportFuture {
        let opening = self.node.connect(budget);
        let became: Arc<Mutex<Became>> = Arc::default();
        *self.last.lock().unwrap() = Arc::clone(&became);
        Box::pin(async move {
            Ok(Box::new(Path { stream: opening.await?, became }) as Box<dyn Transport>)
        })
    }
}

struct Path {
    stream: Box<dyn Transport>,
    became: Arc<Mutex<Became>>,
}

impl Transport for Path {}

impl AsyncRead for Path {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let became = self.became.lock().unwrap().clone();
        match became {
            Became::Whole | Became::Broken => Pin::new(&mut self.stream).poll_read(context, buffer),
            Became::Silent => Poll::Pending,
            Became::Closed => Poll::Ready(Ok(())),
            Became::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Became::Said(mut bytes) => {
                let length = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..length]);
                bytes.drain(..length);
                *self.became.lock().unwrap() = Became::Said(bytes);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Path {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let became = self.became.lock().unwrap().clone();
        match became {
            Became::Whole => Pin::new(&mut self.stream).poll_write(context, bytes),
            Became::Silent | Became::Said(_) => Poll::Ready(Ok(bytes.len())),
            Became::Closed | Became::Reset | Became::Broken => {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
