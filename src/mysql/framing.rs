use bytes::{Buf, BufMut, Bytes, BytesMut};
use zeroize::Zeroize;

use super::Error;
use super::reader::Reader;

/// The largest payload taken from a server. What a probe reads is a greeting,
/// short errors and rows of a name and a value; the largest of them seen is
/// 108 bytes. A length above this is refused before its body is waited for, so
/// that the peer cannot choose how much memory it gets.
pub(super) const MAX_PAYLOAD: u16 = 16 * 1024;

/// All that is taken from a server in one session, or each time that one is asked
/// again, headers included. A whole probe run with MariaDB 10.11 is 1.1 kB.
pub(super) const MAX_TOTAL: usize = 64 * 1024;

const HEADER: usize = 4;

/// Cuts the incoming bytes into packets and checks their numbers.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub(super) struct Deframer {
    buffer: BytesMut,
    sequence: u8,
    taken: usize,
}

impl Deframer {
    pub(super) fn feed(&mut self, input: &[u8]) {
        self.buffer.extend_from_slice(input);
    }

    /// The payload of the next packet, or `None` while it is incomplete.
    pub(super) fn next_payload(&mut self) -> Result<Option<Bytes>, Error> {
        let mut header = Reader::new(&self.buffer);
        let Ok([a, b, c, received]) = header.array::<HEADER>("packet header") else {
            return Ok(None);
        };
        let expected = self.sequence;
        if received != expected {
            return Err(Error::Sequence { expected, received });
        }
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if length > MAX_PAYLOAD.into() {
            return Err(Error::TooLarge { what: "packet" });
        }
        if header.bytes(length, "payload").is_err() {
            return Ok(None);
        }
        self.taken = self.taken.saturating_add(length).saturating_add(HEADER);
        if self.taken > MAX_TOTAL {
            return Err(Error::TooLarge { what: "bytes in all" });
        }
        self.sequence = expected.wrapping_add(1);
        self.buffer.advance(HEADER);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// The cap counts anew.
    pub(super) fn restart(&mut self) {
        self.taken = 0;
    }

    /// Whether nothing is left of what was fed.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The number that the next packet of either side must have.
    pub(super) fn sequence(&self) -> u8 {
        self.sequence
    }

    /// Sets the number of the next packet to come: after a packet of ours, or
    /// when the reply to a new command begins.
    pub(super) fn expect(&mut self, sequence: u8) {
        self.sequence = sequence;
    }
}

/// Appends one packet; `write` appends its payload.
pub(super) fn frame(
    output: &mut BytesMut,
    sequence: u8,
    write: impl FnOnce(&mut BytesMut),
) -> Result<(), Error> {
    let mut payload = BytesMut::new();
    write(&mut payload);
    let [a, b, c, _] = match u32::try_from(payload.len()) {
        Ok(length) if length <= MAX_PAYLOAD.into() => length.to_le_bytes(),
        _ => return Err(Error::Request { what: "longer than one packet" }),
    };
    output.put_slice(&[a, b, c, sequence]);
    output.put_slice(&payload);
    // It may be a password.
    payload.zeroize();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_framed_is_cut_again_wherever_the_bytes_were_split() {
        let mut wire = BytesMut::new();
        frame(&mut wire, 0, |payload| payload.put_slice(b"one")).unwrap();
        frame(&mut wire, 1, |_| ()).unwrap();
        for split in 0..=wire.len() {
            let mut deframer = Deframer::default();
            let mut payloads = Vec::new();
            for piece in [&wire[..split], &wire[split..]] {
                deframer.feed(piece);
                while let Some(payload) = deframer.next_payload().unwrap() {
                    payloads.push(payload);
                }
            }
            assert_eq!(payloads, [&b"one"[..], b""]);
        }
    }

    #[test]
    fn a_packet_out_of_order_is_refused_before_its_body_comes() {
        let mut deframer = Deframer::default();
        deframer.feed(&[3, 0, 0, 1]);
        let error = Error::Sequence { expected: 0, received: 1 };
        assert_eq!(deframer.next_payload(), Err(error));
    }

    #[test]
    fn packet_numbers_wrap_after_255() {
        let mut deframer = Deframer::default();
        deframer.expect(255);
        deframer.feed(&[0, 0, 0, 255, 0, 0, 0, 0]);
        assert_eq!(deframer.next_payload(), Ok(Some(Bytes::new())));
        assert_eq!(deframer.next_payload(), Ok(Some(Bytes::new())));
    }

    #[test]
    fn a_length_over_the_cap_is_refused_before_its_body_comes() {
        let cap = u32::from(MAX_PAYLOAD);
        for (length, fits) in
            [(cap, true), (cap + 1, false), (0x01_0000, false), (0xFF_FFFF, false)]
        {
            let [a, b, c, _] = length.to_le_bytes();
            let mut deframer = Deframer::default();
            deframer.feed(&[a, b, c, 0]);
            let expected = if fits { Ok(None) } else { Err(Error::TooLarge { what: "packet" }) };
            assert_eq!(deframer.next_payload(), expected);
        }
    }

    #[test]
    fn packets_without_end_are_refused_at_the_total_cap() {
        let mut deframer = Deframer::default();
        let mut taken = 0;
        let error = loop {
            deframer.feed(&[0, 0, 0, deframer.sequence()]);
            match deframer.next_payload() {
                Ok(_) => taken += HEADER,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::TooLarge { what: "bytes in all" });
        assert_eq!(taken, 64 * 1024);
    }

    #[test]
    fn a_payload_of_ours_over_the_cap_is_refused() {
        let mut wire = BytesMut::new();
        let error =
            frame(&mut wire, 0, |payload| payload.put_bytes(b'x', usize::from(MAX_PAYLOAD) + 1));
        assert_eq!(error, Err(Error::Request { what: "longer than one packet" }));
        assert!(wire.is_empty());
    }
}
