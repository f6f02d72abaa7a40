//! How the transport to the node is protected.

use super::tls::Tls;

/// How a transport is protected, which decides what the login may send over it.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// The transport is a Unix socket, so nothing leaves the machine.
    pub is_socket: bool,
    /// TLS, started before the user name is sent. `None`: plain text.
    pub tls: Option<Tls>,
    /// Allows mysql_clear_password on a Unix socket or over TLS, and allows sending the
    /// password to a server whose certificate is not verified.
    pub allow_cleartext: bool,
}
