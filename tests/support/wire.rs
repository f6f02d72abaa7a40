//! The server side of the MySQL protocol, as far as the stand-in node needs it.

use std::io;

use sha1::{Digest, Sha1};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The nonce in the greeting.
pub const NONCE: &[u8; 20] = b"Knh?Cr4JZb^3~F~l$f[r";
/// The nonce in an AuthSwitchRequest.
pub const SWITCH_NONCE: &[u8; 20] = b"5HK!^8<c_5'dDgXbcK0I";
const NATIVE_PASSWORD: &[u8] = b"mysql_native_password\0";

pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// The greeting of MariaDB 10.11, without TLS.
pub fn greeting() -> Vec<u8> {
    greeting_of(false)
}

/// The greeting of MariaDB 10.11. With `tls`, it offers TLS: CLIENT_SSL is set in the second
/// byte of the capabilities.
pub fn greeting_of(tls: bool) -> Vec<u8> {
    let mut payload = b"\x0a5.5.5-10.11.19-MariaDB\0".to_vec();
    payload.extend(7_u32.to_le_bytes());
    payload.extend(&NONCE[..8]);
    payload.extend([0, 0xFE, if tls { 0xFF } else { 0xF7 }]);
    payload.extend(*b"\x08\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0");
    payload.extend(&NONCE[8..]);
    payload.push(0);
    payload.extend(NATIVE_PASSWORD);
    packet(0, &payload)
}

pub fn ok(sequence: u8) -> Vec<u8> {
    packet(sequence, &[0, 0, 0, 2, 0, 0, 0])
}

/// An OK packet with an info.
pub fn ok_with(sequence: u8, info: &[u8]) -> Vec<u8> {
    let length = u8::try_from(info.len()).unwrap();
    packet(sequence, &[&[0, 0, 0, 2, 0, 0, 0, length], info].concat())
}

/// The info by which a server proves its certificate for an account with
/// mysql_native_password: the byte 1 and a hash in hexadecimal digits.
pub fn proof(password: &str, fingerprint: &[u8; 32]) -> Vec<u8> {
    let stored = Sha1::digest(Sha1::digest(password));
    let proof = Sha256::digest([&stored[..], NONCE, fingerprint].concat());
    let digits: String = proof.iter().map(|byte| format!("{byte:02X}")).collect();
    [b"\x01", digits.as_bytes()].concat()
}

pub fn eof(sequence: u8) -> Vec<u8> {
    packet(sequence, &[0xFE, 0, 0, 2, 0])
}

/// An ERR packet. It has an SQLSTATE, except with sequence number 0, where it replaces the
/// greeting.
pub fn err(sequence: u8, code: u16, text: &str) -> Vec<u8> {
    let mut payload = vec![0xFF];
    payload.extend(code.to_le_bytes());
    if sequence > 0 {
        payload.extend(b"#HY000");
    }
    payload.extend(text.as_bytes());
    packet(sequence, &payload)
}

/// An AuthSwitchRequest.
pub fn switch(sequence: u8, plugin: &str, nonce: &[u8]) -> Vec<u8> {
    let payload = [b"\xFE", plugin.as_bytes(), b"\0", nonce, b"\0"].concat();
    packet(sequence, &payload)
}

/// A result set of two text columns.
pub fn rows(rows: &[(String, String)]) -> Vec<u8> {
    let rows: Vec<_> = rows.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
    table(2, &rows)
}

/// A result set of `columns` text columns.
pub fn table(columns: u8, rows: &[Vec<String>]) -> Vec<u8> {
    let mut bytes = packet(1, &[columns]);
    let mut sequence = 2;
    for column in ["Variable_name", "Value"].iter().cycle().take(columns.into()) {
        let mut definition = b"\x03def\0\0\0".to_vec();
        definition.push(u8::try_from(column.len()).unwrap());
        definition.extend(column.as_bytes());
        definition.extend(*b"\0\x0c\x2d\0\0\x01\0\0\xfd\x01\0\0\0\0");
        bytes.extend(packet(sequence, &definition));
        sequence += 1;
    }
    bytes.extend(eof(sequence));
    for row in rows {
        sequence += 1;
        let mut payload = Vec::new();
        for text in row {
            payload.push(u8::try_from(text.len()).unwrap());
            payload.extend(text.as_bytes());
        }
        bytes.extend(packet(sequence, &payload));
    }
    bytes.extend(eof(sequence + 1));
    bytes
}

/// Reads one packet of the client: sequence number and payload.
pub async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let [a, b, c, sequence] = header;
    let mut payload = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((sequence, payload))
}

/// Whether the payload is an SSLRequest: it ends where a HandshakeResponse41 has the user
/// name.
pub fn is_ssl_request(payload: &[u8]) -> bool {
    payload.len() == 32 && payload[1] & 0x08 != 0
}

/// Returns the user name and the scramble of a HandshakeResponse41.
pub fn read_login(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = payload.get(32..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    let (&length, scramble) = rest.get(end + 1..)?.split_first()?;
    Some((&rest[..end], scramble.get(..length.into())?))
}

/// Checks a mysql_native_password scramble as a server does, from SHA1(SHA1(password)).
pub fn accepts(password: &str, nonce: &[u8], scramble: &[u8]) -> bool {
    if password.is_empty() || scramble.is_empty() {
        return password.is_empty() && scramble.is_empty();
    }
    let stored = Sha1::digest(Sha1::digest(password));
    let mask = Sha1::new().chain_update(nonce).chain_update(stored).finalize();
    let unmasked: Vec<u8> = scramble.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    Sha1::digest(unmasked) == stored
}

/// Checks a caching_sha2_password scramble as a server does, from
/// SHA256(SHA256(password)).
pub fn accepts_sha2(password: &str, nonce: &[u8], scramble: &[u8]) -> bool {
    let cached = Sha256::digest(Sha256::digest(password));
    let mask = Sha256::new().chain_update(cached).chain_update(nonce).finalize();
    let unmasked: Vec<u8> = scramble.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    Sha256::digest(unmasked) == cached
}
