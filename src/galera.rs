//! What healthy means: rows of names and values to [`Facts`] to [`Verdict`].
//!
//! Pure functions of what the node said. The states are those that real nodes
//! were seen in; the tests at the end are the table.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::fmt;

use crate::health::{Reason, Role, Verdict};

/// What to send after the login, in this order.
///
/// 1. Takes the node's causality check off this session: with it, even SHOW
///    waits on a node that lags. A server without Galera answers
///    [`UNKNOWN_VARIABLE`], which is no fault.
/// 2. and 3. SHOW is answered in every state; a SELECT may be refused with 1047.
///    The SESSION forms do not sum up all threads, and hold the same values.
pub const STATEMENTS: [&str; 3] = [
    "SET SESSION wsrep_sync_wait=0",
    "SHOW SESSION STATUS WHERE Variable_name IN ('wsrep_cluster_status','wsrep_connected',\
     'wsrep_local_index','wsrep_local_state','wsrep_ready')",
    "SHOW SESSION VARIABLES WHERE Variable_name IN ('offline_mode','pxc_maint_mode','read_only',\
     'super_read_only','wsrep_desync','wsrep_on','wsrep_reject_queries',\
     'wsrep_sst_donor_rejects_queries')",
];

/// Asks once more, on the same connection, for what [`STATEMENTS`] gave: the status, and
/// the variables that the server is now known to have in one row of names and values.
/// A SELECT of them costs it a tenth of what SHOW does, but one name that it does not
/// know fails the whole.
///
/// A session has a wsrep_on of its own, which stays as the global one was when it logged
/// in; so it is the global one that is asked for. Percona's servers, which alone have
/// pxc_maint_mode, have no global one.
pub fn repeated_statements(facts: &Facts) -> [String; 2] {
    let [_, status, variables] = STATEMENTS;
    let known = facts.iter().map(|(name, _)| name);
    let known = known.filter(|name| variables.contains(&format!("'{name}'")));
    let scope = if facts.pxc_maint_mode.is_none() { "GLOBAL." } else { "" };
    let columns: Vec<_> = known.map(|name| format!("'{name}',@@{scope}{name}")).collect();
    [status.to_owned(), format!("SELECT {}", columns.join(","))]
}

/// ER_UNKNOWN_SYSTEM_VARIABLE.
pub const UNKNOWN_VARIABLE: u16 = 1193;

/// The longest part of a value that is kept. Every healthy value is shorter.
const MAX_VALUE: usize = 64;

/// A value as long as one that is kept, every byte of it escaped. What is longer
/// than this is shown to be unhealthy; no server adds to it by saying more.
const MAX_SHOWN: usize = 4 * MAX_VALUE;

/// Declares [`Facts`] with one field for each variable, so that the list stands once.
macro_rules! facts {
    ($($variable:ident)*) => {
        /// What the node said of itself, by the names of the server's own
        /// variables; `None` where it said nothing.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the fields are the server's variables")]
        pub struct Facts {
            $(pub $variable: Option<String>,)*
        }

        impl Facts {
            /// The variables that the node sent, and their values.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
                let variables = [$((stringify!($variable), &self.$variable)),*];
                variables.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
            }

            fn variable(&mut self, name: &[u8]) -> Option<&mut Option<String>> {
                $(if name.eq_ignore_ascii_case(stringify!($variable).as_bytes()) {
                    return Some(&mut self.$variable);
                })*
                None
            }
        }
    };
}

facts! {
    wsrep_on
    wsrep_cluster_status
    wsrep_connected
    wsrep_local_state
    wsrep_ready
    wsrep_local_index
    wsrep_desync
    wsrep_reject_queries
    wsrep_sst_donor_rejects_queries
    read_only
    super_read_only
    offline_mode
    pxc_maint_mode
}

impl fmt::Display for Facts {
    /// The variables that the node sent, as `name=value`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, value) in self.iter() {
            write!(f, "{separator}{name}={value}")?;
            separator = " ";
        }
        f.write_str(if separator.is_empty() { "no variables" } else { "" })
    }
}

impl Facts {
    /// Notes one row of SHOW STATUS or SHOW VARIABLES; `None` stands for NULL.
    /// Names are taken in any case, unknown ones are passed over. A variable
    /// that comes twice with two values keeps both, which is healthy nowhere; of
    /// many values it keeps a few.
    pub fn note(&mut self, name: &[u8], value: Option<&[u8]>) {
        let value = match value {
            Some(value) => {
                let kept = value.get(..MAX_VALUE).unwrap_or(value);
                kept.escape_ascii().to_string()
            }
            None => "NULL".to_owned(),
        };
        let Some(variable) = self.variable(name) else { return };
        match variable {
            Some(earlier) if *earlier != value && earlier.len() <= MAX_SHOWN => {
                *earlier = format!("{earlier} and {value}");
            }
            Some(_) => {}
            None => *variable = Some(value),
        }
    }
}

