//! The verdict on a node, the reason for a refusal, and the role that a caller needs.
//!
//! A verdict is [`Verdict::Serve`] or [`Verdict::Refuse`] with one [`Reason`]. Each reason
//! has a stable word for alerts, an explanation for people, and, where an operator can
//! fix the cause, advice:
//!
//! ```
//! use galera_probe::health::{Reason, Role, Verdict};
//!
//! let verdict = Verdict::Refuse(Reason::TooManyConnections);
//! assert_eq!(verdict.as_str(), "too-many-connections");
//! assert_eq!(
//!     verdict.to_string(),
//!     "too-many-connections: the server has reached max_connections",
//! );
//! assert_eq!(
//!     Reason::TooManyConnections.advice(),
//!     Some("raise max_connections, or find the clients that use them up"),
//! );
//! // There is nothing to fix while a node receives a state transfer.
//! assert_eq!(Reason::Joining.advice(), None);
//!
//! assert_eq!(Role::ALL.map(Role::as_str), ["read-write", "reader", "writer"]);
//! ```

use std::fmt;
use std::time::Duration;

/// Whether a node should get traffic.
///
/// `Display` gives the word and the explanation: `word: explanation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node should get traffic.
    Serve,
    /// The node should get no traffic.
    Refuse(Reason),
}

impl Verdict {
    /// Returns `serve`, or the reason's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Serve => "serve",
            Verdict::Refuse(reason) => reason.as_str(),
        }
    }

    /// Returns one line for people: lower case, no full stop.
    ///
    /// The text is fixed. It contains nothing that a server sent, so it can be shown to
    /// any client.
    pub fn explanation(self) -> &'static str {
        match self {
            Verdict::Serve => "the node is fit to serve",
            Verdict::Refuse(reason) => reason.explanation(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.as_str(), self.explanation())
    }
}

/// What a caller needs the node for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Reads and writes.
    #[default]
    ReadWrite,
    /// Reads only. A node with read_only set qualifies.
    Reader,
    /// Reads and writes, on one node of the cluster at a time.
    Writer,
}

impl Role {
    /// Every role, in the order of the README's table.
    pub const ALL: [Role; 3] = [Role::ReadWrite, Role::Reader, Role::Writer];

    /// Returns the role's word, which is also its HTTP path without the slash.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::ReadWrite => "read-write",
            Role::Reader => "reader",
            Role::Writer => "writer",
        }
    }
}

/// A verdict, and the time of the stall or of settling behind it.
///
/// `Display` gives the explanation and the time in seconds, in one line for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the node should get traffic.
    pub verdict: Verdict,
    /// How long the node has been stalled, or has to stay fit. `None` for every other
    /// verdict.
    pub time: Option<Time>,
}

/// The time behind a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// How long the node has been stalled.
    For(Duration),
    /// How long the node must still stay fit before it serves again.
    Left(Duration),
}

impl From<Verdict> for Health {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, time: None }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict.explanation())?;
        match self.time {
            None => Ok(()),
            Some(Time::For(time)) => write!(f, "; for {:.1} s", time.as_secs_f64()),
            Some(Time::Left(time)) => write!(f, "; {:.1} s left", time.as_secs_f64()),
        }
    }
}

/// Declares [`Reason`] with each reason's word and explanation in one list, so that none
/// can be missing.
macro_rules! reasons {
    ($($variant:ident $word:literal $explanation:literal)*) => {
        /// Why a node is refused.
        ///
        /// `Display` gives the word. Operators alert on the words, so a word never
        /// changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = concat!("`", $word, "`: ", $explanation, ".")] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the README's table.
            pub const ALL: &[Reason] = &[$(Reason::$variant),*];

            /// Returns the reason's word, in kebab-case.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $word,)* }
            }

            /// Returns one line for people: lower case, no full stop.
            pub fn explanation(self) -> &'static str {
                match self { $(Reason::$variant => $explanation,)* }
            }
        }
    };
}

