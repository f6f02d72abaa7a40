//! The responses that prove knowledge of the password, one function for each plugin.

use std::fmt;

use pbkdf2::pbkdf2_hmac;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use super::ed25519;

/// The length of the server's nonce in bytes, for the plugins that hash it
/// (mysql_native_password and caching_sha2_password).
pub(super) const NONCE_LENGTH: usize = 20;

/// The length of the server's nonce in bytes, for the plugins that sign it (client_ed25519
/// and parsec).
pub(super) const LONG_NONCE_LENGTH: usize = 32;

/// The password of an account. It is empty for an account without a password.
///
/// `Debug` hides the password, and its memory is wiped on drop.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes the password's bytes, as given to `IDENTIFIED BY`.
    pub fn new(password: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(password.into()))
    }

    /// Returns the response to a `mysql_native_password` challenge, or `None` for an empty
    /// password: `SHA1(password) XOR SHA1(nonce, SHA1(SHA1(password)))`.
    ///
    /// Source: MySQL's protocol documents, "Secure Password Authentication".
    pub(super) fn scramble_native(&self, nonce: &[u8; NONCE_LENGTH]) -> Option<[u8; 20]> {
        if self.0.is_empty() {
            return None;
        }
        let mut scramble: [u8; 20] = Sha1::digest(&*self.0).into();
        let stored = Sha1::digest(scramble);
        let mask = Sha1::new().chain_update(nonce).chain_update(stored).finalize();
        for (byte, mask) in scramble.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        Some(scramble)
    }

    /// Returns the response to a `caching_sha2_password` challenge, or `None` for an empty
    /// password: `SHA256(password) XOR SHA256(SHA256(SHA256(password)), nonce)`.
    ///
    /// Source: MySQL's protocol documents, "Caching_sha2_password information".
    pub(super) fn scramble_sha2(&self, nonce: &[u8; NONCE_LENGTH]) -> Option<[u8; 32]> {
        if self.0.is_empty() {
            return None;
        }
        let mut scramble: [u8; 32] = Sha256::digest(&*self.0).into();
        let cached = Sha256::digest(scramble);
        let mask = Sha256::new().chain_update(cached).chain_update(nonce).finalize();
        for (byte, mask) in scramble.iter_mut().zip(mask) {
            *byte ^= mask;
        }
        Some(scramble)
    }

    /// Returns the response to a `client_ed25519` challenge: the signature of the nonce,
    /// with the password as the seed of the key.
    ///
    /// Source: MariaDB's documents, "Authentication Plugin - ed25519".
    pub(super) fn sign_ed25519(&self, nonce: &[u8; LONG_NONCE_LENGTH]) -> [u8; 64] {
        ed25519::sign(&self.0, &[nonce])
    }

    /// Returns the response to a `parsec` challenge: a client nonce, then the signature of
    /// both nonces with a key that PBKDF2 derives from the password. Also returns the public
    /// key of the signature, which the server stores.
    ///
    /// The client nonce must be unpredictable, and different for each server nonce. A hash
    /// of the secret key and the server nonce meets both conditions without a random
    /// source.
    ///
    /// Source: MariaDB's documents, "Authentication Plugin - PARSEC".
    pub(super) fn sign_parsec(
        &self,
        nonce: &[u8; LONG_NONCE_LENGTH],
        salt: &[u8],
        iterations: u32,
    ) -> (Vec<u8>, [u8; 32]) {
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2_hmac::<Sha512>(&self.0, salt, iterations, &mut *key);
        let client_nonce = Sha256::new().chain_update(*key).chain_update(nonce).finalize();
        let signature = ed25519::sign(&*key, &[nonce, &client_nonce]);
        ([&client_nonce[..], &signature].concat(), ed25519::public_key(&*key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what a server stores for `mysql_native_password`: `SHA1(SHA1(password))`.
    pub(super) fn native_hash(&self) -> [u8; 20] {
        Sha1::digest(Sha1::digest(&*self.0)).into()
    }

    /// Returns what a server stores for `client_ed25519`: the public key of the signatures.
    pub(super) fn ed25519_public_key(&self) -> [u8; 32] {
        ed25519::public_key(&self.0)
    }

    /// Returns the cleartext password and its terminating NUL.
    pub(super) fn cleartext(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&self.0[..], b"\0"].concat())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// Decodes hexadecimal digits.
#[cfg(test)]
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
    use curve25519_dalek::scalar::Scalar;

    /// The server's check: it stores SHA1(SHA1(password)), removes the mask from the
    /// response, and compares the hash of the result.
    fn server_accepts(stored: [u8; 20], nonce: &[u8; NONCE_LENGTH], response: [u8; 20]) -> bool {
        let mask = Sha1::new().chain_update(nonce).chain_update(stored).finalize();
        let unmasked: Vec<u8> = response.iter().zip(mask).map(|(a, m)| a ^ m).collect();
        <[u8; 20]>::from(Sha1::digest(unmasked)) == stored
    }

    #[test]
    fn a_native_scramble_matches_the_hash_that_a_server_stores() {
        // SELECT PASSWORD('secret') of MariaDB 10.11.
        let stored = [
            0x14, 0xE6, 0x55, 0x67, 0xAB, 0xDB, 0x51, 0x35, 0xD0, 0xCF, //
            0xD9, 0xA7, 0x0B, 0x30, 0x32, 0xC1, 0x79, 0xA4, 0x9E, 0xE7,
        ];
        let nonce = b"0123456789abcdefghij";
        let response = Password::new("secret").scramble_native(nonce).unwrap();
        assert!(server_accepts(stored, nonce, response));
        let wrong = Password::new("Secret").scramble_native(nonce).unwrap();
        assert!(!server_accepts(stored, nonce, wrong));
    }

    #[test]
    fn sha2_scrambles_match_the_test_vectors_of_another_client() {
        // The test vectors of the Go driver, TestScrambleSHA256Pass.
        let nonce =
            [10, 47, 74, 111, 75, 73, 34, 48, 88, 76, 114, 74, 37, 13, 3, 80, 82, 2, 23, 21];
        for (password, expected) in [
            ("secret", "f490e76f66d9d86665ce54d98c78d0acfe2fb0b08b423da807144873d30b312c"),
            ("secret2", "abc3934a012cf342e876071c8ee202de51785b430258a7a0138bc79c4d800bc6"),
        ] {
            let scramble = Password::new(password).scramble_sha2(&nonce).unwrap();
            assert_eq!(format!("{scramble:02x?}"), format!("{:02x?}", hex(expected)));
        }
    }

    /// RFC 8032, section 5.1.7: a signature is valid if `response * base - challenge *
    /// public` is the commitment.
    fn verifies(public: [u8; 32], message: &[u8], signature: &[u8]) -> bool {
        let (commitment, response) = signature.split_at(32);
        let hash = Sha512::new().chain_update(commitment).chain_update(public);
        let challenge = hash.chain_update(message).finalize().into();
        let challenge = Scalar::from_bytes_mod_order_wide(&challenge);
        let response = Scalar::from_canonical_bytes(response.try_into().unwrap()).unwrap();
        let public = CompressedEdwardsY(public).decompress().unwrap();
        let expected = EdwardsPoint::mul_base(&response) - public * challenge;
        expected.compress().as_bytes() == commitment
    }

    #[test]
    fn ed25519_signatures_verify_with_the_key_that_a_server_stores() {
        // SHOW CREATE USER of MariaDB 11.8.6. MariaDB's documents have the key of "secret" too.
        let nonce = [7; LONG_NONCE_LENGTH];
        for (password, public) in [
            ("secret", "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY"),
            ("foo", "vubFBzIrapbfHct1/J72dnUryz5VS7lA6XHH8sIx4TI"),
            ("", "4LH+dBF+G5W2CKTyId8xR3SyDqZoQjUNUVNxx8aWbG4"),
        ] {
            let public = base64(public).try_into().unwrap();
            let signature = Password::new(password).sign_ed25519(&nonce);
            assert!(verifies(public, &nonce, &signature), "{password}");
            let wrong = Password::new("other").sign_ed25519(&nonce);
            assert!(!verifies(public, &nonce, &wrong));
        }
    }

    #[test]
    fn parsec_signatures_verify_with_the_key_that_a_server_stores() {
        // SHOW CREATE USER of MariaDB 11.8.6.
        let nonce = [7; LONG_NONCE_LENGTH];
        for (password, salt, public) in [
            ("secret", "YjhMiMfB0QhN+RMVmwKTnnh3", "kEKfv5F5MDUjreV4bLnjfpvRTDGg04+dpa4SrMo/42Y"),
            ("", "LGkvyPwSu0PcbZgaP2C0kpq6", "ddY085QaJ7FU60Ug4qKgjt4f2hS3tOvOIoeqkk47QGc"),
        ] {
            let (response, stored) =
                Password::new(password).sign_parsec(&nonce, &base64(salt), 1024);
            let (ours, signature) = response.split_at(LONG_NONCE_LENGTH);
            let public = base64(public).try_into().unwrap();
            assert_eq!(stored, public);
            assert!(verifies(public, &[&nonce, ours].concat(), signature), "{password}");
            assert!(!verifies(public, &[ours, &nonce].concat(), signature));
        }
    }

    #[test]
    fn the_parsec_client_nonce_differs_for_each_server_nonce() {
        let ours = |nonce| {
            Password::new("secret").sign_parsec(&[nonce; 32], b"salt", 1024).0[..32].to_vec()
        };
        assert_ne!(ours(1), ours(2));
    }

    #[test]
    fn an_empty_password_has_no_scramble() {
        assert_eq!(Password::default().scramble_native(&[1; NONCE_LENGTH]), None);
        assert_eq!(Password::default().scramble_sha2(&[1; NONCE_LENGTH]), None);
    }

    /// Decodes base64 without padding.
    fn base64(text: &str) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
        for digit in text.bytes() {
            let value = DIGITS.iter().position(|&known| known == digit).unwrap();
            bits = bits << 6 | u32::try_from(value).unwrap();
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push(u8::try_from(bits >> count & 0xFF).unwrap());
            }
        }
        bytes
    }

    #[test]
    fn debug_output_hides_the_password() {
        let shown = format!("{:?}", Password::new("secret"));
        assert_eq!(shown, "Password(hidden)");
    }
}
