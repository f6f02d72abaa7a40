use std::collections::BTreeMap;
use std::iter::once;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{FEATURES, VERSION};
use crate::health::{Role, Verdict};
use crate::http::Response;
use crate::monitor::{self, Activity, BUCKETS, Report};

/// Of the Prometheus text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// HTTP exchanges, counted by status.
#[derive(Debug, Default)]
pub struct ExchangeCounter(Mutex<BTreeMap<&'static str, u64>>);

impl ExchangeCounter {
    /// Notes one.
    pub fn count(&self, answer: &Response) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = counters.entry(answer.status()).or_default();
        *counter = counter.saturating_add(1);
    }

    fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The metrics in Prometheus' text format. Every label's values are words of this
/// program: nothing that a peer sends makes a new series, and none needs an escape.
pub fn metrics(report: &Report, exchanges: &ExchangeCounter) -> String {
    let Report { verdicts, facts, activity, back_off, counters, .. } = report;
    let held = matches!(activity, Activity::Held { .. });
    [
        family(
            "verdict",
            "gauge",
            "What was last told for a role: 1 for serve, 0 for refuse, with the reason's word.",
            verdicts.iter().flatten().zip(Role::ALL).map(|(health, role)| {
                let (role, verdict) = (role.as_str(), health.verdict);
                let (reason, value) = (verdict.as_str(), u8::from(verdict == Verdict::Serve));
                format!("{{role=\"{role}\",reason=\"{reason}\"}} {value}")
            }),
        ),
        family(
            "verdict_changes_total",
            "counter",
            "Changes of the verdict for any role.",
            once(format!(" {}", counters.changes)),
        ),
        family(
            "askers_total",
            "counter",
            "Callers by where their answer came from: a probe that they began, one that they \
             shared, what was known of the node, or the operator.",
            by("source", &counters.callers),
        ),
        family(
            "dialogues_total",
            "counter",
            "Dialogues with the node that ended, by outcome: answered, or the reason's word.",
            by("outcome", &counters.probes),
        ),
        family(
            "step_duration_seconds",
            "histogram",
            "How long each step of a probe took.",
            counters.steps.iter().flat_map(|(step, histogram)| histogram_of(step, histogram)),
        ),
        family(
            "step_timeouts_total",
            "counter",
            "Dialogues that ran into a deadline, by step.",
            by("step", &counters.timeouts),
        ),
        family(
            "abandoned_handshakes_total",
            "counter",
            "Stalled connections that were given up before their login was complete.",
            once(format!(" {}", counters.abandoned)),
        ),
        family(
            "connections_held",
            "gauge",
            "Stalled connections that are kept open until the node wakes.",
            once(format!(" {}", u8::from(held))),
        ),
        family(
            "backoff_seconds",
            "gauge",
            "For how long the node is not asked because of handshakes that failed.",
            once(format!(" {}", back_off.unwrap_or_default().as_secs_f64())),
        ),
        family(
            "last_answer_timestamp_seconds",
            "gauge",
            "When the node last answered, in seconds since 1970.",
            facts.iter().map(|(_, at)| {
                let since = at.duration_since(SystemTime::UNIX_EPOCH);
                format!(" {}", since.unwrap_or(Duration::ZERO).as_secs_f64())
            }),
        ),
        family(
            "http_exchanges_total",
            "counter",
            "Requests of balancers, by the status of their answer.",
            by("status", &exchanges.counters()),
        ),
        family(
            "build_info",
            "gauge",
            "What is running; always 1.",
            once(format!("{{version=\"{VERSION}\",features=\"{FEATURES}\"}} 1")),
        ),
    ]
    .concat()
}

/// A metric, by what follows its name in the line of each sample. What has no sample
/// yet is left out.
fn family(name: &str, kind: &str, help: &str, samples: impl Iterator<Item = String>) -> String {
    let name = format!("galera_probe_{name}");
    let samples: String = samples.map(|sample| format!("{name}{sample}\n")).collect();
    match samples.is_empty() {
        true => samples,
        false => format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}"),
    }
}

/// Counters by the value of one label.
fn by(label: &str, counters: &BTreeMap<&'static str, u64>) -> impl Iterator<Item = String> {
    counters.iter().map(move |(value, count)| format!("{{{label}=\"{value}\"}} {count}"))
}

fn histogram_of(step: &str, histogram: &monitor::Histogram) -> Vec<String> {
    let monitor::Histogram { counts, count, sum } = histogram;
    let buckets = BUCKETS.iter().zip(counts).map(|(bound, count)| {
        let bound = bound.as_secs_f64();
        format!("_bucket{{step=\"{step}\",le=\"{bound}\"}} {count}")
    });
    let rest = [
        format!("_bucket{{step=\"{step}\",le=\"+Inf\"}} {count}"),
        format!("_sum{{step=\"{step}\"}} {}", sum.as_secs_f64()),
        format!("_count{{step=\"{step}\"}} {count}"),
    ];
    buckets.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Reason;
    use crate::http::Format;

    #[test]
    fn a_probe_that_nobody_has_asked_has_its_own_metrics_alone() {
        let text = metrics(&Report::default(), &ExchangeCounter::default());
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            series,
            [
                "galera_probe_verdict_changes_total 0",
                "galera_probe_abandoned_handshakes_total 0",
                "galera_probe_connections_held 0",
                "galera_probe_backoff_seconds 0",
                &format!(
                    "galera_probe_build_info{{version=\"{VERSION}\",features=\"{FEATURES}\"}} 1"
                ),
            ]
        );
    }

    #[test]
    fn what_was_told_is_there_by_role_and_reason() {
        let not_writer = Verdict::Refuse(Reason::NotWriter).into();
        let verdicts = Some([Verdict::Serve.into(), Verdict::Serve.into(), not_writer]);
        let exchanges = ExchangeCounter::default();
        exchanges.count(&Response::health(not_writer, Format::default()));
        let text = metrics(&Report { verdicts, ..Report::default() }, &exchanges);
        for line in [
            "galera_probe_verdict{role=\"read-write\",reason=\"serve\"} 1",
            "galera_probe_verdict{role=\"reader\",reason=\"serve\"} 1",
            "galera_probe_verdict{role=\"writer\",reason=\"not-writer\"} 0",
            "galera_probe_http_exchanges_total{status=\"503\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_step_is_a_histogram_in_seconds() {
        let mut report = Report::default();
        let counts = [0, 1, 2, 2, 2, 2, 2, 2];
        let histogram = monitor::Histogram { counts, count: 3, sum: Duration::from_millis(60_020) };
        report.counters.steps.insert("login", histogram);
        let text = metrics(&report, &ExchangeCounter::default());
        for line in [
            "# TYPE galera_probe_step_duration_seconds histogram",
            "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"0.005\"} 1",
            "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"5\"} 2",
            "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"+Inf\"} 3",
            "galera_probe_step_duration_seconds_sum{step=\"login\"} 60.02",
            "galera_probe_step_duration_seconds_count{step=\"login\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
