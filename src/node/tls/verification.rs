//! What verifies the server's certificate.

/// What verifies the server's certificate. It decides what the login may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Nothing: any certificate is accepted.
    None,
    /// The account's password: the server proves its certificate after the login.
    Password,
    /// The TLS handshake: it fails if the certificate is not the expected one.
    Certificate,
}
