//! What a failed probe run costs at the server.

use super::{Failure, Step};
use crate::health::Reason;
use crate::mysql;

/// What a failed probe run costs at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// The handshake was completed or never began, or the failure passes by itself.
    Nothing,
    /// The server counts nothing, but only a correction helps.
    Attempt,
    /// The server counts the handshake against the prober's address.
    Counted,
}

impl Cost {
    /// The cost of a probe run that failed in `step`. Source: what MariaDB counts in
    /// performance_schema.host_cache.
    pub fn of(failure: &Failure, step: Step) -> Self {
        if step.is_logged_in() {
            return Cost::Nothing;
        }
        match failure {
            Failure::Connect(_) => return Cost::Nothing,
            // The server closed the connection itself: it is starting or stopping. Or it is no
            // MySQL server at all.
            Failure::Broken { .. } if step == Step::Greeting => return Cost::Attempt,
            Failure::Session(mysql::Error::Incompatible { .. } | mysql::Error::NoTls) => {
                return Cost::Counted;
            }
            Failure::Session(mysql::Error::Refused(_)) => {}
            Failure::Session(mysql::Error::NoProof | mysql::Error::FalseProof) => {
                return Cost::Attempt;
            }
            Failure::Session(_) if step == Step::Greeting => return Cost::Attempt,
            _ => return Cost::Counted,
        }
        match failure.reason() {
            Reason::TooManyConnections
            | Reason::UserLimit
            | Reason::Offline
            | Reason::NotReady
            | Reason::ShuttingDown => Cost::Nothing,
            Reason::AccessDenied
            | Reason::AccountLocked
            | Reason::PasswordExpired
            | Reason::HostDenied
            | Reason::HostBlocked
            | Reason::NeedsTls => Cost::Attempt,
            // An unknown error may be one that the server counts.
            _ => Cost::Counted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::mysql::{Error, ServerError};

    #[test]
    fn the_cost_is_what_the_server_holds_against_the_address() {
        let refused =
            |code| Failure::Session(Error::Refused(ServerError { code, text: String::new() }));
        let broken = |step| Failure::Broken { step, error: io::ErrorKind::UnexpectedEof.into() };
        let plugin = || Failure::Session(Error::UnsupportedPlugin { plugin: "x".into() });
        for (failure, step, expected) in [
            (refused(1045), Step::Login, Cost::Attempt),
            (refused(1129), Step::Greeting, Cost::Attempt),
            (refused(1130), Step::Greeting, Cost::Attempt),
            (refused(4151), Step::Login, Cost::Attempt),
            (refused(1862), Step::Login, Cost::Attempt),
            (refused(1040), Step::Greeting, Cost::Nothing),
            (refused(1226), Step::Login, Cost::Nothing),
            (refused(1053), Step::Login, Cost::Nothing),
            // ER_HANDSHAKE_ERROR, and an unknown code.
            (refused(1043), Step::Login, Cost::Counted),
            (refused(9999), Step::Login, Cost::Counted),
            (broken(Step::Greeting), Step::Greeting, Cost::Attempt),
            (broken(Step::Tls), Step::Tls, Cost::Counted),
            (broken(Step::Login), Step::Login, Cost::Counted),
            (broken(Step::Query), Step::Query, Cost::Nothing),
            (Failure::Session(Error::Malformed { field: "x" }), Step::Greeting, Cost::Attempt),
            (Failure::Session(Error::Malformed { field: "x" }), Step::Login, Cost::Counted),
            (Failure::Session(Error::Malformed { field: "x" }), Step::Query, Cost::Nothing),
            (Failure::Session(Error::Incompatible { what: "x" }), Step::Greeting, Cost::Counted),
            (plugin(), Step::Login, Cost::Counted),
            (Failure::Session(Error::NoTls), Step::Greeting, Cost::Counted),
            (Failure::Session(Error::NeedsTls { plugin: "x" }), Step::Login, Cost::Counted),
            (Failure::Session(Error::NoProof), Step::Login, Cost::Attempt),
            (Failure::Session(Error::FalseProof), Step::Login, Cost::Attempt),
            (
                Failure::Connect(io::ErrorKind::ConnectionRefused.into()),
                Step::Connect,
                Cost::Nothing,
            ),
            (Failure::UnexpectedReply, Step::Causality, Cost::Nothing),
        ] {
            assert_eq!(Cost::of(&failure, step), expected, "{failure} in {step}");
        }
    }
}
