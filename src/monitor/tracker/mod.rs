//! What the monitor remembers of its node from one probe run to the next, and the rules
//! that follow from it: stalls, holding, back-off, settling, proof and grace.
//!
//! [`Tracker`] runs no probe and reads no clock. Its methods are functions of the events
//! so far and of the time that is passed in.

mod events;

use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::{Health, Reason, Time, Verdict};
use crate::monitor::back_off::BackOff;
use crate::monitor::settings::{CausalityCheck, Timing};
use crate::monitor::settling::Settling;
use crate::monitor::unproven::Unproven;
use crate::node::probe::{Causality, Failure, Stalled, Step};

/// The history of one node, as far as later verdicts depend on it.
#[derive(Clone, Debug)]
pub(in crate::monitor) struct Tracker {
    timing: Timing,
    /// The last verdict for readers, and when it was reached. `None` before the first, and if
    /// later callers must not get it.
    last: Option<(Verdict, Instant)>,
    back_off: BackOff,
    /// Set while the node is stalled: a probe run stalled before its facts were complete, and
    /// no later one was answered.
    stall: Option<Stall>,
    /// Set while the node settles.
    settling: Option<Settling>,
    /// Set while a fit node does not prove that it is in contact with its group.
    unproven: Option<Unproven>,
    /// When a probe run last found the node fit. Any refusal clears it except a stall, which
    /// grace may cover.
    fit_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Stall {
    /// When the first step that stalled began, from [`Stalled::waited`].
    since: Instant,
    /// The most recent stall. Its step is [`Step::Connect`] if no connection is left to
    /// hold.
    last: Stalled,
}

/// The end of a probe run.
#[derive(Clone, Copy, Debug)]
pub(in crate::monitor) struct Ended<'a> {
    /// The verdict on its facts for readers, and the result of its causality check; or the
    /// failure.
    pub(in crate::monitor) outcome: Result<(Verdict, Causality), &'a Failure>,
    /// The last step.
    pub(in crate::monitor) step: Step,
    pub(in crate::monitor) began: Instant,
    /// Whether the probe run was held: its answer may be from before the stall.
    pub(in crate::monitor) was_held: bool,
}

impl Tracker {
    /// Creates the tracker of a node that was not probed yet.
    pub(in crate::monitor) fn new(timing: Timing) -> Self {
        Self {
            timing,
            last: None,
            back_off: BackOff::default(),
            stall: None,
            settling: None,
            unproven: None,
            fit_at: None,
        }
    }

    /// The answer for a caller if no new probe run is due: while the node is silent, while
    /// the last verdict is younger than `--max-age`, and during the back-off.
    pub(in crate::monitor) fn cached(&self, now: Instant) -> Option<Health> {
        if let Some(health) = self.silent_verdict(now) {
            return Some(health);
        }
        let (verdict, at) = self.last?;
        let fresh = now.duration_since(at) < self.timing.max_age;
        (fresh || self.back_off(now).is_some()).then(|| self.health(verdict, now))
    }

    /// Until when [`cached`](Self::cached) returns serve if no event comes before. `None`
    /// if it does not return serve now, or only because of grace, or not for every role.
    pub(in crate::monitor) fn serves_until(&self, now: Instant) -> Option<Instant> {
        let (verdict, at) = self.last?;
        let until = at.checked_add(self.timing.max_age)?;
        let in_doubt = self.stall.is_some() || self.unproven.is_some();
        (verdict == Verdict::Serve && !in_doubt && now < until).then_some(until)
    }

    /// The rest of the back-off, during which no probe run starts.
    pub(in crate::monitor) fn back_off(&self, now: Instant) -> Option<Duration> {
        self.back_off.left(now)
    }

    /// Ends the back-off and restarts its schedule, because the cause of the failed
    /// handshakes may be corrected. The next caller gets a new probe run.
    pub(in crate::monitor) fn reset_back_off(&mut self) {
        if self.back_off.reset() {
            self.last = None;
        }
    }

