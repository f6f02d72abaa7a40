//! What is remembered of a node from one probe run to the next, and what follows
//! from it: functions of what happened and the time, without a probe run in them.

use std::time::Duration;

use tokio::time::Instant;

use super::settings::Timing;
use crate::health::{Health, Reason, Time, Verdict};
use crate::node::probe::{Failure, Stalled, Step};

/// The first time that a stalled probe run is held. A freeze that ends within it
/// has nothing abandoned for the server to count; and behind the probe run that is
/// held, another would only stand in the same queue.
const FIRST_HOLD: Duration = Duration::from_secs(80);

/// The first pause after a handshake that could not be finished: a mended
/// password is noticed within 10 s.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest of both. With doubling up to it, a stall of 24 h costs 76
/// connections, under the 100 (max_connect_errors) that block an address.
const LONGEST: Duration = Duration::from_secs(20 * 60);

#[derive(Debug)]
pub(super) struct Tracker {
    timing: Timing,
    /// The last verdict, and when it was reached.
    last: Option<(Verdict, Instant)>,
    /// Probe runs since the last completed login that were closed while they
    /// stalled.
    abandoned: u32,
    /// Probe runs since then whose handshake could not be finished.
    unfinished: u32,
    /// No probe run begins before this.
    not_before: Option<Instant>,
    /// The node is stalled: it has said nothing since.
    stall: Option<Stall>,
    settling: Option<Settling>,
    /// When the node was found fit, if that is the last that it said.
    fit: Option<Instant>,
}

#[derive(Debug)]
struct Stall {
    /// When the first step that stalled began.
    since: Instant,
    /// The last that stalled.
    last: Stalled,
}

/// After a stall, until the node has stayed fit for long enough.
#[derive(Debug)]
struct Settling {
    woke: Instant,
    needed: Duration,
    /// The first of the probe runs that found it fit without a break, of those
    /// that began after it woke.
    fit_since: Option<Instant>,
}

