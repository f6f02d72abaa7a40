//! One probe run: a MySQL conversation with the node from connect to the facts, under
//! deadlines. COM_QUIT follows when it is dropped.

mod cost;
mod deadlines;
mod failure;
mod inquiry;
mod kept;
mod notice;
mod step;

use std::future::pending;
use std::io;
use std::mem;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use zeroize::Zeroize;

use crate::galera::Facts;
use crate::mysql::{Channel, Progress, Session, Stage};
use crate::node::connector::Connect;
use crate::node::credentials::CredentialSource;
use crate::node::tls::{Tls, Verification};
use crate::node::transport::{Transport, TransportFuture};

use inquiry::Inquiry;

pub use cost::Cost;
pub use deadlines::Milestone;
pub(crate) use deadlines::OVERSLEPT;
pub use failure::Failure;
pub use inquiry::{Answer, Causality, Questions};
pub use notice::LoginNotice;
pub use step::{Deadlines, Stalled, Step};

/// The size of a read in bytes. A whole reply has about 1 kB.
const READ: usize = 4 * 1024;

/// One probe run and its connection.
///
/// Dropping it at any point closes the socket and leaves no task; after the login, COM_QUIT
/// comes first. A name lookup or a file read that blocks continues on its background thread,
/// which later probe runs share.
pub struct Probe {
    connection: Connection,
    inquiry: Inquiry,
    tls: Option<Tls>,
    input: BytesMut,
    output: BytesMut,
    /// How many bytes of `output` have been written to the stream.
    written: usize,
    deadlines: Deadlines,
    began: Instant,
    step: Step,
    step_began: Instant,
    /// The steps before `step`, and how long each took.
    finished_steps: Vec<(Step, Duration)>,
    /// When the connection was begun. Unlike `began`, a repeated probe run keeps it.
    opened: Instant,
    /// How long the connection may be kept open. Zero: it is not used again.
    keep: Duration,
    is_repeated: bool,
    /// When the probe run began that this one [replaced](Probe::replace). A stall before or in
    /// the greeting step counts from there. `None` in later steps.
    silent_since: Option<Instant>,
}

enum Connection {
    /// Reading the credentials, resolving the name and connecting.
    Connecting(Pin<Box<dyn Future<Output = Connected> + Send>>),
    /// In the TLS handshake.
    StartingTls(TransportFuture, Box<Session>),
    Open(Box<dyn Transport>, Box<Session>),
}

type Connected = Result<(Box<dyn Transport>, Box<Session>), Failure>;

impl Probe {
    /// Begins a probe run on a new connection. The deadlines count from this call.
    pub fn begin(
        node: &dyn Connect,
        source: &CredentialSource,
        deadlines: Deadlines,
        questions: Questions,
    ) -> Self {
        let now = Instant::now();
        let security = node.security();
        let channel = match (&security.tls, security.is_unix_socket) {
            (Some(tls), _) => match tls.verification() {
                // No other host can pose as the server of a socket, with TLS or without.
                Verification::None if security.is_unix_socket => Channel::Tls,
                Verification::None => Channel::UnverifiedTls,
                Verification::Password => Channel::ProvenTls,
                Verification::Certificate => Channel::Tls,
            },
            (None, true) => Channel::Socket,
            (None, false) => Channel::Tcp,
        };
        let allow_cleartext = security.allow_cleartext;
        let opening = node.connect(deadlines.step.min(deadlines.whole));
        let source = source.clone();
        Self {
            connection: Connection::Connecting(Box::pin(async move {
                // Read the credentials first: an open connection must not wait for a file.
                let credentials = source.current().await;
                let session = Session::new(credentials).over(channel, allow_cleartext);
                let stream = opening.await.map_err(Failure::Connect)?;
                Ok((stream, Box::new(session)))
            })),
            inquiry: Inquiry::begin(questions),
            tls: security.tls,
            input: BytesMut::with_capacity(READ),
            output: BytesMut::with_capacity(READ),
            written: 0,
            deadlines,
            began: now,
            step: Step::Connect,
            step_began: now,
            finished_steps: Vec::new(),
            opened: now,
            keep: Duration::ZERO,
            is_repeated: false,
            silent_since: None,
        }
    }

