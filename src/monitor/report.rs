//! What a monitor has seen and done since the program's start: recorded for the log,
//! `/status` and `/metrics`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::galera::Facts;
use crate::health::{Health, Reason, Role, Verdict};
use crate::node::probe::{Probe, Stalled, Step};

/// What a monitor has seen and done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The last verdicts, in the order of [`Role::ALL`]. `None` before the first caller
    /// was answered.
    pub verdicts: Option<[Health; Role::ALL.len()]>,
    /// The facts of the last probe run that the node answered, and when it ended.
    pub facts: Option<(Facts, SystemTime)>,
    /// What the monitor is doing.
    pub activity: Activity,
    /// The rest of the back-off, during which no probe run starts. `None` outside of one.
    pub back_off: Option<Duration>,
    /// The last probe run that ended.
    pub last: Option<LastProbe>,
    /// The last changes of a verdict, the oldest first.
    pub changes: VecDeque<Change>,
    /// Totals since the program's start.
    pub counters: Counters,
}

/// What a monitor is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// No probe run is under way.
    #[default]
    Idle,
    /// A probe run is under way.
    Probing {
        /// Its current step.
        step: Step,
        /// The time since it began.
        so_far: Duration,
    },
    /// A stalled probe run is held.
    Held {
        /// The step that stalled.
        step: Step,
        /// The time since the probe run began.
        so_far: Duration,
        /// The time after which it is given up, unless the node wakes.
        left: Duration,
    },
}

/// A probe run that ended.
#[derive(Clone, Debug)]
pub struct LastProbe {
    /// When it ended.
    pub at: SystemTime,
    /// `answered`, or the reason of its failure.
    pub outcome: &'static str,
    /// The steps that it reached and how long each took, in order.
    pub steps: Vec<(Step, Duration)>,
}

/// A change of the verdict for at least one role.
#[derive(Clone, Debug)]
pub struct Change {
    /// When the verdict changed.
    pub at: SystemTime,
    /// The new verdicts, in the order of [`Role::ALL`].
    pub verdicts: [Verdict; Role::ALL.len()],
    /// The facts or the failure that led to them, as text.
    pub cause: String,
}

/// Totals since the program's start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Callers by the source of their answer: `dialogue` (a probe run that the caller
    /// started), `shared` (one under way), `known` (an earlier verdict) or `operator`.
    pub callers: BTreeMap<&'static str, u64>,
    /// Probe runs by outcome: `answered`, the reason of the failure, or `replaced` if a
    /// kept connection failed and the probe run continued on a new one.
    pub probes: BTreeMap<&'static str, u64>,
    /// Durations of the steps of all probe runs that ended, by step.
    pub steps: BTreeMap<&'static str, Histogram>,
    /// Probe runs that ran into a deadline, by the step that stalled.
    pub timeouts: BTreeMap<&'static str, u64>,
    /// Held connections that were given up before their login was complete.
    pub abandoned: u64,
    /// Changes of the verdict for at least one role.
    pub changes: u64,
}

/// Upper bounds of the buckets of a [`Histogram`]: from a login on loopback to the
/// longest deadline.
pub const BUCKETS: [Duration; 8] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// A cumulative histogram of durations, in Prometheus' sense.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// For each of [`BUCKETS`], how many durations were at most its bound.
    pub counts: [u64; BUCKETS.len()],
    /// How many durations were recorded.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
}

/// Where a caller's answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A probe run that this caller started.
    Probe,
    /// A probe run that was already under way.
    Shared,
    /// An earlier verdict.
    Cached,
    /// The operator: maintenance or a drain.
    Operator,
}

impl Counters {
    pub(super) fn count_callers(&mut self, source: Source, times: u64) {
        // The labels are public, so they keep their first names.
        let source = match source {
            Source::Probe => "dialogue",
            Source::Shared => "shared",
            Source::Cached => "known",
            Source::Operator => "operator",
        };
        if times > 0 {
            let counter = self.callers.entry(source).or_default();
            *counter = counter.saturating_add(times);
        }
    }

    /// Counts a probe run that failed on a kept connection and continues on a new one.
    pub(super) fn count_replaced(&mut self) {
        increment(&mut self.probes, "replaced");
    }

    pub(super) fn count_timeout(&mut self, stalled: Stalled) {
        increment(&mut self.timeouts, stalled.step.as_str());
    }
}

fn increment(counters: &mut BTreeMap<&'static str, u64>, label: &'static str) {
    let counter = counters.entry(label).or_default();
    *counter = counter.saturating_add(1);
}

impl Histogram {
    fn record(&mut self, took: Duration) {
        for (count, bound) in self.counts.iter_mut().zip(BUCKETS) {
            *count = count.saturating_add(u64::from(took <= bound));
        }
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(took);
    }
}

/// Keeps a [`Report`] up to date, and logs the verdicts.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) report: Report,
    /// When the current verdict was last logged, and how often it was recorded again
    /// since.
    logged: Option<(Instant, u64)>,
}

/// How long after a refusal was logged it is logged again, if it persists.
const REPEAT: Duration = Duration::from_secs(60);

/// How many changes the report keeps, at most 5 kB each. This covers a night in which a
/// node flaps.
const MAX_CHANGES: usize = 100;

