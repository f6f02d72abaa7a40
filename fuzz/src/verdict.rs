//! Whatever a node says of itself: its verdict is serve only where every fact
//! says so, and the answer is whole and tells nothing that the node said.

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

/// A healthy node's, which the others change.
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

/// What is said of each variable, by its name in lower case: every value once.
type Said = BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>;

/// The fuzzer's bytes are read as rows by `arbitrary`.
pub fn check(bytes: &[u8]) {
    let mut source = Unstructured::new(bytes);
    let _ = play(&mut source);
}

fn play(source: &mut Unstructured<'_>) -> Result<()> {
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
    let said = said(&rows);
    let serves =
        [is_writable(&said), true, is_writer(&said)].map(|fit| fit && is_fit(&said, policy));
    assert_eq!(verdicts.map(|verdict| verdict == Verdict::Serve), serves, "{shown}");
    let [verdict, ..] = verdicts;

    // The order of rows that do not contradict each other is all one.
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
        answer_is_whole(Health { verdict, time });
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

fn said(rows: &[Row]) -> Said {
    let mut said = Said::new();
    for (name, value) in rows {
        let values = said.entry(name.to_ascii_lowercase()).or_default();
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    said
}

/// Whether a variable has one of these values, and that alone.
fn says(said: &Said, name: &str, healthy: &[&str], may_be_missing: bool) -> bool {
    match said.get(name.as_bytes()).map(Vec::as_slice) {
        None => may_be_missing,
        Some([Some(value)]) => healthy.iter().any(|healthy| healthy.as_bytes() == value),
        Some(_) => false,
    }
}

const ON: &[&str] = &["ON", "1"];
const OFF: &[&str] = &["OFF", "0"];

/// What readers need, written as one condition without an order.
fn is_fit(said: &Said, policy: Policy) -> bool {
    let says = |name, healthy, may_be_missing| says(said, name, healthy, may_be_missing);
    let gives = match policy.donor {
        Donor::Refuse => false,
        Donor::Serve => true,
        Donor::ServeUnlessRejecting => says("wsrep_sst_donor_rejects_queries", OFF, false),
    };
    let is_donor = says("wsrep_local_state", &["2"], false) && says("wsrep_desync", OFF, true);
    let is_member = says("wsrep_on", ON, false)
        && says("wsrep_cluster_status", &["Primary"], false)
        && says("wsrep_connected", ON, false)
        && (says("wsrep_local_state", &["4"], false) || gives && is_donor)
        && says("wsrep_ready", ON, false)
        && says("wsrep_reject_queries", &["NONE"], true);
    (is_member || policy.standalone && says("wsrep_on", OFF, true))
        && said.contains_key(&b"read_only"[..])
        && says("pxc_maint_mode", &["DISABLED"], true)
        && says("offline_mode", OFF, true)
}

fn is_writable(said: &Said) -> bool {
    says(said, "read_only", OFF, false) && says(said, "super_read_only", OFF, true)
}

fn is_writer(said: &Said) -> bool {
    is_writable(said)
        && (!says(said, "wsrep_on", ON, false) || says(said, "wsrep_local_index", &["0"], false))
}

fn answer_is_whole(health: Health) {
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
            let line = response.headers.iter().find(|line| line.name == name).unwrap();
            str::from_utf8(line.value).unwrap()
        };
        assert_eq!(header("Galera-Probe"), health.verdict.as_str());
        assert_eq!(header("Connection"), "close");
        if head_only {
            assert_eq!(body, "");
            continue;
        }
        assert_eq!(header("Content-Length"), body.len().to_string());
        // The same two things of every node: the word and the line for people.
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
