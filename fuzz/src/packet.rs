//! Fuzz target for packets: one packet with any payload, in place of the greeting, the login
//! reply, the first packet of a query reply, or a row.

use galera_probe::mysql::{Channel, Error, Reply, Row};

use super::session;
use super::wire;

const NONCE: &[u8; 20] = b"Knh?Cr4JZb^3~F~l$f[r";
const ALL: u32 = 0x00FF_FFFF;

/// The first byte selects the packet that is replaced, the second the split into pieces.
pub fn check(bytes: &[u8]) {
    let Some((&[place, cut], payload)) = bytes.split_first_chunk() else { return };
    // A payload over the cap is refused at its header, so longer ones add nothing.
    let payload = &payload[..payload.len().min(1 << 20)];
    let greeting = wire::packet(0, &wire::greeting(b"10.11", ALL, NONCE, b"\0"));
    let ok = wire::packet(2, wire::OK);
    let columns = [wire::packet(1, &[2]), wire::packet(2, b"a"), wire::packet(3, b"b")].concat();
    let columns = [columns, wire::packet(4, wire::EOF)].concat();
    let run = |server: &[&[u8]]| session::check_session(&server.concat(), Channel::Tcp, cut, 1);
    let large = payload.len() > 16 * 1024;
    let run = match place % 5 {
        0 => run(&[&wire::packet(0, payload)]),
        1 => run(&[&greeting, &wire::packet(2, payload)]),
        2 => run(&[&greeting, &ok, &wire::packet(1, payload)]),
        3 => run(&[&greeting, &ok, &columns, &wire::packet(5, payload)]),
        _ => {
            // The row, and the packet that completes the reply.
            let end = wire::packet(6, wire::EOF);
            let run = run(&[&greeting, &ok, &columns, &wire::packet(5, payload), &end]);
            if let [Reply::Rows(rows), ..] = &run.replies[..] {
                check_row(rows, payload);
            }
            run
        }
    };
    if large {
        assert_eq!(run.result, Err(Error::TooLarge { what: "packet" }));
    }
    if let Err(Error::Refused(error)) = &run.result {
        // ERR_Packet: header, code, `#` and an SQLSTATE unless before the login, text.
        assert_eq!(payload[0], 0xFF);
        assert_eq!(payload[1..3], error.code.to_le_bytes());
        let text = &payload[if payload.get(3) == Some(&b'#') { 9 } else { 3 }..];
        assert_eq!(text.is_empty(), error.text.is_empty());
    }
}

/// The payload is the values of the row in order, each after its length, and nothing else.
fn check_row(rows: &[Row], payload: &[u8]) {
    let Some(row) = rows.first() else { return };
    assert_eq!(row.len(), 2);
    let mut rest = payload;
    for value in row {
        let (&[first], tail) = rest.split_first_chunk().unwrap();
        let header = match first {
            0xFC => 2,
            0xFD => 3,
            0xFE => 8,
            _ => 0,
        };
        let (length, tail) = tail.split_at(header);
        let length = length.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let length = if header == 0 { first.into() } else { length };
        rest = match value {
            None => {
                assert_eq!(first, 0xFB);
                tail
            }
            Some(value) => {
                assert_eq!(value.len() as u64, length);
                tail.strip_prefix(&value[..]).unwrap()
            }
        };
    }
    assert!(rest.is_empty());
}
