//! The kinds of connection that a session can run over.

/// The kind of connection that a session runs over. It decides whether the session
/// requests TLS, and whether it may send the cleartext password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Channel {
    /// Plain TCP: anyone on the network path can read and change the bytes.
    #[default]
    Tcp,
    /// A Unix socket: the bytes do not leave the machine.
    Socket,
    /// TLS without verification of the server's certificate: anyone on the network path
    /// can pose as the server. TLS still begins before the user name is sent.
    UnverifiedTls,
    /// TLS in which the server must prove its certificate by the account's password, in the
    /// OK of the login (MariaDB from 11.4 on). The session sends no statement before that,
    /// and never the cleartext password, because anyone can pose as the server until then.
    ProvenTls,
    /// TLS with verification of the server's certificate.
    Tls,
}

impl Channel {
    pub(super) fn is_tls(self) -> bool {
        matches!(self, Channel::UnverifiedTls | Channel::ProvenTls | Channel::Tls)
    }
}
