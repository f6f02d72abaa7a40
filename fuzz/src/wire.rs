//! The server side of the MySQL protocol, independent of the tested code.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use pbkdf2::pbkdf2_hmac;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};

/// Returns one packet with its header.
pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// Splits off the first packet: its sequence number, its payload, and the bytes after it.
pub fn split_packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[a, b, c, sequence], rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes([a, b, c, 0]);
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).unwrap())?;
    Some((sequence, payload, rest))
}

/// Returns the payload of the first packet with this sequence number.
pub fn packet_numbered(mut bytes: &[u8], number: u8) -> Option<&[u8]> {
    loop {
        let (sequence, payload, rest) = split_packet(bytes)?;
        if sequence == number {
            return Some(payload);
        }
        bytes = rest;
    }
}

/// Appends Protocol::LengthEncodedString, or NULL for `None`.
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

/// Returns the payload of Protocol::HandshakeV10.
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

/// Returns the nonce of a greeting's payload.
pub fn nonce(greeting: &[u8]) -> Vec<u8> {
    let version = greeting.iter().position(|&byte| byte == 0).unwrap();
    [&greeting[version + 5..version + 13], &greeting[version + 32..version + 44]].concat()
}

/// Returns the info of an OK_Packet by which a server proves its certificate: the mark and
/// the hexadecimal digits of a hash.
pub fn proof(hash: &[u8], nonce: &[u8], fingerprint: &[u8; 32]) -> Vec<u8> {
    let proof = Sha256::digest([hash, nonce, fingerprint].concat());
    let digits: String = proof.iter().map(|byte| format!("{byte:02X}")).collect();
    [b"\x01", digits.as_bytes()].concat()
}

/// Returns the payload of OK_Packet with an info.
pub fn ok(info: &[u8]) -> Vec<u8> {
    let mut payload = OK.to_vec();
    text_value(&mut payload, Some(info));
    payload
}

/// Returns the hashes of the password that a server can have stored, given the bytes of the
/// login that it sent.
pub fn stored_hashes(password: &[u8], login: &[u8]) -> Vec<Vec<u8>> {
    let mut hashes = vec![native_hash(password), public_key(password).to_vec()];
    let mut rest = login;
    while let Some((_, payload, tail)) = split_packet(rest) {
        let data = payload.strip_prefix(b"\x01").unwrap_or(payload);
        if let [b'P', 0..=3, ..] = data {
            hashes.push(parsec_hash(password, data));
        }
        rest = tail;
    }
    hashes
}

/// parsec: the parameters of the key derivation, then the public key.
pub fn parsec_hash(password: &[u8], ext_salt: &[u8]) -> Vec<u8> {
    let mut seed = [0; 32];
    pbkdf2_hmac::<Sha512>(password, &ext_salt[2..], 1024 << ext_salt[1], &mut seed);
    [ext_salt, &public_key(&seed)].concat()
}

/// mysql_native_password: SHA1(SHA1(password)).
pub fn native_hash(password: &[u8]) -> Vec<u8> {
    Sha1::digest(Sha1::digest(password)).to_vec()
}

/// Returns the payload of Protocol::AuthSwitchRequest.
pub fn switch(plugin: &str, data: &[u8]) -> Vec<u8> {
    [b"\xFE", plugin.as_bytes(), b"\0", data, b"\0"].concat()
}

/// Returns the payload of ERR_Packet with an SQLSTATE.
pub fn err(code: u16, text: &[u8]) -> Vec<u8> {
    [&[0xFF], &code.to_le_bytes()[..], b"#HY000", text].concat()
}

pub const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
pub const EOF: &[u8] = &[0xFE, 0, 0, 2, 0];

/// The server's side of an authentication, across plugin switches.
pub struct Plugin<'a> {
    password: &'a [u8],
    secure: bool,
    /// How many further parsec responses are verified. The ones after that are accepted.
    derivations: usize,
    /// The nonce of a parsec challenge that waits for its response.
    parsec: Option<[u8; 32]>,
}

