//! The answers to callers, for each role.

use std::fmt;

use tokio::time::Instant;

use super::Monitor;
use crate::galera;
use crate::health::{Health, Role, Verdict};
use crate::monitor::handle::Caller;
use crate::monitor::state::State;
use crate::monitor::verdict_cache::CachedVerdict;

impl Monitor {
    /// Records `health`, which is the one for readers, and sends each caller the health
    /// for its role.
    pub(super) fn answer(
        &mut self,
        health: Health,
        callers: impl IntoIterator<Item = Caller>,
        cause: &dyn fmt::Display,
        now: Instant,
    ) {
        self.record(health, cause, now);
        for Caller { role, reply } in callers {
            let _ = reply.send(self.for_role(health, role, now));
        }
    }

    pub(super) fn record(&mut self, health: Health, cause: &dyn fmt::Display, now: Instant) {
        let healths = Role::ALL.map(|role| self.for_role(health, role, now));
        self.recorder.record(healths, cause, now);
    }

    /// The health for `role`, from the one for readers.
    fn for_role(&self, health: Health, role: Role, now: Instant) -> Health {
        if health.verdict != Verdict::Serve {
            return health;
        }
        let verdict = galera::judge(&self.facts, self.policy, role);
        match self.tracker.unproven(now) {
            Some(unproven) if verdict == Verdict::Serve && role != Role::Reader => unproven,
            _ => verdict.into(),
        }
    }

    /// The verdict that every caller would get until the next event, if it may be cached.
    pub(super) fn cacheable(&self, now: Instant) -> Option<CachedVerdict> {
        let State::Idle = self.state else { return None };
        let until = self.tracker.serves_until(now)?;
        let healths = Role::ALL.map(|role| self.for_role(Verdict::Serve.into(), role, now));
        // If the verdict has changed, the task itself answers the next caller, to record the
        // change.
        let is_recorded = self.recorder.report.verdicts == Some(healths);
        is_recorded.then_some(CachedVerdict { healths, until })
    }
}
