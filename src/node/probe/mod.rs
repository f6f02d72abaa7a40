//! One probe run with the node, from connect to COM_QUIT, under its deadlines.

mod failure;
mod kept;
mod replies;
mod step;

use std::future::pending;
use std::io;
use std::mem;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroize;

use crate::galera::{self, Facts};
use crate::mysql::{Channel, Progress, Reply, Session};
use crate::node::connector::Connect;
use crate::node::credentials::CredentialSource;
use crate::node::tls::Tls;
use crate::node::transport::{Transport, TransportFuture};

pub use failure::Failure;
pub use step::{Stalled, Step};

/// Read at once; a whole reply is about 1 kB.
const READ: usize = 4 * 1024;

/// Said at the first login that works only as long as the server does not restart.
pub(crate) const RELIES_ON_CACHE: &str = "this login works only while the server has the \
    password in its cache (caching_sha2_password), and will fail after its next restart: \
    give --ssl-mode verify-ca or verify-identity, or the server's socket as --target";

/// How long a node may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For each step.
    pub step: Duration,
    /// For the whole probe run.
    pub whole: Duration,
}

/// One connection to the node and what is asked over it.
///
/// Everything that it holds is in this value: dropped at any point, it closes
/// its socket and leaves nothing behind.
pub struct Probe {
    connection: Connection,
    tls: Option<Tls>,
    input: BytesMut,
    output: BytesMut,
    /// How much of the output is sent.
    sent: usize,
    deadlines: Deadlines,
    began: Instant,
    step: Step,
    step_began: Instant,
    /// The steps before it, and how long they took.
    done: Vec<(Step, Duration)>,
    /// When the connection was begun, however often it was asked since.
    opened: Instant,
    /// For how long it is kept; zero: COM_QUIT follows the statements.
    keep: Duration,
    is_repeated: bool,
    /// What to ask on it once more.
    repeated_statements: [String; 2],
    /// Nothing was heard since then, on the connection before.
    silent_since: Option<Instant>,
}

enum Connection {
    Connecting(Pin<Box<dyn Future<Output = Connected> + Send>>),
    StartingTls(TransportFuture, Box<Session>),
    Open(Box<dyn Transport>, Box<Session>),
}

/// A way that is open, and the session over it.
type Connected = Result<(Box<dyn Transport>, Box<Session>), Failure>;

impl Probe {
    /// Begins a probe run now: the deadlines count from here.
    pub fn begin(node: &dyn Connect, login: &CredentialSource, deadlines: Deadlines) -> Self {
        let now = Instant::now();
        let security = node.security();
        let channel = match (&security.tls, security.is_socket) {
            (Some(tls), _) if tls.verifies() => Channel::Tls,
            (Some(_), _) => Channel::UnverifiedTls,
            (None, true) => Channel::Socket,
            (None, false) => Channel::Tcp,
        };
        let allow_cleartext = security.allow_cleartext;
        let opening = node.connect(deadlines.step.min(deadlines.whole));
        let login = login.clone();
        Self {
            connection: Connection::Connecting(Box::pin(async move {
                // Before the connect: a connection that is there does not wait for it.
                let credentials = login.current().await;
                let session =
                    Session::new(credentials, &galera::STATEMENTS).map_err(Failure::Session)?;
                let stream = opening.await.map_err(Failure::Connect)?;
                Ok((stream, Box::new(session.over(channel, allow_cleartext))))
            })),
            tls: security.tls,
            input: BytesMut::with_capacity(READ),
            output: BytesMut::with_capacity(READ),
            sent: 0,
            deadlines,
            began: now,
            step: Step::Connect,
            step_began: now,
            done: Vec::new(),
            opened: now,
            keep: Duration::ZERO,
            is_repeated: false,
            repeated_statements: Default::default(),
            silent_since: None,
        }
    }

    /// Runs on until the node's answer or failure, or until a deadline passes.
    /// After a stall the probe run is whole: it can be dropped, or run on with
    /// [`finish`](Probe::finish).
    ///
    /// # Errors
    /// [`Stalled`] at the deadline of the step or of the whole probe run,
    /// whichever comes first.
    pub async fn run(&mut self) -> Result<Result<Facts, Failure>, Stalled> {
        loop {
            let whole = self.began + self.deadlines.whole;
            let deadline = whole.min(self.step_began + self.deadlines.step);
            // A peer that always has one more byte never lets the timer's turn
            // come, so the clock is read as well.
            let advanced = match Instant::now() < deadline {
                true => timeout_at(deadline, self.advance()).await.ok(),
                false => None,
            };
            match advanced {
                Some(Some(Err(failure))) if failure.is_stalled_connect() => {
                    return Err(self.stalled());
                }
                Some(Some(result)) => return Ok(result),
                Some(None) => {}
                None => return Err(self.stalled()),
            }
        }
    }

