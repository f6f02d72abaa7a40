//! TLS errors, with the reason to refuse the node and advice for the operator.

use std::fmt;
use std::io;

#[cfg(feature = "tls")]
use rustls::{CertificateError, Error};

#[cfg(feature = "tls")]
use super::fingerprint::UnknownFingerprint;
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
        let (text, advice) = match unknown_fingerprint(error) {
            Some(unknown) => (
                unknown.to_string(),
                "if that is the node's certificate, give it in --ssl-fingerprint",
            ),
            None => (error.to_string(), advice(reason, error)),
        };
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
fn unknown_fingerprint(error: &Error) -> Option<&UnknownFingerprint> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(error)) => error.0.downcast_ref(),
        _ => None,
    }
}

/// The certificate is a CA's, and therefore not accepted from a server.
#[cfg(feature = "tls")]
pub(super) const CA_AS_END_ENTITY: &str = "CaUsedAsEndEntity";

/// The certificate has X.509 version 1, which webpki does not parse.
#[cfg(feature = "tls")]
const VERSION_1: &str = "UnsupportedCertVersion";

/// Returns webpki's name of an error that rustls has no name for.
#[cfg(feature = "tls")]
pub(super) fn webpki_name(error: &Error) -> Option<String> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(error)) => Some(error.to_string()),
        _ => None,
    }
}

#[cfg(feature = "tls")]
fn advice(reason: Reason, error: &Error) -> &'static str {
    match (reason, webpki_name(error).as_deref()) {
        (_, Some(CA_AS_END_ENTITY)) => {
            "the server's certificate is a CA's: name it in --ssl-ca itself, or issue another"
        }
        (_, Some(VERSION_1)) => {
            "the server's certificate has X.509 version 1: issue one of version 3, with a \
             subjectAltName, or give --ssl-fingerprint"
        }
        (Reason::TlsUntrusted, _) => "name the CA that signed the server's certificate in --ssl-ca",
        (Reason::TlsExpired, _) => "renew the server's certificate, or set this machine's clock",
        (Reason::TlsWrongName, _) => {
            "give the name that the server's certificate is for in --ssl-server-name"
        }
        (Reason::TlsRefused, _) => {
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
