//! The protection of a transport: TLS, a Unix socket, or none.

use super::tls::Tls;

/// How a transport is protected, which decides what the login may send over it.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Whether the transport is a Unix socket, over which nothing leaves the machine.
    pub is_unix_socket: bool,
    /// TLS, started before the user name is sent. `None`: plain text.
    pub tls: Option<Tls>,
    /// Allows mysql_clear_password on a Unix socket or over TLS, and allows sending the
    /// password to a server whose certificate is not verified.
    pub allow_cleartext: bool,
}