impl Tracker {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            last: None,
            abandoned: 0,
            unfinished: 0,
            not_before: None,
            stall: None,
            settling: None,
            fit: None,
        }
    }

    /// What a caller is told without asking the node; `None` when the node is
    /// to be asked.
    pub(super) fn cached(&self, now: Instant) -> Option<Health> {
        if let Some(health) = self.silent_verdict(now) {
            return Some(health);
        }
        let (verdict, at) = self.last?;
        let fresh = now.duration_since(at) < self.timing.max_age;
        (fresh || self.back_off(now).is_some()).then(|| self.health(verdict, now))
    }

    /// Until when [`answer`](Self::answer) is serve, whatever the time.
    pub(super) fn serves_until(&self, now: Instant) -> Option<Instant> {
        let (verdict, at) = self.last?;
        let until = at.checked_add(self.timing.max_age)?;
        let serves = verdict == Verdict::Serve && self.stall.is_none() && now < until;
        serves.then_some(until)
    }

    /// For how long yet no probe run begins.
    pub(super) fn back_off(&self, now: Instant) -> Option<Duration> {
        let left = self.not_before?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// What made the handshakes fail may be mended: the next caller may ask.
    pub(super) fn reset_back_off(&mut self) {
        if self.not_before.take().is_some() {
            self.last = None;
        }
        self.unfinished = 0;
    }

    /// What a caller is told while the node, once connected, is known to say
    /// nothing: nobody waits for it then. A connection that does not come about
    /// is no such thing, since each caller's attempt at it is a new one.
    pub(super) fn silent_verdict(&self, now: Instant) -> Option<Health> {
        let stall = self.stall.as_ref().filter(|stall| stall.last.step != Step::Connect)?;
        Some(self.health(Verdict::Refuse(stall.last.reason()), now))
    }

    /// A probe run stalled. What its callers are told, and until when it is held;
    /// `None` when it is to be dropped, as it costs the node nothing.
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
        (self.health(verdict, now), held.then(|| now + hold(self.abandoned)))
    }

    /// A held probe run was closed at its limit.
    pub(super) fn abandoned(&mut self) {
        self.abandoned = self.abandoned.saturating_add(1);
    }

    /// A probe run that began at `begun` ended, with the verdict on its facts or
    /// a failure. `step` is how far it came.
    pub(super) fn probe_ended(
        &mut self,
        outcome: Result<Verdict, &Failure>,
        step: Step,
        begun: Instant,
        now: Instant,
    ) -> Health {
        self.not_before = None;
        if step == Step::Query {
            self.abandoned = 0;
            self.unfinished = 0;
        } else if let Err(failure) = outcome {
            self.not_before = self.pause(failure, step).map(|pause| now + pause);
        }
        if let Err(failure) = outcome
            && let Some(stall) = &mut self.stall
            && failure.is_silence()
        {
            // Neither the node nor its kernel has said a word: it stalls on.
            stall.last.step = Step::Connect;
            let verdict = Verdict::Refuse(failure.reason());
            self.last = Some((verdict, now));
            return self.health(verdict, now);
        }
        let stall = self.stall.take();
        if let Some(stall) = &stall {
            // A node that grace kept in service all along has nothing to return to.
            if !(matches!(outcome, Ok(Verdict::Serve)) && self.has_grace(now)) {
                self.start_settling(now, now.duration_since(stall.since));
            }
        }
        let verdict = match outcome {
            Ok(Verdict::Serve) => self.settling_verdict(begun, now),
            Ok(refused) => refused,
            Err(failure) => Verdict::Refuse(failure.reason()),
        };
        self.fit = match verdict {
            // What it says of a time before it woke renews nothing.
            Verdict::Serve if stall.is_some() => self.fit,
            Verdict::Serve => Some(now),
            Verdict::Refuse(_) => None,
        };
        if let (Verdict::Refuse(reason), Some(settling)) = (verdict, &mut self.settling)
            && reason != Reason::Settling
        {
            settling.fit_since = None;
        }
        // For the same reason the next caller need not wait to ask.
        let is_old = stall.is_some() && matches!(outcome, Ok(Verdict::Serve));
        self.last = (!is_old).then_some((verdict, now));
        self.health(verdict, now)
    }

    fn start_settling(&mut self, now: Instant, stalled: Duration) {
        let earlier = self.settling.as_ref().map_or(Duration::ZERO, |settling| settling.needed);
        let needed = settling_time(stalled, self.timing.settle).max(earlier);
        if !needed.is_zero() {
            self.settling = Some(Settling { woke: now, needed, fit_since: None });
        }
    }

    /// The verdict on a node that was found fit.
    fn settling_verdict(&mut self, begun: Instant, now: Instant) -> Verdict {
        let Some(settling) = &mut self.settling else { return Verdict::Serve };
        // What was asked before it woke, it may answer from before it slept.
        if begun >= settling.woke {
            let since = *settling.fit_since.get_or_insert(now);
            if now.duration_since(since) >= settling.needed {
                self.settling = None;
                return Verdict::Serve;
            }
        }
        Verdict::Refuse(Reason::Settling)
    }

    fn health(&self, verdict: Verdict, now: Instant) -> Health {
        match (verdict, &self.stall, &self.settling) {
            (Verdict::Refuse(reason), Some(stall), _)
                if reason == stall.last.reason() && self.has_grace(now) =>
            {
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

    /// How long to wait after a failure before the node is asked again: where
    /// asking at once would count against the prober's address, or could not
    /// succeed.
    fn pause(&mut self, failure: &Failure, step: Step) -> Option<Duration> {
        match back_off_after(failure, step) {
            BackOff::None => None,
            BackOff::Constant => Some(FIRST_PAUSE),
            BackOff::Doubling => {
                let pause = pause(self.unfinished);
                self.unfinished = self.unfinished.saturating_add(1);
                Some(pause)
            }
        }
    }

    /// A node that times out is served on for a while.
    fn has_grace(&self, now: Instant) -> bool {
        self.fit.is_some_and(|fit| now.duration_since(fit) < self.timing.grace)
    }
}

/// How long to hold a stalled probe run when `abandoned` were before it.
fn hold(abandoned: u32) -> Duration {
    doubled(FIRST_HOLD, abandoned)
}

/// How long to wait after a handshake that could not be finished when `unfinished`
/// were before it.
fn pause(unfinished: u32) -> Duration {
    doubled(FIRST_PAUSE, unfinished)
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST)
}

/// For how long a node must stay fit after it was stalled.
fn settling_time(stalled: Duration, most: Duration) -> Duration {
    stalled.saturating_mul(2).min(most)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BackOff {
    /// The handshake was finished, or never begun.
    None,
    /// The server closed the connection before it said a word: it starts or
    /// stops, and will be back soon.
    Constant,
    /// The handshake could not be finished, or will not succeed.
    Doubling,
}

fn back_off_after(failure: &Failure, step: Step) -> BackOff {
    match (failure, step) {
        (Failure::Connect(_), _) | (_, Step::Query) => BackOff::None,
        (Failure::Broken { .. }, Step::Greeting) => BackOff::Constant,
        _ => match failure.reason() {
            // States of the server or the account, for which nothing is counted.
            Reason::TooManyConnections
            | Reason::UserLimit
            | Reason::HostDenied
            | Reason::AccountLocked
            | Reason::PasswordExpired
            | Reason::Offline
            | Reason::NotReady
            | Reason::ShuttingDown => BackOff::None,
            _ => BackOff::Doubling,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FIT: Result<Verdict, &Failure> = Ok(Verdict::Serve);

    fn tracker(grace: Duration) -> Tracker {
        Tracker::new(Timing { max_age: SECOND, settle: 10 * SECOND, grace, ..Timing::default() })
    }

    fn stalled(step: Step, waited: Duration) -> Stalled {
        Stalled { step, waited }
    }

    #[test]
    fn holds_double_from_80_s_and_pauses_from_5_s_up_to_20_minutes() {
        let holds: Vec<_> = (0..6).map(|n| hold(n).as_secs()).collect();
        assert_eq!(holds, [80, 160, 320, 640, 1200, 1200]);
        let pauses: Vec<_> = (0..10).map(|n| pause(n).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1200, 1200]);
        assert_eq!((hold(u32::MAX), pause(u32::MAX)), (LONGEST, LONGEST));
    }

    #[test]
    fn settling_takes_twice_the_stall_and_at_most_what_was_set() {
        let most = 10 * SECOND;
        assert_eq!(settling_time(Duration::from_millis(2100), most), Duration::from_millis(4200));
        assert_eq!(settling_time(30 * SECOND, most), most);
        assert_eq!(settling_time(Duration::MAX, most), most);
        assert_eq!(settling_time(30 * SECOND, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn only_what_a_server_counts_or_what_cannot_succeed_backs_off() {
        use crate::mysql::{Error, ServerError};
        let refused =
            |code| Failure::Session(Error::Refused(ServerError { code, text: String::new() }));
        let broken = |step| Failure::Broken { step, error: io::ErrorKind::UnexpectedEof.into() };
        for (failure, step, expected) in [
            (refused(1045), Step::Login, BackOff::Doubling),
            (refused(1129), Step::Greeting, BackOff::Doubling),
            (refused(1040), Step::Greeting, BackOff::None),
            (refused(1130), Step::Greeting, BackOff::None),
            // ER_HANDSHAKE_ERROR, and what nobody has thought of.
            (refused(1043), Step::Login, BackOff::Doubling),
            (refused(9999), Step::Login, BackOff::Doubling),
            (broken(Step::Greeting), Step::Greeting, BackOff::Constant),
            (broken(Step::Login), Step::Login, BackOff::Doubling),
            (broken(Step::Query), Step::Query, BackOff::None),
            (Failure::Session(Error::Malformed { field: "x" }), Step::Greeting, BackOff::Doubling),
            (
                Failure::Session(Error::UnknownPlugin { plugin: "x".into() }),
                Step::Login,
                BackOff::Doubling,
            ),
            (Failure::Session(Error::NoTls), Step::Greeting, BackOff::Doubling),
            (Failure::Session(Error::NeedsTls { plugin: "x" }), Step::Login, BackOff::Doubling),
            (broken(Step::Tls), Step::Tls, BackOff::Doubling),
            (Failure::Session(Error::Malformed { field: "x" }), Step::Query, BackOff::None),
            (
                Failure::Connect(io::ErrorKind::ConnectionRefused.into()),
                Step::Connect,
                BackOff::None,
            ),
        ] {
            assert_eq!(back_off_after(&failure, step), expected, "{failure} in {step}");
        }
    }

    #[test]
    fn a_node_is_to_be_asked_when_nothing_is_known_or_what_is_known_is_old() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        assert_eq!(tracker.cached(now), None);
        tracker.probe_ended(FIT, Step::Query, now, now);
        assert_eq!(tracker.cached(now + SECOND / 2), Some(Verdict::Serve.into()));
        assert_eq!(tracker.cached(now + SECOND), None);
    }

    #[test]
    fn a_stalled_connect_is_dropped_and_every_other_stall_held() {
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
            // Nor is one asked that says nothing, however old that is.
            assert_eq!(tracker.cached(now + 60 * SECOND).is_some(), held);
        }
    }

    #[test]
    fn a_stall_is_as_long_as_from_its_first_step_through_every_probe_to_the_waking() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now);
        tracker.abandoned();
        tracker.probe_stalled(stalled(Step::Connect, SECOND), now + SECOND);
        let woke = now + SECOND + SECOND;
        let health = tracker.probe_ended(FIT, Step::Query, woke, woke);
        assert_eq!(health.verdict, Verdict::Refuse(Reason::Settling));
        assert_eq!(health.time, Some(Time::Left(6 * SECOND)));
    }

    #[test]
    fn a_node_that_has_stayed_fit_since_it_woke_has_settled() {
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
    fn grace_is_for_a_node_whose_last_word_was_that_it_is_fit() {
        let now = Instant::now();
        for (last_word, verdict) in [
            (Verdict::Serve, Verdict::Serve),
            (Verdict::Refuse(Reason::Donor), Verdict::Refuse(Reason::StalledGreeting)),
        ] {
            let mut tracker = tracker(5 * SECOND);
            tracker.probe_ended(FIT, Step::Query, now, now);
            tracker.probe_ended(Ok(last_word), Step::Query, now, now + SECOND);
            let (health, _) =
                tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + 2 * SECOND);
            assert_eq!(health.verdict, verdict);
        }
    }

    #[test]
    fn grace_spares_no_node_its_settling_that_was_refused_when_it_woke() {
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
    fn a_second_stall_while_settling_never_shortens_it() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        tracker.probe_stalled(stalled(Step::Greeting, 20 * SECOND), now);
        tracker.probe_ended(FIT, Step::Query, now, now);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + SECOND);
        let health = tracker.probe_ended(FIT, Step::Query, now, now + SECOND);
        assert_eq!(health.time, Some(Time::Left(10 * SECOND)));
    }

    #[test]
    fn a_node_that_is_gone_while_it_is_held_is_not_stalled_any_more() {
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
    fn a_stall_goes_on_while_not_even_the_nodes_kernel_answers() {
        let now = Instant::now();
        let mut tracker = tracker(3600 * SECOND);
        tracker.probe_ended(FIT, Step::Query, now, now);
        tracker.probe_stalled(stalled(Step::Greeting, SECOND), now + SECOND);
        let dead = Failure::Broken { step: Step::Greeting, error: io::ErrorKind::TimedOut.into() };
        let away = Failure::Connect(io::ErrorKind::HostUnreachable.into());
        for (failure, step) in [(dead, Step::Greeting), (away, Step::Connect)] {
            let health = tracker.probe_ended(Err(&failure), step, now, now + 4 * SECOND);
            // Told with its time, and grace does not soften it.
            assert_eq!(health.verdict, Verdict::Refuse(failure.reason()));
            assert_eq!(health.time, Some(Time::For(4 * SECOND)));
            assert_eq!(tracker.silent_verdict(now + 4 * SECOND), None);
        }
        tracker.timing.grace = Duration::ZERO;
        let health = tracker.probe_ended(FIT, Step::Query, now, now + 4 * SECOND);
        assert_eq!(health.time, Some(Time::Left(8 * SECOND)));
    }

    #[test]
    fn facts_of_a_probe_that_stalled_are_given_to_nobody_later() {
        let now = Instant::now();
        let timing = Timing { max_age: 3600 * SECOND, grace: 5 * SECOND, ..Timing::default() };
        let mut tracker = Tracker::new(timing);
        tracker.probe_ended(FIT, Step::Query, now, now);
        tracker.probe_stalled(stalled(Step::Query, SECOND), now + SECOND);
        let health = tracker.probe_ended(FIT, Step::Query, now, now + 3 * SECOND);
        assert_eq!(health.verdict, Verdict::Serve);
        assert_eq!(tracker.cached(now + 3 * SECOND), None);
        // Nor do they prolong its grace.
        assert!(tracker.has_grace(now + 4 * SECOND) && !tracker.has_grace(now + 5 * SECOND));
    }

    #[test]
    fn what_may_be_mended_ends_the_back_off_and_begins_its_schedule_anew() {
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
        // What the node said otherwise is as good as it was.
        tracker.probe_ended(FIT, Step::Query, now, now);
        tracker.reset_back_off();
        assert_eq!(tracker.cached(now), Some(Verdict::Serve.into()));
    }

    #[test]
    fn a_restart_after_a_long_stall_is_noticed_within_seconds() {
        let now = Instant::now();
        let mut tracker = tracker(Duration::ZERO);
        for _ in 0..6 {
            tracker.probe_stalled(stalled(Step::Greeting, SECOND), now);
            tracker.abandoned();
        }
        let closed =
            Failure::Broken { step: Step::Login, error: io::ErrorKind::UnexpectedEof.into() };
        tracker.probe_ended(Err(&closed), Step::Login, now, now);
        assert_eq!(tracker.not_before, Some(now + FIRST_PAUSE));
    }

    #[test]
    fn serve_that_stands_is_the_answer_until_then_and_no_longer() {
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
        // Nor where grace alone serves: it may be over first.
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
