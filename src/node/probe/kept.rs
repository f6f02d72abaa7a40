//! A connection that is kept logged in from one question to the next.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::{Connection, Deadlines, Probe, Step};
use crate::mysql::Session;
use crate::node::connector::Connect;
use crate::node::credentials::CredentialSource;
use crate::node::transport::Transport;

impl Probe {
    /// Keeps the connection once the node has answered, so that it can be asked
    /// again until it was open for this long.
    #[must_use]
    pub fn kept(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// It is not asked again.
    pub fn retire(&mut self) {
        self.keep = Duration::ZERO;
    }

    /// Whether the node has answered, and the connection may be kept yet.
    pub fn is_kept(&self) -> bool {
        let is_idle = matches!(&self.connection, Connection::Open(_, session) if session.is_idle());
        is_idle && self.opened.elapsed() < self.keep
    }

    /// Asks once more on the kept connection, from now on. `None` where it is not as
    /// it was left, and is closed.
    ///
    /// It gets half of the whole time at the most, so that a new connection in its
    /// place gets the other half.
    pub fn repeat(mut self, deadlines: Deadlines) -> Option<Self> {
        let is_kept = self.is_kept();
        let Connection::Open(stream, session) = &mut self.connection else { return None };
        if !is_kept || !is_quiet(stream.as_mut()) {
            return None;
        }
        let [status, variables] = &self.repeated_statements;
        session.query(&[status, variables], &mut self.output).ok()?;
        self.deadlines = Deadlines { whole: deadlines.whole / 2, ..deadlines };
        self.began = Instant::now();
        self.step_began = self.began;
        self.done.clear();
        self.is_repeated = true;
        Some(self)
    }

    /// Whether it was asked again, so that its silence or its end may be the
    /// connection's alone.
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// A new probe run in the place of this one, which did not answer, within the time
    /// that is left of `deadlines`.
    #[must_use]
    pub fn replace(
        self,
        node: &dyn Connect,
        login: &CredentialSource,
        deadlines: Deadlines,
    ) -> Self {
        let asked = self.began;
        let keep = self.keep;
        // Before the next is opened: the node sees one connection at a time.
        drop(self);
        let whole = deadlines.whole.saturating_sub(asked.elapsed());
        let mut probe = Self::begin(node, login, Deadlines { whole, ..deadlines }).kept(keep);
        probe.silent_since = Some(asked);
        probe
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let Connection::Open(stream, session) = &mut self.connection else { return };
        match self.step {
            // A connection that a server finds reset before it has accepted it is not
            // counted against the client's address; one that it finds closed is.
            Step::Greeting => stream.reset_on_close(),
            Step::Query => quit(stream.as_mut(), session),
            Step::Connect | Step::Tls | Step::Login => {}
        }
    }
}

/// Takes leave on a kept connection: one that is closed without COM_QUIT counts in
/// the server's Aborted_clients. Where it cannot be sent at once, it is not.
fn quit(stream: &mut dyn Transport, session: &mut Session) {
    let mut output = BytesMut::new();
    if session.quit(&mut output).is_ok() {
        at_once(async {
            stream.write_all(&output).await?;
            stream.flush().await
        });
    }
}

/// Whether nothing has come, not even the end: a server says nothing unasked but
/// that it closes the connection, and what it said would be taken for replies.
fn is_quiet(stream: &mut dyn Transport) -> bool {
    at_once(stream.read(&mut [0])).is_none()
}

/// What is there without waiting.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    // A task that has had its turns would find nothing, whatever is there.
    let future = pin!(unconstrained(future));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