reasons! {
    // The facts show a state in which the node must not serve. Rule: `galera::judge`, and the
    // health service of `serve` for the maintenance file.
    NonPrimary "non-primary" "the node is in a component without quorum"
    WsrepDisconnected "wsrep-disconnected" "the node is not connected to any cluster"
    Inconsistent "inconsistent" "the cluster voted the node out because its data differs"
    Joining "joining" "the node is receiving a state transfer"
    Joined "joined" "the node received its state transfer and is catching up"
    Donor "donor" "the node is giving a state transfer, its tables are locked by a backup (FLUSH TABLES WITH READ LOCK, BACKUP STAGE), or it runs an ALTER under wsrep_OSU_method=RSU"
    Desynced "desynced" "wsrep_desync is on: the node may lag behind without limit"
    NotSynced "not-synced" "wsrep_local_state is not 4 (Synced)"
    NotReady "not-ready" "wsrep_ready is not ON"
    RejectingQueries "rejecting-queries" "wsrep_reject_queries is not NONE"
    ReadOnly "read-only" "read_only or super_read_only is on"
    NotWriter "not-writer" "another node of the component is the writer: wsrep_local_index is not 0"
    Offline "offline" "offline_mode is on"
    Maintenance "maintenance" "the node is in maintenance: the maintenance file exists, or pxc_maint_mode is not DISABLED"
    WsrepOff "wsrep-off" "wsrep_on is OFF: writes on the node are not replicated"
    NoGalera "no-galera" "the server is not part of a Galera cluster (use --standalone for a plain server)"
    IncompleteFacts "incomplete-facts" "the server did not report a required variable"

    // The server refused the connection, the login or a statement with an ERR packet, or the
    // login needs TLS. Rule: `Failure::reason` of `node::probe`.
    AccessDenied "access-denied" "the server rejected the user name or the password (MariaDB reports the same if the account requires TLS)"
    AccountLocked "account-locked" "the probe's account is locked"
    PasswordExpired "password-expired" "the password of the probe's account has expired"
    HostDenied "host-denied" "the server has no account for the probe's address"
    HostBlocked "host-blocked" "the server blocked the probe's address after too many connect errors (FLUSH HOSTS clears it)"
    TooManyConnections "too-many-connections" "the server has reached max_connections"
    UserLimit "user-limit" "the probe's account has reached its limit of connections or queries"
    NeedsTls "needs-tls" "the login needs TLS, or TLS with a verified certificate"
    ShuttingDown "shutting-down" "the server is shutting down"
    ServerError "server-error" "the server answered with an error"

    // A step passed its deadline. Rule: `Stalled::reason` of `node::probe`.
    StalledConnect "stalled-connect" "the connection was not established within the deadline"
    StalledGreeting "stalled-greeting" "the server accepted the connection but sent no greeting within the deadline"
    StalledTls "stalled-tls" "the server did not finish the TLS handshake within the deadline"
    StalledLogin "stalled-login" "the server did not answer the login within the deadline"
    StalledQuery "stalled-query" "the server did not answer the statements within the deadline"
    StalledCausality "stalled-causality" "the node did not prove within the deadline that it is in contact with its group"
    // The node recovered from such a stall. Rule: `Tracker::settling_verdict` of `monitor`.
    Settling "settling" "the node recovered from a stall and has not yet proven that it is in contact with its group, or stayed fit for long enough"
    // The node is fit, and `--causality-check always` asked in vain. Rule: `Tracker::unproven`.
    Unproven "unproven" "the node could not prove that it is in contact with its group"
    // The connection failed. Rule: `Failure::reason` of `node::probe`, and `TlsError` of
    // `node::tls` for TLS.
    ConnectionRefused "connection-refused" "nothing is listening at the node's address"
    Unreachable "unreachable" "the node's address cannot be resolved or reached, or its socket does not exist"
    ProbeError "probe-error" "the probe lacks file descriptors, memory or threads, and cannot check the node"
    Disconnected "disconnected" "the server closed or reset the connection before it answered"
    TlsNotOffered "tls-not-offered" "the server does not offer TLS, and --ssl-mode requires it"
    TlsUntrusted "tls-untrusted" "no CA of --ssl-ca signed the server's certificate, or its fingerprint is not in --ssl-fingerprint"
    TlsExpired "tls-expired" "the server's certificate has expired or is not valid yet"
    TlsWrongName "tls-wrong-name" "the server's certificate is for a different name"
    TlsNoProof "tls-no-proof" "the server did not prove its certificate by the account's password, and --ssl-mode verify-password requires it"
    TlsFalseProof "tls-false-proof" "the server's proof by the account's password is not for the certificate that it presented: another host may pose as the server"
    TlsRefused "tls-refused" "the server sent a TLS alert, for example because it rejected the probe's certificate"
    TlsFailed "tls-failed" "TLS failed: the server does not speak it correctly, or not at all"
    // The probe and the server do not support each other. Rule: `Failure::reason`.
    ProtocolError "protocol-error" "the server does not follow the MySQL protocol"
    UnsupportedServer "unsupported-server" "the server lacks a protocol feature that the probe needs"
    UnsupportedPlugin "unsupported-plugin" "the probe's account uses an authentication plugin that the probe does not support or is not allowed to use"

    // The probe is about to stop. Rule: the health service of `serve` and `monitor::Handle`.
    Draining "draining" "the probe will stop soon and refuses its node first, so that traffic moves away"
    Stopping "stopping" "the probe is shutting down"
}

