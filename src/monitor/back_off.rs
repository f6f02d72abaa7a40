//! How long a stalled connection is held, when scouts are sent beside it, and how long the
//! monitor waits after a failed handshake before the next probe run.
//!
//! The server counts unfinished handshakes, and blocks the prober's address at
//! `max_connect_errors` (100) since the last login. So those that it counts are rationed
//! (law 4), and the others are not (law 7).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::node::probe::Cost;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the first stalled connection is held. If the node wakes sooner, no handshake
/// was abandoned.
pub(super) const FIRST_HOLD: Duration = Duration::from_secs(80);

/// When scouts are sent, after the stall began. The connection may be lost and not the node:
/// then a new one is answered at once. Behind a frozen node the scouts wait in the server's
/// queue, so they are few: MAX_USER_CONNECTIONS of 3 is enough.
pub(super) const SCOUTS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];

/// The pause before a scout that could not even connect is sent again.
pub(super) const SCOUT_PAUSE: Duration = Duration::from_secs(5);

/// The limit for a hold and for the pause after a counted failure.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// The most unfinished handshakes within 24 hours that are begun on purpose. The server
/// blocks the address at 100.
const MAX_COUNTED: usize = 95;

/// The first pauses after counted failures.
const FIRST_PAUSES: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
];

/// The failures since the last login, and the schedules that follow from them.
#[derive(Clone, Debug, Default)]
pub(super) struct BackOff {
    /// When the first failure of the current schedule was.
    since: Option<Instant>,
    /// How many counted failures the current schedule has.
    counted: u32,
    /// When the first held connection was given up.
    gave_up_since: Option<Instant>,
    /// When the unfinished handshakes of the last 24 hours were, the oldest first.
    unfinished: VecDeque<Instant>,
    /// The end of the pause.
    until: Option<Instant>,
}

impl BackOff {
    /// A login succeeded: the server's count is zero again, and the schedules begin anew.
    pub(super) fn login_succeeded(&mut self) {
        *self = Self::default();
    }

    /// Ends the pause and restarts the schedule, because the cause may be corrected. Returns
    /// whether there was a pause.
    pub(super) fn reset(&mut self) -> bool {
        self.since = None;
        self.counted = 0;
        self.until.take().is_some()
    }

    /// Ends the pause: a probe run ended.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    /// A probe run failed: begins the pause that its cost requires. Where the server counts
    /// nothing, that is 5 s, after ten minutes 30 s.
    pub(super) fn failed(&mut self, cost: Cost, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.duration_since(since);
        let pause = match cost {
            Cost::Nothing => {
                self.since = None;
                return;
            }
            Cost::Attempt if elapsed < 10 * MINUTE => 5 * SECOND,
            Cost::Attempt => 30 * SECOND,
            Cost::Counted => {
                let pause = counted_pause(self.counted, elapsed);
                self.counted = self.counted.saturating_add(1);
                self.note_unfinished(now);
                pause.max(self.wait_for_budget(now))
            }
        };
        self.until = Some(now + pause);
    }

    /// The rest of the pause. `None` outside of one.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A held connection was given up: its handshake is unfinished, or a thread of the server
    /// may be left with it.
    pub(super) fn gave_up(&mut self, now: Instant) {
        self.gave_up_since.get_or_insert(now);
        self.note_unfinished(now);
    }

    /// Whether a held connection was given up since the last login.
    pub(super) fn has_given_up(&self) -> bool {
        self.gave_up_since.is_some()
    }

    /// How long the oldest stalled connection is held from now on.
    pub(super) fn hold_time(&self, now: Instant) -> Duration {
        let hold = match self.gave_up_since {
            None => FIRST_HOLD,
            Some(since) => rationed(now.duration_since(since)),
        };
        hold.max(self.wait_for_budget(now))
    }

    fn note_unfinished(&mut self, now: Instant) {
        if self.unfinished.len() >= MAX_COUNTED {
            self.unfinished.pop_front();
        }
        self.unfinished.push_back(now);
    }

    /// The time until another unfinished handshake keeps within [`MAX_COUNTED`].
    fn wait_for_budget(&self, now: Instant) -> Duration {
        match self.unfinished.front() {
            Some(oldest) if self.unfinished.len() >= MAX_COUNTED => {
                (*oldest + DAY).saturating_duration_since(now)
            }
            _ => Duration::ZERO,
        }
    }
}

