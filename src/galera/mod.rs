//! The rules for a healthy node: variables to [`Facts`] to a [`Verdict`].
//!
//! Everything here is pure. [`STATEMENTS`] are the queries that return the variables,
//! [`Facts::note`] takes one row of their results, and [`judge`] gives the verdict for a
//! [`Policy`] and a [`Role`]:
//!
//! ```
//! use galera_probe::galera::{Donor, Facts, Policy, judge};
//! use galera_probe::health::{Reason, Role, Verdict};
//!
//! // The rows that a node returns while it sends a state transfer.
//! let mut facts = Facts::default();
//! for (name, value) in [
//!     ("wsrep_on", "ON"),
//!     ("wsrep_cluster_status", "Primary"),
//!     ("wsrep_connected", "ON"),
//!     ("wsrep_local_state", "2"),
//!     ("wsrep_ready", "ON"),
//!     ("wsrep_local_index", "1"),
//!     ("read_only", "OFF"),
//! ] {
//!     facts.note(name.as_bytes(), Some(value.as_bytes()));
//! }
//!
//! // By default, a donor gets no traffic.
//! let verdict = judge(&facts, Policy::default(), Role::ReadWrite);
//! assert_eq!(verdict, Verdict::Refuse(Reason::Donor));
//! // A policy can allow it.
//! let policy = Policy { donor: Donor::Serve, ..Policy::default() };
//! assert_eq!(judge(&facts, policy, Role::ReadWrite), Verdict::Serve);
//! // The writer is the node with wsrep_local_index 0.
//! assert_eq!(judge(&facts, policy, Role::Writer), Verdict::Refuse(Reason::NotWriter));
//! ```
//!
//! The tests in this file list the states of real nodes, each with its verdict by role.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod facts;
mod statements;

use crate::health::{Reason, Role, Verdict};

pub use facts::Facts;
pub use statements::{CANNOT_PROVE, CAUSALITY_CHECK, KnownVariables, STATEMENTS, UNKNOWN_VARIABLE};

/// The operator's choices about which nodes may serve.
///
/// Build it with `..Policy::default()`, which refuses plain servers and donors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether a server without Galera may serve.
    pub standalone: bool,
    /// Whether a donor may serve.
    pub donor: Donor,
}

/// Whether a node that sends a state transfer may serve.
///
/// A node whose tables are locked by FLUSH TABLES WITH READ LOCK reports the same state, so
/// this applies to it too. A node desynced by wsrep_desync is always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Donor {
    /// A donor is refused.
    #[default]
    Refuse,
    /// A donor may serve.
    Serve,
    /// A donor may serve while wsrep_sst_donor_rejects_queries is OFF.
    ServeUnlessRejecting,
}

/// Returns the verdict on a node that reported `facts`, for a caller's `role`.
///
/// If several rules refuse the node, the reason is the one closest to the cause. A node that is
/// refused to [`Role::Reader`] is refused to every role, for the same reason.
pub fn judge(facts: &Facts, policy: Policy, role: Role) -> Verdict {
    match node_refusal(facts, policy).or_else(|| role_refusal(facts, role)) {
        Some(reason) => Verdict::Refuse(reason),
        None => Verdict::Serve,
    }
}

/// Returns whether the facts are those of a node of a Galera cluster, which can be asked for a
/// [`CAUSALITY_CHECK`].
pub fn is_node(facts: &Facts) -> bool {
    facts.wsrep_on.as_deref().is_some_and(is_on)
}

/// Returns why the node is refused to every role.
fn node_refusal(facts: &Facts, policy: Policy) -> Option<Reason> {
    if facts.offline_mode.as_deref().is_some_and(|mode| !is_off(mode)) {
        return Some(Reason::Offline);
    }
    let cluster = match facts.wsrep_on.as_deref() {
        Some(on) if is_on(on) => cluster_refusal(facts, policy.donor),
        None if policy.standalone => None,
        Some(off) if policy.standalone && is_off(off) => None,
        None => Some(Reason::NoGalera),
        Some(_) => Some(match facts.wsrep_cluster_status.as_deref() {
            None | Some("Disconnected") => Reason::NoGalera,
            // Every other variable of such a node can look healthy.
            Some(_) => Reason::WsrepOff,
        }),
    };
    // pxc_maint_mode is set by the operator and counts on a plain server too.
    let maintenance = facts.pxc_maint_mode.as_deref().is_some_and(|mode| mode != "DISABLED");
    cluster
        .or_else(|| maintenance.then_some(Reason::Maintenance))
        .or_else(|| facts.read_only.is_none().then_some(Reason::IncompleteFacts))
}

