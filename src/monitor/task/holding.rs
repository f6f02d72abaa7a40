//! The events of held connections and of scouts.

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::Monitor;
use crate::monitor::back_off::SCOUT_PAUSE;
use crate::monitor::held::{Held, HeldEvent};
use crate::monitor::state::State;
use crate::node::probe::{Cost, OVERSLEPT, Stalled, Step};

impl Monitor {
    pub(super) fn handle_held(&mut self, mut held: Held, event: HeldEvent, now: Instant) {
        match event {
            HeldEvent::LoggedIn(index) => held.keep_only(index),
            HeldEvent::ScoutStalled(index, stalled) if stalled.step.is_logged_in() => {
                held.keep_only(index);
            }
            HeldEvent::ScoutStalled(index, stalled) if stalled.step == Step::Connect => {
                drop(held.scout_failed(index, Some(now + SCOUT_PAUSE)));
            }
            HeldEvent::ScoutStalled(index, _) => held.hold_scout(index),
            HeldEvent::ScoutDue => {
                debug!("trying another connection while one is held");
                held.send_scout(self.prober.scout(self.tracker.wants_proof(now)));
            }
            // This process was stopped meanwhile: the node may have answered.
            HeldEvent::Expired if now.duration_since(held.until) >= OVERSLEPT => {
                held.until = now + self.tracker.hold_time(now);
            }
            HeldEvent::Expired => {
                // The node sees one connection less before the next one.
                let until = now + self.give_up(&mut held, now);
                held.until = until;
                if held.probes.is_empty() {
                    return self.start_probe(Vec::new(), now);
                }
            }
            HeldEvent::Ended(index, outcome) => {
                let Some(ended) = held.probes.get(index) else { return };
                let (step, is_scout) = (ended.probe.step(), index > 0);
                match outcome {
                    Err(failure) if is_scout && !step.is_logged_in() => {
                        debug!(%failure, %step, "another connection failed while one is held");
                        let is_free = Cost::of(&failure, step) != Cost::Counted;
                        drop(held.scout_failed(index, is_free.then_some(now + SCOUT_PAUSE)));
                    }
                    outcome => {
                        held.keep_only(index);
                        if let Some(ended) = held.probes.pop() {
                            self.probe_ended(ended.probe, outcome, Vec::new(), true, now);
                        }
                        return;
                    }
                }
            }
        }
        self.state = State::Held(held);
    }

    /// Gives up the oldest held connection. Returns how long the next one is held.
    fn give_up(&mut self, held: &mut Held, now: Instant) -> Duration {
        let probe = held.give_up_oldest(now);
        let stalled = Stalled { step: probe.step(), waited: now - probe.started() };
        self.recorder.probe_ended(&probe, Err(stalled.reason()));
        if !stalled.step.is_logged_in() {
            self.recorder.report.counters.abandoned += 1;
        }
        self.tracker.gave_up(now);
        drop(probe);
        self.tracker.hold_time(now)
    }
}
