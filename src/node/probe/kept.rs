//! Kept connections: a connection that stays logged in for repeated probe runs.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::{Connection, Deadlines, Probe, Questions, Step};
use crate::mysql::Session;
use crate::node::connector::Connect;
use crate::node::credentials::CredentialSource;
use crate::node::transport::Transport;

impl Probe {
    /// Keeps the connection open after the probe run, so that [`repeat`](Probe::repeat) can
    /// use it until it is older than `keep`.
    #[must_use]
    pub fn kept(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// Closes the connection when the probe run ends, instead of keeping it.
    pub fn retire(&mut self) {
        self.keep = Duration::ZERO;
    }

    /// Whether the probe run is complete and its connection can be used again.
    pub fn is_kept(&self) -> bool {
        let is_idle = matches!(&self.connection, Connection::Open(_, session) if session.is_idle());
        is_idle && self.opened.elapsed() < self.keep
    }

    /// Begins another probe run on the kept connection. The deadlines count from this call.
    ///
    /// Returns `None` and closes the connection if it can no longer be used: it is too old,
    /// or the server has closed it or sent something since.
    ///
    /// The probe run gets half of `deadlines.whole`, which leaves the other half for a new
    /// connection ([`replace`](Probe::replace)).
    pub fn repeat(mut self, deadlines: Deadlines, questions: Questions) -> Option<Self> {
        let is_kept = self.is_kept();
        let Connection::Open(stream, _) = &mut self.connection else { return None };
        if !is_kept || !is_quiet(stream.as_mut()) {
            return None;
        }
        self.inquiry = self.inquiry.repeat(questions);
        self.send_statement().ok()?;
        self.deadlines = Deadlines { whole: deadlines.whole / 2, ..deadlines };
        self.began = Instant::now();
        self.step_began = self.began;
        self.finished_steps.clear();
        self.is_repeated = true;
        Some(self)
    }

    /// Whether the probe run uses a kept connection. If it then fails or stalls, the cause may
    /// be the connection and not the node.
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// Replaces this probe run, which has failed or stalled, by one on a new connection.
    ///
    /// `deadlines.whole` counts from the start of this one, so its callers do not wait longer.
    #[must_use]
    pub fn replace(
        self,
        node: &dyn Connect,
        source: &CredentialSource,
        deadlines: Deadlines,
        questions: Questions,
    ) -> Self {
        let began = self.began;
        let keep = self.keep;
        // Close the connection before the next one is opened: the node sees one at a time.
        drop(self);
        let whole = deadlines.whole.saturating_sub(began.elapsed());
        let deadlines = Deadlines { whole, ..deadlines };
        let mut probe = Self::begin(node, source, deadlines, questions).kept(keep);
        probe.silent_since = Some(began);
        probe
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let Connection::Open(stream, session) = &mut self.connection else { return };
        match self.step {
            // The server may not have accepted the connection yet. If it then finds the
            // connection closed, it counts that against the client's address. It does not
            // count a connection that was reset.
            Step::Greeting => stream.reset_on_close(),
            // A command that is half sent cannot be followed by another one.
            Step::Login | Step::Query | Step::Causality if self.output.is_empty() => {
                quit(stream.as_mut(), session)
            }
            Step::Connect | Step::Tls | Step::Login | Step::Query | Step::Causality => {}
        }
    }
}

/// Sends COM_QUIT after the login, if that is possible without waiting. The server counts a
/// connection that is closed without COM_QUIT in Aborted_clients, and logs it.
fn quit(stream: &mut dyn Transport, session: &mut Session) {
    let mut output = BytesMut::new();
    if session.quit(&mut output).is_ok() {
        poll_once(async {
            stream.write_all(&output).await?;
            stream.flush().await
        });
    }
}

/// Whether the stream has neither bytes nor an end of file to read.
///
/// A server sends nothing on an idle connection except that it closes it. Bytes read there
/// would be mistaken for replies to the next statements.
fn is_quiet(stream: &mut dyn Transport) -> bool {
    poll_once(stream.read(&mut [0])).is_none()
}

/// Polls the future once. Returns its output if it is ready.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    // Without `unconstrained`, a task that has used up its cooperative budget would get
    // `Pending` from a stream that is ready.
    let future = pin!(unconstrained(future));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
