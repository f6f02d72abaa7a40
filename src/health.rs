//! Serve, or refuse with one reason: what every part of the program ends in.

use std::fmt;
use std::time::Duration;

/// What the balancer is told of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node should get traffic.
    Serve,
    /// The node should get none.
    Refuse(Reason),
}

impl Verdict {
    /// `serve`, or the reason's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Serve => "serve",
            Verdict::Refuse(reason) => reason.as_str(),
        }
    }

    /// A line for people. It is the same for every node: nothing that a server
    /// said is in it.
    pub fn explanation(self) -> &'static str {
        match self {
            Verdict::Serve => "the node is fit to serve",
            Verdict::Refuse(reason) => reason.explanation(),
        }
    }
}

/// What a caller wants the node for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Reads and writes.
    #[default]
    ReadWrite,
    /// Reads: a node that is read_only will do.
    Reader,
    /// Reads and writes, on one node of the cluster at a time.
    Writer,
}

impl Role {
    /// Every role, in the order of the README.
    pub const ALL: [Role; 3] = [Role::ReadWrite, Role::Reader, Role::Writer];

    /// The word, as in the paths of HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::ReadWrite => "read-write",
            Role::Reader => "reader",
            Role::Writer => "writer",
        }
    }
}

/// A verdict as a caller is told it, with the time that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// What the balancer is told.
    pub verdict: Verdict,
    /// How long that has been so, or will be.
    pub time: Option<Time>,
}

/// A time that belongs to a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The node has been stalled for so long.
    For(Duration),
    /// The node must stay fit for so long.
    Left(Duration),
}

impl From<Verdict> for Health {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, time: None }
    }
}

impl fmt::Display for Health {
    /// The line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict.explanation())?;
        match self.time {
            None => Ok(()),
            Some(Time::For(time)) => write!(f, "; for {:.1} s", time.as_secs_f64()),
            Some(Time::Left(time)) => write!(f, "; {:.1} s left", time.as_secs_f64()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.as_str(), self.explanation())
    }
}

/// Declares [`Reason`] with each reason's word and explanation, so that the
/// three cannot part.
macro_rules! reasons {
    ($($variant:ident $word:literal $explanation:literal)*) => {
        /// Why a node is refused. People alert on the words: they never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = concat!("`", $word, "`: ", $explanation, ".")] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the README's table.
            pub const ALL: &[Reason] = &[$(Reason::$variant),*];

            /// The word, in kebab-case.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $word,)* }
            }

            /// A line for people: lower case, no full stop.
            pub fn explanation(self) -> &'static str {
                match self { $(Reason::$variant => $explanation,)* }
            }
        }
    };
}

reasons! {
    // What the node says of itself.
    NonPrimary "non-primary" "the node is in a component without quorum"
    WsrepDisconnected "wsrep-disconnected" "the node is not connected to any cluster"
    Inconsistent "inconsistent" "the cluster voted the node out because its data differs"
    Joining "joining" "the node is receiving a state transfer"
    Joined "joined" "the node has its state transfer and is catching up"
    Donor "donor" "the node is giving a state transfer, or its tables are locked by FLUSH TABLES WITH READ LOCK"
    Desynced "desynced" "wsrep_desync is on: the node may lag behind without limit"
    NotSynced "not-synced" "wsrep_local_state is not 4 (Synced)"
    NotReady "not-ready" "wsrep_ready is not ON"
    RejectingQueries "rejecting-queries" "wsrep_reject_queries is not NONE"
    ReadOnly "read-only" "read_only or super_read_only is on"
    NotWriter "not-writer" "another node of the component is its writer: wsrep_local_index is not 0"
    Offline "offline" "offline_mode is on"
    Maintenance "maintenance" "the operator took the node out: the maintenance file exists, or pxc_maint_mode is not DISABLED"
    WsrepOff "wsrep-off" "wsrep_on is OFF: writes on the node are not replicated"
    NoGalera "no-galera" "the server is in no Galera cluster (--standalone if a plain server is meant)"
    IncompleteFacts "incomplete-facts" "the server left out a variable that it must have"

    // What the server says to the probe.
    AccessDenied "access-denied" "the server refused the user or the password (MariaDB says the same where the account requires TLS)"
    AccountLocked "account-locked" "the probe's account is locked"
    PasswordExpired "password-expired" "the password of the probe's account has expired"
    HostDenied "host-denied" "the server has no account for the probe's address"
    HostBlocked "host-blocked" "the server blocked the probe's address after too many connect errors (FLUSH HOSTS clears it)"
    TooManyConnections "too-many-connections" "the server's max_connections are used up"
    UserLimit "user-limit" "the probe's account has used up its connections or queries"
    NeedsTls "needs-tls" "the server takes this login over TLS only, or over TLS that is verified"
    ShuttingDown "shutting-down" "the server is shutting down"
    ServerError "server-error" "the server answered with an error"

    // What the way there says.
    StalledConnect "stalled-connect" "no TCP connection within the deadline"
    StalledGreeting "stalled-greeting" "the server accepted the connection and sent no greeting within the deadline"
    StalledTls "stalled-tls" "the server did not finish the TLS handshake within the deadline"
    StalledLogin "stalled-login" "the server did not answer the login within the deadline"
    StalledQuery "stalled-query" "the server did not answer the statements within the deadline"
    Settling "settling" "the node woke from a stall, and must stay fit for a while before it is served again"
    ConnectionRefused "connection-refused" "nothing is listening at the node's address"
    Unreachable "unreachable" "the node's address cannot be resolved or reached, or its socket does not exist"
    Disconnected "disconnected" "the server closed or reset the connection before it had answered"
    TlsNotOffered "tls-not-offered" "the server offers no TLS, and --ssl-mode asks for it"
    TlsUntrusted "tls-untrusted" "no CA of --ssl-ca vouches for the server's certificate"
    TlsExpired "tls-expired" "the server's certificate has expired, or is not valid yet"
    TlsWrongName "tls-wrong-name" "the server's certificate is for another name"
    TlsRefused "tls-refused" "the server broke TLS off, as it does where it refuses the probe's certificate"
    TlsFailed "tls-failed" "TLS did not come about: what is listening there does not speak it as it should"
    ProtocolError "protocol-error" "what is listening there does not keep to the MySQL protocol"
    UnsupportedServer "unsupported-server" "the server lacks a part of the protocol that the probe needs"
    UnsupportedPlugin "unsupported-plugin" "the probe's account uses an authentication plugin that the probe does not speak, or may not"

    // What the probe says of itself.
    Draining "draining" "the probe was told to stop, and takes its node out of service first"
    Stopping "stopping" "the probe is shutting down"
}

