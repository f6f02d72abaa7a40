//! What the monitor remembers of its node from one probe run to the next, and the rules
//! that follow from it: stalls, holding, back-off, settling and grace.
//!
//! [`Tracker`] runs no probe and reads no clock. Its methods are functions of the events
//! so far and of the time that is passed in.

use std::time::Duration;

use tokio::time::Instant;

use super::back_off::{BackOff, FIRST_PAUSE, hold_time, pause};
use super::settings::Timing;
use crate::health::{Health, Reason, Time, Verdict};
use crate::node::probe::{Failure, Stalled, Step};

/// The history of one node, as far as later verdicts depend on it.
#[derive(Debug)]
pub(super) struct Tracker {
    timing: Timing,
    /// The last verdict, and when it was reached. `None` before the first, and if later
    /// callers must not get it.
    last: Option<(Verdict, Instant)>,
    /// Held probe runs that were given up since a probe run last answered or failed after
    /// its login.
    abandoned: u32,
    /// Failures with [`BackOff::Doubling`] since then, or since the back-off was reset.
    failed_handshakes: u32,
    /// The end of the back-off: no probe run starts before it.
    back_off_until: Option<Instant>,
    /// Set while the node is stalled: a probe run stalled, and no later one was answered.
    stall: Option<Stall>,
    /// Set while the node settles.
    settling: Option<Settling>,
    /// When a probe run last found the node fit. Any refusal clears it except a stall, which
    /// grace may cover.
    fit_at: Option<Instant>,
}

#[derive(Debug)]
struct Stall {
    /// When the first step that stalled began, from [`Stalled::waited`].
    since: Instant,
    /// The most recent stall. Its step is [`Step::Connect`] if no connection is left to
    /// hold.
    last: Stalled,
}

/// The time after a stall in which a node is refused until it has stayed fit for `needed`.
#[derive(Debug)]
struct Settling {
    woke: Instant,
    needed: Duration,
    /// Since when every probe run that began after the node woke has found it fit.
    fit_since: Option<Instant>,
}

