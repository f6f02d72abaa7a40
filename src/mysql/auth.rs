use std::fmt;

use sha1::{Digest, Sha1};

/// The bytes of the server's challenge that enter a scramble.
pub(super) const NONCE: usize = 20;

/// The plugin that is spoken here.
pub(super) const NATIVE_PASSWORD: &str = "mysql_native_password";

/// An account's password; empty for an account without one. `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// The password's bytes, as the account was made with.
    pub fn new(password: impl Into<Vec<u8>>) -> Self {
        Self(password.into())
    }

    /// The answer to a `mysql_native_password` challenge:
    /// `SHA1(password) XOR SHA1(nonce, SHA1(SHA1(password)))`, and nothing at
    /// all for an empty password.
    ///
    /// Source: MySQL's protocol documents, "Secure Password Authentication".
    pub(super) fn scramble_native(&self, nonce: &[u8; NONCE]) -> Option<[u8; 20]> {
        if self.0.is_empty() {
            return None;
        }
        let mut scramble: [u8; 20] = Sha1::digest(&self.0).into();
        let stored = Sha1::digest(scramble);
        let mask = Sha1::new().chain_update(nonce).chain_update(stored).finalize();
        for (byte, mask) in scramble.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        Some(scramble)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server does: it stores SHA1(SHA1(password)), takes the mask
    /// off the answer and hashes what is left.
    fn server_accepts(stored: [u8; 20], nonce: &[u8; NONCE], answer: [u8; 20]) -> bool {
        let mask = Sha1::new().chain_update(nonce).chain_update(stored).finalize();
        let unmasked: Vec<u8> = answer.iter().zip(mask).map(|(a, m)| a ^ m).collect();
        <[u8; 20]>::from(Sha1::digest(unmasked)) == stored
    }

    #[test]
    fn a_server_accepts_the_scramble_of_its_own_stored_hash() {
        // SELECT PASSWORD('secret') of MariaDB 10.11.
        let stored = [
            0x14, 0xE6, 0x55, 0x67, 0xAB, 0xDB, 0x51, 0x35, 0xD0, 0xCF, //
            0xD9, 0xA7, 0x0B, 0x30, 0x32, 0xC1, 0x79, 0xA4, 0x9E, 0xE7,
        ];
        let nonce = b"0123456789abcdefghij";
        let answer = Password::new("secret").scramble_native(nonce).unwrap();
        assert!(server_accepts(stored, nonce, answer));
        let wrong = Password::new("Secret").scramble_native(nonce).unwrap();
        assert!(!server_accepts(stored, nonce, wrong));
    }

    #[test]
    fn an_empty_password_is_answered_with_nothing() {
        assert_eq!(Password::default().scramble_native(&[1; NONCE]), None);
    }

    #[test]
    fn debug_output_hides_the_password() {
        let shown = format!("{:?}", Password::new("secret"));
        assert_eq!(shown, "Password(hidden)");
    }
}