impl<'a> Plugin<'a> {
    /// `secure`: whether the client may send the cleartext password.
    pub fn new(password: &'a [u8], secure: bool, derivations: usize) -> Self {
        Self { password, secure, derivations, parsec: None }
    }

    /// Returns whether a server accepts the response to its AuthSwitchRequest or
    /// AuthMoreData.
    pub fn accepts(&mut self, request: &[u8], response: &[u8]) -> bool {
        let parsec_nonce = self.parsec.take();
        let Some(switch) = request.strip_prefix(b"\xFE") else {
            let data = request.strip_prefix(b"\x01").unwrap_or(request);
            return match (parsec_nonce, data) {
                (Some(nonce), [b'P', factor, salt @ ..]) => {
                    if self.derivations == 0 {
                        return true;
                    }
                    self.derivations -= 1;
                    accepts_parsec(self.password, &nonce, 1024 << factor, salt, response)
                }
                (None, [4]) => self.accepts_cleartext(response),
                _ => false,
            };
        };
        let name = switch.iter().position(|&byte| byte == 0).unwrap();
        let (name, data) = (&switch[..name], &switch[name + 1..]);
        match name {
            b"mysql_native_password" => accepts_native(self.password, &data[..20], response),
            b"caching_sha2_password" => accepts_sha2(self.password, &data[..20], response),
            b"client_ed25519" => verifies(&public_key(self.password), &data[..32], response),
            b"parsec" => {
                self.parsec = Some(data[..32].try_into().unwrap());
                response.is_empty()
            }
            b"unix_socket" | b"auth_socket" => response.is_empty(),
            b"mysql_clear_password" => self.accepts_cleartext(response),
            _ => false,
        }
    }

    fn accepts_cleartext(&self, response: &[u8]) -> bool {
        self.secure && response == [self.password, b"\0"].concat()
    }
}

/// mysql_native_password: the server stores SHA1(SHA1(password)).
pub fn accepts_native(password: &[u8], nonce: &[u8], scramble: &[u8]) -> bool {
    let stored = Sha1::digest(Sha1::digest(password));
    let mask = Sha1::new().chain_update(nonce).chain_update(stored).finalize();
    let unmasked: Vec<u8> = scramble.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    scramble.len() == 20 && Sha1::digest(unmasked) == stored
}

/// caching_sha2_password: the cache has SHA256(SHA256(password)).
fn accepts_sha2(password: &[u8], nonce: &[u8], scramble: &[u8]) -> bool {
    let cached = Sha256::digest(Sha256::digest(password));
    let mask = Sha256::new().chain_update(cached).chain_update(nonce).finalize();
    let unmasked: Vec<u8> = scramble.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    scramble.len() == 32 && Sha256::digest(unmasked) == cached
}

/// parsec: the client's nonce, then the signature of both nonces.
fn accepts_parsec(
    password: &[u8],
    nonce: &[u8],
    iterations: u32,
    salt: &[u8],
    response: &[u8],
) -> bool {
    let mut seed = [0; 32];
    pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut seed);
    let (client_nonce, signature) = response.split_at(32);
    verifies(&public_key(&seed), &[nonce, client_nonce].concat(), signature)
}

/// Derives the public key: RFC 8032, section 5.1.5.
pub fn public_key(seed: &[u8]) -> [u8; 32] {
    let hash = Sha512::digest(seed);
    EdwardsPoint::mul_base_clamped(hash[..32].try_into().unwrap()).compress().to_bytes()
}

/// Verifies a signature: RFC 8032, section 5.1.7.
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

/// Returns whether `part` occurs in `bytes`.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The secrets that must not be sent: the password, and hashes that can replace it.
pub fn secrets(password: &[u8]) -> [Vec<u8>; 5] {
    let (sha1, sha256) = (Sha1::digest(password), Sha256::digest(password));
    let stored = [Sha1::digest(sha1).to_vec(), Sha256::digest(sha256).to_vec()];
    let [sha1_twice, sha256_twice] = stored;
    [password.to_vec(), sha1.to_vec(), sha1_twice, sha256.to_vec(), sha256_twice]
}
