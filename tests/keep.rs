//! Kept connections (`--keep-connection`): they save logins, and if one fails, callers still
//! get the node's verdict. On tokio's paused clock.

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

/// A monitor that keeps connections and caches no verdict, and its node, synced at first.
struct Setup {
    node: Node,
    connector: FaultyConnector,
    handle: Handle,
    monitor: JoinHandle<()>,
}

impl Setup {
    fn start() -> Self {
        Self::start_with_credentials(CredentialSource::fixed(credentials(PASSWORD)))
    }

    fn start_with_credentials(credentials: CredentialSource) -> Self {
        Self::start_with(credentials, Deadlines { step: SECOND, whole: WHOLE })
    }

    fn start_with(credentials: CredentialSource, deadlines: Deadlines) -> Self {
        let node = Node::new(Script::synced());
        let connector = FaultyConnector { node: node.clone(), last: Arc::default() };
        let settings = Settings {
            credentials,
            deadlines,
            policy: Policy::default(),
            timing: Timing { keep_connection: KEEP, settle: 10 * SECOND, ..Timing::default() },
        };
        let (monitor, handle) = Monitor::new(connector.clone(), settings);
        Self { node, connector, handle, monitor: tokio::spawn(monitor.run()) }
    }

    /// The verdict's word for one caller, and how long the caller waited.
    async fn query(&self) -> (&'static str, Duration) {
        let (health, took) = self.query_health().await;
        (health.verdict.as_str(), took)
    }

    async fn query_health(&self) -> (Health, Duration) {
        let began = Instant::now();
        let health = self.handle.health(Role::ReadWrite).await;
        let took = began.elapsed();
        // Lets the other tasks run until they are idle.
        sleep(MILLISECOND).await;
        (health, took)
    }

    /// How many connections the node has seen.
    fn connections(&self) -> usize {
        self.node.seen.connections.load(SeqCst)
    }

    /// How many connections are open, and how many have ended with COM_QUIT.
    fn open_and_quit(&self) -> (usize, usize) {
        (self.node.seen.open.load(SeqCst), self.node.seen.quits.load(SeqCst))
    }

    /// How many kept connections were replaced; `None` for none.
    async fn replaced(&self) -> Option<u64> {
        self.handle.report().await.counters.probes.get("replaced").copied()
    }
}

