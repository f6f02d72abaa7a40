//! Why a certificate is refused, where rustls has no error for it, and advice for the operator.

use std::error;
use std::fmt;
use std::sync::Arc;

use rustls::{CertificateError, Error, OtherError};

use super::fingerprint::Fingerprint;

/// Why the verifier refused the server's certificate.
#[derive(Debug)]
pub(super) enum Refusal {
    /// `--ssl-fingerprint` does not have its fingerprint.
    Fingerprint(Fingerprint),
    /// Its key did not sign the handshake.
    Signature,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Fingerprint(presented) => {
                write!(f, "the server's certificate has the SHA-256 fingerprint {presented}")
            }
            Refusal::Signature => {
                f.write_str("the key of the server's certificate did not sign the handshake")
            }
        }
    }
}

impl error::Error for Refusal {}

/// webpki's name for a CA's certificate that a server presents as its own.
const CA_AS_END_ENTITY: &str = "CaUsedAsEndEntity";

/// webpki's name for a certificate of X.509 version 1, which it does not parse.
const VERSION_1: &str = "UnsupportedCertVersion";

/// Whether webpki refused a certificate because it is a CA's.
pub(super) fn is_ca_as_end_entity(error: &Error) -> bool {
    // rustls keeps only the text of this error.
    other(error).is_some_and(|other| other.to_string() == CA_AS_END_ENTITY)
}

/// Returns the text of a certificate's error and advice, if its reason alone gives none.
pub(super) fn advice(error: &Error) -> Option<(String, &'static str)> {
    let other = other(error)?;
    let advice = match other.0.downcast_ref() {
        Some(Refusal::Fingerprint(_)) => {
            "if that is the node's certificate, give it in --ssl-fingerprint"
        }
        Some(Refusal::Signature) => {
            "the server may be an impostor, or its RSA key has under 2048 bits"
        }
        None => match &*other.to_string() {
            CA_AS_END_ENTITY => {
                return Some((
                    "the server's certificate is a CA's".to_owned(),
                    "if it is the node's own, name it in --ssl-ca itself, or issue another",
                ));
            }
            VERSION_1 => {
                return Some((
                    "the server's certificate has X.509 version 1".to_owned(),
                    "issue one of version 3, with a subjectAltName, or give --ssl-fingerprint",
                ));
            }
            _ => return None,
        },
    };
    Some((other.to_string(), advice))
}

fn other(error: &Error) -> Option<&OtherError> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => Some(other),
        _ => None,
    }
}
