use std::future::pending;

use tokio::time::{Instant, timeout_at};

use super::handle::Caller;
use crate::galera::Facts;
use crate::node::probe::{Failure, Probe, Stalled};

/// What the target is doing.
pub(super) enum State {
    /// No probe run. The next caller may begin one.
    Idle,
    /// A probe run is under way within its deadlines; these wait for it.
    Probing { probe: Probe, callers: Vec<Caller> },
    /// A probe run stalled after the connect. It is kept open at the same step
    /// until the node wakes or the time comes.
    Held { probe: Probe, until: Instant },
}

/// What happens to a probe run.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, moved once")]
pub(super) enum Event {
    Ended(Result<Facts, Failure>),
    Stalled(Stalled),
    /// A probe run was held for as long as it may be.
    HoldExpired,
}

impl State {
    /// Cancelled at any point it loses nothing.
    pub(super) async fn next(&mut self) -> Event {
        match self {
            State::Idle => pending().await,
            State::Probing { probe, .. } => match probe.run().await {
                Ok(outcome) => Event::Ended(outcome),
                Err(stalled) => Event::Stalled(stalled),
            },
            State::Held { probe, until } => match timeout_at(*until, probe.finish()).await {
                Ok(outcome) => Event::Ended(outcome),
                Err(_) => Event::HoldExpired,
            },
        }
    }
}
