//! The rules for a healthy node: variables to [`Facts`] to a [`Verdict`].
//!
//! Every function here is pure. [`STATEMENTS`] are the queries that return the variables,
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

use std::fmt;

use crate::health::{Reason, Role, Verdict};

/// The statements to send after the login, in this order.
///
/// 1. SET turns the causality check off for this session. With the check on, even SHOW
///    waits on a node that lags. A server without Galera replies with
///    [`UNKNOWN_VARIABLE`], which is not a fault.
/// 2. SHOW STATUS returns the status. SHOW SESSION returns the same values as SHOW GLOBAL
///    without summing over all threads.
/// 3. SHOW VARIABLES returns the variables. A node replies to SHOW in every state, but may
///    refuse a SELECT with error 1047.
pub const STATEMENTS: [&str; 3] = [
    "SET SESSION wsrep_sync_wait=0",
    "SHOW SESSION STATUS WHERE Variable_name IN ('wsrep_cluster_status','wsrep_connected',\
     'wsrep_local_index','wsrep_local_state','wsrep_ready')",
    "SHOW SESSION VARIABLES WHERE Variable_name IN ('offline_mode','pxc_maint_mode','read_only',\
     'super_read_only','wsrep_desync','wsrep_on','wsrep_reject_queries',\
     'wsrep_sst_donor_rejects_queries')",
];

/// The error code of ER_UNKNOWN_SYSTEM_VARIABLE: the server has no variable of that name.
pub const UNKNOWN_VARIABLE: u16 = 1193;

/// Returns the statements that query the status and the variables again, on the
/// connection that [`STATEMENTS`] were sent on.
///
/// One SELECT reads the variables, into one row of alternating names and values. It costs
/// the server a tenth of what SHOW does. One unknown name would fail the whole statement,
/// so it names only the variables in `facts`, which the server has reported.
///
/// The wsrep_on of a session keeps the global value of the time of the login, so the SELECT
/// reads `@@GLOBAL.` variables. Percona's servers have no global wsrep_on, so their
/// variables are read without the scope. Only Percona's servers report pxc_maint_mode.
pub fn repeated_statements(facts: &Facts) -> [String; 2] {
    let [_, status, variables] = STATEMENTS;
    let known = facts.iter().map(|(name, _)| name);
    let known = known.filter(|name| variables.contains(&format!("'{name}'")));
    let scope = if facts.pxc_maint_mode.is_none() { "GLOBAL." } else { "" };
    let columns: Vec<_> = known.map(|name| format!("'{name}',@@{scope}{name}")).collect();
    [status.to_owned(), format!("SELECT {}", columns.join(","))]
}

/// Declares [`Facts`] with one field for each variable, from one list of names.
macro_rules! facts {
    ($($variable:ident)*) => {
        /// The variables that a node reported, one field for each server variable.
        ///
        /// A field is `None` if the node did not report the variable. Values are printable
        /// ASCII: other bytes are escaped as by [`u8::escape_ascii`], and NULL is `NULL`.
        /// `Display` gives the reported variables as `name=value`, separated by spaces.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Facts {
            $(
                #[doc = concat!("The value of `", stringify!($variable), "`.")]
                pub $variable: Option<String>,
            )*
        }

        impl Facts {
            /// Returns the names and values of the variables that the node reported.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
                let variables = [$((stringify!($variable), &self.$variable)),*];
                variables.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
            }

            fn field_mut(&mut self, name: &[u8]) -> Option<&mut Option<String>> {
                $(if name.eq_ignore_ascii_case(stringify!($variable).as_bytes()) {
                    return Some(&mut self.$variable);
                })*
                None
            }
        }
    };
}

facts! {
    wsrep_on wsrep_cluster_status wsrep_connected wsrep_local_state wsrep_ready
    wsrep_local_index wsrep_desync wsrep_reject_queries wsrep_sst_donor_rejects_queries
    read_only super_read_only offline_mode pxc_maint_mode
}

/// The longest value that is kept, in bytes before escaping. Every healthy value is
/// shorter.
const MAX_VALUE: usize = 64;

/// The longest text of one kept value: every byte escaped, as in `\xFF`. A longer field
/// already holds two values, so that further ones cannot change the verdict.
const MAX_ESCAPED: usize = 4 * MAX_VALUE;

impl Facts {
    /// Records one row of SHOW STATUS or SHOW VARIABLES. `None` is NULL.
    ///
    /// Names match in any case, and unknown ones are ignored. At most 64 bytes of a value
    /// are kept. If rows give a variable different values, the field holds the first few of
    /// them, joined with ` and `, which no rule takes for a healthy value.
    pub fn note(&mut self, name: &[u8], value: Option<&[u8]>) {
        let value = match value {
            Some(value) => value.get(..MAX_VALUE).unwrap_or(value).escape_ascii().to_string(),
            None => "NULL".to_owned(),
        };
        match self.field_mut(name) {
            None => {}
            Some(field @ None) => *field = Some(value),
            Some(Some(earlier)) if *earlier != value && earlier.len() <= MAX_ESCAPED => {
                *earlier = format!("{earlier} and {value}");
            }
            Some(Some(_)) => {}
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, value) in self.iter() {
            write!(f, "{separator}{name}={value}")?;
            separator = " ";
        }
        f.write_str(if separator.is_empty() { "no variables" } else { "" })
    }
}

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

    const DONORS: [Donor; 3] = [Donor::Refuse, Donor::Serve, Donor::ServeUnlessRejecting];

    #[test]
    fn repeated_statements_select_the_variables_that_the_server_reported() {
        let missing = [
            ("wsrep_desync", "-"),
            ("wsrep_reject_queries", "-"),
            ("wsrep_sst_donor_rejects_queries", "-"),
        ];
        let mariadb = facts(&missing);
        let percona = facts(&[&missing[..], &[("pxc_maint_mode", "DISABLED")]].concat());
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
                assert_eq!(verdicts(changes, donor), *expected, "{state}, {donor:?}");
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
    fn displays_the_reported_variables_escaped() {
        let mut facts = Facts::default();
        assert_eq!(facts.to_string(), "no variables");
        facts.note(b"read_only", Some(b"OFF"));
        facts.note(b"wsrep_on", Some(b"O\n"));
        assert_eq!(facts.to_string(), "wsrep_on=O\\n read_only=OFF");
    }

    #[test]
    fn a_repeated_variable_has_a_bounded_length() {
        let mut facts = Facts::default();
        for value in 0..=u8::MAX {
            facts.note(b"read_only", Some(&[value; MAX_VALUE]));
        }
        assert!(facts.to_string().len() <= "read_only=".len() + MAX_ESCAPED * 2 + " and ".len());
        assert!(facts.to_string().contains(" and "));
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

    #[test]
    fn every_queried_variable_has_a_field() {
        let parts: Vec<_> = STATEMENTS.iter().flat_map(|statement| statement.split('\'')).collect();
        let names: Vec<_> =
            parts.iter().filter(|part| part.contains('_') && !part.contains(' ')).collect();
        assert_eq!(names.len(), 13);
        for name in names {
            assert!(Facts::default().field_mut(name.as_bytes()).is_some(), "{name}");
        }
    }
}
