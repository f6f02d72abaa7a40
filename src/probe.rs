//! One dialogue with the node, from connect to COM_QUIT, under its deadlines.

mod failure;
mod step;

use std::future::pending;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroize;

use crate::connect::{Connect, Opening, Stream};
use crate::galera::{self, Facts};
use crate::mysql::{Channel, Credentials, Progress, Reply, Session};
use crate::tls::Tls;

pub use failure::Failure;
pub use step::{Stalled, Step};

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

/// One connection to the node and what is asked over it.
///
/// Everything that it holds is in this value: dropped at any point, it closes
/// its socket and leaves nothing behind.
pub struct Dialogue {
    way: Way,
    tls: Option<Tls>,
    session: Session,
    input: BytesMut,
    output: BytesMut,
    /// How much of the output is sent.
    sent: usize,
    deadlines: Deadlines,
    began: Instant,
    step: Step,
    step_began: Instant,
}

enum Way {
    /// Being connected, or in the step of that name, being turned to TLS.
    Opening(Opening),
    Open(Box<dyn Stream>),
}

impl Dialogue {
    /// Begins a dialogue now: the deadlines count from here.
    #[expect(clippy::expect_used, reason = "the statements are constants, and fit their packets")]
    pub fn begin(node: &dyn Connect, credentials: &Arc<Credentials>, deadlines: Deadlines) -> Self {
        let now = Instant::now();
        let security = node.security();
        let channel = match (&security.tls, security.is_socket) {
            (Some(_), _) => Channel::Tls,
            (None, true) => Channel::Socket,
            (None, false) => Channel::Tcp,
        };
        Self {
            way: Way::Opening(node.connect(deadlines.step.min(deadlines.whole))),
            tls: security.tls,
            session: Session::new(Arc::clone(credentials), &galera::STATEMENTS)
                .expect("the statements fit their packets")
                .over(channel, security.allow_cleartext),
            input: BytesMut::with_capacity(READ),
            output: BytesMut::with_capacity(READ),
            sent: 0,
            deadlines,
            began: now,
            step: Step::Connect,
            step_began: now,
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
        let step = self.step;
        let broken = |error| Failure::broken(step, error);
        let stream = match &mut self.way {
            Way::Open(stream) => stream,
            Way::Opening(opening) if step == Step::Tls => {
                self.way = Way::Open(opening.await.map_err(broken)?);
                let progress = self.session.tls_started(&mut self.output);
                return Ok(self.reached(progress.map_err(Failure::Session)?));
            }
            Way::Opening(opening) => {
                self.way = Way::Open(opening.await.map_err(Failure::Connect)?);
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
        let progress = self.session.receive(&self.input, &mut self.output);
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
        let nowhere = Way::Opening(Box::pin(pending()));
        if let (Way::Open(stream), Some(tls)) = (mem::replace(&mut self.way, nowhere), &self.tls) {
            self.way = Way::Opening(tls.start(stream));
        }
    }

    /// Whether the login succeeded only because the server had the password in its
    /// cache.
    pub fn relies_on_cache(&self) -> bool {
        self.session.relies_on_cache()
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

    fn enter(&mut self, step: Step) {
        if self.step != step {
            self.step = step;
            self.step_began = Instant::now();
        }
    }
}

impl Drop for Dialogue {
    /// A connection that a server finds reset before it has accepted it is not
    /// counted against the client's address; one that it finds closed is.
    fn drop(&mut self) {
        if let (Way::Open(stream), Step::Greeting) = (&self.way, self.step) {
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
