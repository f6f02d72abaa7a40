//! The server's side of the MySQL protocol, written and read without the code
//! that is tested.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use pbkdf2::pbkdf2_hmac;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};

/// One packet, its length and number before it.
pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// The first packet of some bytes, its number and payload, and what follows it.
pub fn split_packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[a, b, c, sequence], rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes([a, b, c, 0]);
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).unwrap())?;
    Some((sequence, payload, rest))
}

/// The payload of the first packet with this number.
pub fn packet_numbered(mut bytes: &[u8], number: u8) -> Option<&[u8]> {
    loop {
        let (sequence, payload, rest) = split_packet(bytes)?;
        if sequence == number {
            return Some(payload);
        }
        bytes = rest;
    }
}

/// Protocol::LengthEncodedString, and NULL for `None`.
pub fn text_value(payload: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(value) = value else {
        payload.push(0xFB);
        return;
    };
    match u16::try_from(value.len()).unwrap() {
        length @ 0..=250 => payload.push(length as u8),
        length => {
            payload.push(0xFC);
            payload.extend(length.to_le_bytes());
        }
    }
    payload.extend(value);
}

/// Protocol::HandshakeV10 with a nonce whose two parts stand apart.
pub fn greeting(version: &[u8], capabilities: u32, nonce: &[u8; 20], tail: &[u8]) -> Vec<u8> {
    let [c0, c1, c2, c3] = capabilities.to_le_bytes();
    let mut payload = vec![10];
    payload.extend(version);
    payload.extend([0, 7, 0, 0, 0]);
    payload.extend(&nonce[..8]);
    payload.extend([0, c0, c1, 8, 2, 0, c2, c3, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend(&nonce[8..]);
    payload.extend(tail);
    payload
}

/// AuthSwitchRequest.
pub fn switch(plugin: &str, data: &[u8]) -> Vec<u8> {
    [b"\xFE", plugin.as_bytes(), b"\0", data, b"\0"].concat()
}

/// ERR_Packet with an SQLSTATE.
pub fn err(code: u16, text: &[u8]) -> Vec<u8> {
    [&[0xFF], &code.to_le_bytes()[..], b"#HY000", text].concat()
}

pub const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
pub const EOF: &[u8] = &[0xFE, 0, 0, 2, 0];

/// The plugins of the server's side, one after the other as it switches.
pub struct Plugin<'a> {
    password: &'a [u8],
    secure: bool,
    /// How many keys parsec may still derive; further answers to it are believed.
    derivations: usize,
    parsec: Option<[u8; 32]>,
}

impl<'a> Plugin<'a> {
    /// `secure`: whether the password itself may come.
    pub fn new(password: &'a [u8], secure: bool, derivations: usize) -> Self {
        Self { password, secure, derivations, parsec: None }
    }

    /// Whether the server takes what was answered to its AuthSwitchRequest, or to
    /// its AuthMoreData.
    pub fn accepts(&mut self, question: &[u8], answer: &[u8]) -> bool {
        let nonces = self.parsec.take();
        let Some(switch) = question.strip_prefix(b"\xFE") else {
            let data = question.strip_prefix(b"\x01").unwrap_or(question);
            return match (nonces, data) {
                (Some(nonce), [b'P', factor, salt @ ..]) => {
                    if self.derivations == 0 {
                        return true;
                    }
                    self.derivations -= 1;
                    accepts_parsec(self.password, &nonce, 1024 << factor, salt, answer)
                }
                (None, [4]) => self.accepts_cleartext(answer),
                _ => false,
            };
        };
        let name = switch.iter().position(|&byte| byte == 0).unwrap();
        let (name, data) = (&switch[..name], &switch[name + 1..]);
        match name {
            b"mysql_native_password" => accepts_native(self.password, &data[..20], answer),
            b"caching_sha2_password" => accepts_sha2(self.password, &data[..20], answer),
            b"client_ed25519" => verifies(&public_key(self.password), &data[..32], answer),
            b"parsec" => {
                self.parsec = Some(data[..32].try_into().unwrap());
                answer.is_empty()
            }
            b"unix_socket" | b"auth_socket" => answer.is_empty(),
            b"mysql_clear_password" => self.accepts_cleartext(answer),
            _ => false,
        }
    }

    fn accepts_cleartext(&self, answer: &[u8]) -> bool {
        self.secure && answer == [self.password, b"\0"].concat()
    }
}

/// mysql_native_password: the server holds SHA1(SHA1(password)) only.
pub fn accepts_native(password: &[u8], nonce: &[u8], scramble: &[u8]) -> bool {
    let stored = Sha1::digest(Sha1::digest(password));
    let mask = Sha1::new().chain_update(nonce).chain_update(stored).finalize();
    let unmasked: Vec<u8> = scramble.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    scramble.len() == 20 && Sha1::digest(unmasked) == stored
}

/// caching_sha2_password: its cache holds SHA256(SHA256(password)).
fn accepts_sha2(password: &[u8], nonce: &[u8], scramble: &[u8]) -> bool {
    let cached = Sha256::digest(Sha256::digest(password));
    let mask = Sha256::new().chain_update(cached).chain_update(nonce).finalize();
    let unmasked: Vec<u8> = scramble.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    scramble.len() == 32 && Sha256::digest(unmasked) == cached
}

/// parsec: the client's nonce and the signature of both.
fn accepts_parsec(
    password: &[u8],
    nonce: &[u8],
    iterations: u32,
    salt: &[u8],
    answer: &[u8],
) -> bool {
    let mut seed = [0; 32];
    pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut seed);
    let (theirs, signature) = answer.split_at(32);
    verifies(&public_key(&seed), &[nonce, theirs].concat(), signature)
}

/// RFC 8032, section 5.1.5.
fn public_key(seed: &[u8]) -> [u8; 32] {
    let hash = Sha512::digest(seed);
    EdwardsPoint::mul_base_clamped(hash[..32].try_into().unwrap()).compress().to_bytes()
}

/// RFC 8032, section 5.1.7.
fn verifies(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let (commitment, response) = signature.split_at(32);
    let hash = Sha512::new().chain_update(commitment).chain_update(public);
    let challenge = hash.chain_update(message).finalize().into();
    let challenge = Scalar::from_bytes_mod_order_wide(&challenge);
    let response = Scalar::from_canonical_bytes(response.try_into().unwrap()).unwrap();
    let public = CompressedEdwardsY(*public).decompress().unwrap();
    let expected = EdwardsPoint::mul_base(&response) - public * challenge;
    expected.compress().as_bytes() == commitment
}

/// Whether some bytes are among others.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What must never be sent: the password, and what serves in its place.
pub fn secrets(password: &[u8]) -> [Vec<u8>; 5] {
    let (sha1, sha256) = (Sha1::digest(password), Sha256::digest(password));
    let stored = [Sha1::digest(sha1).to_vec(), Sha256::digest(sha256).to_vec()];
    let [sha1_twice, sha256_twice] = stored;
    [password.to_vec(), sha1.to_vec(), sha1_twice, sha256.to_vec(), sha256_twice]
}
