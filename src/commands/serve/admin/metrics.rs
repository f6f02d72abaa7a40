//! The page `/metrics`: the monitor's report and the count of HTTP exchanges, in the formats
//! of Prometheus and OpenMetrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeMetric, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{FEATURES, VERSION};
use crate::health::{Role, Verdict};
use crate::http::{Format, Response};
use crate::monitor::{self, Activity, BUCKETS, Report};

/// The two formats of the metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// Returns the format that the scraper's header `Accept` selects.
    pub fn of(format: Format) -> Self {
        if format.openmetrics { Exposition::OpenMetrics } else { Exposition::Text }
    }

    /// Returns the value of the header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Exposition::Text => prometheus_text::CONTENT_TYPE,
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes the metrics page. Every label value is a word of this program, so nothing that a
/// peer sends creates a series.
pub fn metrics(report: Report, exchanges: &ExchangeCounter, exposition: Exposition) -> String {
    let scrape = Scrape { report, exchanges: exchanges.counters() };
    let mut registry = Registry::with_prefix("galera_probe");
    registry.register_collector(Box::new(scrape));
    let mut page = String::new();
    // Writing to memory cannot fail.
    let _ = match exposition {
        Exposition::Text => prometheus_text::encode(&mut page, &registry),
        Exposition::OpenMetrics => text::encode(&mut page, &registry),
    };
    page
}

/// HTTP exchanges, counted by status.
#[derive(Debug, Default)]
pub struct ExchangeCounter(Mutex<Counters>);

/// Counters by the value of one label.
type Counters = BTreeMap<&'static str, u64>;

impl ExchangeCounter {
    /// Counts one exchange.
    pub fn count(&self, response: &Response) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = counters.entry(response.status()).or_default();
        *counter = counter.saturating_add(1);
    }

    fn counters(&self) -> Counters {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The values of one page. A family without samples is omitted.
#[derive(Debug)]
struct Scrape {
    report: Report,
    exchanges: Counters,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.encode_verdicts(encoder)?;
        self.encode_probe_runs(encoder)?;
        self.encode_connection(encoder)?;
        self.encode_program(encoder)
    }
}

impl Scrape {
    fn encode_verdicts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Report { verdicts, counters, .. } = &self.report;
        if let Some(healths) = verdicts {
            let help = "Last verdict for each role: 1 for serve, 0 for refuse.";
            let mut family = encoder.encode_descriptor("verdict", help, None, MetricType::Gauge)?;
            for (role, health) in Role::ALL.iter().zip(healths) {
                let labels = [("role", role.as_str()), ("reason", health.verdict.as_str())];
                let serves = u64::from(health.verdict == Verdict::Serve);
                ConstGauge::new(serves).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Changes of the verdict for any role.";
        encode_counter(encoder, "verdict_changes", help, counters.changes)?;
        let help = "Callers by the source of their verdict: dialogue (a new probe run), shared (a \
                    running one), known (the cached verdict) or operator.";
        encode_counters(encoder, "askers", help, "source", &counters.callers)
    }

    fn encode_probe_runs(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counters = &self.report.counters;
        let help = "Ended probe runs by outcome: answered, replaced (a kept connection was dead) or \
                    the reason of the refusal.";
        encode_counters(encoder, "dialogues", help, "outcome", &counters.probes)?;
        if !counters.steps.is_empty() {
            let (name, help) = ("step_duration_seconds", "Duration of each step of a probe run.");
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (step, histogram) in &counters.steps {
                let (sum, count) = (histogram.sum.as_secs_f64(), histogram.count);
                family.encode_family(&[("step", *step)])?.encode_histogram::<NoLabelSet>(
                    sum,
                    count,
                    &buckets(histogram),
                    None,
                )?;
            }
        }
        let help = "Probe runs that missed a deadline, by step.";
        encode_counters(encoder, "step_timeouts", help, "step", &counters.timeouts)
    }

    fn encode_connection(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Report { facts, activity, back_off, counters, .. } = &self.report;
        let help = "Stalled connections closed before their login was complete.";
        encode_counter(encoder, "abandoned_handshakes", help, counters.abandoned)?;
        let help = "Stalled connections held open until the node wakes.";
        let held = u64::from(matches!(activity, Activity::Held { .. }));
        encode_gauge(encoder, "connections_held", help, held)?;
        let help = "Time left of the back-off after a failed handshake.";
        let left = back_off.unwrap_or_default().as_secs_f64();
        encode_gauge(encoder, "backoff_seconds", help, left)?;
        let Some((_, at)) = facts else { return Ok(()) };
        let help = "Unix time of the node's last answer.";
        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        encode_gauge(encoder, "last_answer_timestamp_seconds", help, at.as_secs_f64())
    }

    fn encode_program(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "HTTP responses to load balancers, by status.";
        encode_counters(encoder, "http_exchanges", help, "status", &self.exchanges)?;
        // A gauge, because OpenMetrics' type info would name the family without `_info`.
        let help = "Version and features of the program; always 1.";
        let mut family = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        let labels = [("version", VERSION), ("features", FEATURES)];
        ConstGauge::new(1_u64).encode(family.encode_family(&labels)?)
    }
}

fn encode_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// Writes a counter without labels. Both formats add `_total` to the name.
fn encode_counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(family)
}