/// Returns why a node whose wsrep_on is ON is refused to every role.
fn cluster_refusal(facts: &Facts, donor: Donor) -> Option<Reason> {
    let (Some(status), Some(connected), Some(state), Some(ready)) = (
        facts.wsrep_cluster_status.as_deref(),
        facts.wsrep_connected.as_deref(),
        facts.wsrep_local_state.as_deref(),
        facts.wsrep_ready.as_deref(),
    ) else {
        return Some(Reason::IncompleteFacts);
    };
    match (status, state) {
        // Such a node can also report no connection or no quorum, but recovers in another way.
        (_, "5") => return Some(Reason::Inconsistent),
        (_, "1") => return Some(Reason::Joining),
        ("Primary", _) => {}
        ("Disconnected", _) => return Some(Reason::WsrepDisconnected),
        _ => return Some(Reason::NonPrimary),
    }
    if !is_on(connected) {
        return Some(Reason::WsrepDisconnected);
    }
    match state {
        "4" => {}
        "2" if !facts.wsrep_desync.as_deref().is_none_or(is_off) => return Some(Reason::Desynced),
        "2" if donor_serves(facts, donor) => {}
        "2" => return Some(Reason::Donor),
        "3" => return Some(Reason::Joined),
        _ => return Some(Reason::NotSynced),
    }
    if !is_on(ready) {
        return Some(Reason::NotReady);
    }
    if facts.wsrep_reject_queries.as_deref().is_some_and(|value| value != "NONE") {
        return Some(Reason::RejectingQueries);
    }
    None
}

fn donor_serves(facts: &Facts, donor: Donor) -> bool {
    match donor {
        Donor::Refuse => false,
        Donor::Serve => true,
        Donor::ServeUnlessRejecting => {
            facts.wsrep_sst_donor_rejects_queries.as_deref().is_some_and(is_off)
        }
    }
}

/// Returns why a node that may serve readers is refused to `role`.
fn role_refusal(facts: &Facts, role: Role) -> Option<Reason> {
    if role == Role::Reader {
        return None;
    }
    // Besides ON, read_only has further values since MariaDB 12. All of them refuse writes.
    let mut switches = [&facts.read_only, &facts.super_read_only].into_iter().flatten();
    if !switches.all(|switch| is_off(switch)) {
        return Some(Reason::ReadOnly);
    }
    // A plain server has no cluster index: it is its own writer.
    if role != Role::Writer || !facts.wsrep_on.as_deref().is_some_and(is_on) {
        return None;
    }
    match facts.wsrep_local_index.as_deref() {
        Some("0") => None,
        Some(_) => Some(Reason::NotWriter),
        None => Some(Reason::IncompleteFacts),
    }
}

fn is_on(value: &str) -> bool {
    matches!(value, "ON" | "1")
}

