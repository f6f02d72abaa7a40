//! TLS errors, with the reason to refuse the node and advice for the operator.

use std::fmt;
use std::io;

#[cfg(feature = "tls")]
use rustls::{CertificateError, Error};

#[cfg(feature = "tls")]
use super::refusal;
use crate::health::Reason;

/// The maximum length of a TLS error's text, in characters. The text may quote the server's
/// certificate, so this limits what a server can write to the log.
#[cfg(feature = "tls")]
const MAX_TEXT: usize = 256;

/// An error in the TLS handshake, or in TLS on an open connection.
#[derive(Debug)]
pub struct TlsError {
    reason: Reason,
    error: String,
    advice: &'static str,
}

impl TlsError {
    /// Extracts the TLS error from a transport's error. `None` if the error is not from TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        let reason = match error {
            Error::InvalidCertificate(certificate) => certificate_reason(certificate),
            Error::AlertReceived(_) => Reason::TlsRefused,
            _ => Reason::TlsFailed,
        };
        let (text, advice) =
            refusal::advice(error).unwrap_or_else(|| (error.to_string(), advice(reason)));
        // For the same reason, keep only printable ASCII.
        let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let error = text.chars().map(printable).take(MAX_TEXT).collect();
        Some(Self { reason, error, advice })
    }

    /// Returns `None`: this build has no TLS.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn of(_error: &io::Error) -> Option<Self> {
        None
    }

    /// The reason to refuse the node.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

#[cfg(feature = "tls")]
fn certificate_reason(error: &CertificateError) -> Reason {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Reason::TlsExpired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::TlsWrongName
        }
        _ => Reason::TlsUntrusted,
    }
}

#[cfg(feature = "tls")]
fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::TlsUntrusted => "name the CA that signed the server's certificate in --ssl-ca",
        Reason::TlsExpired => "renew the server's certificate, or set this machine's clock",
        Reason::TlsWrongName => {
            "give the name that the server's certificate is for in --ssl-server-name"
        }
        Reason::TlsRefused => {
            "see the server's log; if it requires a client certificate, give one that its CA \
             signed in --ssl-cert and --ssl-key"
        }
        _ => "check that the server speaks TLS 1.2 or 1.3 on this port",
    }
}

impl fmt::Display for TlsError {
    /// Writes the error and advice for the operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.advice)
    }
}
