//! The server's proof of its TLS certificate by the account's password.
//!
//! MariaDB from 11.4 on calls this Zero-Configuration SSL. After a login over TLS, the info of
//! the server's OK is the byte 1 and 64 hexadecimal digits:
//! `SHA256(password hash, nonce of the greeting, SHA256(certificate))`. A host that relays
//! the login knows the nonce and its own certificate, but not the password hash.

use sha2::{Digest, Sha256};

use super::auth::NONCE_LENGTH;

/// The byte that marks the info of an OK as a proof.
const MARK: u8 = 1;

/// SHA-256 of what is proven, or of a certificate's DER.
type Sha256Hash = [u8; 32];

/// What the proof must be about: this login, over TLS with this certificate.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub(super) struct Challenge {
    nonce: [u8; NONCE_LENGTH],
    fingerprint: Sha256Hash,
}

impl Challenge {
    /// `nonce` is that of the greeting, also if the login continues with another one.
    pub(super) fn new(nonce: [u8; NONCE_LENGTH], fingerprint: Sha256Hash) -> Self {
        Self { nonce, fingerprint }
    }

    /// Returns whether `proof` was made from `password_hash` for this challenge. The time
    /// does not depend on how much of the proof is right: a host that poses as the server
    /// could repeat the challenge and find the proof byte by byte.
    pub(super) fn is_met_by(&self, proof: &Sha256Hash, password_hash: &[u8]) -> bool {
        let hash = Sha256::new().chain_update(password_hash);
        let expected = hash.chain_update(self.nonce).chain_update(self.fingerprint).finalize();
        proof.iter().zip(expected).fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0
    }
}

/// Returns the proof in the info of an OK. `None` if it is none.
pub(super) fn parse(info: &[u8]) -> Option<Sha256Hash> {
    let (mark, digits) = info.split_first()?;
    let mut proof = Sha256Hash::default();
    if *mark != MARK || digits.len() != 2 * proof.len() {
        return None;
    }
    for (byte, pair) in proof.iter_mut().zip(digits.chunks(2)) {
        for digit in pair {
            *byte = *byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(proof)
}
