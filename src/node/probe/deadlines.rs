//! Runs a probe within its deadlines, or without them while it is held.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Answer, Failure, Probe, Stalled};

/// How late a timer fires at the earliest in a process that was stopped (SIGSTOP, a paused
/// container) or starved (a CPU quota).
pub(crate) const OVERSLEPT: Duration = Duration::from_millis(100);

/// How far a probe run without a deadline has come.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, moved once")]
pub enum Milestone {
    /// The server accepted the login.
    LoggedIn,
    /// The node answered, or the probe run failed.
    Ended(Result<Answer, Failure>),
}

impl Probe {
    /// Runs until the probe run has its answer or fails, or until a deadline passes.
    ///
    /// A stalled probe run is intact: drop it, or continue it with
    /// [`finish`](Probe::finish).
    ///
    /// # Errors
    /// [`Stalled`] at the deadline of the step or of the whole probe run, whichever comes
    /// first. Also if connecting itself times out before that (`Failure::Connect`).
    pub async fn run(&mut self) -> Result<Result<Answer, Failure>, Stalled> {
        loop {
            let whole = self.began + self.deadlines.whole;
            let deadline = whole.min(self.step_began + self.deadlines.step);
            // `timeout_at` does not check its timer while the peer always has more bytes to
            // read, so check the clock here.
            let outcome = match Instant::now() < deadline {
                true => timeout_at(deadline, self.advance()).await.ok(),
                false => None,
            };
            match outcome {
                Some(Err(failure)) if failure.is_stalled_connect() => return Err(self.stalled()),
                Some(outcome) => {
                    if let Some(outcome) = outcome.transpose() {
                        return Ok(outcome);
                    }
                }
                None if self.has_overslept(deadline) => self.restart_deadlines(),
                None => return Err(self.stalled()),
            }
        }
    }

    /// Whether this process was stopped or starved while the deadline passed. The node may
    /// have answered meanwhile.
    fn has_overslept(&self, deadline: Instant) -> bool {
        Instant::now().duration_since(deadline) >= OVERSLEPT
    }

    /// Gives the node the time of the current step, and of the whole probe run, once more.
    fn restart_deadlines(&mut self) {
        self.deadlines.whole = self.deadlines.whole.saturating_add(self.began.elapsed());
        self.step_began = Instant::now();
    }

    /// The stall of the current step.
    fn stalled(&self) -> Stalled {
        let since = self.silent_since.unwrap_or(self.step_began);
        Stalled { step: self.step, waited: since.elapsed() }
    }

    /// Runs without a deadline until the login is complete, or from there to the end.
    ///
    /// Cancel safe.
    pub async fn finish(&mut self) -> Milestone {
        let was_logged_in = self.step.is_logged_in();
        loop {
            if let Some(outcome) = self.advance().await.transpose() {
                return Milestone::Ended(outcome);
            }
            if !was_logged_in && self.step.is_logged_in() {
                return Milestone::LoggedIn;
            }
        }
    }
}