/// What the operator wants of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// A server without Galera is meant, and may serve.
    pub standalone: bool,
    /// What becomes of a donor.
    pub donor: Donor,
}

/// What becomes of a node that gives a state transfer. It cannot be told from one
/// whose tables are locked by FLUSH TABLES WITH READ LOCK; one that was desynced by
/// wsrep_desync can, and is refused always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Donor {
    /// It is refused.
    #[default]
    Refuse,
    /// It may serve.
    Serve,
    /// It may serve while wsrep_sst_donor_rejects_queries is OFF.
    ServeUnlessRejecting,
}

/// The verdict on a node that said `facts`, for a role. Where several things are
/// wrong, the reason is the one nearest to the cause. A node that is refused to
/// readers is refused to all.
pub fn judge(facts: &Facts, policy: Policy, role: Role) -> Verdict {
    match node_refusal(facts, policy).or_else(|| role_refusal(facts, role)) {
        Some(reason) => Verdict::Refuse(reason),
        None => Verdict::Serve,
    }
}

/// What is wrong with the node for every role.
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
            // It looks perfect but for wsrep_on.
            Some(_) => Reason::WsrepOff,
        }),
    };
    // The operator's wish, with Galera or without.
    let maintenance = facts.pxc_maint_mode.as_deref().is_some_and(|mode| mode != "DISABLED");
    cluster
        .or_else(|| maintenance.then_some(Reason::Maintenance))
        .or_else(|| facts.read_only.is_none().then_some(Reason::IncompleteFacts))
}

/// What is wrong for one role with a node that readers may have.
fn role_refusal(facts: &Facts, role: Role) -> Option<Reason> {
    if role == Role::Reader {
        return None;
    }
    // MariaDB 12 has values beside ON, and every one of them refuses writes.
    let mut switches = [&facts.read_only, &facts.super_read_only].into_iter().flatten();
    if !switches.all(|switch| is_off(switch)) {
        return Some(Reason::ReadOnly);
    }
    // A plain server has no other beside it.
    if role != Role::Writer || !facts.wsrep_on.as_deref().is_some_and(is_on) {
        return None;
    }
    match facts.wsrep_local_index.as_deref() {
        Some("0") => None,
        Some(_) => Some(Reason::NotWriter),
        None => Some(Reason::IncompleteFacts),
    }
}

/// What is wrong with a node whose wsrep_on is ON.
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
        // Both look like a lost connection or quorum, but will not heal alike.
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

fn is_on(value: &str) -> bool {
    matches!(value, "ON" | "1")
}