impl Tracker {
    /// Creates the tracker of a node that was not probed yet.
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            last: None,
            abandoned: 0,
            failed_handshakes: 0,
            back_off_until: None,
            stall: None,
            settling: None,
            fit_at: None,
        }
    }

    /// The answer for a caller if no new probe run is due: while the node is silent, while
    /// the last verdict is younger than `--max-age`, and during the back-off.
    pub(super) fn cached(&self, now: Instant) -> Option<Health> {
        if let Some(health) = self.silent_verdict(now) {
            return Some(health);
        }
        let (verdict, at) = self.last?;
        let fresh = now.duration_since(at) < self.timing.max_age;
        (fresh || self.back_off(now).is_some()).then(|| self.health(verdict, now))
    }

    /// Until when [`cached`](Self::cached) returns serve if no event comes before. `None`
    /// if it does not return serve now, or only because of grace.
    pub(super) fn serves_until(&self, now: Instant) -> Option<Instant> {
        let (verdict, at) = self.last?;
        let until = at.checked_add(self.timing.max_age)?;
        let serves = verdict == Verdict::Serve && self.stall.is_none() && now < until;
        serves.then_some(until)
    }

    /// The rest of the back-off, during which no probe run starts.
    pub(super) fn back_off(&self, now: Instant) -> Option<Duration> {
        let left = self.back_off_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Ends the back-off and restarts its schedule, because the cause of the failed
    /// handshakes may be corrected. The next caller gets a new probe run.
    pub(super) fn reset_back_off(&mut self) {
        if self.back_off_until.take().is_some() {
            self.last = None;
        }
        self.failed_handshakes = 0;
    }

    /// Ends the back-off like [`reset_back_off`](Self::reset_back_off), and forgets the last
    /// verdict: the operator wants the node to be probed.
    pub(super) fn reload(&mut self) {
        self.reset_back_off();
        self.last = None;
    }

    /// The refusal that callers get at once while the node is silent: it accepted a
    /// connection and a later step stalled (law 3).
    ///
    /// `None` after a stall in the connect step: no connection is held, so callers wait
    /// for a new attempt.
    pub(super) fn silent_verdict(&self, now: Instant) -> Option<Health> {
        let stall = self.stall.as_ref().filter(|stall| stall.last.step != Step::Connect)?;
        Some(self.health(Verdict::Refuse(stall.last.reason()), now))
    }

    /// A probe run stalled. Returns the answer for its callers, and until when to hold
    /// it. `None` to drop it: in the connect step no handshake has begun.
    pub(super) fn probe_stalled(
        &mut self,
        stalled: Stalled,
        now: Instant,
    ) -> (Health, Option<Instant>) {
        let since = now.checked_sub(stalled.waited).unwrap_or(now);
        let since = self.stall.as_ref().map_or(since, |earlier| earlier.since);
        self.stall = Some(Stall { since, last: stalled });
        let verdict = Verdict::Refuse(stalled.reason());
        self.last = Some((verdict, now));
        let held = stalled.step != Step::Connect;
        (self.health(verdict, now), held.then(|| now + hold_time(self.abandoned)))
    }

    /// A held probe run was given up.
    pub(super) fn hold_expired(&mut self) {
        self.abandoned = self.abandoned.saturating_add(1);
    }

    /// A probe run that began at `began` ended in `step`, with the verdict on its facts
    /// or with a failure. Returns the answer for its callers.
    pub(super) fn probe_ended(
        &mut self,
        outcome: Result<Verdict, &Failure>,
        step: Step,
        began: Instant,
        now: Instant,
    ) -> Health {
        self.update_back_off(outcome, step, now);
        if let Err(failure) = outcome
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
        let woke = self.end_stall(outcome, now);
        // The facts of a node that has just woken may be from before the stall. They are not
        // cached, so that the next caller starts a probe run, and do not extend the grace.
        let is_outdated = woke && matches!(outcome, Ok(Verdict::Serve));
        let verdict = match outcome {
            Ok(Verdict::Serve) => self.settling_verdict(began, now),
            Ok(refused) => refused,
            Err(failure) => Verdict::Refuse(failure.reason()),
        };
        self.fit_at = match verdict {
            Verdict::Serve if is_outdated => self.fit_at,
            Verdict::Serve => Some(now),
            Verdict::Refuse(_) => None,
        };
        if let (Verdict::Refuse(reason), Some(settling)) = (verdict, &mut self.settling)
            && reason != Reason::Settling
        {
            settling.fit_since = None;
        }
        self.last = (!is_outdated).then_some((verdict, now));
        self.health(verdict, now)
    }

    /// Ends the back-off. A probe run that got past its login also restarts the schedules;
    /// one that failed before it starts a new back-off according to [`BackOff::after`].
    fn update_back_off(&mut self, outcome: Result<Verdict, &Failure>, step: Step, now: Instant) {
        self.back_off_until = None;
        if step == Step::Query {
            self.abandoned = 0;
            self.failed_handshakes = 0;
        } else if let Err(failure) = outcome {
            let pause = match BackOff::after(failure, step) {
                BackOff::None => return,
                BackOff::Constant => FIRST_PAUSE,
                BackOff::Doubling => {
                    let pause = pause(self.failed_handshakes);
                    self.failed_handshakes = self.failed_handshakes.saturating_add(1);
                    pause
                }
            };
            self.back_off_until = Some(now + pause);
        }
    }

    /// Ends the stall, if there is one, and starts settling. Returns whether the node
    /// was stalled.
    fn end_stall(&mut self, outcome: Result<Verdict, &Failure>, now: Instant) -> bool {
        let Some(stall) = self.stall.take() else { return false };
        // A node that grace kept in service need not settle.
        if !(matches!(outcome, Ok(Verdict::Serve)) && self.has_grace(now)) {
            self.start_settling(now, now.duration_since(stall.since));
        }
        true
    }

    fn start_settling(&mut self, now: Instant, stalled: Duration) {
        let earlier = self.settling.as_ref().map_or(Duration::ZERO, |settling| settling.needed);
        let needed = settling_time(stalled, self.timing.settle).max(earlier);
        if !needed.is_zero() {
            self.settling = Some(Settling { woke: now, needed, fit_since: None });
        }
    }

    /// The verdict on a node that was found fit: refused while it settles. A node that
    /// woke reports Synced for seconds although it was voted out (law 6).
    fn settling_verdict(&mut self, began: Instant, now: Instant) -> Verdict {
        let Some(settling) = &mut self.settling else { return Verdict::Serve };
        // If the probe run began during the stall, its facts may be from before it.
        if began >= settling.woke {
            let since = *settling.fit_since.get_or_insert(now);
            if now.duration_since(since) >= settling.needed {
                self.settling = None;
                return Verdict::Serve;
            }
        }
        Verdict::Refuse(Reason::Settling)
    }

    /// Applies grace to a verdict, and adds the time of the stall or of settling.
    fn health(&self, verdict: Verdict, now: Instant) -> Health {
        match (verdict, &self.stall, &self.settling) {
            (Verdict::Refuse(reason), Some(stall), _)
                if reason == stall.last.reason() && self.has_grace(now) =>
            {
                // Grace covers the stall itself and no other refusal.
                Verdict::Serve.into()
            }
            (Verdict::Refuse(_), Some(stall), _) => {
                Health { verdict, time: Some(Time::For(now.duration_since(stall.since))) }
            }
            (Verdict::Refuse(Reason::Settling), None, Some(settling)) => {
                let fit = settling.fit_since.map_or(Duration::ZERO, |since| now - since);
                Health { verdict, time: Some(Time::Left(settling.needed.saturating_sub(fit))) }
            }
            _ => verdict.into(),
        }
    }

    /// Whether the last good answer is recent enough to serve a node that times out.
    fn has_grace(&self, now: Instant) -> bool {
        self.fit_at.is_some_and(|fit| now.duration_since(fit) < self.timing.grace)
    }
}

