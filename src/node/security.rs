//! How a transport to the node is protected.

use super::tls::Tls;

/// How ways to a node are protected, and so what may be said on them.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// They do not leave the machine.
    pub is_socket: bool,
    /// Begun before anything of the account is said.
    pub tls: Option<Tls>,
    /// A password may be sent as it is by mysql_clear_password, on a Unix socket or over
    /// TLS, and to a server that is not verified.
    pub allow_cleartext: bool,
}
