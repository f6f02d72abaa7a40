//! The account that the sessions log in with, and the channels that they run over.

use galera_probe::mysql::Channel;

pub const USER: &str = "galera_probe";
pub const PASSWORD: &str = "correct horse battery staple";

/// Selects a channel by the two highest bits.
pub fn channel(byte: u8) -> Channel {
    match byte >> 6 {
        0 => Channel::Tcp,
        1 => Channel::UnverifiedTls,
        2 => Channel::Socket,
        _ => Channel::Tls,
    }
}

pub fn is_tls(channel: Channel) -> bool {
    matches!(channel, Channel::UnverifiedTls | Channel::Tls)
}

/// Returns whether the server may get the cleartext password.
pub fn is_secure(channel: Channel) -> bool {
    matches!(channel, Channel::Socket | Channel::Tls)
}
