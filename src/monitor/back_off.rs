//! How long a stalled connection is held, and how long the monitor waits after a failed
//! handshake before the next probe run.
//!
//! The server counts unfinished handshakes and blocks the prober's address at
//! `max_connect_errors` (100). Both times keep the count below that (law 4).

use std::time::Duration;

use crate::health::Reason;
use crate::node::probe::{Failure, Step};

/// How long the first stalled connection is held. If the node wakes sooner, no handshake
/// was abandoned. A second connection would not help meanwhile: it would wait behind the
/// first in the server's queue.
pub(super) const FIRST_HOLD: Duration = Duration::from_secs(80);

/// The pause after the first failed handshake. Once the operator has corrected a
/// password, the probe logs in within 10 s.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The limit for both. With doubling up to it, a stall of 24 h costs 76 connections,
/// fewer than the 100 (`max_connect_errors`) at which the server blocks an address.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// How the pause develops from one failed handshake to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackOff {
    /// No pause: the handshake was completed or never began, or the server does not
    /// count the failure.
    None,
    /// [`FIRST_PAUSE`] each time: the server closed the connection before its greeting.
    /// It is starting or stopping, and will be back soon.
    Constant,
    /// From [`FIRST_PAUSE`], doubling up to [`LONGEST`]: the handshake could not be
    /// completed, or would fail again.
    Doubling,
}

impl BackOff {
    /// The back-off after a probe run that failed in `step`.
    pub(super) fn after(failure: &Failure, step: Step) -> Self {
        match (failure, step) {
            (Failure::Connect(_), _) | (_, Step::Query) => BackOff::None,
            (Failure::Broken { .. }, Step::Greeting) => BackOff::Constant,
            _ => match failure.reason() {
                // States of the server or of the account. The server does not count these
                // against the address.
                Reason::TooManyConnections
                | Reason::UserLimit
                | Reason::HostDenied
                | Reason::AccountLocked
                | Reason::PasswordExpired
                | Reason::Offline
                | Reason::NotReady
                | Reason::ShuttingDown => BackOff::None,
                _ => BackOff::Doubling,
            },
        }
    }
}

/// How long to hold a stalled connection, where `abandoned` others were held and given up
/// before it.
pub(super) fn hold_time(abandoned: u32) -> Duration {
    doubled(FIRST_HOLD, abandoned)
}

/// The pause after a failed handshake, where `failed` others failed before it.
pub(super) fn pause(failed: u32) -> Duration {
    doubled(FIRST_PAUSE, failed)
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::mysql::{Error, ServerError};

    #[test]
    fn doubles_holds_from_80_s_and_pauses_from_5_s_up_to_20_minutes() {
        let holds: Vec<_> = (0..6).map(|n| hold_time(n).as_secs()).collect();
        assert_eq!(holds, [80, 160, 320, 640, 1200, 1200]);
        let pauses: Vec<_> = (0..10).map(|n| pause(n).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1200, 1200]);
        assert_eq!((hold_time(u32::MAX), pause(u32::MAX)), (LONGEST, LONGEST));
    }

    #[test]
    fn backs_off_only_if_the_server_counts_the_failure_or_a_retry_cannot_succeed() {
        let refused =
            |code| Failure::Session(Error::Refused(ServerError { code, text: String::new() }));
        let broken = |step| Failure::Broken { step, error: io::ErrorKind::UnexpectedEof.into() };
        for (failure, step, expected) in [
            (refused(1045), Step::Login, BackOff::Doubling),
            (refused(1129), Step::Greeting, BackOff::Doubling),
            (refused(1040), Step::Greeting, BackOff::None),
            (refused(1130), Step::Greeting, BackOff::None),
            // ER_HANDSHAKE_ERROR, and an unknown code.
            (refused(1043), Step::Login, BackOff::Doubling),
            (refused(9999), Step::Login, BackOff::Doubling),
            (broken(Step::Greeting), Step::Greeting, BackOff::Constant),
            (broken(Step::Login), Step::Login, BackOff::Doubling),
            (broken(Step::Query), Step::Query, BackOff::None),
            (Failure::Session(Error::Malformed { field: "x" }), Step::Greeting, BackOff::Doubling),
            (
                Failure::Session(Error::UnsupportedPlugin { plugin: "x".into() }),
                Step::Login,
                BackOff::Doubling,
            ),
            (Failure::Session(Error::NoTls), Step::Greeting, BackOff::Doubling),
            (Failure::Session(Error::NeedsTls { plugin: "x" }), Step::Login, BackOff::Doubling),
            (broken(Step::Tls), Step::Tls, BackOff::Doubling),
            (Failure::Session(Error::Malformed { field: "x" }), Step::Query, BackOff::None),
            (
                Failure::Connect(io::ErrorKind::ConnectionRefused.into()),
                Step::Connect,
                BackOff::None,
            ),
        ] {
            assert_eq!(BackOff::after(&failure, step), expected, "{failure} in {step}");
        }
    }
}
