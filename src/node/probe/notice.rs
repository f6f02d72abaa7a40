//! What the operator should know about a login that succeeded.

use tracing::{info, warn};

use super::{Connection, Probe};
use crate::node::tls::{Tls, Verification};

/// What the operator should know about a login that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginNotice {
    /// The login works only until the server restarts.
    ReliesOnCache,
    /// The certificate was not verified, but could have been.
    IsProven,
}

impl LoginNotice {
    /// Logs the notice with its advice.
    pub fn log(self) {
        match self {
            LoginNotice::ReliesOnCache => warn!(
                "this login works only while the server has the password in its cache \
                 (caching_sha2_password), and will fail after its next restart: \
                 give --ssl-mode verify-ca or verify-identity, --ssl-fingerprint, or the server's \
                 socket as --target"
            ),
            LoginNotice::IsProven => info!(
                "the server proved its certificate by the account's password: \
                 --ssl-mode verify-password would require that, and needs no files"
            ),
        }
    }
}

impl Probe {
    /// The notice about the login, if there is one and the login has succeeded.
    pub fn login_notice(&self) -> Option<LoginNotice> {
        let session = match &self.connection {
            Connection::Open(_, session) | Connection::StartingTls(_, session) => session,
            Connection::Connecting(_) => return None,
        };
        if session.relies_on_cache() {
            return Some(LoginNotice::ReliesOnCache);
        }
        let verification = self.tls.as_ref().map(Tls::verification);
        let is_unverified = verification == Some(Verification::None);
        (session.is_proven() && is_unverified).then_some(LoginNotice::IsProven)
    }
}