    /// Ends the back-off like [`reset_back_off`](Self::reset_back_off), and forgets the last
    /// verdict: the operator wants the node to be probed.
    pub(in crate::monitor) fn reload(&mut self) {
        self.reset_back_off();
        self.last = None;
    }

    /// Whether the next probe run asks a fit node for a causality check.
    pub(in crate::monitor) fn wants_proof(&self, now: Instant) -> bool {
        match self.timing.causality_check {
            CausalityCheck::AfterStall => {
                self.settling.as_ref().is_some_and(|settling| !settling.is_over(now))
            }
            CausalityCheck::Always => true,
            CausalityCheck::Never => false,
        }
    }

    /// The answer that callers get at once while the node is silent: it accepted a
    /// connection and a later step stalled (law 3).
    ///
    /// `None` after a stall in the connect step: no connection is held, so callers wait
    /// for a new attempt.
    pub(in crate::monitor) fn silent_verdict(&self, now: Instant) -> Option<Health> {
        if let Some(stall) = self.stall.as_ref().filter(|stall| stall.last.step != Step::Connect) {
            return Some(self.health(Verdict::Refuse(stall.last.reason()), now));
        }
        let unproven = self.unproven.filter(|unproven| unproven.has_stalled)?;
        Some(self.health(self.unproven_verdict(unproven), now))
    }

    /// Whether a probe run is due although callers are answered without it.
    pub(in crate::monitor) fn is_probe_due(&self, now: Instant) -> bool {
        let is_old = |(_, at): (Verdict, Instant)| now.duration_since(at) >= self.timing.max_age;
        self.unproven.is_some_and(|unproven| unproven.has_stalled) && self.last.is_none_or(is_old)
    }

    /// The refusal of a fit node to all roles but readers, who are served what it has
    /// (`--causality-check always`).
    pub(in crate::monitor) fn unproven(&self, now: Instant) -> Option<Health> {
        let unproven = self.unproven?;
        (self.timing.causality_check == CausalityCheck::Always)
            .then(|| self.health(Verdict::Refuse(unproven.reason()), now))
    }

    /// The verdict for readers: they need the proof only after a stall.
    fn unproven_verdict(&self, unproven: Unproven) -> Verdict {
        match (&self.settling, unproven.is_held) {
            (None, _) => Verdict::Serve,
            (Some(_), true) => Verdict::Refuse(Reason::StalledCausality),
            (Some(_), false) => Verdict::Refuse(Reason::Settling),
        }
    }

    /// Gives up a check that stalled, if the node has settled by time meanwhile: its facts have
    /// been fit for `--settle`, as behind a long ALTER. Returns whether it did. Then a probe run
    /// without a check is due.
    pub(in crate::monitor) fn gives_up_check(&mut self, now: Instant) -> bool {
        let has_settled = self.settling.as_ref().is_some_and(|settling| settling.is_over(now));
        match &mut self.unproven {
            Some(unproven) if has_settled => mem::replace(&mut unproven.is_held, false),
            _ => false,
        }
    }

    /// Whether the node is stalled: a probe run that is answered then shows that it woke.
    pub(in crate::monitor) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Whether a held probe run was given up since the last login.
    pub(in crate::monitor) fn has_given_up(&self) -> bool {
        self.back_off.has_given_up()
    }

    /// How long to hold the oldest held connection from now on.
    pub(in crate::monitor) fn hold_time(&self, now: Instant) -> Duration {
        self.back_off.hold_time(now)
    }

