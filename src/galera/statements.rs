//! The statements that query the variables.

use super::facts::Facts;

/// The statements of the first probe run of a server, in this order. Send each when the
/// reply to the one before it is complete.
///
/// 1. SET turns the causality check off for this session. With the check on, even SHOW
///    waits on a node that lags. A server without Galera replies with
///    [`UNKNOWN_VARIABLE`], which is not a fault.
/// 2. SHOW STATUS returns the status. SHOW SESSION returns the same values as SHOW GLOBAL
///    without summing over all threads.
/// 3. SHOW VARIABLES returns the variables. A node replies to SHOW in every state, but may
///    refuse a SELECT with error 1047. Later probe runs use the cheaper SELECT of
///    [`KnownVariables`] where they can.
pub const STATEMENTS: [&str; 3] = [
    "SET SESSION wsrep_sync_wait=0",
    "SHOW SESSION STATUS WHERE Variable_name IN ('wsrep_cluster_status','wsrep_connected',\
     'wsrep_local_index','wsrep_local_state','wsrep_ready')",
    "SHOW SESSION VARIABLES WHERE Variable_name IN ('offline_mode','pxc_maint_mode','read_only',\
     'super_read_only','version','wsrep_desync','wsrep_on','wsrep_reject_queries',\
     'wsrep_sst_donor_rejects_queries')",
];

/// The statements of Galera's causality check, in this order, for a node whose facts are fit.
///
/// The SELECT waits until the node has exchanged a message with its group and has applied
/// everything up to it. So rows prove that the node is in contact with its group now.
/// [`CANNOT_PROVE`] means that it is not. A partitioned node, and one that has just woken,
/// does not reply for seconds. Any other ERR means that the server cannot be asked.
///
/// wsrep_sync_wait stays on for the session: send the first of [`STATEMENTS`] before the next
/// SHOW.
pub const CAUSALITY_CHECK: [&str; 2] = ["SET SESSION wsrep_sync_wait=1", "SELECT 1"];

/// The error code of ER_LOCK_WAIT_TIMEOUT: in reply to [`CAUSALITY_CHECK`], the node has no
/// contact with its group.
pub const CANNOT_PROVE: u16 = 1205;

/// The error code of ER_UNKNOWN_SYSTEM_VARIABLE: the server has no variable of that name.
pub const UNKNOWN_VARIABLE: u16 = 1193;

/// The variables that a server is known to have, which one SELECT can read.
///
/// The SELECT returns one row of alternating names and values, and costs the server a
/// seventh of what SHOW VARIABLES does. Another server may answer at the same address by
/// then. So if the server replies with an ERR, or if the facts do not
/// [come from such a server](Self::is_answered_by), query by SHOW VARIABLES instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownVariables {
    names: Vec<&'static str>,
    version: String,
    has_cluster_status: bool,
    statement: String,
}

impl KnownVariables {
    /// The variables in `facts`, which the server has reported. `None` if its version is not
    /// among them: then another server could not be told from it.
    ///
    /// One unknown name would fail the whole SELECT, so it names no other. The wsrep_on of a
    /// session keeps the global value of the time of the login, so the SELECT reads
    /// `@@GLOBAL.` variables. Percona's servers have no global wsrep_on, so their variables
    /// are read without the scope. Only Percona's servers report pxc_maint_mode.
    pub fn of(facts: &Facts) -> Option<Self> {
        let version = facts.version.clone()?;
        let scope = if facts.pxc_maint_mode.is_none() { "GLOBAL." } else { "" };
        let names: Vec<_> = names(facts).collect();
        let columns: Vec<_> =
            names.iter().map(|name| format!("'{name}',@@{scope}{name}")).collect();
        let statement = format!("SELECT {}", columns.join(","));
        let has_cluster_status = facts.wsrep_cluster_status.is_some();
        Some(Self { names, version, has_cluster_status, statement })
    }

    /// The SELECT.
    pub fn statement(&self) -> &str {
        &self.statement
    }

    /// Returns whether `facts`, from SHOW STATUS and the SELECT, come from a server of the
    /// same version, with and without Galera alike, that reported the same variables. A
    /// server for which this is false may have a further variable, one that refuses it.
    pub fn is_answered_by(&self, facts: &Facts) -> bool {
        facts.version.as_ref() == Some(&self.version)
            && self.has_cluster_status == facts.wsrep_cluster_status.is_some()
            && names(facts).eq(self.names.iter().copied())
    }
}

/// The names in `facts` that SHOW VARIABLES asks for.
fn names(facts: &Facts) -> impl Iterator<Item = &'static str> {
    let [.., variables] = STATEMENTS;
    let is_variable = move |name: &&str| variables.split('\'').any(|part| part == *name);
    facts.iter().map(|(name, _)| name).filter(is_variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(variables: &[(&str, &str)]) -> Facts {
        let mut facts = Facts::default();
        for (name, value) in variables {
            facts.note(name.as_bytes(), Some(value.as_bytes()));
        }
        facts
    }

    const MARIADB: &[(&str, &str)] = &[
        ("wsrep_cluster_status", "Primary"),
        ("wsrep_on", "ON"),
        ("read_only", "OFF"),
        ("version", "10.11.19-MariaDB"),
    ];

    #[test]
    fn every_queried_variable_has_a_field() {
        let parts = STATEMENTS.iter().flat_map(|statement| statement.split('\''));
        let names: Vec<_> = parts.skip(1).filter(|part| !part.contains([' ', ',', ')'])).collect();
        assert_eq!(names.len(), 14);
        for name in names {
            assert_eq!(facts(&[(name, "1")]).iter().next(), Some((name, "1")));
        }
    }

    #[test]
    fn selects_the_variables_that_the_server_reported() {
        let percona = [MARIADB, &[("pxc_maint_mode", "DISABLED")]].concat();
        for (variables, expected) in [
            (
                MARIADB,
                "SELECT 'wsrep_on',@@GLOBAL.wsrep_on,'read_only',@@GLOBAL.read_only,\
                 'version',@@GLOBAL.version",
            ),
            (
                &percona,
                "SELECT 'wsrep_on',@@wsrep_on,'read_only',@@read_only,\
                 'pxc_maint_mode',@@pxc_maint_mode,'version',@@version",
            ),
        ] {
            let known = KnownVariables::of(&facts(variables)).unwrap();
            assert_eq!(known.statement(), expected);
        }
    }

    #[test]
    fn a_server_of_unknown_version_has_no_known_variables() {
        assert_eq!(KnownVariables::of(&facts(&MARIADB[..3])), None);
    }

    #[test]
    fn facts_from_a_server_that_may_have_other_variables_do_not_answer() {
        let known = KnownVariables::of(&facts(MARIADB)).unwrap();
        let other_values = [("wsrep_cluster_status", "non-Primary"), ("wsrep_on", "0")];
        let same = facts(&[&other_values[..], &MARIADB[2..]].concat());
        assert!(known.is_answered_by(&same));
        let further = [MARIADB, &[("super_read_only", "0")]].concat();
        let restarted = [&MARIADB[..3], &[("version", "12.0.1-MariaDB")]].concat();
        for other in [&MARIADB[1..], &MARIADB[..2], &MARIADB[..3], &restarted, &further, &[]] {
            assert!(!known.is_answered_by(&facts(other)), "{other:?}");
        }
    }
}
