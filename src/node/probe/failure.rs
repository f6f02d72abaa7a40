//! The errors of a probe run, and the reason to refuse the node for each.

use std::error::Error;
use std::fmt;
use std::io;

use rustix::io::Errno;

use super::Step;
use crate::health::Reason;
use crate::mysql::{self, ServerError};
use crate::node::tls::TlsError;

/// An error that ended a probe run before it had facts.
#[derive(Debug)]
pub enum Failure {
    /// The connection could not be opened.
    Connect(io::Error),
    /// The open connection failed, or the server closed it (`UnexpectedEof`).
    Broken {
        /// The step that was not complete.
        step: Step,
        /// The operating system's error.
        error: io::Error,
    },
    /// The TLS handshake failed, or TLS failed on the open connection.
    Tls {
        /// The step that was not complete.
        step: Step,
        /// The TLS error.
        fault: TlsError,
    },
    /// The server refused the login, or violated the protocol.
    Session(mysql::Error),
    /// The server answered a statement with an ERR packet.
    Statement(ServerError),
    /// The server answered a statement with a reply of the wrong kind.
    UnexpectedReply,
}

impl Failure {
    /// Converts an I/O error of the open connection, which may be a TLS error.
    pub(super) fn broken(step: Step, error: io::Error) -> Self {
        match TlsError::of(&error) {
            Some(fault) => Failure::Tls { step, fault },
            None => Failure::Broken { step, error },
        }
    }

    /// The reason to refuse the node.
    pub fn reason(&self) -> Reason {
        match self {
            Failure::Connect(error) | Failure::Broken { error, .. } if is_shortage(error) => {
                Reason::ProbeError
            }
            Failure::Connect(error) => connect_reason(error),
            Failure::Broken { .. } => Reason::Disconnected,
            Failure::Session(mysql::Error::Refused(error)) | Failure::Statement(error) => {
                server_reason(error.code)
            }
            Failure::Tls { fault, .. } => fault.reason(),
            Failure::Session(mysql::Error::NoTls) => Reason::TlsNotOffered,
            Failure::Session(mysql::Error::NeedsTls { .. }) => Reason::NeedsTls,
            Failure::Session(mysql::Error::NoProof) => Reason::TlsNoProof,
            Failure::Session(mysql::Error::FalseProof) => Reason::TlsFalseProof,
            Failure::Session(
                mysql::Error::UnsupportedPlugin { .. } | mysql::Error::CleartextForbidden,
            ) => Reason::UnsupportedPlugin,
            Failure::Session(mysql::Error::Incompatible { .. }) => Reason::UnsupportedServer,
            Failure::Session(_) | Failure::UnexpectedReply => Reason::ProtocolError,
        }
    }

    /// Whether neither the node nor its host's kernel has responded: the network, the
    /// resolver or the probe's own machine failed.
    pub fn is_silence(&self) -> bool {
        let (Failure::Connect(error) | Failure::Broken { error, .. }) = self else { return false };
        !matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::BrokenPipe
        )
    }

    /// Whether the failure is a connect timeout, to be reported as a stall of the connect
    /// step.
    ///
    /// `TimedOut` is the kernel's own timeout, or the timeout of one address among several.
    /// `WouldBlock` is a Unix socket with a full backlog: the server does not accept
    /// connections.
    pub(super) fn is_stalled_connect(&self) -> bool {
        let Failure::Connect(error) = self else { return false };
        matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(error) => write!(f, "connect failed: {error}"),
            Failure::Broken { step, error } => {
                write!(f, "connection lost in step {step}: {error}")
            }
            Failure::Tls { step, fault } => write!(f, "TLS failed in step {step}: {fault}"),
            Failure::Session(error) => write!(f, "{error}{}", advice(error)),
            Failure::Statement(error) => {
                write!(f, "statement refused: {error}{}", server_advice(error.code))
            }
            Failure::UnexpectedReply => {
                f.write_str("statement answered with the wrong kind of reply")
            }
        }
    }
}

impl Error for Failure {}

/// Advice for the operator, with a leading colon. Empty for an error without advice.
fn advice(error: &mysql::Error) -> &'static str {
    match error {
        mysql::Error::NoTls => {
            ": enable TLS on the server, or give --ssl-mode disabled if the network to it is trusted"
        }
        mysql::Error::NeedsTls { .. } => {
            ": give --ssl-mode verify-ca or verify-identity, --ssl-fingerprint, or the server's \
             socket as --target; --allow-cleartext-password sends the password to any server, over --ssl-mode required"
        }
        mysql::Error::UnsupportedPlugin { plugin } if plugin == "dialog" => {
            ": set pam_use_cleartext_plugin=ON on the server, and give --allow-cleartext-password"
        }
        mysql::Error::NoProof => {
            ": it needs MariaDB 11.4 or later and an account with a password and the plugin \
             mysql_native_password, ed25519 or parsec; for other servers give --ssl-mode \
             verify-ca or verify-identity, or --ssl-fingerprint"
        }
        mysql::Error::FalseProof => {
            ": find out which host answers at --target: it ends the server's TLS, or relays the \
             login to attack it"
        }
        mysql::Error::Refused(error) => server_advice(error.code),
        mysql::Error::CleartextForbidden => {
            ": give --allow-cleartext-password, or change the account's plugin"
        }
        _ => "",
    }
}

