//! TLS to the node: reading certificate files, verifying the server, and TLS errors.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod client;
mod error;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod fingerprint;
#[cfg(feature = "tls")]
mod refusal;
mod verification;
#[cfg(feature = "tls")]
mod verifier;
#[cfg(feature = "tls")]
mod version;

#[cfg(not(feature = "tls"))]
pub use absent::Tls;
#[cfg(feature = "tls")]
pub use client::Tls;
pub use error::TlsError;
#[cfg(feature = "tls")]
pub use files::{Files, Identity};
#[cfg(feature = "tls")]
pub use fingerprint::Fingerprint;
pub use verification::Verification;
#[cfg(feature = "tls")]
pub use verifier::Check;