    fn stalled(&self) -> Stalled {
        let since = self.silent_since.unwrap_or(self.step_began);
        Stalled { step: self.step, waited: since.elapsed() }
    }

    /// Runs on to the end without a deadline.
    pub async fn finish(&mut self) -> Result<Facts, Failure> {
        loop {
            if let Some(result) = self.advance().await {
                return result;
            }
        }
    }

    /// One turn of input and output, with the end if it came. Cancelled at any
    /// point it loses nothing.
    async fn advance(&mut self) -> Option<Result<Facts, Failure>> {
        match self.turn().await {
            Ok(None) => None,
            Ok(Some(replies)) => Some(self.answered(replies)),
            Err(failure) => Some(Err(failure)),
        }
    }

    fn answered(&mut self, replies: Vec<Reply>) -> Result<Facts, Failure> {
        if self.is_repeated {
            return replies::repeated_facts(replies);
        }
        let facts = replies::facts(replies)?;
        if self.is_kept() {
            self.repeated_statements = galera::repeated_statements(&facts);
        }
        Ok(facts)
    }

    async fn turn(&mut self) -> Result<Option<Vec<Reply>>, Failure> {
        let step = self.step;
        let broken = |error| Failure::broken(step, error);
        let (stream, session) = match &mut self.connection {
            Connection::Open(stream, session) => (stream, session),
            Connection::StartingTls(opening, session) => {
                let stream = opening.await.map_err(broken)?;
                let progress = session.tls_started(&mut self.output).map_err(Failure::Session)?;
                self.connection = match mem::replace(&mut self.connection, nowhere()) {
                    Connection::StartingTls(_, session) => Connection::Open(stream, session),
                    other => other,
                };
                return Ok(self.reached(progress));
            }
            Connection::Connecting(connecting) => {
                let (stream, session) = connecting.await?;
                let session = match self.keep.is_zero() {
                    true => session,
                    false => Box::new(session.kept()),
                };
                self.connection = Connection::Open(stream, session);
                self.enter(Step::Greeting);
                return Ok(None);
            }
        };
        while let Some(rest @ [_, ..]) = self.output.get(self.sent..) {
            match stream.write(rest).await.map_err(broken)? {
                0 => return Err(broken(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        stream.flush().await.map_err(broken)?;
        // There may have been a password in it.
        self.output.zeroize();
        self.output.clear();
        self.sent = 0;
        if step == Step::Tls {
            self.start_tls();
            return Ok(None);
        }
        self.input.clear();
        if stream.read_buf(&mut self.input).await.map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let progress = session.receive(&self.input, &mut self.output);
        Ok(self.reached(progress.map_err(Failure::Session)?))
    }

    /// The replies, if these were the last.
    fn reached(&mut self, progress: Progress) -> Option<Vec<Reply>> {
        match progress {
            Progress::Done(replies) => {
                self.enter(Step::Query);
                return Some(replies);
            }
            Progress::StartTls => self.enter(Step::Tls),
            Progress::Wait(stage) => self.enter(stage.into()),
        }
        None
    }

    fn start_tls(&mut self) {
        self.connection = match (mem::replace(&mut self.connection, nowhere()), &self.tls) {
            (Connection::Open(stream, session), Some(tls)) => {
                Connection::StartingTls(tls.start(stream), session)
            }
            (connection, _) => connection,
        };
    }

    /// Whether the login succeeded only because the server had the password in its
    /// cache.
    pub fn relies_on_cache(&self) -> bool {
        match &self.connection {
            Connection::Open(_, session) | Connection::StartingTls(_, session) => {
                session.relies_on_cache()
            }
            Connection::Connecting(_) => false,
        }
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.began
    }

    /// The step that it is in, or ended in. In [`Step::Query`] the login is
    /// complete.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Each step that it came to, and how long it took so far.
    pub fn step_times(&self) -> Vec<(Step, Duration)> {
        [self.done.as_slice(), &[(self.step, self.step_began.elapsed())]].concat()
    }

    fn enter(&mut self, step: Step) {
        if self.step != step {
            self.done.push((self.step, self.step_began.elapsed()));
            if step != Step::Greeting {
                self.silent_since = None;
            }
            self.step = step;
            self.step_began = Instant::now();
        }
    }
}

/// In the place of a way that is being turned into another.
fn nowhere() -> Connection {
    Connection::Connecting(Box::pin(pending()))
}