fn is_off(value: &str) -> bool {
    matches!(value, "OFF" | "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A synced node of MariaDB 10.11, with some variables changed: another
    /// value, or `-` for one that the server does not send.
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

    const DONORS: [Donor; 3] = [Donor::Refuse, Donor::Serve, Donor::ServeUnlessRejecting];

    #[test]
    fn a_server_is_asked_again_for_the_variables_that_it_gave() {
        let few = [
            ("wsrep_desync", "-"),
            ("wsrep_reject_queries", "-"),
            ("wsrep_sst_donor_rejects_queries", "-"),
        ];
        let mariadb = facts(&few);
        let percona = facts(&[&few[..], &[("pxc_maint_mode", "DISABLED")]].concat());
        for (facts, expected) in [
            (mariadb, "SELECT 'wsrep_on',@@GLOBAL.wsrep_on,'read_only',@@GLOBAL.read_only"),
            (
                percona,
                "SELECT 'wsrep_on',@@wsrep_on,'read_only',@@read_only,\
                 'pxc_maint_mode',@@pxc_maint_mode",
            ),
        ] {
            let [status, variables] = repeated_statements(&facts);
            assert_eq!((status.as_str(), variables.as_str()), (STATEMENTS[1], expected));
        }
    }

    #[test]
    fn every_state_that_a_node_was_seen_in_has_its_verdict_for_each_role() {
        const NOWHERE: &str = "18446744073709551615";
        const fn all(word: &str) -> [&str; 3] {
            [word; 3]
        }
        const BUT_READERS: [&str; 3] = ["read-only", "serve", "read-only"];
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
                BUT_READERS,
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
                    ("wsrep_local_index", NOWHERE),
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
                    ("wsrep_local_index", NOWHERE),
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
                    ("wsrep_local_index", NOWHERE),
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
            ("read_only=ON", &[("read_only", "ON")], BUT_READERS),
            ("read_only of MariaDB 12", &[("read_only", "NO_LOCK")], BUT_READERS),
            ("super_read_only=ON", &[("super_read_only", "ON")], BUT_READERS),
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
                assert_eq!(verdicts(changes, donor), *expected, "{state}, {donor:?}");
            }
        }
    }

    #[test]
    fn a_donor_is_what_the_policy_says_for_each_role() {
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
    fn a_node_that_is_refused_to_readers_is_refused_to_all() {
        for (name, value) in [("wsrep_ready", "OFF"), ("wsrep_on", "-"), ("offline_mode", "ON")] {
            let [read_write, reader, writer] =
                verdicts(&[(name, value), ("read_only", "ON")], Donor::Serve);
            assert_ne!(reader, "serve");
            assert_eq!([read_write, writer], [reader; 2]);
        }
    }

    #[test]
    fn a_writer_must_know_its_place() {
        for index in ["-", "18446744073709551615", "00", "nonsense"] {
            assert_ne!(verdicts(&[("wsrep_local_index", index)], Donor::Refuse)[2], "serve");
        }
    }

    #[test]
    fn a_variable_that_a_galera_node_must_have_is_a_refusal_when_it_is_missing() {
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
    fn a_variable_that_only_some_servers_have_may_be_missing() {
        for name in ["wsrep_desync", "wsrep_reject_queries", "wsrep_sst_donor_rejects_queries"] {
            assert_eq!(verdict(&[(name, "-")]), "serve", "{name}");
        }
    }

    #[test]
    fn a_variable_with_null_nonsense_or_two_values_is_never_healthy() {
        let names = "wsrep_on wsrep_cluster_status wsrep_connected wsrep_local_state wsrep_ready \
                     read_only super_read_only offline_mode pxc_maint_mode wsrep_reject_queries \
                     wsrep_local_index";
        let donors = "wsrep_desync wsrep_sst_donor_rejects_queries";
        let policy = Policy { donor: Donor::ServeUnlessRejecting, ..Policy::default() };
        for (names, state) in [(names, "4"), (donors, "2")] {
            let well = ("wsrep_local_state", state);
            assert_eq!(judge(&facts(&[well]), policy, Role::Writer), Verdict::Serve);
            for name in names.split(' ') {
                let mut with_null = facts(&[well, (name, "-")]);
                with_null.note(name.as_bytes(), None);
                let mut twice = facts(&[well]);
                twice.note(name.as_bytes(), Some(b"\xff\0"));
                twice.note(name.as_bytes(), Some(b"\xfe\0"));
                let long = facts(&[well, (name, &"ON".repeat(1000))]);
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
    fn facts_are_shown_as_the_node_sent_them() {
        let mut facts = Facts::default();
        assert_eq!(facts.to_string(), "no variables");
        facts.note(b"read_only", Some(b"OFF"));
        facts.note(b"wsrep_on", Some(b"O\n"));
        assert_eq!(facts.to_string(), "wsrep_on=O\\n read_only=OFF");
    }

    #[test]
    fn a_variable_that_comes_again_and_again_does_not_grow_without_end() {
        let mut facts = Facts::default();
        for value in 0..=u8::MAX {
            facts.note(b"read_only", Some(&[value; MAX_VALUE]));
        }
        assert!(facts.to_string().len() <= "read_only=".len() + MAX_SHOWN * 2 + " and ".len());
        assert!(facts.to_string().contains(" and "));
    }

    #[test]
    fn names_are_taken_in_any_case_and_unknown_ones_passed_over() {
        let mut facts = facts(&[("wsrep_on", "-")]);
        facts.note(b"WSREP_ON", Some(b"ON"));
        facts.note(b"wsrep_on_and_on", Some(b"OFF"));
        assert_eq!(judge(&facts, Policy::default(), Role::Writer), Verdict::Serve);
    }

    #[test]
    fn standalone_lets_a_server_without_galera_serve_and_nothing_else() {
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

    #[test]
    fn every_variable_that_is_asked_for_is_noted() {
        let asked: Vec<_> = STATEMENTS.iter().flat_map(|statement| statement.split('\'')).collect();
        let names: Vec<_> =
            asked.iter().filter(|part| part.contains('_') && !part.contains(' ')).collect();
        assert_eq!(names.len(), 13);
        for name in names {
            assert!(Facts::default().variable(name.as_bytes()).is_some(), "{name}");
        }
    }
}