impl Reason {
    /// Returns what an operator can do about the reason.
    ///
    /// `None` for a reason that passes without action, or whose remedy depends on the
    /// details of the error.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Reason::AccessDenied => {
                "compare --user and the password with the account; the account's host must match \
                 the probe's address: 127.0.0.1 for TCP, localhost for the socket; to set a new \
                 password: ALTER USER galera_probe@'ADDRESS' IDENTIFIED BY '...'"
            }
            Reason::AccountLocked => "ALTER USER galera_probe@'ADDRESS' ACCOUNT UNLOCK",
            Reason::PasswordExpired => {
                "ALTER USER galera_probe@'ADDRESS' PASSWORD EXPIRE NEVER, and set the password \
                 again"
            }
            Reason::HostDenied => {
                "create the account for the address that the probe connects from: \
                 CREATE USER galera_probe@'ADDRESS' IDENTIFIED BY '...'"
            }
            Reason::HostBlocked => {
                "on the node: FLUSH HOSTS (on a node without quorum: SET SESSION wsrep_on=OFF; \
                 FLUSH LOCAL HOSTS); then find the client at the probe's address that leaves \
                 handshakes unfinished, such as a bare TCP check"
            }
            Reason::TooManyConnections => {
                "raise max_connections, or find the clients that use them up"
            }
            Reason::UserLimit => "raise the account's MAX_USER_CONNECTIONS to 3 or more",
            Reason::NoGalera => "use --standalone for a plain server",
            Reason::ProbeError => {
                "raise the limit of the probe that the cause names: LimitNOFILE, MemoryMax or \
                 TasksMax in systemd's unit, or ulimit; if the whole machine lacks it, find the \
                 program that uses it up"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_has_a_unique_kebab_case_word_and_an_explanation() {
        let mut words = HashSet::from(["serve"]);
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(words.insert(word), "duplicate word {word}");
            assert!(word.split('-').all(|part| {
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase())
            }));
            assert!(!reason.explanation().ends_with('.') && !reason.explanation().is_empty());
            assert_eq!(reason.to_string(), word);
            let line = format!("{word}: {}", reason.explanation());
            assert_eq!(Verdict::Refuse(*reason).to_string(), line);
        }
        assert_eq!(Verdict::Serve.to_string(), "serve: the node is fit to serve");
    }

    #[test]
    fn a_role_has_the_word_of_its_http_path() {
        assert_eq!(Role::ALL.map(Role::as_str), ["read-write", "reader", "writer"]);
    }

    #[test]
    fn reasons_that_an_operator_can_fix_have_advice() {
        let known = [
            (Reason::AccessDenied, "localhost for the socket"),
            (Reason::AccountLocked, "ACCOUNT UNLOCK"),
            (Reason::PasswordExpired, "PASSWORD EXPIRE NEVER"),
            (Reason::HostDenied, "CREATE USER"),
            (Reason::HostBlocked, "FLUSH HOSTS"),
            (Reason::TooManyConnections, "max_connections"),
            (Reason::UserLimit, "MAX_USER_CONNECTIONS"),
            (Reason::NoGalera, "--standalone"),
            (Reason::ProbeError, "LimitNOFILE"),
        ];
        for reason in Reason::ALL {
            let part = known.iter().find(|(known, _)| known == reason).map(|(_, part)| *part);
            let advice = reason.advice();
            assert_eq!(advice.is_some(), part.is_some(), "{reason}");
            assert!(advice.unwrap_or_default().contains(part.unwrap_or_default()), "{reason}");
        }
    }
}
