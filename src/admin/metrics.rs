use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::{FEATURES, VERSION};
use crate::http::Answer;
use crate::target::{self, BUCKETS, Doing, Report};
use crate::verdict::{Role, Verdict};

/// Of the Prometheus text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// HTTP exchanges, counted by status.
#[derive(Debug, Default)]
pub struct Exchanges(Mutex<BTreeMap<&'static str, u64>>);

impl Exchanges {
    /// Notes one.
    pub fn count(&self, answer: &Answer) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = counters.entry(answer.status()).or_default();
        *counter = counter.saturating_add(1);
    }

    fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The metrics in Prometheus' text format. Every label's values are words of this
/// program: nothing that a peer sends makes a new series.
pub fn metrics(report: &Report, exchanges: &Exchanges) -> String {
    let Report { told, facts, doing, backing_off, tally, .. } = report;
    let held = matches!(doing, Doing::Held { .. });
    let families = [
        gauges(
            "verdict",
            "What was last told for a role: 1 for serve, 0 for refuse, with the reason's word.",
            told.iter().flatten().zip(Role::ALL).map(|(health, role)| {
                let verdict = health.verdict;
                let labels = labels(&[("role", role.as_str()), ("reason", verdict.as_str())]);
                (labels, if verdict == Verdict::Serve { 1.0 } else { 0.0 })
            }),
        ),
        counter("verdict_changes_total", "Changes of the verdict for any role.", tally.changes),
        counters(
            "askers_total",
            "Askers by where their answer came from: a dialogue that they began, one that they \
             shared, what was known of the node, or the operator.",
            "source",
            &tally.askers,
        ),
        counters(
            "dialogues_total",
            "Connections to the node that ended, by outcome: answered, or the reason's word.",
            "outcome",
            &tally.dialogues,
        ),
        histograms("step_duration_seconds", "How long each step of a dialogue took.", &tally.steps),
        counters(
            "step_timeouts_total",
            "Dialogues that ran into a deadline, by step.",
            "step",
            &tally.timeouts,
        ),
        counter(
            "abandoned_handshakes_total",
            "Stalled connections that were given up before their login was complete.",
            tally.abandoned,
        ),
        gauge(
            "connections_held",
            "Stalled connections that are kept open until the node wakes.",
            if held { 1.0 } else { 0.0 },
        ),
        gauge(
            "backoff_seconds",
            "For how long the node is not asked because of handshakes that failed.",
            backing_off.unwrap_or_default().as_secs_f64(),
        ),
        gauges(
            "last_answer_timestamp_seconds",
            "When the node last answered, in seconds since 1970.",
            facts.iter().map(|(_, at)| {
                let since = at.duration_since(SystemTime::UNIX_EPOCH);
                (Vec::new(), since.unwrap_or(Duration::ZERO).as_secs_f64())
            }),
        ),
        counters(
            "http_exchanges_total",
            "Requests of balancers, by the status of their answer.",
            "status",
            &exchanges.counters(),
        ),
        gauges(
            "build_info",
            "What is running; always 1.",
            [(labels(&[("version", VERSION), ("features", FEATURES)]), 1.0)],
        ),
    ];
    // A family without a metric is an error to the encoder.
    let families: Vec<_> =
        families.into_iter().filter(|family| !family.get_metric().is_empty()).collect();
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("galera_probe_{name}"));
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pairs = pairs.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    pairs.collect()
}

fn gauges(
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<LabelPair>, f64)>,
) -> MetricFamily {
    let metrics = values.into_iter().map(|(labels, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_label(labels);
        metric.set_gauge(gauge);
        metric
    });
    family(name, help, MetricType::GAUGE, metrics.collect())
}

fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    gauges(name, help, [(Vec::new(), value)])
}

fn counted(labels: Vec<LabelPair>, count: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(float(count));
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn counter(name: &str, help: &str, count: u64) -> MetricFamily {
    family(name, help, MetricType::COUNTER, vec![counted(Vec::new(), count)])
}

fn counters(
    name: &str,
    help: &str,
    label: &str,
    counters: &BTreeMap<&'static str, u64>,
) -> MetricFamily {
    let metrics = counters.iter().map(|(value, count)| counted(labels(&[(label, value)]), *count));
    family(name, help, MetricType::COUNTER, metrics.collect())
}

fn histograms(
    name: &str,
    help: &str,
    steps: &BTreeMap<&'static str, target::Histogram>,
) -> MetricFamily {
    let metrics = steps.iter().map(|(step, counted)| {
        let buckets = BUCKETS.iter().zip(counted.counts).map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_sample_count(counted.count);
        histogram.set_sample_sum(counted.sum.as_secs_f64());
        histogram.set_bucket(buckets.collect());
        let mut metric = Metric::from_label(labels(&[("step", step)]));
        metric.set_histogram(histogram);
        metric
    });
    family(name, help, MetricType::HISTOGRAM, metrics.collect())
}

/// Counts stay far below 2^53, from where on a float skips numbers.
#[expect(clippy::as_conversions, reason = "there is no other way from u64 to f64")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Form;
    use crate::verdict::Reason;

    #[test]
    fn a_probe_that_nobody_has_asked_has_its_own_metrics_alone() {
        let text = metrics(&Report::default(), &Exchanges::default());
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
        let told = Some([Verdict::Serve.into(), Verdict::Serve.into(), not_writer]);
        let exchanges = Exchanges::default();
        exchanges.count(&Answer::health(not_writer, Form::default()));
        let text = metrics(&Report { told, ..Report::default() }, &exchanges);
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
        let histogram = target::Histogram { counts, count: 3, sum: Duration::from_millis(60_020) };
        report.tally.steps.insert("login", histogram);
        let text = metrics(&report, &Exchanges::default());
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
