//! Ed25519 signatures with a seed of any length.

use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

/// Returns the Ed25519 signature of a message that is given in parts.
///
/// Source: RFC 8032, section 5.1.6, except that the seed can have any length: MariaDB's
/// client_ed25519 uses the password as the seed.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "scalars are integers modulo the group order, which cannot overflow"
)]
pub(super) fn sign(seed: &[u8], message: &[&[u8]]) -> [u8; 64] {
    let (secret, prefix) = expand(seed);
    let public = EdwardsPoint::mul_base(&secret).compress().to_bytes();
    let ephemeral = Zeroizing::new(hash(&[&prefix[..]], message));
    let commitment = EdwardsPoint::mul_base(&ephemeral).compress().to_bytes();
    let challenge = hash(&[&commitment, &public], message);
    let response = challenge * *secret + *ephemeral;

    let mut signature = [0; 64];
    for (to, from) in signature.iter_mut().zip(commitment.into_iter().chain(response.to_bytes())) {
        *to = from;
    }
    signature
}

/// Returns the public key of the signatures with this seed.
pub(super) fn public_key(seed: &[u8]) -> [u8; 32] {
    EdwardsPoint::mul_base(&expand(seed).0).compress().to_bytes()
}

fn hash(prefix: &[&[u8]], message: &[&[u8]]) -> Scalar {
    let mut hash = Sha512::new();
    for part in prefix.iter().chain(message) {
        hash.update(part);
    }
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

/// Returns the secret scalar, and the prefix that keeps the ephemeral scalar of each
/// signature secret.
fn expand(seed: &[u8]) -> (Zeroizing<Scalar>, Zeroizing<[u8; 32]>) {
    let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(seed)));
    let mut secret = Zeroizing::new([0; 32]);
    let mut prefix = Zeroizing::new([0; 32]);
    for (to, from) in secret.iter_mut().chain(prefix.iter_mut()).zip(*hash) {
        *to = from;
    }
    (Zeroizing::new(Scalar::from_bytes_mod_order(clamp_integer(*secret))), prefix)
}

#[cfg(test)]
mod tests {
    use super::super::auth::hex;
    use super::*;

    /// RFC 8032, section 7.1, tests 1 to 3.
    #[test]
    fn signatures_match_the_test_vectors_of_rfc_8032() {
        for (seed, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let message = hex(message);
            assert_eq!(sign(&hex(seed), &[&message])[..], hex(signature));
            let (first, second) = message.split_at(message.len() / 2);
            assert_eq!(sign(&hex(seed), &[first, second])[..], hex(signature));
        }
    }
}
