//! Checks that the tables of the README match the program.

#[path = "support/program.rs"]
mod program;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use galera_probe::commands::serve::admin::{ExchangeCounter, Exposition, metrics};
use galera_probe::galera::{Donor, Facts, Policy, judge};
use galera_probe::health::{Reason, Role, Verdict};
use galera_probe::http::{Format, Response};
use galera_probe::monitor::{Histogram, Report};

use program::run;

const README: &str = include_str!("../README.md");

#[test]
fn the_table_of_words_matches_the_code() {
    let verdicts = Reason::ALL.iter().map(|reason| Verdict::Refuse(*reason));
    let rows: Vec<_> = [Verdict::Serve]
        .into_iter()
        .chain(verdicts)
        .map(|verdict| format!("| `{}` | {} |", verdict.as_str(), verdict.explanation()))
        .collect();
    let table = rows.join("\n");
    assert!(README.contains(&format!("\n{table}\n\n")), "the README's table should be:\n{table}");
}

#[tokio::test]
async fn the_table_of_flags_matches_the_help() {
    let mut flags = BTreeSet::new();
    let mut help = Vec::new();
    for command in ["serve", "check"] {
        help.extend(run(&[command, "--help"]).await.stdout);
    }
    for entry in String::from_utf8(help).unwrap().split("\n      --").skip(1) {
        let (flag, rest) = entry.split_once('\n').unwrap();
        let flag = format!("| `--{}` |", flag.replace(['<', '>'], ""));
        let row = README.lines().find(|line| line.starts_with(&flag));
        let row = row.unwrap_or_else(|| panic!("{flag} is not in the README"));
        let text = rest.lines().next().unwrap().trim();
        assert!(row.contains(&format!("| {text}. ")), "{flag} says: {text}");
        for line in rest.lines().map(str::trim) {
            if let Some(variable) = line.strip_prefix("[env: ") {
                assert!(row.contains(&format!("`{}`", variable.trim_end_matches(']'))), "{flag}");
            }
            if let Some(default) = line.strip_prefix("[default: ") {
                assert!(
                    row.contains(&format!("| `{}` |", default.trim_end_matches(']'))),
                    "{flag}"
                );
            }
        }
        flags.insert(flag);
    }
    let rows = README.lines().filter(|line| line.starts_with("| `--")).count();
    assert_eq!(flags.len(), rows);
}

/// The facts of a synced node, with some variables changed.
fn facts(changes: &[(&str, &str)]) -> Facts {
    let mut variables = BTreeMap::from([
        ("wsrep_cluster_status", "Primary"),
        ("wsrep_connected", "ON"),
        ("wsrep_local_index", "0"),
        ("wsrep_local_state", "4"),
        ("wsrep_on", "ON"),
        ("wsrep_ready", "ON"),
        ("wsrep_sst_donor_rejects_queries", "OFF"),
        ("read_only", "OFF"),
    ]);
    variables.extend(changes.iter().copied());
    let mut facts = Facts::default();
    for (name, value) in variables {
        facts.note(name.as_bytes(), Some(value.as_bytes()));
    }
    facts
}

#[test]
fn the_table_of_roles_matches_the_verdicts() {
    let donor = ("wsrep_local_state", "2");
    let rejecting = ("wsrep_sst_donor_rejects_queries", "ON");
    for (name, changes, donors) in [
        ("synced, wsrep_local_index 0", &[][..], Donor::Refuse),
        ("synced, another index", &[("wsrep_local_index", "1")], Donor::Refuse),
        ("synced, read_only", &[("read_only", "ON")], Donor::Refuse),
        ("a donor, `--donor refuse`", &[donor], Donor::Refuse),
        ("a donor, `--donor serve`", &[donor, rejecting], Donor::Serve),
        (
            "a donor that rejects queries, `--donor serve-unless-rejecting`",
            &[donor, rejecting],
            Donor::ServeUnlessRejecting,
        ),
        ("desynced by wsrep_desync", &[donor, ("wsrep_desync", "ON")], Donor::Serve),
        ("without quorum", &[("wsrep_cluster_status", "non-Primary")], Donor::Serve),
    ] {
        let policy = Policy { donor: donors, ..Policy::default() };
        let verdicts = Role::ALL.map(|role| match judge(&facts(changes), policy, role) {
            Verdict::Serve => "200".to_owned(),
            Verdict::Refuse(reason) => format!("503 `{reason}`"),
        });
        let row = format!("\n| {name} | {} |\n", verdicts.join(" | "));
        assert!(README.contains(&row), "the README should have:{row}");
    }
}

#[test]
fn the_table_of_metrics_has_every_metric() {
    let mut report = Report {
        verdicts: Some([Verdict::Serve.into(); Role::ALL.len()]),
        facts: Some((Facts::default(), SystemTime::now())),
        ..Report::default()
    };
    for counters in
        [&mut report.counters.callers, &mut report.counters.probes, &mut report.counters.timeouts]
    {
        counters.insert("x", 1);
    }
    report.counters.steps.insert("x", Histogram::default());
    let exchanges = ExchangeCounter::default();
    exchanges.count(&Response::live(Format::default()));
    let metrics = metrics(report, &exchanges, Exposition::Text);
    let names: Vec<_> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .collect();
    assert_eq!(names.len(), 12);
    let rows = README.lines().filter(|line| line.starts_with("| `galera_probe_"));
    assert_eq!(rows.count(), names.len());
    for name in names {
        let row = |end| README.contains(&format!("\n| `{name}{end}"));
        assert!(row('{') || row('`'), "{name}");
    }
}

#[tokio::test]
async fn the_help_fits_80_columns() {
    for command in [
        &["--help"][..],
        &["-h"],
        &["serve", "--help"],
        &["serve", "-h"],
        &["check", "--help"],
        &["check", "-h"],
        &["maintenance", "-h"],
    ] {
        let help = String::from_utf8(run(command).await.stdout).unwrap();
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
    }
}
