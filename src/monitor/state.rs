//! The state of a monitor's probe run, and the events that change it.

use std::future::pending;

use tokio::time::Instant;

use super::handle::Caller;
use super::held::{Held, HeldEvent};
use super::report::Activity;
use crate::node::probe::{Answer, Failure, Probe, Stalled};

/// Whether a probe run is under way.
#[expect(clippy::large_enum_variant, reason = "there is one, and it is seldom moved")]
pub(super) enum State {
    /// No probe run. The next caller may start one.
    Idle,
    /// A probe run is within its deadlines, and these callers wait for it.
    Probing { probe: Probe, callers: Vec<Caller> },
    /// A probe run stalled after the connect step. It is held in the step that stalled
    /// (law 4), with its scouts. No caller waits for it.
    Held(Held),
}

/// An event of the probe run, which changes the state.
pub(super) enum Event {
    /// The node answered, or the probe run failed.
    Ended(Result<Answer, Failure>),
    /// A deadline of the probe run passed.
    Stalled(Stalled),
    /// An event of a held connection.
    Held(HeldEvent),
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
            State::Held(held) => Event::Held(held.next_event().await),
        }
    }

    /// Closes the connections of the probe run when it ends, instead of keeping one.
    pub(super) fn retire(&mut self) {
        match self {
            State::Idle => {}
            State::Probing { probe, .. } => probe.retire(),
            State::Held(held) => held.probes.iter_mut().for_each(|held| held.probe.retire()),
        }
    }

    /// The state for the report.
    pub(super) fn activity(&self, now: Instant) -> Activity {
        match self {
            State::Idle => Activity::Idle,
            State::Probing { probe, .. } => {
                Activity::Probing { step: probe.step(), so_far: now - probe.started() }
            }
            State::Held(held) => match held.oldest() {
                None => Activity::Idle,
                Some(probe) => Activity::Held {
                    step: probe.step(),
                    so_far: now - probe.started(),
                    left: held.until.saturating_duration_since(now),
                },
            },
        }
    }
}
