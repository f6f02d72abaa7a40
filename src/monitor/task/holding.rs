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
            HeldEvent::LoggedIn(index) => held.keep_only(index, now),
            HeldEvent::ScoutStalled(index, stalled) => {
                self.scout_stalled(&mut held, index, stalled, now);
            }
            HeldEvent::ScoutDue => {
                debug!("trying another connection while one is held");
                let asks = self.tracker.wants_proof(now) && !held.is_refresh_due();
                held.send_scout(self.prober.scout(asks), now);
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
                        if !is_free {
                            // Its handshake is unfinished, and rationed like the others.
                            self.tracker.gave_up(now);
                        }
                        drop(held.scout_failed(index, is_free.then_some(now + SCOUT_PAUSE)));
                    }
                    Ok(answer)
                        if held.is_refresh(index)
                            && !self.tracker.is_stalled()
                            && self.is_fit(&answer.facts) =>
                    {
                        let probe = held.refreshed(index, now);
                        self.recorder.probe_ended(&probe, Ok(&answer.facts));
                        self.take_facts(answer.facts);
                    }
                    outcome => {
                        held.keep_only(index, now);
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

    fn scout_stalled(&mut self, held: &mut Held, index: usize, stalled: Stalled, now: Instant) {
        match stalled.step {
            Step::Connect => drop(held.scout_failed(index, Some(now + SCOUT_PAUSE))),
            // Its facts are newer than those of the check that is held.
            Step::Causality => {
                held.keep_only(index, now);
                if let Some(facts) = held.oldest().map(|probe| probe.facts().clone()) {
                    self.take_facts(facts);
                }
            }
            Step::Query => {
                held.keep_only(index, now);
                self.tracker.scout_stalled(stalled, now);
            }
            Step::Greeting | Step::Tls | Step::Login => {
                held.hold_scout(index);
                self.tracker.scout_stalled(stalled, now);
            }
        }
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
