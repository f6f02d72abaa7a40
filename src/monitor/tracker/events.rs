//! What the end and the stall of a probe run change.

use tokio::time::Instant;

use super::{Ended, Stall, Tracker};
use crate::health::{Health, Reason, Verdict};
use crate::monitor::settling::Settling;
use crate::monitor::unproven::Unproven;
use crate::node::probe::{Causality, Cost, Stalled, Step};

impl Tracker {
    /// A probe run that began at `began` stalled. Returns the answer for its callers, and
    /// until when to hold it. `None` to drop it: in the connect step no handshake has begun.
    pub(in crate::monitor) fn probe_stalled(
        &mut self,
        stalled: Stalled,
        began: Instant,
        now: Instant,
    ) -> (Health, Option<Instant>) {
        let since = now.checked_sub(stalled.waited).unwrap_or(now);
        if stalled.step == Step::Causality {
            return self.check_stalled(since, began, now);
        }
        let since = self.stall.as_ref().map_or(since, |earlier| earlier.since);
        self.stall = Some(Stall { since, last: stalled });
        self.unproven = None;
        let verdict = Verdict::Refuse(stalled.reason());
        self.last = Some((verdict, now));
        let held = stalled.step != Step::Connect;
        (self.health(verdict, now), held.then(|| now + self.back_off.hold_time(now)))
    }

    /// The facts of the probe run are fit, and its causality check stalled.
    fn check_stalled(
        &mut self,
        since: Instant,
        began: Instant,
        now: Instant,
    ) -> (Health, Option<Instant>) {
        self.back_off.login_succeeded();
        self.end_stall(true, now);
        let unproven = Unproven::stalled(self.unproven, since);
        self.unproven = Some(unproven);
        if let Some(settling) = &mut self.settling {
            settling.check_stalled(began, &self.timing, since);
        }
        self.settling = self.settling.take().filter(|settling| !settling.is_over(now));
        let verdict = self.unproven_verdict(unproven);
        self.last = Some((verdict, now));
        (self.health(verdict, now), Some(now + self.back_off.hold_time(now)))
    }

    /// A scout stalled while a causality check is held: the node itself is silent, so its facts
    /// are not used any more.
    pub(in crate::monitor) fn scout_stalled(&mut self, stalled: Stalled, now: Instant) {
        if self.stall.is_none() {
            let since = now.checked_sub(stalled.waited).unwrap_or(now);
            self.stall = Some(Stall { since, last: stalled });
            self.unproven = None;
            self.last = Some((Verdict::Refuse(stalled.reason()), now));
        }
    }

    /// A held probe run was given up.
    pub(in crate::monitor) fn gave_up(&mut self, now: Instant) {
        self.back_off.gave_up(now);
    }

    /// A probe run ended. Returns the answer for its callers.
    pub(in crate::monitor) fn probe_ended(&mut self, ended: Ended<'_>, now: Instant) -> Health {
        self.update_back_off(ended, now);
        if let Err(failure) = ended.outcome
            && let Some(stall) = &mut self.stall
            && failure.is_silence()
        {
            // Neither the node nor its kernel answered, so the stall continues. No
            // connection is left to hold: the next caller starts a new attempt.
            stall.last.step = Step::Connect;
            let verdict = Verdict::Refuse(failure.reason());
            self.last = Some((verdict, now));
            return self.health(verdict, now);
        }
        let is_fit = matches!(ended.outcome, Ok((Verdict::Serve, _)));
        let woke = self.end_stall(is_fit, now);
        let is_late = ended.was_held && self.unproven.is_some_and(|unproven| unproven.is_held);
        // The answer of a node that has just woken may be from before the stall. It is not
        // cached, so that the next caller starts a probe run, and does not extend the grace.
        let is_outdated = (woke || is_late) && is_fit;
        let verdict = match ended.outcome {
            Ok((Verdict::Serve, causality)) => {
                self.unproven = Unproven::after(causality, self.unproven, now);
                let proven = causality == Causality::Proven && !is_late;
                self.settling_verdict(ended.began, causality, proven, now)
            }
            Ok((refused, _)) => {
                self.unproven = None;
                refused
            }
            Err(failure) => {
                self.unproven = None;
                Verdict::Refuse(failure.reason())
            }
        };
        self.fit_at = match verdict {
            // Grace does not serve a node that could not prove itself.
            Verdict::Serve if is_outdated || self.unproven.is_some() => self.fit_at,
            Verdict::Serve => Some(now),
            Verdict::Refuse(_) => None,
        };
        if let (Verdict::Refuse(reason), Some(settling)) = (verdict, &mut self.settling)
            && reason != Reason::Settling
        {
            settling.restart();
        }
        self.last = (!is_outdated).then_some((verdict, now));
        self.health(verdict, now)
    }

    /// Ends the back-off. A probe run that got past its login also restarts the schedules;
    /// one that failed before it starts a pause that depends on its [`Cost`].
    fn update_back_off(&mut self, ended: Ended<'_>, now: Instant) {
        self.back_off.end();
        if ended.step.is_logged_in() {
            self.back_off.login_succeeded();
        } else if let Err(failure) = ended.outcome {
            self.back_off.failed(Cost::of(failure, ended.step), now);
        }
    }

    /// Ends the stall, if there is one, and starts settling. Returns whether the node
    /// was stalled.
    fn end_stall(&mut self, is_fit: bool, now: Instant) -> bool {
        let Some(stall) = self.stall.take() else { return false };
        // A node that grace kept in service need not settle.
        if !(is_fit && self.has_grace(now)) {
            let stalled = now.duration_since(stall.since);
            self.settling = Settling::after(stalled, self.settling.take(), &self.timing, now);
        }
        true
    }

    /// The verdict on a node that was found fit: refused while it settles. A node that
    /// woke reports Synced for seconds although it was voted out (law 6).
    fn settling_verdict(
        &mut self,
        began: Instant,
        causality: Causality,
        proven: bool,
        now: Instant,
    ) -> Verdict {
        if let Some(settling) = &mut self.settling
            && !settling.found_fit(began, causality, proven, &self.timing, now)
        {
            return Verdict::Refuse(Reason::Settling);
        }
        self.settling = None;
        Verdict::Serve
    }
}
