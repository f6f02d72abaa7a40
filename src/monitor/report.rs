//! What a target has seen and done: for the log, for people, for Prometheus.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::galera::Facts;
use crate::health::{Health, Reason, Role, Verdict};
use crate::node::probe::{Probe, Stalled, Step};

/// Changes of verdict that are kept: a night of a node that flaps. At the most
/// 5 kB each.
const MAX_CHANGES: usize = 100;

/// How often a refusal that goes on is logged again.
const REPEAT: Duration = Duration::from_secs(60);

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

/// What a target has seen and done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was told last, for the roles in the order of [`Role::ALL`].
    pub verdicts: Option<[Health; Role::ALL.len()]>,
    /// What the node last said of itself, and when.
    pub facts: Option<(Facts, SystemTime)>,
    /// What the target is doing.
    pub activity: Activity,
    /// For how long the node is not asked because of a handshake that could not
    /// be finished.
    pub back_off: Option<Duration>,
    /// The last probe run that ended.
    pub last: Option<LastProbe>,
    /// The last changes of verdict, the oldest first.
    pub changes: VecDeque<Change>,
    /// Everything counted.
    pub counters: Counters,
}

/// What a target is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Waiting to be asked.
    #[default]
    Idle,
    /// A probe run is under way, in this step.
    Probing {
        /// The step that it is in.
        step: Step,
        /// For how long the probe run has been under way.
        so_far: Duration,
    },
    /// A stalled probe run is held.
    Held {
        /// The step that it is in.
        step: Step,
        /// For how long the probe run has been under way.
        so_far: Duration,
        /// How long it will be held yet.
        left: Duration,
    },
}

/// A probe run that ended.
#[derive(Clone, Debug)]
pub struct LastProbe {
    /// When.
    pub at: SystemTime,
    /// `answered`, or the reason's word.
    pub outcome: &'static str,
    /// Its steps, and how long each took.
    pub steps: Vec<(Step, Duration)>,
}

/// A change of the verdict for any role.
#[derive(Clone, Debug)]
pub struct Change {
    /// When.
    pub at: SystemTime,
    /// The new verdicts, for the roles in the order of [`Role::ALL`].
    pub verdicts: [Verdict; Role::ALL.len()],
    /// The facts or the failure behind them.
    pub cause: String,
}

/// Everything counted, since the program's start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Callers by where their answer came from.
    pub callers: BTreeMap<&'static str, u64>,
    /// Probe runs by outcome: `answered`, the reason's word, or `replaced` where a kept
    /// connection did not answer.
    pub probes: BTreeMap<&'static str, u64>,
    /// How long the steps of probe runs took.
    pub steps: BTreeMap<&'static str, Histogram>,
    /// Probe runs that ran into a deadline, by step.
    pub timeouts: BTreeMap<&'static str, u64>,
    /// Probe runs that were given up before their login was complete.
    pub abandoned: u64,
    /// Changes of verdict.
    pub changes: u64,
}

/// How often something took how long.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// How often it took at most each of [`BUCKETS`].
    pub counts: [u64; BUCKETS.len()],
    /// How often at all.
    pub count: u64,
    /// How long together.
    pub sum: Duration,
}

/// Where a caller's answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A probe run that it began.
    Probe,
    /// A probe run that was under way.
    Shared,
    /// What was known of the node.
    Cached,
    /// The operator: maintenance or a drain.
    Operator,
}

impl Counters {
    pub(super) fn count_callers(&mut self, source: Source, times: u64) {
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

    /// A kept connection did not answer, and another was opened in its place.
    pub(super) fn count_replaced(&mut self) {
        count(&mut self.probes, "replaced");
    }

    pub(super) fn count_timeout(&mut self, stalled: Stalled) {
        count(&mut self.timeouts, stalled.step.as_str());
    }
}

fn count(counters: &mut BTreeMap<&'static str, u64>, label: &'static str) {
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

/// Keeps a [`Report`].
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) report: Report,
    /// When the verdict was last logged, and how often it was told again since.
    logged: Option<(Instant, u64)>,
}

impl Recorder {
    /// Notes the end of a probe run, with its facts or the reason why it has none.
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
        count(&mut counters.probes, outcome);
        for (step, took) in &steps {
            counters.steps.entry(step.as_str()).or_default().record(*took);
        }
        self.report.last = Some(LastProbe { at, outcome, steps });
    }

    /// Notes what is told, and why. The log has each change, and once a minute a
    /// node that nobody may use.
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
            self.log_change(healths, cause.to_string());
        } else if let Some((at, times)) = &mut self.logged {
            *times = times.saturating_add(1);
            let nobody = verdicts.iter().all(|verdict| *verdict != Verdict::Serve);
            if nobody && now.duration_since(*at) >= REPEAT {
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

    fn log_change(&mut self, healths: [Health; Role::ALL.len()], cause: String) {
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
    fn the_last_hundred_changes_are_kept_and_nothing_that_is_none() {
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
    fn a_change_for_one_role_is_a_change() {
        let mut recorder = Recorder::default();
        let serve = Verdict::Serve.into();
        for last in [serve, Verdict::Refuse(Reason::NotWriter).into(), serve] {
            recorder.record([serve, serve, last], &"", Instant::now());
        }
        assert_eq!(recorder.report.changes.len(), 3);
    }

    #[test]
    fn a_refusal_that_goes_on_is_due_in_the_log_once_a_minute() {
        let mut recorder = Recorder::default();
        let began = Instant::now();
        for (seconds, times) in [(0, 0), (1, 1), (59, 2), (60, 0), (61, 1), (120, 0)] {
            let now = began + Duration::from_secs(seconds);
            recorder.record(refused(Reason::StalledQuery), &"", now);
            assert_eq!(recorder.logged.unwrap().1, times, "after {seconds} s");
        }
        // A node that somebody may use is no news.
        recorder.record([Verdict::Serve.into(); ROLES], &"", began);
        recorder.record([Verdict::Serve.into(); ROLES], &"", began + 2 * REPEAT);
        assert_eq!(recorder.logged, Some((began, 1)));
    }

    #[test]
    fn a_histogram_counts_what_took_at_most_each_bound() {
        let mut histogram = Histogram::default();
        for milliseconds in [0, 1, 2, 600, 60_000] {
            histogram.record(Duration::from_millis(milliseconds));
        }
        assert_eq!(histogram.counts, [2, 3, 3, 3, 3, 4, 4, 4]);
        assert_eq!((histogram.count, histogram.sum), (5, Duration::from_millis(60_603)));
    }
}
