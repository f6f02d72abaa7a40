//! One dialogue with the node, from connect to COM_QUIT, under its deadlines.

mod failure;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::connect::{Connect, Stream};
use crate::galera::{self, Facts};
use crate::login::Login;
use crate::mysql::{Credentials, Progress, Reply, Session, Stage};
use crate::verdict::Reason;

pub use failure::Failure;

/// Read at once; a whole reply is about 1 kB.
const READ: usize = 4 * 1024;

/// How long a node may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For each step.
    pub step: Duration,
    /// For the whole dialogue.
    pub whole: Duration,
}

/// A part of a dialogue with a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Resolving the name and opening the connection.
    Connect,
    /// Waiting for the server's first packet.
    Greeting,
    /// The login, with every turn that it takes.
    Login,
    /// The statements and their replies.
    Query,
}

impl From<Stage> for Step {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Greeting => Step::Greeting,
            Stage::Login => Step::Login,
            Stage::Query => Step::Query,
        }
    }
}

impl Step {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Connect => "connect",
            Step::Greeting => "greeting",
            Step::Login => "login",
            Step::Query => "query",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// The step that was not done.
    pub step: Step,
    /// How long that step had been waited for.
    pub waited: Duration,
}

impl Stalled {
    /// The reason that names the step.
    pub fn reason(self) -> Reason {
        match self.step {
            Step::Connect => Reason::StalledConnect,
            Step::Greeting => Reason::StalledGreeting,
            Step::Login => Reason::StalledLogin,
            Step::Query => Reason::StalledQuery,
        }
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} not done within {:?}", self.step, self.waited)
    }
}

/// One connection to the node and what is asked over it.
///
/// Everything that it holds is in this value: dropped at any point, it closes
/// its socket and leaves nothing behind.
pub struct Dialogue {
    way: Way,
    input: BytesMut,
    output: BytesMut,
    deadlines: Deadlines,
    began: Instant,
    step: Step,
    step_began: Instant,
    /// The steps before it, and how long they took.
    done: Vec<(Step, Duration)>,
}

enum Way {
    Opening(Pin<Box<dyn Future<Output = Opened> + Send>>),
    Open(Box<dyn Stream>, Box<Session>),
}

/// A way that is open, and who logs in over it.
type Opened = io::Result<(Box<dyn Stream>, Arc<Credentials>)>;

impl Dialogue {
    /// Begins a dialogue now: the deadlines count from here.
    pub fn begin(node: &dyn Connect, login: &Login, deadlines: Deadlines) -> Self {
        let now = Instant::now();
        let opening = node.connect(deadlines.step.min(deadlines.whole));
        let login = login.clone();
        Self {
            way: Way::Opening(Box::pin(async move {
                // Before the connect: a connection that is there does not wait for it.
                let credentials = login.current().await;
                Ok((opening.await?, credentials))
            })),
            input: BytesMut::with_capacity(READ),
            output: BytesMut::new(),
            deadlines,
            began: now,
            step: Step::Connect,
            step_began: now,
            done: Vec::new(),
        }
    }

    /// Runs on until the node's answer or failure, or until a deadline passes.
    /// After a stall the dialogue is whole: it can be dropped, or run on with
    /// [`finish`](Dialogue::finish).
    ///
    /// # Errors
    /// [`Stalled`] at the deadline of the step or of the whole dialogue,
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
        Stalled { step: self.step, waited: self.step_began.elapsed() }
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
            Ok(Some(replies)) => Some(facts(replies)),
            Err(failure) => Some(Err(failure)),
        }
    }

    async fn turn(&mut self) -> Result<Option<Vec<Reply>>, Failure> {
        let (stream, session) = match &mut self.way {
            Way::Open(stream, session) => (stream, session),
            Way::Opening(opening) => {
                let (stream, credentials) = opening.await.map_err(Failure::Connect)?;
                let session =
                    Session::new(credentials, &galera::STATEMENTS).map_err(Failure::Session)?;
                self.way = Way::Open(stream, Box::new(session));
                self.enter(Step::Greeting);
                return Ok(None);
            }
        };
        let step = self.step;
        let broken = |error| Failure::Broken { step, error };
        while !self.output.is_empty() {
            if stream.write_buf(&mut self.output).await.map_err(broken)? == 0 {
                return Err(broken(io::ErrorKind::WriteZero.into()));
            }
        }
        self.input.clear();
        if stream.read_buf(&mut self.input).await.map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        match session.receive(&self.input, &mut self.output).map_err(Failure::Session)? {
            Progress::Done(replies) => {
                self.enter(Step::Query);
                Ok(Some(replies))
            }
            Progress::Wait(stage) => {
                self.enter(stage.into());
                Ok(None)
            }
        }
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The step that it is in, or ended in. In [`Step::Query`] the login is
    /// complete.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Each step that it came to, and how long it took so far.
    pub fn times(&self) -> Vec<(Step, Duration)> {
        [self.done.as_slice(), &[(self.step, self.step_began.elapsed())]].concat()
    }

    fn enter(&mut self, step: Step) {
        if self.step != step {
            self.done.push((self.step, self.step_began.elapsed()));
            self.step = step;
            self.step_began = Instant::now();
        }
    }
}

impl Drop for Dialogue {
    /// A connection that a server finds reset before it has accepted it is not
    /// counted against the client's address; one that it finds closed is.
    fn drop(&mut self) {
        if let (Way::Open(stream, _), Step::Greeting) = (&self.way, self.step) {
            stream.reset_on_close();
        }
    }
}

/// What the replies to [`galera::STATEMENTS`] say.
fn facts(replies: Vec<Reply>) -> Result<Facts, Failure> {
    let Ok([prepared, status, variables]) = <[Reply; 3]>::try_from(replies) else {
        return Err(Failure::Answer);
    };
    match prepared {
        Reply::Ok => {}
        Reply::Err(error) if error.code == galera::UNKNOWN_VARIABLE => {}
        Reply::Err(error) => return Err(Failure::Statement(error)),
        Reply::Rows(_) => return Err(Failure::Answer),
    }
    let mut facts = Facts::default();
    for reply in [status, variables] {
        let rows = match reply {
            Reply::Rows(rows) => rows,
            Reply::Err(error) => return Err(Failure::Statement(error)),
            Reply::Ok => return Err(Failure::Answer),
        };
        for row in rows {
            let [Some(name), value] = &row[..] else { return Err(Failure::Answer) };
            facts.note(name, value.as_deref());
        }
    }
    Ok(facts)
}
