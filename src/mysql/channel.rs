/// What a session's bytes travel on, and so what a login may say there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// TCP as it is: whoever is on the way may read and write.
    #[default]
    Tcp,
    /// A Unix socket, which does not leave the machine.
    Socket,
    /// TLS with a server that nobody vouches for: whoever is on the way may be it. It
    /// is begun before anything of the account is said.
    UnverifiedTls,
    /// TLS with a server whose certificate is verified.
    Tls,
}

impl Channel {
    pub(super) fn is_tls(self) -> bool {
        matches!(self, Channel::UnverifiedTls | Channel::Tls)
    }
}
