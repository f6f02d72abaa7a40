//! Why TLS to the node failed.

use std::fmt;
use std::io;

#[cfg(feature = "tls")]
use rustls::{CertificateError, Error};

use crate::health::Reason;

/// The most characters of a TLS error that are kept, as it may quote the certificate:
/// bounds what one server can write into a log.
#[cfg(feature = "tls")]
const MAX_TEXT: usize = 256;

/// A failure of the TLS handshake, or of TLS on an open connection.
#[derive(Debug)]
pub struct TlsError {
    reason: Reason,
    error: String,
}

impl TlsError {
    /// The TLS error inside an error of a transport, if TLS is what failed.
    #[cfg(feature = "tls")]
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        let reason = match error {
            Error::InvalidCertificate(certificate) => certificate_reason(certificate),
            Error::AlertReceived(_) => Reason::TlsRefused,
            _ => Reason::TlsFailed,
        };
        // It may quote the certificate.
        let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let error = error.to_string().chars().map(printable).take(MAX_TEXT).collect();
        Some(Self { reason, error })
    }

    /// The TLS error inside an error of a transport: none in a build without TLS.
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

impl fmt::Display for TlsError {
    /// The error, and what to do about it.
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
