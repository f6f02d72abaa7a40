//! Fuzz target for verdicts: for any rows, a node serves if and only if every rule is met,
//! and the HTTP response is complete and contains nothing that the node sent.

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use galera_probe::galera::{Donor, Facts, Policy, judge};
use galera_probe::health::{Health, Reason, Role, Time, Verdict};
use galera_probe::http::{Format, Response};

const NAMES: [&str; 13] = [
    "wsrep_on",
    "wsrep_cluster_status",
    "wsrep_connected",
    "wsrep_local_state",
    "wsrep_ready",
    "wsrep_local_index",
    "wsrep_desync",
    "wsrep_reject_queries",
    "wsrep_sst_donor_rejects_queries",
    "read_only",
    "super_read_only",
    "offline_mode",
    "pxc_maint_mode",
];

const VALUES: [&str; 14] = [
    "ON",
    "OFF",
    "1",
    "0",
    "2",
    "3",
    "4",
    "5",
    "Primary",
    "non-Primary",
    "Disconnected",
    "NONE",
    "ALL",
    "DISABLED",
];

/// The variables of a healthy node.
const SYNCED: [(&str, &str); 6] = [
    ("wsrep_on", "ON"),
    ("wsrep_cluster_status", "Primary"),
    ("wsrep_connected", "ON"),
    ("wsrep_local_state", "4"),
    ("wsrep_ready", "ON"),
    ("read_only", "OFF"),
];

/// A row of SHOW STATUS or SHOW VARIABLES.
type Row = (Vec<u8>, Option<Vec<u8>>);

/// The distinct values that rows report for each variable, by its name in lower case.
type Reported = BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>;

/// `arbitrary` turns the fuzzer's bytes into a policy and rows.
pub fn check(bytes: &[u8]) {
    let mut source = Unstructured::new(bytes);
    let _ = check_rows(&mut source);
}

fn check_rows(source: &mut Unstructured<'_>) -> Result<()> {
    let policy = Policy {
        standalone: source.arbitrary()?,
        donor: *source.choose(&[Donor::Refuse, Donor::Serve, Donor::ServeUnlessRejecting])?,
    };
    let time = source.arbitrary::<u64>()?;
    let rows = rows(source)?;

    let mut facts = Facts::default();
    for (name, value) in &rows {
        facts.note(name, value.as_deref());
    }
    let shown = facts.to_string();
    assert!(shown.len() < 8 * 1024, "{} bytes for a log", shown.len());
    assert!(shown.bytes().all(|byte| matches!(byte, b' '..=b'~')));

    let verdicts = Role::ALL.map(|role| judge(&facts, policy, role));
    let reported = reported(&rows);
    let serves = [is_writable(&reported), true, is_writer(&reported)]
        .map(|fit| fit && is_fit(&reported, policy));
    assert_eq!(verdicts.map(|verdict| verdict == Verdict::Serve), serves, "{shown}");
    let [verdict, ..] = verdicts;

    // The order of the rows does not decide whether the node serves.
    let mut backwards = Facts::default();
    for (name, value) in rows.iter().rev() {
        backwards.note(name, value.as_deref());
    }
    assert_eq!(
        judge(&backwards, policy, Role::ReadWrite) == Verdict::Serve,
        verdict == Verdict::Serve
    );

    let time = Duration::from_millis(time);
    for time in [None, Some(Time::For(time)), Some(Time::Left(time))] {
        check_response(Health { verdict, time });
    }
    Ok(())
}

fn rows(source: &mut Unstructured<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if source.arbitrary()? {
        let row = |(name, value): (&str, &str)| (name.into(), Some(value.into()));
        rows.extend(SYNCED.map(row));
        rows.remove(source.choose_index(rows.len() + 1)?.min(rows.len() - 1));
    }
    while !source.is_empty() {
        let name = match source.int_in_range(0..=9)? {
            0 => source.arbitrary()?,
            1 => source.choose(&NAMES)?.to_ascii_uppercase().into_bytes(),
            _ => source.choose(&NAMES)?.as_bytes().to_vec(),
        };
        let value = match source.int_in_range(0..=9)? {
            0 => None,
            1 => Some(source.arbitrary()?),
            2 => Some(vec![source.arbitrary()?; 70]),
            _ => Some(source.choose(&VALUES)?.as_bytes().to_vec()),
        };
        rows.push((name, value));
    }
    Ok(rows)
}