fn encode_counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    counters: &Counters,
) -> fmt::Result {
    if counters.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, count) in counters {
        ConstCounter::new(*count).encode(family.encode_family(&[(label, *value)])?)?;
    }
    Ok(())
}

/// Returns each bucket's upper bound in seconds and its own count. The counts of a
/// [`monitor::Histogram`] are cumulative, and the encoder accumulates them itself.
fn buckets(histogram: &monitor::Histogram) -> Vec<(f64, u64)> {
    let bounds = BUCKETS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
    let cumulative = histogram.counts.iter().chain([&histogram.count]);
    let below = [0].iter().chain(&histogram.counts);
    let counts = cumulative.zip(below).map(|(count, below)| count.saturating_sub(*below));
    bounds.zip(counts).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::galera::Facts;
    use crate::health::Reason;
    use crate::node::probe::Step;

    fn has_lines(page: &str, lines: &[&str]) {
        for line in lines {
            assert!(page.lines().any(|found| found == *line), "{line}: {page}");
        }
    }

    /// A report with a sample of every family.
    fn full() -> (Report, ExchangeCounter) {
        let not_writer = Verdict::Refuse(Reason::NotWriter).into();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let mut report = Report {
            verdicts: Some([Verdict::Serve.into(), Verdict::Serve.into(), not_writer]),
            facts: Some((Facts::default(), at)),
            back_off: Some(Duration::from_millis(4_500)),
            ..Report::default()
        };
        report.counters.callers.extend([("dialogue", 3), ("shared", 4)]);
        report.counters.probes.extend([("answered", 2), ("stalled-login", 1)]);
        report.counters.timeouts.insert("login", 1);
        let counts = [0, 1, 2, 2, 2, 2, 2, 2];
        let histogram = monitor::Histogram { counts, count: 3, sum: Duration::from_millis(60_020) };
        report.counters.steps.insert("connect", monitor::Histogram::default());
        report.counters.steps.insert("login", histogram);
        let exchanges = ExchangeCounter::default();
        exchanges.count(&Response::health(not_writer, Format::default()));
        (report, exchanges)
    }

    #[test]
    fn a_probe_without_callers_shows_only_its_own_metrics() {
        let text = metrics(Report::default(), &ExchangeCounter::default(), Exposition::Text);
        let series: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            series,
            [
                "galera_probe_verdict_changes_total 0",
                "galera_probe_abandoned_handshakes_total 0",
                "galera_probe_connections_held 0",
                "galera_probe_backoff_seconds 0.0",
                &format!(
                    "galera_probe_build_info{{version=\"{VERSION}\",features=\"{FEATURES}\"}} 1"
                ),
            ]
        );
        let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(families, series.len(), "a family without samples: {text}");
    }

    #[test]
    fn the_text_format_has_every_family_under_its_name_and_type() {
        let (report, exchanges) = full();
        let text = metrics(report, &exchanges, Exposition::Text);
        let types: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE galera_probe_")).collect();
        assert_eq!(
            types,
            [
                "verdict gauge",
                "verdict_changes_total counter",
                "askers_total counter",
                "dialogues_total counter",
                "step_duration_seconds histogram",
                "step_timeouts_total counter",
                "abandoned_handshakes_total counter",
                "connections_held gauge",
                "backoff_seconds gauge",
                "last_answer_timestamp_seconds gauge",
                "http_exchanges_total counter",
                "build_info gauge",
            ]
        );
        assert_eq!(text.matches("# HELP galera_probe_").count(), types.len());
        assert_eq!(text.matches('#').count(), 2 * types.len(), "another comment: {text}");
    }

    #[test]
    fn verdicts_and_counters_have_labels() {
        let (report, exchanges) = full();
        has_lines(
            &metrics(report, &exchanges, Exposition::Text),
            &[
                "galera_probe_verdict{role=\"read-write\",reason=\"serve\"} 1",
                "galera_probe_verdict{role=\"reader\",reason=\"serve\"} 1",
                "galera_probe_verdict{role=\"writer\",reason=\"not-writer\"} 0",
                "galera_probe_askers_total{source=\"shared\"} 4",
                "galera_probe_dialogues_total{outcome=\"stalled-login\"} 1",
                "galera_probe_step_timeouts_total{step=\"login\"} 1",
                "galera_probe_backoff_seconds 4.5",
                "galera_probe_last_answer_timestamp_seconds 1700000000.25",
                "galera_probe_http_exchanges_total{status=\"503\"} 1",
            ],
        );
    }

    #[test]
    fn a_step_is_a_histogram_in_seconds() {
        let (report, exchanges) = full();
        has_lines(
            &metrics(report, &exchanges, Exposition::Text),
            &[
                "# TYPE galera_probe_step_duration_seconds histogram",
                "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"0.001\"} 0",
                "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"0.005\"} 1",
                "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"0.025\"} 2",
                "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"0.1\"} 2",
                "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"0.5\"} 2",
                "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"1\"} 2",
                "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"2\"} 2",
                "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"5\"} 2",
                "galera_probe_step_duration_seconds_bucket{step=\"login\",le=\"+Inf\"} 3",
                "galera_probe_step_duration_seconds_sum{step=\"login\"} 60.02",
                "galera_probe_step_duration_seconds_count{step=\"login\"} 3",
            ],
        );
    }

    #[test]
    fn a_held_connection_is_counted() {
        let (so_far, left) = (Duration::from_secs(1), Duration::from_secs(79));
        let activity = Activity::Held { step: Step::Greeting, so_far, left };
        let report = Report { activity, ..Report::default() };
        let text = metrics(report, &ExchangeCounter::default(), Exposition::Text);
        has_lines(&text, &["galera_probe_connections_held 1"]);
    }

    /// The name of a sample, without labels and value.
    fn sample_name(line: &str) -> &str {
        line.split(['{', ' ']).next().unwrap()
    }

    // OpenMetrics 1.0.0, section "Text Format": a family's metadata and samples are not
    // interleaved with others, and the suffixes follow from the type.
    #[test]
    fn openmetrics_has_whole_families_and_an_end() {
        let (report, exchanges) = full();
        let page = metrics(report, &exchanges, Exposition::OpenMetrics);
        let families = page.strip_suffix("# EOF\n").unwrap();
        let mut names = BTreeSet::new();
        for family in families.split("# HELP ").skip(1) {
            let mut lines = family.lines();
            let (name, help) = lines.next().unwrap().split_once(' ').unwrap();
            assert!(help.ends_with('.') && !help.contains(['\\', '"']), "{help}");
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).unwrap();
            let kind = kind.strip_prefix(name).unwrap().trim_start();
            let suffixes: &[&str] = match kind {
                "gauge" => &[""],
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => panic!("{name} is a {kind}"),
            };
            let samples: Vec<_> = lines.collect();
            assert!(!samples.is_empty(), "{name}");
            for sample in samples {
                let suffix = sample_name(sample).strip_prefix(name).unwrap();
                assert!(suffixes.contains(&suffix), "{sample}");
                assert!(sample.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{sample}");
            }
            assert!(names.insert(name), "{name} occurs twice");
        }
        assert_eq!(names.len(), 12);
    }

    #[test]
    fn openmetrics_has_the_samples_of_the_text_format() {
        let series = |exposition| {
            let (report, exchanges) = full();
            let page = metrics(report, &exchanges, exposition);
            let mut series: Vec<_> = page
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| {
                    (sample_name(line).to_owned(), line.rsplit_once(' ').unwrap().1.to_owned())
                })
                .collect();
            series.sort();
            series
        };
        assert_eq!(series(Exposition::OpenMetrics), series(Exposition::Text));
        let (report, exchanges) = full();
        has_lines(
            &metrics(report, &exchanges, Exposition::OpenMetrics),
            &[
                "# TYPE galera_probe_askers counter",
                "galera_probe_askers_total{source=\"dialogue\"} 3",
                // Bounds are canonical numbers, which have a point.
                "galera_probe_step_duration_seconds_bucket{le=\"0.005\",step=\"login\"} 1",
                "galera_probe_step_duration_seconds_bucket{le=\"5.0\",step=\"login\"} 2",
                "galera_probe_step_duration_seconds_bucket{le=\"+Inf\",step=\"login\"} 3",
                "# TYPE galera_probe_build_info gauge",
                &format!(
                    "galera_probe_build_info{{version=\"{VERSION}\",features=\"{FEATURES}\"}} 1"
                ),
            ],
        );
    }
}
