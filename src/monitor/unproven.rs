//! A fit node that does not prove that it is in contact with its group.

use tokio::time::Instant;

use crate::health::Reason;
use crate::node::probe::Causality;

/// The causality checks that did not pass since one last did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unproven {
    /// When the first of them began.
    pub(super) since: Instant,
    /// Whether one stalled, so that no caller waits for the next one (law 3).
    pub(super) has_stalled: bool,
    /// Whether one is waiting for its reply.
    pub(super) is_held: bool,
}

impl Unproven {
    /// A check stalled that began at `since`.
    pub(super) fn stalled(earlier: Option<Self>, since: Instant) -> Self {
        let since = earlier.map_or(since, |earlier| earlier.since);
        Self { since, has_stalled: true, is_held: true }
    }

    /// A probe run found the node fit, with this result of its check. `None` if there is no
    /// doubt.
    pub(super) fn after(causality: Causality, earlier: Option<Self>, now: Instant) -> Option<Self> {
        match causality {
            Causality::Unproven => {
                let first = Self { since: now, has_stalled: false, is_held: false };
                Some(Self { is_held: false, ..earlier.unwrap_or(first) })
            }
            Causality::Proven | Causality::Unavailable | Causality::NotAsked => None,
        }
    }

    pub(super) fn reason(self) -> Reason {
        if self.is_held { Reason::StalledCausality } else { Reason::Unproven }
    }
}