impl Recorder {
    /// Records the end of a probe run, with its facts or the reason of its failure.
    pub(super) fn probe_ended(&mut self, probe: &Probe, outcome: Result<&Facts, Reason>) {
        let at = SystemTime::now();
        let steps = probe.step_times();
        let outcome = match outcome {
            Ok(facts) => {
                self.report.facts = Some((facts.clone(), at));
                "answered"
            }
            Err(reason) => reason.as_str(),
        };
        let counters = &mut self.report.counters;
        increment(&mut counters.probes, outcome);
        for (step, took) in &steps {
            counters.steps.entry(step.as_str()).or_default().record(*took);
        }
        self.report.last = Some(LastProbe { at, outcome, steps });
    }

    /// Records the verdicts that callers get, and their cause.
    ///
    /// Logs each change, and once per [`REPEAT`] a node that is refused for every role.
    pub(super) fn record(
        &mut self,
        healths: [Health; Role::ALL.len()],
        cause: &dyn fmt::Display,
        now: Instant,
    ) {
        let verdicts = healths.map(|health| health.verdict);
        let before = self.report.verdicts.replace(healths);
        if before.map(|healths| healths.map(|health| health.verdict)) != Some(verdicts) {
            self.logged = Some((now, 0));
            self.record_change(healths, cause.to_string());
        } else if let Some((at, times)) = &mut self.logged {
            *times = times.saturating_add(1);
            let all_refused = verdicts.iter().all(|verdict| *verdict != Verdict::Serve);
            if all_refused && now.duration_since(*at) >= REPEAT {
                let [health, ..] = healths;
                let advice = match health.verdict {
                    Verdict::Serve => None,
                    Verdict::Refuse(reason) => reason.advice(),
                };
                warn!(cause = cause.to_string(), times, advice, "still {}", headline(health));
                self.logged = Some((now, 0));
            }
        }
    }

    fn record_change(&mut self, healths: [Health; Role::ALL.len()], cause: String) {
        let [read_write, reader, writer] = healths;
        let [reader, writer] = [reader, writer].map(|health| health.verdict.as_str());
        let headline = headline(read_write);
        match read_write.verdict {
            Verdict::Serve => info!(reader, writer, cause, "{headline}"),
            Verdict::Refuse(reason) => {
                warn!(reader, writer, cause, advice = reason.advice(), "{headline}");
            }
        }
        let Report { changes, counters, .. } = &mut self.report;
        counters.changes = counters.changes.saturating_add(1);
        if changes.len() >= MAX_CHANGES {
            changes.pop_front();
        }
        let verdicts = healths.map(|health| health.verdict);
        changes.push_back(Change { at: SystemTime::now(), verdicts, cause });
    }
}

fn headline(health: Health) -> String {
    match health.verdict {
        Verdict::Serve => format!("serve: {health}"),
        Verdict::Refuse(reason) => format!("refuse, {reason}: {health}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: usize = Role::ALL.len();

    fn refused(reason: Reason) -> [Health; ROLES] {
        [Verdict::Refuse(reason).into(); ROLES]
    }

    #[test]
    fn keeps_the_last_100_changes_and_no_repetitions() {
        let mut recorder = Recorder::default();
        for turn in 0..150 {
            for reason in [Reason::Donor, Reason::Joined] {
                for _ in 0..3 {
                    recorder.record(refused(reason), &turn, Instant::now());
                }
            }
        }
        let Report { changes, counters, .. } = recorder.report;
        assert_eq!((changes.len(), counters.changes), (MAX_CHANGES, 300));
        assert_eq!(changes[0].cause, "100");
        assert_eq!(changes[MAX_CHANGES - 1].verdicts, [Verdict::Refuse(Reason::Joined); ROLES]);
    }

    #[test]
    fn records_a_change_for_one_role() {
        let mut recorder = Recorder::default();
        let serve = Verdict::Serve.into();
        for last in [serve, Verdict::Refuse(Reason::NotWriter).into(), serve] {
            recorder.record([serve, serve, last], &"", Instant::now());
        }
        assert_eq!(recorder.report.changes.len(), 3);
    }

    #[test]
    fn logs_a_refusal_that_persists_once_per_minute() {
        let mut recorder = Recorder::default();
        let began = Instant::now();
        for (seconds, times) in [(0, 0), (1, 1), (59, 2), (60, 0), (61, 1), (120, 0)] {
            let now = began + Duration::from_secs(seconds);
            recorder.record(refused(Reason::StalledQuery), &"", now);
            assert_eq!(recorder.logged.unwrap().1, times, "after {seconds} s");
        }
        // A node that serves any role is not logged again.
        recorder.record([Verdict::Serve.into(); ROLES], &"", began);
        recorder.record([Verdict::Serve.into(); ROLES], &"", began + 2 * REPEAT);
        assert_eq!(recorder.logged, Some((began, 1)));
    }

    #[test]
    fn histogram_counts_durations_up_to_each_bound() {
        let mut histogram = Histogram::default();
        for milliseconds in [0, 1, 2, 600, 60_000] {
            histogram.record(Duration::from_millis(milliseconds));
        }
        assert_eq!(histogram.counts, [2, 3, 3, 3, 3, 4, 4, 4]);
        assert_eq!((histogram.count, histogram.sum), (5, Duration::from_millis(60_603)));
    }
}