/// For how long a node must stay fit after a stall: twice as long as it was stalled, at
/// most `limit`.
fn settling_time(stalled: Duration, limit: Duration) -> Duration {
    stalled.saturating_mul(2).min(limit)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::monitor::back_off::FIRST_HOLD;

    const SECOND: Duration = Duration::from_secs(1);
    const FIT: Result<Verdict, &Failure> = Ok(Verdict::Serve);

    fn tracker(grace: Duration) -> Tracker {
        Tracker::new(Timing { max_age: SECOND, settle: 10 * SECOND, grace, ..Timing::default() })
    }

    fn stalled(step: Step, waited: Duration) -> Stalled {
        Stalled { step, waited }
    }

    #[test]
    fn settling_takes_twice_the_stall_up_to_the_limit() {
        let limit = 10 * SECOND;
        assert_eq!(settling_time(Duration::from_millis(2100), limit), Duration::from_millis(4200));
        assert_eq!(settling_time(30 * SECOND, limit), limit);
        assert_eq!(settling_time(Duration::MAX, limit), limit);
        assert_eq!(settling_time(30 * SECOND, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn caches_no_verdict_before_the_first_probe_or_after_max_age() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        assert_eq!(tracker.cached(now), None);
        tracker.probe_ended(FIT, Step::Query, now, now);
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
            let (health, until) = tracker.probe_stalled(stalled(step, SECOND), now);
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
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now);
        tracker.hold_expired();
        tracker.probe_stalled(stalled(Step::Connect, SECOND), now + SECOND);
        let woke = now + SECOND + SECOND;
        let health = tracker.probe_ended(FIT, Step::Query, woke, woke);
        assert_eq!(health.verdict, Verdict::Refuse(Reason::Settling));
        assert_eq!(health.time, Some(Time::Left(6 * SECOND)));
    }

    #[test]
    fn settling_ends_when_the_node_has_stayed_fit_for_long_enough() {
        let woke = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        tracker.probe_stalled(stalled(Step::Greeting, 3 * SECOND), woke);
        for (seconds, left) in [(0, Some(6)), (5, Some(1)), (6, None), (7, None)] {
            let now = woke + seconds * SECOND;
            let health = tracker.probe_ended(FIT, Step::Query, now, now);
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
            tracker.probe_ended(FIT, Step::Query, now, now);
            tracker.probe_ended(Ok(last), Step::Query, now, now + SECOND);
            let (health, _) =
                tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + 2 * SECOND);
            assert_eq!(health.verdict, verdict);
        }
    }

    #[test]
    fn a_node_refused_as_it_woke_has_to_settle_despite_grace() {
        let now = Instant::now();
        let refused = Failure::Connect(io::ErrorKind::ConnectionRefused.into());
        for outcome in [Ok(Verdict::Refuse(Reason::NotReady)), Err(&refused)] {
            let mut tracker = tracker(30 * SECOND);
            tracker.probe_ended(FIT, Step::Query, now, now);
            tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + SECOND);
            tracker.probe_ended(outcome, Step::Query, now, now + 3 * SECOND);
            let later = now + 4 * SECOND;
            let health = tracker.probe_ended(FIT, Step::Query, later, later);
            assert_eq!(health.time, Some(Time::Left(6 * SECOND)));
        }
    }

    #[test]
    fn a_second_stall_while_settling_does_not_shorten_it() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        tracker.probe_stalled(stalled(Step::Greeting, 20 * SECOND), now);
        tracker.probe_ended(FIT, Step::Query, now, now);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + SECOND);
        let health = tracker.probe_ended(FIT, Step::Query, now, now + SECOND);
        assert_eq!(health.time, Some(Time::Left(10 * SECOND)));
    }

    #[test]
    fn a_held_connection_that_the_node_closes_ends_the_stall() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now);
        let gone =
            Failure::Broken { step: Step::Greeting, error: io::ErrorKind::BrokenPipe.into() };
        let health = tracker.probe_ended(Err(&gone), Step::Greeting, now, now + SECOND);
        assert_eq!(health, Verdict::Refuse(Reason::Disconnected).into());
        assert_eq!(tracker.silent_verdict(now + SECOND), None);
    }

    #[test]
    fn a_stall_continues_while_the_nodes_kernel_does_not_answer_either() {
        let now = Instant::now();
        let mut tracker = tracker(3600 * SECOND);
        tracker.probe_ended(FIT, Step::Query, now, now);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + SECOND);
        let dead = Failure::Broken { step: Step::Greeting, error: io::ErrorKind::TimedOut.into() };
        let away = Failure::Connect(io::ErrorKind::HostUnreachable.into());
        for (failure, step) in [(dead, Step::Greeting), (away, Step::Connect)] {
            let health = tracker.probe_ended(Err(&failure), step, now, now + 4 * SECOND);
            // The refusal carries the time of the stall, and grace does not apply.
            assert_eq!(health.verdict, Verdict::Refuse(failure.reason()));
            assert_eq!(health.time, Some(Time::For(4 * SECOND)));
            assert_eq!(tracker.silent_verdict(now + 4 * SECOND), None);
        }
        tracker.timing.grace = Duration::ZERO;
        let health = tracker.probe_ended(FIT, Step::Query, now, now + 4 * SECOND);
        assert_eq!(health.time, Some(Time::Left(8 * SECOND)));
    }

    #[test]
    fn facts_of_a_probe_that_stalled_are_not_cached() {
        let now = Instant::now();
        let timing = Timing { max_age: 3600 * SECOND, grace: 5 * SECOND, ..Timing::default() };
        let mut tracker = Tracker::new(timing);
        tracker.probe_ended(FIT, Step::Query, now, now);
        tracker.probe_stalled(stalled(Step::Query, SECOND), now + SECOND);
        let health = tracker.probe_ended(FIT, Step::Query, now, now + 3 * SECOND);
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
            tracker.probe_ended(Err(&failure), Step::Greeting, now, now);
            assert_eq!(tracker.back_off(now), Some(pause * SECOND));
        }
        assert_eq!(tracker.back_off(now + 20 * SECOND), None);
        assert_eq!(tracker.cached(now), Some(Verdict::Refuse(failure.reason()).into()));
        tracker.reset_back_off();
        assert_eq!((tracker.back_off(now), tracker.cached(now)), (None, None));
        tracker.probe_ended(Err(&failure), Step::Greeting, now, now);
        assert_eq!(tracker.back_off(now), Some(5 * SECOND));
        // Outside a back-off, the cached verdict stays.
        tracker.probe_ended(FIT, Step::Query, now, now);
        tracker.reset_back_off();
        assert_eq!(tracker.cached(now), Some(Verdict::Serve.into()));
    }

    #[test]
    fn a_node_that_restarts_after_a_long_stall_is_probed_again_after_5_s() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        for _ in 0..6 {
            tracker.probe_stalled(stalled(Step::Greeting, SECOND), now);
            tracker.hold_expired();
        }
        let closed =
            Failure::Broken { step: Step::Login, error: io::ErrorKind::UnexpectedEof.into() };
        tracker.probe_ended(Err(&closed), Step::Login, now, now);
        assert_eq!(tracker.back_off_until, Some(now + FIRST_PAUSE));
    }

    #[test]
    fn serves_until_returns_when_a_cached_serve_expires() {
        let now = Instant::now();
        let mut served = tracker(Duration::ZERO);
        assert_eq!(served.serves_until(now), None);
        served.probe_ended(FIT, Step::Query, now, now);
        let until = served.serves_until(now).unwrap();
        let almost = until - Duration::from_millis(1);
        assert_eq!(served.cached(almost), Some(Verdict::Serve.into()));
        assert_eq!((served.cached(until), served.serves_until(until)), (None, None));

        let mut refused = tracker(Duration::ZERO);
        refused.probe_ended(Ok(Verdict::Refuse(Reason::Donor)), Step::Query, now, now);
        assert_eq!((refused.cached(now).is_some(), refused.serves_until(now)), (true, None));
        // Not if the node is served only because of grace, which may end sooner.
        let mut graced = tracker(Duration::from_millis(1));
        graced.probe_ended(FIT, Step::Query, now, now);
        graced.probe_stalled(stalled(Step::Query, Duration::ZERO), now);
        assert_eq!(
            (graced.cached(now), graced.serves_until(now)),
            (Some(Verdict::Serve.into()), None)
        );
        let endless = Timing { max_age: Duration::MAX, ..Timing::default() };
        let mut endless = Tracker::new(endless);
        endless.probe_ended(FIT, Step::Query, now, now);
        assert_eq!(endless.serves_until(now), None);
    }
}
