//! TLS to the node, and what can go wrong with it.

#[cfg(feature = "tls")]
mod client;
#[cfg(feature = "tls")]
mod files;

use std::fmt;
use std::io;

use crate::health::Reason;

#[cfg(feature = "tls")]
pub use client::{Check, Tls};
#[cfg(feature = "tls")]
pub use files::{Files, Identity};

/// A build without TLS has none of these.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug)]
pub enum Tls {}

#[cfg(not(feature = "tls"))]
impl Tls {
    pub(crate) fn start(
        &self,
        _stream: Box<dyn crate::node::connector::Stream>,
    ) -> crate::node::connector::Opening {
        match *self {}
    }

    pub(crate) fn verifies(&self) -> bool {
        match *self {}
    }

    pub(crate) fn poke(&self) {
        match *self {}
    }

    pub(crate) async fn changed(&mut self) {
        match *self {}
    }
}

/// What was wrong with the TLS of a connection.
#[derive(Debug)]
pub struct Fault {
    reason: Reason,
    error: String,
}

impl Fault {
    /// The fault behind an error of a stream, if TLS is what failed.
    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "there is no TLS to fail"))]
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        #[cfg(feature = "tls")]
        return client::fault(error);
        #[cfg(not(feature = "tls"))]
        None
    }

    /// The reason that the fault means.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for Fault {
    /// With what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.reason {
            Reason::TlsUntrusted => "name the CA that signed the server's certificate in --ssl-ca",
            Reason::TlsExpired => "renew the server's certificate, or set this machine's clock",
            Reason::TlsWrongName => {
                "give the name that the server's certificate is for in --ssl-server-name"
            }
            Reason::TlsRefused => {
                "see the server's log; where it asks for a certificate of its clients, give one \
                 that its CA signed in --ssl-cert and --ssl-key"
            }
            _ => "see that the server speaks TLS 1.2 or 1.3 on this port",
        };
        write!(f, "{}: {advice}", self.error)
    }
}