    /// Performs one round of I/O: completes the connect or the TLS handshake; or, on an open
    /// connection, sends the output and reads once. Returns the answer when it is complete.
    ///
    /// Cancel safe: the next call continues where this one stopped.
    async fn advance(&mut self) -> Result<Option<Answer>, Failure> {
        let step = self.step;
        let broken = |error| Failure::broken(step, error);
        let (stream, session) = match &mut self.connection {
            Connection::Open(stream, session) => (stream, session),
            Connection::StartingTls(opening, session) => {
                let stream = opening.await.map_err(broken)?;
                let fingerprint = stream.certificate_fingerprint();
                let progress = session.tls_started(fingerprint, &mut self.output);
                self.connection = match mem::replace(&mut self.connection, placeholder()) {
                    Connection::StartingTls(_, session) => Connection::Open(stream, session),
                    other => other,
                };
                return self.apply(progress.map_err(Failure::Session)?);
            }
            Connection::Connecting(connecting) => {
                let (stream, session) = connecting.await?;
                self.connection = Connection::Open(stream, session);
                self.enter(Step::Greeting);
                return Ok(None);
            }
        };
        while let Some(rest @ [_, ..]) = self.output.get(self.written..) {
            match stream.write(rest).await.map_err(broken)? {
                0 => return Err(broken(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        stream.flush().await.map_err(broken)?;
        // The output may have held the password.
        self.output.zeroize();
        self.output.clear();
        self.written = 0;
        if step == Step::Tls {
            self.start_tls();
            return Ok(None);
        }
        self.input.clear();
        if stream.read_buf(&mut self.input).await.map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let progress = session.receive(&self.input, &mut self.output);
        self.apply(progress.map_err(Failure::Session)?)
    }

    /// Enters the step that the session has reached, and sends the next statement if it is
    /// due. Returns the answer if it is complete.
    fn apply(&mut self, progress: Progress) -> Result<Option<Answer>, Failure> {
        match progress {
            Progress::StartTls => self.enter(Step::Tls),
            Progress::Wait(Stage::Greeting) => self.enter(Step::Greeting),
            Progress::Wait(Stage::Login) => self.enter(Step::Login),
            Progress::Wait(Stage::Query) => {}
            Progress::LoggedIn => self.send_statement()?,
            Progress::Reply(reply) => match self.inquiry.take(reply)? {
                None => self.send_statement()?,
                answer => return Ok(answer),
            },
        }
        Ok(None)
    }

    /// Appends the next statement to the output, and enters its step.
    fn send_statement(&mut self) -> Result<(), Failure> {
        self.enter(self.inquiry.step());
        let Connection::Open(_, session) = &mut self.connection else { return Ok(()) };
        session.query(self.inquiry.statement(), &mut self.output).map_err(Failure::Session)
    }

    /// Hands the open stream to the TLS handshake.
    fn start_tls(&mut self) {
        self.connection = match (mem::replace(&mut self.connection, placeholder()), &self.tls) {
            (Connection::Open(stream, session), Some(tls)) => {
                Connection::StartingTls(tls.start(stream), session)
            }
            (connection, _) => connection,
        };
    }

    /// When the probe run began.
    pub fn started(&self) -> Instant {
        self.began
    }

    /// The facts so far. In [`Step::Causality`] they are complete.
    pub fn facts(&self) -> &Facts {
        self.inquiry.facts()
    }

    /// The current or last step.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Each step so far and its duration. The last one may be unfinished.
    pub fn step_times(&self) -> Vec<(Step, Duration)> {
        [self.finished_steps.as_slice(), &[(self.step, self.step_began.elapsed())]].concat()
    }

    fn enter(&mut self, step: Step) {
        if self.step != step {
            self.finished_steps.push((self.step, self.step_began.elapsed()));
            if step != Step::Greeting {
                self.silent_since = None;
            }
            self.step = step;
            self.step_began = Instant::now();
        }
    }
}

/// Stands in for the connection while it is moved into its next state.
fn placeholder() -> Connection {
    Connection::Connecting(Box::pin(pending()))
}