fn credentials(password: &str) -> Credentials {
    Credentials::new(USER, Password::new(password)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn uses_a_connection_again_until_it_is_60_s_old() {
    let setup = Setup::start();
    for minute in 1..=3 {
        let began = Instant::now();
        while began.elapsed() < KEEP {
            assert_eq!(setup.query().await, ("serve", AT_ONCE));
            assert_eq!((setup.connections(), setup.open_and_quit()), (minute, (1, minute - 1)));
            sleep(SECOND - MILLISECOND).await;
        }
    }
    assert_eq!(setup.node.seen.unfinished(), 0);
    assert_eq!(setup.replaced().await, None);
}

#[tokio::test(start_paused = true)]
async fn reads_the_state_anew_for_each_probe() {
    let setup = Setup::start();
    for (script, word) in [
        (Script::synced(), "serve"),
        (Script::donor(), "donor"),
        (Script::non_primary(), "non-primary"),
        (Script::synced().with(&[("read_only", "1")]), "read-only"),
        (Script::synced(), "serve"),
    ] {
        setup.node.set_script(script);
        assert_eq!(setup.query().await, (word, AT_ONCE));
    }
    assert_eq!(setup.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn reads_every_variable_again_that_the_server_has() {
    let setup = Setup::start();
    let percona =
        [("super_read_only", "OFF"), ("offline_mode", "OFF"), ("pxc_maint_mode", "DISABLED")];
    for (name, value, word) in [
        ("offline_mode", "OFF", "serve"),
        ("super_read_only", "1", "read-only"),
        ("offline_mode", "1", "offline"),
        ("pxc_maint_mode", "MAINTENANCE", "maintenance"),
    ] {
        setup.node.set_script(Script::synced().with(&percona).with(&[(name, value)]));
        assert_eq!(setup.query().await, (word, AT_ONCE));
    }
    assert_eq!(setup.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn replaces_a_connection_that_ended_between_two_probes() {
    for fault in [
        Fault::Closed,
        Fault::Reset,
        Fault::WriteFails,
        // ER_CONNECTION_KILLED and ER_CLIENT_INTERACTION_TIMEOUT.
        Fault::Sent(wire::err(1, 1927, "Connection was killed")),
        Fault::Sent(wire::err(0, 4031, "disconnected by the server because of inactivity")),
    ] {
        let setup = Setup::start();
        setup.query().await;
        setup.connector.set_fault(fault.clone());
        sleep(SECOND).await;
        assert_eq!(setup.query().await, ("serve", AT_ONCE), "{fault:?}");
        assert_eq!((setup.connections(), setup.node.seen.open.load(SeqCst)), (2, 1), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_take_unsolicited_bytes_for_replies() {
    let setup = Setup::start();
    setup.query().await;
    let variables = |script: Script| wire::rows(&script.variables.into_iter().collect::<Vec<_>>());
    let healthy = variables(Script::synced());
    let replies = [wire::ok(1), healthy.clone(), healthy].concat();
    setup.connector.set_fault(Fault::Sent(replies));
    setup.node.set_script(Script::donor());
    assert_eq!(setup.query().await, ("donor", AT_ONCE));
    assert_eq!(setup.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn replaces_a_silent_connection_within_the_callers_deadline() {
    // The kept connection gets the step's deadline, at most half of the whole one.
    for (step, took) in [(WHOLE / 4, WHOLE / 4), (WHOLE / 2, WHOLE / 2), (WHOLE, WHOLE / 2)] {
        let credentials = CredentialSource::fixed(credentials(PASSWORD));
        let setup = Setup::start_with(credentials, Deadlines { step, whole: WHOLE });
        setup.query().await;
        setup.connector.set_fault(Fault::Silent);
        assert_eq!(setup.query().await, ("serve", took));
        assert_eq!((setup.connections(), setup.replaced().await), (2, Some(1)));
        // The connection was silent and not the node, so nothing settles.
        assert_eq!(setup.query().await, ("serve", AT_ONCE));
        assert_eq!((setup.connections(), setup.node.seen.unfinished()), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_node_is_found_by_the_new_connection_which_is_held() {
    let setup = Setup::start();
    setup.query().await;
    setup.node.set_script(Script::frozen());
    // The stall began with the query on the kept connection.
    let (health, took) = setup.query_health().await;
    assert_eq!((health.verdict.as_str(), took), ("stalled-greeting", WHOLE));
    assert_eq!(health.time, Some(Time::For(WHOLE)));
    sleep(KEEP).await;
    assert_eq!(setup.query().await, ("stalled-greeting", AT_ONCE));
    // The one that is held, and two scouts.
    assert_eq!(setup.connections(), 4);
    // The node wakes, and the held connection is by now too old to be kept. Its login resets
    // the server's count, so the scouts are dropped.
    setup.node.set_script(Script::synced());
    sleep(MILLISECOND).await;
    assert_eq!((setup.node.seen.unfinished(), setup.open_and_quit()), (0, (0, 1)));
    assert_eq!(setup.query().await, ("serve", AT_ONCE));
    assert_eq!((setup.connections(), setup.node.seen.checks.load(SeqCst)), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn confirms_an_error_on_a_new_connection() {
    let setup = Setup::start();
    setup.query().await;
    let error = Some((1820, "expired".to_owned()));
    setup.node.set_script(Script { statement_error: error, ..Script::synced() });
    for connections in 2..=4 {
        assert_eq!(setup.query().await, ("password-expired", AT_ONCE));
        assert_eq!(setup.connections(), connections);
    }
    assert_eq!((setup.replaced().await, setup.open_and_quit().0), (Some(1), 0));
}

#[tokio::test(start_paused = true)]
async fn reports_a_node_that_is_gone() {
    let setup = Setup::start();
    setup.query().await;
    setup.connector.set_fault(Fault::Closed);
    let closes = Script { instead_of_greeting: Some(Vec::new()), ..Script::synced() };
    setup.node.set_script(closes);
    assert_eq!(setup.query().await, ("disconnected", AT_ONCE));
}

#[tokio::test(start_paused = true)]
async fn maintenance_closes_the_kept_connection() {
    let setup = Setup::start();
    setup.query().await;
    setup.handle.refuse(Reason::Maintenance).await;
    sleep(MILLISECOND).await;
    assert_eq!((setup.connections(), setup.open_and_quit()), (1, (0, 1)));
    // A probe run under way closes its connection too.
    setup.node.set_script(Script::frozen());
    let ((word, _), ()) = tokio::join!(setup.query(), async {
        sleep(10 * MILLISECOND).await;
        setup.handle.refuse(Reason::Maintenance).await;
        setup.node.set_script(Script::synced());
    });
    assert_eq!(word, "serve");
    assert_eq!((setup.connections(), setup.open_and_quit()), (2, (0, 2)));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_monitor_sends_com_quit() {
    let setup = Setup::start();
    setup.query().await;
    setup.monitor.abort();
    sleep(MILLISECOND).await;
    assert_eq!(setup.open_and_quit(), (0, 1));
}

/// Not on the paused clock: a background thread reads the password.
#[tokio::test]
async fn new_credentials_close_the_kept_connection() {
    let password = Arc::new(Mutex::new(PASSWORD));
    let read = Arc::clone(&password);
    let credentials = CredentialSource::reloaded(credentials(PASSWORD), move || {
        Ok(credentials(*read.lock().unwrap()))
    });
    let setup = Setup::start_with_credentials(credentials.clone());
    setup.query().await;
    *password.lock().unwrap() = "other";
    credentials.schedule_reread();
    while setup.open_and_quit() != (0, 1) {
        sleep(MILLISECOND).await;
    }
    assert_eq!(setup.query().await.0, "access-denied");
}

/// Connects to the node, and injects faults into the last connection.
#[derive(Clone)]
struct FaultyConnector {
    node: Node,
    last: Arc<Mutex<SharedFault>>,
}

type SharedFault = Arc<Mutex<Fault>>;

/// A fault of an open connection.
#[derive(Clone, Debug, Default)]
enum Fault {
    #[default]
    None,
    /// Bytes are lost in both directions.
    Silent,
    /// The server closed the connection.
    Closed,
    /// The server reset the connection.
    Reset,
    /// Writes fail.
    WriteFails,
    /// The server sent these bytes unsolicited, and closed the connection.
    Sent(Vec<u8>),
}

impl FaultyConnector {
    /// Injects the fault into the last connection.
    fn set_fault(&self, fault: Fault) {
        *self.last.lock().unwrap().lock().unwrap() = fault;
    }
}

impl Connect for FaultyConnector {
    fn connect(&self, budget: Duration) -> TransportFuture {
        let connecting = self.node.connect(budget);
        let fault = SharedFault::default();
        *self.last.lock().unwrap() = Arc::clone(&fault);
        Box::pin(async move {
            let stream = connecting.await?;
            Ok(Box::new(FaultyTransport { stream, fault }) as Box<dyn Transport>)
        })
    }
}

struct FaultyTransport {
    stream: Box<dyn Transport>,
    fault: SharedFault,
}

impl Transport for FaultyTransport {}

impl AsyncRead for FaultyTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let fault = self.fault.lock().unwrap().clone();
        match fault {
            Fault::None | Fault::WriteFails => {
                Pin::new(&mut self.stream).poll_read(context, buffer)
            }
            Fault::Silent => Poll::Pending,
            Fault::Closed => Poll::Ready(Ok(())),
            Fault::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Fault::Sent(mut bytes) => {
                let length = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..length]);
                bytes.drain(..length);
                *self.fault.lock().unwrap() = Fault::Sent(bytes);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for FaultyTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let fault = self.fault.lock().unwrap().clone();
        match fault {
            Fault::None => Pin::new(&mut self.stream).poll_write(context, bytes),
            Fault::Silent | Fault::Sent(_) => Poll::Ready(Ok(bytes.len())),
            Fault::Closed | Fault::Reset | Fault::WriteFails => {
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
