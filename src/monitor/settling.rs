//! Settling: the time after a stall in which a node is refused, because it reports Synced
//! for seconds although it was voted out (law 6).

use std::time::Duration;

use tokio::time::Instant;

use super::settings::{CausalityCheck, Timing};
use crate::node::probe::Causality;

/// A node that woke from a stall. It is refused until it has proven itself by a causality
/// check, or has stayed fit for `needed`.
#[derive(Clone, Debug)]
pub(super) struct Settling {
    woke: Instant,
    /// How long a node that cannot be asked for a proof must stay fit.
    timer: Duration,
    /// How long the node must stay fit, according to its last answer.
    needed: Duration,
    /// Since when every probe run that began after the node woke has found it fit.
    fit_since: Option<Instant>,
}

impl Settling {
    /// The node woke after it was `stalled`. `earlier`: it was settling already. `None` if it
    /// need not settle.
    pub(super) fn after(
        stalled: Duration,
        earlier: Option<Self>,
        timing: &Timing,
        now: Instant,
    ) -> Option<Self> {
        let earlier = earlier.map_or(Duration::ZERO, |settling| settling.timer);
        let timer = settling_time(stalled, timing.settle).max(earlier);
        let needed = match timing.causality_check {
            CausalityCheck::Never => timer,
            CausalityCheck::AfterStall | CausalityCheck::Always => timing.settle,
        };
        (!timer.is_zero()).then_some(Self { woke: now, timer, needed, fit_since: None })
    }

    /// A probe run that began at `began` found the node fit. `proven`: by a causality check
    /// that did not stall. Returns whether the node has settled.
    pub(super) fn found_fit(
        &mut self,
        began: Instant,
        causality: Causality,
        proven: bool,
        timing: &Timing,
        now: Instant,
    ) -> bool {
        // If the probe run began during the stall, its answer may be from before it.
        if began < self.woke {
            return false;
        }
        self.needed = match (causality, timing.causality_check) {
            (Causality::Unavailable, _) | (_, CausalityCheck::Never) => self.timer,
            (_, CausalityCheck::AfterStall | CausalityCheck::Always) => timing.settle,
        };
        self.fit_since.get_or_insert(now);
        proven || self.is_over(now)
    }

    /// A probe run that began at `began` found the node fit, and its check stalled.
    pub(super) fn check_stalled(&mut self, began: Instant, timing: &Timing, now: Instant) {
        self.found_fit(began, Causality::Unproven, false, timing, now);
    }

    /// A probe run found the node unfit: it has to stay fit from its next good answer on.
    pub(super) fn restart(&mut self) {
        self.fit_since = None;
    }

    /// Whether the node has stayed fit for long enough.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.fit_since.is_some_and(|since| now.duration_since(since) >= self.needed)
    }

    /// How long the node must still stay fit if it cannot prove itself.
    pub(super) fn left(&self, now: Instant) -> Duration {
        let fit = self.fit_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        self.needed.saturating_sub(fit)
    }
}

/// How long a node that cannot prove itself must stay fit after a stall: twice as long as it
/// was stalled, at most `limit`.
fn settling_time(stalled: Duration, limit: Duration) -> Duration {
    stalled.saturating_mul(2).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn settling_takes_twice_the_stall_up_to_the_limit() {
        let limit = 10 * SECOND;
        assert_eq!(settling_time(Duration::from_millis(2100), limit), Duration::from_millis(4200));
        assert_eq!(settling_time(30 * SECOND, limit), limit);
        assert_eq!(settling_time(Duration::MAX, limit), limit);
        assert_eq!(settling_time(30 * SECOND, Duration::ZERO), Duration::ZERO);
    }
}