    /// Applies grace to a verdict, and adds the time of the stall or of settling.
    fn health(&self, verdict: Verdict, now: Instant) -> Health {
        match (verdict, &self.stall, &self.settling, self.unproven) {
            (Verdict::Refuse(Reason::StalledCausality), _, _, Some(unproven)) => {
                Health { verdict, time: Some(Time::For(now.duration_since(unproven.since))) }
            }
            (Verdict::Refuse(reason), Some(stall), _, _)
                if reason == stall.last.reason() && self.has_grace(now) =>
            {
                // Grace covers the stall itself and no other refusal.
                Verdict::Serve.into()
            }
            (Verdict::Refuse(_), Some(stall), _, _) => {
                Health { verdict, time: Some(Time::For(now.duration_since(stall.since))) }
            }
            (Verdict::Refuse(Reason::Settling), None, Some(settling), _) => {
                Health { verdict, time: Some(Time::Left(settling.left(now))) }
            }
            _ => verdict.into(),
        }
    }

    /// Whether the last good answer is recent enough to serve a node that times out.
    fn has_grace(&self, now: Instant) -> bool {
        self.fit_at.is_some_and(|fit| now.duration_since(fit) < self.timing.grace)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::monitor::back_off::FIRST_HOLD;

    const SECOND: Duration = Duration::from_secs(1);
    const FIT: Result<Verdict, &Failure> = Ok(Verdict::Serve);

    /// A tracker that asks for no proof.
    fn tracker(grace: Duration) -> Tracker {
        let causality_check = CausalityCheck::Never;
        let settle = 10 * SECOND;
        Tracker::new(Timing {
            causality_check,
            max_age: SECOND,
            settle,
            grace,
            ..Timing::default()
        })
    }

    fn end(
        tracker: &mut Tracker,
        outcome: Result<Verdict, &Failure>,
        step: Step,
        began: Instant,
        now: Instant,
    ) -> Health {
        let outcome = outcome.map(|verdict| (verdict, Causality::NotAsked));
        tracker.probe_ended(Ended { outcome, step, began, was_held: false }, now)
    }

    fn stalled(step: Step, waited: Duration) -> Stalled {
        Stalled { step, waited }
    }

    #[test]
    fn caches_no_verdict_before_the_first_probe_or_after_max_age() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        assert_eq!(tracker.cached(now), None);
        end(&mut tracker, FIT, Step::Query, now, now);
        assert_eq!(tracker.cached(now + SECOND / 2), Some(Verdict::Serve.into()));
        assert_eq!(tracker.cached(now + SECOND), None);
    }

    #[test]
    fn holds_every_stall_but_one_in_the_connect_step() {
        let now = Instant::now();
        for (step, held) in [
            (Step::Connect, false),
            (Step::Greeting, true),
            (Step::Tls, true),
            (Step::Login, true),
            (Step::Query, true),
        ] {
            let mut tracker = tracker(Duration::ZERO);
            let (health, until) = tracker.probe_stalled(stalled(step, SECOND), now, now);
            assert_eq!(health.time, Some(Time::For(SECOND)));
            assert_eq!(until, held.then_some(now + FIRST_HOLD));
            assert_eq!(tracker.silent_verdict(now).is_some(), held);
            // A silent node needs no new probe run, however old the stall is.
            assert_eq!(tracker.cached(now + 60 * SECOND).is_some(), held);
        }
    }