fn reported(rows: &[Row]) -> Reported {
    let mut reported = Reported::new();
    for (name, value) in rows {
        let values = reported.entry(name.to_ascii_lowercase()).or_default();
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    reported
}

/// Returns whether the rows give a variable exactly one value, and that value is healthy.
fn reports_only(reported: &Reported, name: &str, healthy: &[&str], may_be_missing: bool) -> bool {
    match reported.get(name.as_bytes()).map(Vec::as_slice) {
        None => may_be_missing,
        Some([Some(value)]) => healthy.iter().any(|healthy| healthy.as_bytes() == value),
        Some(_) => false,
    }
}

const ON: &[&str] = &["ON", "1"];
const OFF: &[&str] = &["OFF", "0"];

/// Returns whether the node may serve readers: all rules as one condition.
fn is_fit(reported: &Reported, policy: Policy) -> bool {
    let reports_only =
        |name, healthy, may_be_missing| reports_only(reported, name, healthy, may_be_missing);
    let donor_may_serve = match policy.donor {
        Donor::Refuse => false,
        Donor::Serve => true,
        Donor::ServeUnlessRejecting => reports_only("wsrep_sst_donor_rejects_queries", OFF, false),
    };
    let is_donor =
        reports_only("wsrep_local_state", &["2"], false) && reports_only("wsrep_desync", OFF, true);
    let is_member = reports_only("wsrep_on", ON, false)
        && reports_only("wsrep_cluster_status", &["Primary"], false)
        && reports_only("wsrep_connected", ON, false)
        && (reports_only("wsrep_local_state", &["4"], false) || donor_may_serve && is_donor)
        && reports_only("wsrep_ready", ON, false)
        && reports_only("wsrep_reject_queries", &["NONE"], true);
    (is_member || policy.standalone && reports_only("wsrep_on", OFF, true))
        && reported.contains_key(&b"read_only"[..])
        && reports_only("pxc_maint_mode", &["DISABLED"], true)
        && reports_only("offline_mode", OFF, true)
}

fn is_writable(reported: &Reported) -> bool {
    reports_only(reported, "read_only", OFF, false)
        && reports_only(reported, "super_read_only", OFF, true)
}

fn is_writer(reported: &Reported) -> bool {
    is_writable(reported)
        && (!reports_only(reported, "wsrep_on", ON, false)
            || reports_only(reported, "wsrep_local_index", &["0"], false))
}

fn check_response(health: Health) {
    for (head_only, json) in [(false, false), (false, true), (true, false), (true, true)] {
        let bytes =
            Response::health(health, Format { head_only, json, ..Format::default() }).encode();
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let length = response.parse(&bytes).unwrap().unwrap();
        let body = str::from_utf8(&bytes[length..]).unwrap();
        let expected = if health.verdict == Verdict::Serve { 200 } else { 503 };
        assert_eq!(response.code, Some(expected));
        let header = |name| {
            let field = response.headers.iter().find(|field| field.name == name).unwrap();
            str::from_utf8(field.value).unwrap()
        };
        assert_eq!(header("Galera-Probe"), health.verdict.as_str());
        assert_eq!(header("Connection"), "close");
        if head_only {
            assert_eq!(body, "");
            continue;
        }
        assert_eq!(header("Content-Length"), body.len().to_string());
        // The body is the same for every node: the word and the explanation.
        let (word, explanation) = (health.verdict.as_str(), health.to_string());
        match json {
            false => assert_eq!(body, format!("{word}\n{explanation}\n")),
            true => {
                let same = format!("{{\"reason\":\"{word}\",\"explanation\":\"{explanation}\"");
                let rest = body.strip_prefix(&same).unwrap();
                assert_eq!(rest.starts_with(",\""), health.time.is_some());
                assert!(rest.ends_with("}\n") && rest.len() < 64);
            }
        }
        assert!(word == "serve" || Reason::ALL.iter().any(|reason| reason.as_str() == word));
    }
}
