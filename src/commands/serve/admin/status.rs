//! The page `/status`: the monitor's report as JSON.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::{FEATURES, VERSION};
use crate::health::{Health, Role, Time};
use crate::monitor::{Activity, Change, LastProbe, Report};
use crate::node::address::Address;

/// Writes a report as indented JSON. Times are UTC in the format of RFC 3339, and
/// durations are in seconds.
pub fn status(report: &Report, node: &Address) -> String {
    let Report { verdicts, facts, activity, back_off, last, changes, .. } = report;
    let page = json!({
        "version": VERSION,
        "features": FEATURES,
        "now": timestamp(SystemTime::now()),
        "target": node.to_string(),
        "state": activity_json(*activity),
        "backing_off_seconds": back_off.map(seconds),
        "verdicts": verdicts.map(|healths| by_role(healths.map(health_json))),
        "facts": facts.as_ref().map(|(facts, at)| {
            let variables: Map<_, _> =
                facts.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            json!({"at": timestamp(*at), "variables": variables})
        }),
        "last_probe": last.as_ref().map(last_probe_json),
        "changes": changes.iter().map(change_json).collect::<Vec<_>>(),
    });
    format!("{page:#}\n")
}

fn activity_json(activity: Activity) -> Value {
    match activity {
        Activity::Idle => json!({"doing": "idle"}),
        Activity::Probing { step, so_far } => {
            json!({"doing": "asking", "step": step.as_str(), "for_seconds": seconds(so_far)})
        }
        Activity::Held { step, so_far, left } => json!({
            "doing": "held",
            "step": step.as_str(),
            "for_seconds": seconds(so_far),
            "left_seconds": seconds(left),
        }),
    }
}

fn health_json(health: Health) -> Value {
    let verdict = health.verdict;
    let words = [("reason", verdict.as_str()), ("explanation", verdict.explanation())];
    let time = match health.time {
        None => None,
        Some(Time::For(time)) => Some(("for_seconds", time)),
        Some(Time::Left(time)) => Some(("left_seconds", time)),
    };
    let words = words.map(|(name, word)| (name.to_owned(), word.into()));
    let time = time.map(|(name, time)| (name.to_owned(), json!(seconds(time))));
    words.into_iter().chain(time).collect::<Map<_, _>>().into()
}

fn last_probe_json(probe: &LastProbe) -> Value {
    let steps: Map<_, _> = probe
        .steps
        .iter()
        .map(|(step, took)| (step.as_str().to_owned(), json!(seconds(*took))))
        .collect();
    json!({"at": timestamp(probe.at), "outcome": probe.outcome, "step_seconds": steps})
}

fn change_json(change: &Change) -> Value {
    json!({
        "at": timestamp(change.at),
        "verdicts": by_role(change.verdicts.map(|verdict| verdict.as_str().into())),
        "cause": change.cause,
    })
}

fn by_role(values: [Value; Role::ALL.len()]) -> Value {
    Role::ALL.iter().map(|role| role.as_str().to_owned()).zip(values).collect::<Map<_, _>>().into()
}

fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// Rounds to microseconds.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::galera::Facts;
    use crate::health::{Reason, Verdict};
    use crate::node::probe::Step;

    fn address() -> Address {
        Address::Tcp { host: "db1".to_owned(), port: 3306 }
    }

    fn page(report: &Report) -> Value {
        serde_json::from_str(&status(report, &address())).unwrap()
    }

    #[test]
    fn a_page_before_the_first_probe_run_has_no_verdicts() {
        let page = page(&Report::default());
        assert_eq!(page["target"], "db1:3306");
        assert_eq!(page["state"], json!({"doing": "idle"}));
        for empty in ["verdicts", "facts", "last_probe", "backing_off_seconds"] {
            assert_eq!(page[empty], Value::Null, "{empty}");
        }
        assert_eq!(page["changes"], json!([]));
    }

    #[test]
    fn a_full_report_is_wholly_on_the_page() {
        let mut facts = Facts::default();
        facts.note(b"wsrep_local_state", Some(b"2\""));
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let stalled = Health {
            verdict: Verdict::Refuse(Reason::StalledGreeting),
            time: Some(Time::For(Duration::from_millis(2_500))),
        };
        let page = page(&Report {
            verdicts: Some([stalled, stalled, Verdict::Serve.into()]),
            facts: Some((facts, at)),
            activity: Activity::Held {
                step: Step::Greeting,
                so_far: Duration::from_secs(3),
                left: Duration::from_secs(77),
            },
            back_off: Some(Duration::from_secs(5)),
            last: Some(LastProbe {
                at,
                outcome: "answered",
                steps: vec![(Step::Login, Duration::from_micros(250))],
            }),
            changes: [Change { at, verdicts: [stalled.verdict; 3], cause: "a \"b\"".to_owned() }]
                .into(),
            counters: Default::default(),
        });
        let time = "1970-01-01T00:00:01.500Z";
        assert_eq!(
            page["state"],
            json!({"doing": "held", "step": "greeting", "for_seconds": 3.0, "left_seconds": 77.0})
        );
        assert_eq!(page["backing_off_seconds"], 5.0);
        let read_write = &page["verdicts"]["read-write"];
        assert_eq!(
            (&read_write["reason"], &read_write["for_seconds"]),
            (&json!("stalled-greeting"), &json!(2.5))
        );
        assert_eq!(page["verdicts"]["writer"]["reason"], "serve");
        assert_eq!(page["facts"], json!({"at": time, "variables": {"wsrep_local_state": "2\\\""}}));
        assert_eq!(
            page["last_probe"],
            json!({"at": time, "outcome": "answered", "step_seconds": {"login": 0.00025}})
        );
        assert_eq!(page["changes"][0]["verdicts"]["reader"], "stalled-greeting");
        assert_eq!(page["changes"][0]["cause"], "a \"b\"");
    }
}
