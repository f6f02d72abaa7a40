//! The state of a monitor's probe run (it has at most one), and the events that change it.

use std::future::pending;

use tokio::time::{Instant, timeout_at};

use super::handle::Caller;
use super::report::Activity;
use crate::galera::Facts;
use crate::node::probe::{Failure, Probe, Stalled};

/// Whether a probe run is under way.
pub(super) enum State {
    /// No probe run. The next caller may start one.
    Idle,
    /// A probe run is within its deadlines, and these callers wait for it.
    Probing { probe: Probe, callers: Vec<Caller> },
    /// A probe run stalled after the connect step. It is held in the step that stalled,
    /// until the node wakes or `until` passes (law 4). No caller waits for it.
    Held { probe: Probe, until: Instant },
}

/// An event of the probe run, which changes the state.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, moved once")]
pub(super) enum Event {
    /// The node answered, or the probe run failed.
    Ended(Result<Facts, Failure>),
    /// A deadline of the probe run passed.
    Stalled(Stalled),
    /// The node did not wake while the probe run was held.
    HoldExpired,
}

impl State {
    /// Runs the probe until the next event; in [`State::Idle`] there is none.
    ///
    /// Cancel safe: the probe run keeps its progress when the future is dropped.
    pub(super) async fn next_event(&mut self) -> Event {
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

    /// The state for the report.
    pub(super) fn activity(&self, now: Instant) -> Activity {
        match self {
            State::Idle => Activity::Idle,
            State::Probing { probe, .. } => {
                Activity::Probing { step: probe.step(), so_far: now - probe.started() }
            }
            State::Held { probe, until } => Activity::Held {
                step: probe.step(),
                so_far: now - probe.started(),
                left: until.saturating_duration_since(now),
            },
        }
    }
}
