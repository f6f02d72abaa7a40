//! The server's side of the MySQL protocol, written and read without the code
//! that is tested.

use sha1::{Digest, Sha1};
use sha2::Sha256;

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

/// AuthSwitchRequest to `mysql_native_password`.
pub fn switch(nonce: &[u8; 20]) -> Vec<u8> {
    [b"\xFEmysql_native_password\0", &nonce[..], b"\0"].concat()
}

/// ERR_Packet with an SQLSTATE.
pub fn err(code: u16, text: &[u8]) -> Vec<u8> {
    [&[0xFF], &code.to_le_bytes()[..], b"#HY000", text].concat()
}

pub const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
pub const EOF: &[u8] = &[0xFE, 0, 0, 2, 0];

/// Whether a server takes this scramble: it holds SHA1(SHA1(password)) only.
pub fn accepts(password: &[u8], nonce: &[u8], scramble: &[u8]) -> bool {
    let stored = Sha1::digest(Sha1::digest(password));
    let mask = Sha1::new().chain_update(nonce).chain_update(stored).finalize();
    let unmasked: Vec<u8> = scramble.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    scramble.len() == 20 && Sha1::digest(unmasked) == stored
}

/// What must never be sent: the password, and what serves in its place.
pub fn secrets(password: &[u8]) -> [Vec<u8>; 5] {
    let (sha1, sha256) = (Sha1::digest(password), Sha256::digest(password));
    let stored = [Sha1::digest(sha1).to_vec(), Sha256::digest(sha256).to_vec()];
    let [sha1_twice, sha256_twice] = stored;
    [password.to_vec(), sha1.to_vec(), sha1_twice, sha256.to_vec(), sha256_twice]
}