impl Reason {
    /// What the operator can do about it, where that is something to be set right.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Reason::AccessDenied => {
                "compare --user and the password with the account, and its host with where the \
                 probe comes from: 127.0.0.1 for TCP, localhost for the socket; for a new \
                 password: ALTER USER galera_probe@'ADDRESS' IDENTIFIED BY '...'"
            }
            Reason::AccountLocked => "ALTER USER galera_probe@'ADDRESS' ACCOUNT UNLOCK",
            Reason::PasswordExpired => {
                "ALTER USER galera_probe@'ADDRESS' PASSWORD EXPIRE NEVER, and set the password anew"
            }
            Reason::HostDenied => {
                "make the account for the address that the probe comes from: \
                 CREATE USER galera_probe@'ADDRESS' IDENTIFIED BY '...'"
            }
            Reason::HostBlocked => {
                "on the node: FLUSH HOSTS (on one without quorum: SET SESSION wsrep_on=OFF; \
                 FLUSH LOCAL HOSTS); then find who left handshakes unfinished at the probe's \
                 address, as a bare TCP check does"
            }
            Reason::TooManyConnections => "raise max_connections, or find who holds them",
            Reason::UserLimit => "raise the account's MAX_USER_CONNECTIONS to 3 or more",
            Reason::NoGalera => "--standalone if a plain server is meant",
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
    fn every_reason_is_its_own_word_in_kebab_case_with_an_explanation() {
        let mut words = HashSet::from(["serve"]);
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(words.insert(word), "{word} stands twice");
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
    fn roles_are_the_words_of_their_paths() {
        assert_eq!(Role::ALL.map(Role::as_str), ["read-write", "reader", "writer"]);
    }

    #[test]
    fn what_an_operator_can_set_right_comes_with_the_way() {
        let known = [
            (Reason::AccessDenied, "localhost for the socket"),
            (Reason::AccountLocked, "ACCOUNT UNLOCK"),
            (Reason::PasswordExpired, "PASSWORD EXPIRE NEVER"),
            (Reason::HostDenied, "CREATE USER"),
            (Reason::HostBlocked, "FLUSH HOSTS"),
            (Reason::TooManyConnections, "max_connections"),
            (Reason::UserLimit, "MAX_USER_CONNECTIONS"),
            (Reason::NoGalera, "--standalone"),
        ];
        for reason in Reason::ALL {
            let way = known.iter().find(|(known, _)| known == reason).map(|(_, way)| *way);
            let advice = reason.advice();
            assert_eq!(advice.is_some(), way.is_some(), "{reason}");
            assert!(advice.unwrap_or_default().contains(way.unwrap_or_default()), "{reason}");
        }
    }
}
