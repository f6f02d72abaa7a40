//! The account that the sessions log in with, and the channels that they run over.

use galera_probe::mysql::Channel;

pub const USER: &str = "galera_probe";
pub const PASSWORD: &str = "correct horse battery staple";

/// The fingerprint of the server's certificate, on a TLS channel.
pub const FINGERPRINT: [u8; 32] = [0xF1; 32];

/// Selects a channel by the three highest bits.
pub fn channel(byte: u8) -> Channel {
    match byte >> 5 {
        0 | 1 => Channel::Tcp,
        2 => Channel::UnverifiedTls,
        3 => Channel::ProvenTls,
        4 | 5 => Channel::Socket,
        _ => Channel::Tls,
    }
}

pub fn is_tls(channel: Channel) -> bool {
    matches!(channel, Channel::UnverifiedTls | Channel::ProvenTls | Channel::Tls)
}

/// Returns whether the server may get the cleartext password.
pub fn is_secure(channel: Channel) -> bool {
    matches!(channel, Channel::Socket | Channel::Tls)
}