/// The pause after a counted failure, where `counted` others were before it, the first of
/// them `elapsed` ago.
fn counted_pause(counted: u32, elapsed: Duration) -> Duration {
    let first = usize::try_from(counted).ok().and_then(|index| FIRST_PAUSES.get(index));
    first.copied().unwrap_or_else(|| rationed(elapsed))
}

/// The time between two unfinished handshakes, where the first of them was `elapsed` ago: a
/// minute for a quarter of an hour. Then it is about as long as the time since, so that it
/// doubles.
fn rationed(elapsed: Duration) -> Duration {
    match elapsed.checked_sub(15 * MINUTE) {
        None => MINUTE,
        Some(since) => (since + 2 * MINUTE).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times in seconds at which a probe run is made that always fails with this cost.
    fn schedule(cost: Cost, hours: u64) -> Vec<u64> {
        let began = Instant::now();
        let mut back_off = BackOff::default();
        let mut now = began;
        let mut times = Vec::new();
        while now - began < Duration::from_secs(hours * 60 * 60) {
            times.push((now - began).as_secs());
            back_off.failed(cost, now);
            now += back_off.left(now).unwrap_or(SECOND);
        }
        times
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "shows the schedules")]
    fn a_failure_that_costs_nothing_at_the_server_is_retried_soon_and_a_counted_one_rationed() {
        let attempts = schedule(Cost::Attempt, 1);
        println!("uncounted: {attempts:?}");
        assert!(attempts.windows(2).all(|pair| match pair[0] {
            ..600 => pair[1] - pair[0] == 5,
            _ => pair[1] - pair[0] == 30,
        }));
        let counted = schedule(Cost::Counted, 48);
        println!("counted: {counted:?}");
        assert_eq!(counted[..7], [0, 5, 15, 35, 75, 135, 195]);
        for pair in counted.windows(2) {
            let pause = pair[1] - pair[0];
            assert!(pause <= if pair[0] < 900 { 60 } else { 1200 }, "{pair:?}");
        }
        let minutes = |time: &u64| (900..2700).contains(time);
        assert_eq!(
            counted.iter().copied().filter(minutes).collect::<Vec<_>>(),
            [915, 1050, 1320, 1860]
        );
        for start in &counted {
            let day = counted.iter().filter(|time| (*start..start + 86_400).contains(time)).count();
            assert!(day <= MAX_COUNTED, "{day} from {start} s on");
        }
    }

    #[test]
    fn resets_and_mixed_failures_keep_within_the_budget_of_a_day() {
        let began = Instant::now();
        let mut back_off = BackOff::default();
        let (mut now, mut count) = (began, 0);
        while now - began < DAY {
            match count % 3 {
                0 => back_off.failed(Cost::Counted, now),
                1 => back_off.gave_up(now),
                _ => {
                    back_off.failed(Cost::Counted, now);
                    // A file changes after each failure.
                    if back_off.wait_for_budget(now).is_zero() {
                        back_off.reset();
                    }
                }
            }
            count += 1;
            now += back_off.left(now).unwrap_or(SECOND).max(back_off.wait_for_budget(now));
        }
        assert!((90..=MAX_COUNTED).contains(&count), "{count}");
    }

    #[test]
    fn a_login_restarts_the_schedules_and_a_correction_ends_the_pause() {
        let now = Instant::now();
        let mut back_off = BackOff::default();
        for _ in 0..8 {
            back_off.failed(Cost::Counted, now);
            back_off.gave_up(now);
        }
        assert_eq!(back_off.left(now), Some(MINUTE));
        assert!(back_off.reset());
        assert!(!back_off.reset());
        assert_eq!(back_off.left(now), None);
        assert_eq!(back_off.hold_time(now), MINUTE);
        back_off.failed(Cost::Counted, now);
        assert_eq!(back_off.left(now), Some(5 * SECOND));
        back_off.login_succeeded();
        assert_eq!((back_off.left(now), back_off.hold_time(now)), (None, FIRST_HOLD));
    }

    #[test]
    fn gives_up_a_held_connection_every_minute_at_first_and_at_most_95_a_day() {
        let mut now = Instant::now();
        let end = now + DAY;
        let mut back_off = BackOff::default();
        let mut holds = Vec::new();
        while now < end {
            let hold = back_off.hold_time(now);
            holds.push(hold.as_secs());
            now += hold;
            back_off.gave_up(now);
        }
        assert_eq!(holds[..3], [80, 60, 60]);
        assert_eq!(holds[15..21], [60, 120, 240, 480, 960, 1200]);
        assert!(holds.len() <= MAX_COUNTED, "{}", holds.len());
    }
}