fn is_off(value: &str) -> bool {
    matches!(value, "OFF" | "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The facts of a synced MariaDB 10.11 node with some variables changed. The value `-`
    /// removes a variable.
    fn facts(changes: &[(&str, &str)]) -> Facts {
        let mut facts = Facts::default();
        for (name, value) in [
            ("wsrep_cluster_status", "Primary"),
            ("wsrep_connected", "ON"),
            ("wsrep_local_index", "0"),
            ("wsrep_local_state", "4"),
            ("wsrep_ready", "ON"),
            ("read_only", "OFF"),
            ("wsrep_desync", "OFF"),
            ("wsrep_on", "ON"),
            ("wsrep_reject_queries", "NONE"),
            ("wsrep_sst_donor_rejects_queries", "OFF"),
        ] {
            if !changes.iter().any(|(changed, _)| *changed == name) {
                facts.note(name.as_bytes(), Some(value.as_bytes()));
            }
        }
        for (name, value) in changes.iter().filter(|(_, value)| *value != "-") {
            facts.note(name.as_bytes(), Some(value.as_bytes()));
        }
        facts
    }

    fn verdict(changes: &[(&str, &str)]) -> &'static str {
        judge(&facts(changes), Policy::default(), Role::default()).as_str()
    }

    /// The verdicts for read-write, reader and writer.
    fn verdicts(changes: &[(&str, &str)], donor: Donor) -> [&'static str; 3] {
        let policy = Policy { donor, ..Policy::default() };
        Role::ALL.map(|role| judge(&facts(changes), policy, role).as_str())
    }

    /// The same facts as the SELECT of [`KnownVariables`] gives them: SHOW has ON and OFF where
    /// SELECT has 1 and 0.
    fn selected(shown: &Facts) -> Facts {
        let mut selected = Facts::default();
        for (name, value) in shown.iter() {
            let value = match value {
                "ON" if STATEMENTS[2].contains(&format!("'{name}'")) => "1",
                "OFF" if STATEMENTS[2].contains(&format!("'{name}'")) => "0",
                other => other,
            };
            selected.note(name.as_bytes(), Some(value.as_bytes()));
        }
        selected
    }

    const DONORS: [Donor; 3] = [Donor::Refuse, Donor::Serve, Donor::ServeUnlessRejecting];

    #[test]
    fn every_observed_node_state_has_a_verdict_for_each_role() {
        const NO_INDEX: &str = "18446744073709551615";
        const fn all(word: &str) -> [&str; 3] {
            [word; 3]
        }
        const READERS_ONLY: [&str; 3] = ["read-only", "serve", "read-only"];
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], [&'a str; 3]);
        let table: &[Row<'_>] = &[
            ("synced, first of its component", &[], all("serve")),
            (
                "synced, not the first",
                &[("wsrep_local_index", "2")],
                ["serve", "serve", "not-writer"],
            ),
            (
                "synced, read_only, not the first",
                &[("wsrep_local_index", "2"), ("read_only", "ON")],
                READERS_ONLY,
            ),
            (
                "wsrep_desync=ON",
                &[("wsrep_local_state", "2"), ("wsrep_desync", "ON")],
                all("desynced"),
            ),
            (
                "joiner during IST",
                &[
                    ("wsrep_cluster_status", "non-Primary"),
                    ("wsrep_local_state", "1"),
                    ("wsrep_ready", "OFF"),
                    ("wsrep_local_index", NO_INDEX),
                ],
                all("joining"),
            ),
            ("after IST", &[("wsrep_local_state", "1"), ("wsrep_ready", "OFF")], all("joining")),
            ("joined", &[("wsrep_local_state", "3")], all("joined")),
            (
                "partitioned",
                &[
                    ("wsrep_cluster_status", "non-Primary"),
                    ("wsrep_local_state", "0"),
                    ("wsrep_ready", "OFF"),
                ],
                all("non-primary"),
            ),
            (
                "wsrep_cluster_address=''",
                &[
                    ("wsrep_cluster_status", "Disconnected"),
                    ("wsrep_local_state", "0"),
                    ("wsrep_ready", "OFF"),
                    ("wsrep_connected", "OFF"),
                    ("wsrep_local_index", NO_INDEX),
                ],
                all("wsrep-disconnected"),
            ),
            (
                "voted out",
                &[
                    ("wsrep_cluster_status", "Disconnected"),
                    ("wsrep_local_state", "5"),
                    ("wsrep_ready", "OFF"),
                    ("wsrep_connected", "OFF"),
                    ("wsrep_local_index", NO_INDEX),
                ],
                all("inconsistent"),
            ),
            ("reject ALL", &[("wsrep_reject_queries", "ALL")], all("rejecting-queries")),
            ("reject ALL_KILL", &[("wsrep_reject_queries", "ALL_KILL")], all("rejecting-queries")),
            ("wsrep_on=OFF", &[("wsrep_on", "OFF"), ("wsrep_local_state", "-")], all("wsrep-off")),
            (
                "no provider",
                &[
                    ("wsrep_on", "OFF"),
                    ("wsrep_cluster_status", "Disconnected"),
                    ("wsrep_local_state", "-"),
                    ("wsrep_ready", "OFF"),
                    ("wsrep_connected", "OFF"),
                ],
                all("no-galera"),
            ),
            ("read_only=ON", &[("read_only", "ON")], READERS_ONLY),
            ("read_only of MariaDB 12", &[("read_only", "NO_LOCK")], READERS_ONLY),
            ("super_read_only=ON", &[("super_read_only", "ON")], READERS_ONLY),
            ("super_read_only=OFF", &[("super_read_only", "OFF")], all("serve")),
            ("offline_mode=ON", &[("offline_mode", "ON")], all("offline")),
            ("offline_mode=OFF", &[("offline_mode", "OFF")], all("serve")),
            ("pxc_maint_mode", &[("pxc_maint_mode", "MAINTENANCE")], all("maintenance")),
            ("pxc_maint_mode, shutdown", &[("pxc_maint_mode", "SHUTDOWN")], all("maintenance")),
            ("pxc_maint_mode, none", &[("pxc_maint_mode", "DISABLED")], all("serve")),
            ("not ready alone", &[("wsrep_ready", "OFF")], all("not-ready")),
            ("not connected alone", &[("wsrep_connected", "OFF")], all("wsrep-disconnected")),
            ("a state of the future", &[("wsrep_local_state", "6")], all("not-synced")),
            ("numbers for words", &[("wsrep_on", "1"), ("read_only", "0")], all("serve")),
        ];
        for (state, changes, expected) in table {
            for donor in DONORS {
                let policy = Policy { donor, ..Policy::default() };
                for facts in [facts(changes), selected(&facts(changes))] {
                    let verdicts = Role::ALL.map(|role| judge(&facts, policy, role).as_str());
                    assert_eq!(verdicts, *expected, "{state}, {donor:?}, {facts}");
                }
            }
        }
    }

    #[test]
    fn the_policy_decides_whether_a_donor_serves_each_role() {
        let rejecting = ("wsrep_sst_donor_rejects_queries", "ON");
        let unknown = ("wsrep_sst_donor_rejects_queries", "-");
        let refused = ["donor"; 3];
        for (donor, changes, expected) in [
            (Donor::Refuse, &[][..], refused),
            (Donor::Refuse, &[rejecting], refused),
            (Donor::Serve, &[], ["serve"; 3]),
            (Donor::Serve, &[rejecting], ["serve"; 3]),
            (Donor::Serve, &[("wsrep_local_index", "1")], ["serve", "serve", "not-writer"]),
            (Donor::Serve, &[("read_only", "ON")], ["read-only", "serve", "read-only"]),
            (Donor::Serve, &[("wsrep_ready", "OFF")], ["not-ready"; 3]),
            (Donor::Serve, &[("wsrep_reject_queries", "ALL")], ["rejecting-queries"; 3]),
            (Donor::ServeUnlessRejecting, &[], ["serve"; 3]),
            (Donor::ServeUnlessRejecting, &[rejecting], refused),
            (Donor::ServeUnlessRejecting, &[unknown], refused),
        ] {
            let changes = [&[("wsrep_local_state", "2")], changes].concat();
            assert_eq!(verdicts(&changes, donor), expected, "{donor:?}, {changes:?}");
        }
    }

    #[test]
    fn a_node_that_is_refused_to_readers_is_refused_to_every_role() {
        for (name, value) in [("wsrep_ready", "OFF"), ("wsrep_on", "-"), ("offline_mode", "ON")] {
            let [read_write, reader, writer] =
                verdicts(&[(name, value), ("read_only", "ON")], Donor::Serve);
            assert_ne!(reader, "serve");
            assert_eq!([read_write, writer], [reader; 2]);
        }
    }

    #[test]
    fn a_node_without_a_valid_index_is_not_the_writer() {
        for index in ["-", "18446744073709551615", "00", "nonsense"] {
            assert_ne!(verdicts(&[("wsrep_local_index", index)], Donor::Refuse)[2], "serve");
        }
    }

    #[test]
    fn refuses_a_galera_node_that_lacks_a_required_variable() {
        for name in [
            "wsrep_cluster_status",
            "wsrep_connected",
            "wsrep_local_state",
            "wsrep_ready",
            "read_only",
        ] {
            assert_eq!(verdict(&[(name, "-")]), "incomplete-facts", "{name}");
        }
        assert_eq!(verdict(&[("wsrep_on", "-")]), "no-galera");
        assert_eq!(judge(&Facts::default(), Policy::default(), Role::Reader).as_str(), "no-galera");
    }

    #[test]
    fn serves_without_the_variables_that_only_some_servers_have() {
        for name in ["wsrep_desync", "wsrep_reject_queries", "wsrep_sst_donor_rejects_queries"] {
            assert_eq!(verdict(&[(name, "-")]), "serve", "{name}");
        }
    }

    #[test]
    fn a_variable_that_is_null_unknown_text_or_contradictory_is_never_healthy() {
        let names = "wsrep_on wsrep_cluster_status wsrep_connected wsrep_local_state wsrep_ready \
                     read_only super_read_only offline_mode pxc_maint_mode wsrep_reject_queries \
                     wsrep_local_index";
        let donors = "wsrep_desync wsrep_sst_donor_rejects_queries";
        let policy = Policy { donor: Donor::ServeUnlessRejecting, ..Policy::default() };
        for (names, state) in [(names, "4"), (donors, "2")] {
            let healthy = ("wsrep_local_state", state);
            assert_eq!(judge(&facts(&[healthy]), policy, Role::Writer), Verdict::Serve);
            for name in names.split(' ') {
                let mut with_null = facts(&[healthy, (name, "-")]);
                with_null.note(name.as_bytes(), None);
                let mut twice = facts(&[healthy]);
                twice.note(name.as_bytes(), Some(b"\xff\0"));
                twice.note(name.as_bytes(), Some(b"\xfe\0"));
                let long = facts(&[healthy, (name, &"ON".repeat(1000))]);
                for facts in [with_null, twice, long] {
                    let verdict = judge(&facts, policy, Role::Writer);
                    assert!(matches!(verdict, Verdict::Refuse(_)), "{name}: {facts:?}");
                }
            }
        }
        let mut same = facts(&[]);
        same.note(b"wsrep_on", Some(b"ON"));
        assert_eq!(judge(&same, Policy::default(), Role::Writer), Verdict::Serve);
    }

    #[test]
    fn names_match_in_any_case_and_unknown_names_are_ignored() {
        let mut facts = facts(&[("wsrep_on", "-")]);
        facts.note(b"WSREP_ON", Some(b"ON"));
        facts.note(b"wsrep_on_and_on", Some(b"OFF"));
        assert_eq!(judge(&facts, Policy::default(), Role::Writer), Verdict::Serve);
    }

    #[test]
    fn standalone_only_allows_a_server_without_galera() {
        let policy = Policy { standalone: true, ..Policy::default() };
        let verdict =
            |changes: &[(&str, &str)]| judge(&facts(changes), policy, Role::Writer).as_str();
        let mut plain = Facts::default();
        plain.note(b"read_only", Some(b"OFF"));
        assert_eq!(judge(&plain, policy, Role::Writer), Verdict::Serve);
        assert_eq!(verdict(&[("wsrep_on", "OFF"), ("wsrep_cluster_status", "-")]), "serve");
        for index in ["1", "-"] {
            assert_eq!(verdict(&[("wsrep_on", "OFF"), ("wsrep_local_index", index)]), "serve");
        }
        assert_eq!(verdict(&[("wsrep_on", "OFF"), ("read_only", "ON")]), "read-only");
        assert_eq!(verdict(&[("wsrep_on", "OFF"), ("offline_mode", "ON")]), "offline");
        assert_eq!(verdict(&[("wsrep_on", "OFF"), ("pxc_maint_mode", "SHUTDOWN")]), "maintenance");
        assert_eq!(verdict(&[("wsrep_on", "nonsense")]), "wsrep-off");
        assert_eq!(verdict(&[("wsrep_cluster_status", "non-Primary")]), "non-primary");
        assert_eq!(judge(&Facts::default(), policy, Role::Reader).as_str(), "incomplete-facts");
    }
}