    #[test]
    fn a_stall_lasts_from_its_first_stalled_step_until_the_node_wakes() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now, now);
        tracker.gave_up(now);
        tracker.probe_stalled(stalled(Step::Connect, SECOND), now + SECOND, now + SECOND);
        let woke = now + SECOND + SECOND;
        let health = end(&mut tracker, FIT, Step::Query, woke, woke);
        assert_eq!(health.verdict, Verdict::Refuse(Reason::Settling));
        assert_eq!(health.time, Some(Time::Left(6 * SECOND)));
    }

    #[test]
    fn settling_ends_when_the_node_has_stayed_fit_for_long_enough() {
        let woke = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        tracker.probe_stalled(stalled(Step::Greeting, 3 * SECOND), woke, woke);
        for (seconds, left) in [(0, Some(6)), (5, Some(1)), (6, None), (7, None)] {
            let now = woke + seconds * SECOND;
            let health = end(&mut tracker, FIT, Step::Query, now, now);
            assert_eq!(health.time, left.map(|left| Time::Left(left * SECOND)));
            assert_eq!(health.verdict == Verdict::Serve, left.is_none());
        }
    }

    #[test]
    fn grace_applies_only_if_the_last_verdict_was_serve() {
        let now = Instant::now();
        for (last, verdict) in [
            (Verdict::Serve, Verdict::Serve),
            (Verdict::Refuse(Reason::Donor), Verdict::Refuse(Reason::StalledGreeting)),
        ] {
            let mut tracker = tracker(5 * SECOND);
            end(&mut tracker, FIT, Step::Query, now, now);
            end(&mut tracker, Ok(last), Step::Query, now, now + SECOND);
            let (health, _) = tracker.probe_stalled(
                stalled(Step::Greeting, SECOND),
                now + 2 * SECOND,
                now + 2 * SECOND,
            );
            assert_eq!(health.verdict, verdict);
        }
    }

    #[test]
    fn a_node_refused_as_it_woke_has_to_settle_despite_grace() {
        let now = Instant::now();
        let refused = Failure::Connect(io::ErrorKind::ConnectionRefused.into());
        for outcome in [Ok(Verdict::Refuse(Reason::NotReady)), Err(&refused)] {
            let mut tracker = tracker(30 * SECOND);
            end(&mut tracker, FIT, Step::Query, now, now);
            tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + SECOND, now + SECOND);
            end(&mut tracker, outcome, Step::Query, now, now + 3 * SECOND);
            let later = now + 4 * SECOND;
            let health = end(&mut tracker, FIT, Step::Query, later, later);
            assert_eq!(health.time, Some(Time::Left(6 * SECOND)));
        }
    }

    #[test]
    fn a_second_stall_while_settling_does_not_shorten_it() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        tracker.probe_stalled(stalled(Step::Greeting, 20 * SECOND), now, now);
        end(&mut tracker, FIT, Step::Query, now, now);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + SECOND, now + SECOND);
        let health = end(&mut tracker, FIT, Step::Query, now, now + SECOND);
        assert_eq!(health.time, Some(Time::Left(10 * SECOND)));
    }

    #[test]
    fn a_held_connection_that_the_node_closes_ends_the_stall() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now, now);
        let gone =
            Failure::Broken { step: Step::Greeting, error: io::ErrorKind::BrokenPipe.into() };
        let health = end(&mut tracker, Err(&gone), Step::Greeting, now, now + SECOND);
        assert_eq!(health, Verdict::Refuse(Reason::Disconnected).into());
        assert_eq!(tracker.silent_verdict(now + SECOND), None);
    }

    #[test]
    fn a_stall_continues_while_the_nodes_kernel_does_not_answer_either() {
        let now = Instant::now();
        let mut tracker = tracker(3600 * SECOND);
        end(&mut tracker, FIT, Step::Query, now, now);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + SECOND, now + SECOND);
        let dead = Failure::Broken { step: Step::Greeting, error: io::ErrorKind::TimedOut.into() };
        let away = Failure::Connect(io::ErrorKind::HostUnreachable.into());
        for (failure, step) in [(dead, Step::Greeting), (away, Step::Connect)] {
            let health = end(&mut tracker, Err(&failure), step, now, now + 4 * SECOND);
            // The refusal carries the time of the stall, and grace does not apply.
            assert_eq!(health.verdict, Verdict::Refuse(failure.reason()));
            assert_eq!(health.time, Some(Time::For(4 * SECOND)));
            assert_eq!(tracker.silent_verdict(now + 4 * SECOND), None);
        }
        tracker.timing.grace = Duration::ZERO;
        let health = end(&mut tracker, FIT, Step::Query, now, now + 4 * SECOND);
        assert_eq!(health.time, Some(Time::Left(8 * SECOND)));
    }

    #[test]
    fn facts_of_a_probe_that_stalled_are_not_cached() {
        let now = Instant::now();
        let timing = Timing { max_age: 3600 * SECOND, grace: 5 * SECOND, ..Timing::default() };
        let mut tracker = Tracker::new(timing);
        end(&mut tracker, FIT, Step::Query, now, now);
        tracker.probe_stalled(stalled(Step::Query, SECOND), now + SECOND, now + SECOND);
        let health = end(&mut tracker, FIT, Step::Query, now, now + 3 * SECOND);
        assert_eq!(health.verdict, Verdict::Serve);
        assert_eq!(tracker.cached(now + 3 * SECOND), None);
        // They do not extend the grace either.
        assert!(tracker.has_grace(now + 4 * SECOND) && !tracker.has_grace(now + 5 * SECOND));
    }

    #[test]
    fn reset_back_off_ends_it_and_restarts_its_schedule() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        let failure = Failure::Session(crate::mysql::Error::NoTls);
        for pause in [5, 10, 20] {
            end(&mut tracker, Err(&failure), Step::Greeting, now, now);
            assert_eq!(tracker.back_off(now), Some(pause * SECOND));
        }
        assert_eq!(tracker.back_off(now + 20 * SECOND), None);
        assert_eq!(tracker.cached(now), Some(Verdict::Refuse(failure.reason()).into()));
        tracker.reset_back_off();
        assert_eq!((tracker.back_off(now), tracker.cached(now)), (None, None));
        end(&mut tracker, Err(&failure), Step::Greeting, now, now);
        assert_eq!(tracker.back_off(now), Some(5 * SECOND));
        // Outside a back-off, the cached verdict stays.
        end(&mut tracker, FIT, Step::Query, now, now);
        tracker.reset_back_off();
        assert_eq!(tracker.cached(now), Some(Verdict::Serve.into()));
    }

    #[test]
    fn a_node_that_restarts_after_a_long_stall_is_probed_again_after_5_s() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        for _ in 0..6 {
            tracker.probe_stalled(stalled(Step::Greeting, SECOND), now, now);
            tracker.gave_up(now);
        }
        let closed =
            Failure::Broken { step: Step::Login, error: io::ErrorKind::UnexpectedEof.into() };
        end(&mut tracker, Err(&closed), Step::Login, now, now);
        assert_eq!(tracker.back_off(now), Some(5 * SECOND));
    }

    #[test]
    fn serves_until_returns_when_a_cached_serve_expires() {
        let now = Instant::now();
        let mut served = tracker(Duration::ZERO);
        assert_eq!(served.serves_until(now), None);
        end(&mut served, FIT, Step::Query, now, now);
        let until = served.serves_until(now).unwrap();
        let almost = until - Duration::from_millis(1);
        assert_eq!(served.cached(almost), Some(Verdict::Serve.into()));
        assert_eq!((served.cached(until), served.serves_until(until)), (None, None));

        let mut refused = tracker(Duration::ZERO);
        end(&mut refused, Ok(Verdict::Refuse(Reason::Donor)), Step::Query, now, now);
        assert_eq!((refused.cached(now).is_some(), refused.serves_until(now)), (true, None));
        // Not if the node is served only because of grace, which may end sooner.
        let mut graced = tracker(Duration::from_millis(1));
        end(&mut graced, FIT, Step::Query, now, now);
        graced.probe_stalled(stalled(Step::Query, Duration::ZERO), now, now);
        assert_eq!(
            (graced.cached(now), graced.serves_until(now)),
            (Some(Verdict::Serve.into()), None)
        );
        let endless = Timing { max_age: Duration::MAX, ..Timing::default() };
        let mut endless = Tracker::new(endless);
        end(&mut endless, FIT, Step::Query, now, now);
        assert_eq!(endless.serves_until(now), None);
    }
}