fn server_advice(code: u16) -> &'static str {
    match code {
        // ER_NEW_ABORTING_CONNECTION
        1184 => ": see the server's log: its init_connect may have failed for this account",
        _ => "",
    }
}

/// Whether the probe's process or machine lacks something: `OutOfMemory` is also the error of
/// a thread that cannot be created.
fn is_shortage(error: &io::Error) -> bool {
    let lacks =
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS));
    lacks || error.kind() == io::ErrorKind::OutOfMemory
}

fn connect_reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
        io::ErrorKind::ConnectionReset => Reason::Disconnected,
        _ => Reason::Unreachable,
    }
}

/// Maps error codes, from MySQL's and MariaDB's "Server Error Message Reference".
fn server_reason(code: u16) -> Reason {
    match code {
        1040 => Reason::TooManyConnections,         // ER_CON_COUNT_ERROR
        1044 | 1045 | 1698 => Reason::AccessDenied, // ER_[DB]ACCESS_DENIED_[NO_PASSWORD_]ERROR
        1047 => Reason::NotReady, // ER_UNKNOWN_COM_ERROR, "WSREP has not yet prepared node"
        1053 | 1927 => Reason::ShuttingDown, // ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED
        1129 => Reason::HostBlocked, // ER_HOST_IS_BLOCKED
        1130 => Reason::HostDenied, // ER_HOST_NOT_PRIVILEGED
        1203 | 1226 => Reason::UserLimit, // ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
        1820 | 1862 => Reason::PasswordExpired, // ER_MUST_CHANGE_PASSWORD[_LOGIN]
        3032 => Reason::Offline,  // ER_SERVER_OFFLINE_MODE
        // ER_ACCOUNT_HAS_BEEN_LOCKED of MySQL and MariaDB, then ER_USER_ACCESS_DENIED_FOR_USER_
        // ACCOUNT_BLOCKED_BY_PASSWORD_LOCK (FAILED_LOGIN_ATTEMPTS) and ER_USER_IS_BLOCKED
        // (max_password_errors).
        3118 | 4151 | 3955 | 4150 => Reason::AccountLocked,
        3159 => Reason::NeedsTls, // ER_SECURE_TRANSPORT_REQUIRED
        _ => Reason::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_the_operator_can_set_right_names_the_fix() {
        let plugin = |name: &str| mysql::Error::UnsupportedPlugin { plugin: name.to_owned() };
        for (error, fix) in [
            (plugin("dialog"), "pam_use_cleartext_plugin=ON"),
            (mysql::Error::NoTls, "--ssl-mode disabled"),
            (mysql::Error::NeedsTls { plugin: "x" }, "--ssl-mode verify-ca"),
            (mysql::Error::CleartextForbidden, "--allow-cleartext-password"),
            (mysql::Error::NoProof, "--ssl-fingerprint"),
            (mysql::Error::FalseProof, "which host answers at --target"),
        ] {
            let line = Failure::Session(error).to_string();
            assert!(line.contains(fix), "{line}");
        }
        let error = ServerError { code: 1184, text: "Aborted connection".to_owned() };
        for failure in
            [Failure::Statement(error.clone()), Failure::Session(mysql::Error::Refused(error))]
        {
            assert!(failure.to_string().contains("init_connect"), "{failure}");
        }
        let other = Failure::Session(plugin("auth_gssapi_client")).to_string();
        assert!(other.ends_with("auth_gssapi_client"), "{other}");
    }

    #[test]
    fn a_shortage_of_the_probe_is_no_fault_of_the_node_and_neither_starts_nor_ends_a_stall() {
        for error in [
            Errno::MFILE.into(),
            Errno::NFILE.into(),
            Errno::NOMEM.into(),
            Errno::NOBUFS.into(),
            io::Error::new(io::ErrorKind::OutOfMemory, "no thread can be created"),
        ] {
            let failure = Failure::Connect(error);
            assert_eq!(failure.reason(), Reason::ProbeError, "{failure}");
            assert!(!failure.is_stalled_connect() && failure.is_silence(), "{failure}");
        }
        let broken = Failure::Broken { step: Step::Login, error: Errno::NOBUFS.into() };
        assert_eq!(broken.reason(), Reason::ProbeError);
        for other in [Errno::ADDRNOTAVAIL, Errno::NETUNREACH, Errno::ACCESS] {
            assert_eq!(Failure::Connect(other.into()).reason(), Reason::Unreachable, "{other}");
        }
    }
}
