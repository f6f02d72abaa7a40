//! One packet with any payload, at each place of a probe run where another
//! decoder reads it: greeting, login reply, the reply's head, a row.

use galera_probe::mysql::{Channel, Error, Progress, Reply};

use super::session;
use super::wire;

const NONCE: &[u8; 20] = b"Knh?Cr4JZb^3~F~l$f[r";
const ALL: u32 = 0x00FF_FFFF;

/// The first byte chooses the place, the second how the bytes are cut.
pub fn check(bytes: &[u8]) {
    let Some((&[place, cut], payload)) = bytes.split_first_chunk() else { return };
    // A payload over the cap ends at its header, whatever it holds.
    let payload = &payload[..payload.len().min(1 << 20)];
    let greeting = wire::packet(0, &wire::greeting(b"10.11", ALL, NONCE, b"\0"));
    let ok = wire::packet(2, wire::OK);
    let columns = [wire::packet(1, &[2]), wire::packet(2, b"a"), wire::packet(3, b"b")].concat();
    let columns = [columns, wire::packet(4, wire::EOF)].concat();
    let result = |server: &[&[u8]]| session::holds(&server.concat(), Channel::Tcp, cut).result;
    let large = payload.len() > 16 * 1024;
    let result = match place % 5 {
        0 => result(&[&wire::packet(0, payload)]),
        1 => result(&[&greeting, &wire::packet(2, payload)]),
        2 => result(&[&greeting, &ok, &wire::packet(1, payload)]),
        3 => result(&[&greeting, &ok, &columns, &wire::packet(5, payload)]),
        _ => {
            // The row, and what brings the probe run to its end.
            let end = [wire::packet(6, wire::EOF), wire::packet(1, wire::OK)].concat();
            let end = [end, wire::packet(1, wire::OK)].concat();
            let result = result(&[&greeting, &ok, &columns, &wire::packet(5, payload), &end]);
            if let Ok(Progress::Done(replies)) = &result {
                row_is_what_the_payload_holds(replies, payload);
            }
            result
        }
    };
    if large {
        assert_eq!(result, Err(Error::TooLarge { what: "packet" }));
    }
    if let Err(Error::Refused(error)) = &result {
        // ERR_Packet: its header, the code, perhaps `#` and an SQLSTATE, the text.
        assert_eq!(payload[0], 0xFF);
        assert_eq!(payload[1..3], error.code.to_le_bytes());
        let text = &payload[if payload.get(3) == Some(&b'#') { 9 } else { 3 }..];
        assert_eq!(text.is_empty(), error.text.is_empty());
    }
}

/// The values stand in the payload one behind the other, each behind its length,
/// and nothing is left over.
fn row_is_what_the_payload_holds(replies: &[Reply], payload: &[u8]) {
    let Reply::Rows(rows) = &replies[0] else { return };
    let Some(row) = rows.first() else { return };
    assert_eq!(row.len(), 2);
    let mut rest = payload;
    for value in row {
        let (&[first], behind) = rest.split_first_chunk().unwrap();
        let header = match first {
            0xFC => 2,
            0xFD => 3,
            0xFE => 8,
            _ => 0,
        };
        let (length, behind) = behind.split_at(header);
        let length = length.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let length = if header == 0 { first.into() } else { length };
        rest = match value {
            None => {
                assert_eq!(first, 0xFB);
                behind
            }
            Some(value) => {
                assert_eq!(value.len() as u64, length);
                behind.strip_prefix(&value[..]).unwrap()
            }
        };
    }
    assert!(rest.is_empty());
}
