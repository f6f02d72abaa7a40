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
    let (&MARK, digits) = info.split_first()? else { return None };
    let mut pairs = digits.chunks_exact(2);
    let mut proof = Sha256Hash::default();
    for byte in &mut proof {
        for digit in pairs.next()? {
            *byte = *byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    (pairs.next().is_none() && pairs.remainder().is_empty()).then_some(proof)
}

#[cfg(test)]
mod tests {
    use super::super::auth::hex;
    use super::*;

    const OK: &[u8] = include_bytes!("../../tests/captures/zeroconf-ok-payload.bin");
    const NONCE: &[u8; 20] = include_bytes!("../../tests/captures/zeroconf-scramble.bin");
    const CERTIFICATE: &[u8] = include_bytes!("../../tests/captures/zeroconf-certificate.der");

    #[test]
    fn the_proof_of_a_real_login_meets_its_challenge_and_no_other() {
        let proof = parse(&OK[8..]).unwrap();
        let fingerprint = Sha256::digest(CERTIFICATE).into();
        // SELECT PASSWORD('secret').
        let stored = hex("14e65567abdb5135d0cfd9a70b3032c179a49ee7");
        let challenge = Challenge::new(*NONCE, fingerprint);
        assert!(challenge.is_met_by(&proof, &stored));
        assert!(!challenge.is_met_by(&proof, b"another hash"));
        assert!(!Challenge::new(*NONCE, [7; 32]).is_met_by(&proof, &stored));
        assert!(!Challenge::new([7; 20], fingerprint).is_met_by(&proof, &stored));
        for byte in 0..proof.len() {
            let mut wrong = proof;
            wrong[byte] ^= 1;
            assert!(!challenge.is_met_by(&wrong, &stored), "byte {byte}");
        }
    }

    #[test]
    fn only_the_mark_and_64_digits_are_a_proof() {
        let digits = [b'a'; 64];
        let with = |mark: u8, digits: &[u8]| parse(&[&[mark], digits].concat());
        assert_eq!(with(1, &digits), Some([0xAA; 32]));
        assert_eq!(with(1, &[b'A'; 64]), Some([0xAA; 32]));
        for (mark, digits) in [
            (0, &digits[..]),
            (2, &digits),
            (1, &digits[1..]),
            (1, &digits[2..]),
            (1, &[b'a'; 65]),
            (1, &[b'a'; 66]),
            (1, &[b'+'; 64]),
            (1, b""),
        ] {
            assert_eq!(with(mark, digits), None, "{mark} {digits:?}");
        }
        assert_eq!(parse(b""), None);
    }
}
