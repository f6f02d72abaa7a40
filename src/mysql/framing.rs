//! Packet framing: the header with length and sequence number.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use zeroize::Zeroize;

use super::error::Error;
use super::reader::Reader;

/// The largest payload that is accepted from a server or sent to it.
///
/// A probe reads a greeting, short errors, and rows of a name and a value. The largest
/// payload observed has 108 bytes. A larger length is refused as soon as the header arrives,
/// so that the server does not control how much memory is used.
pub(super) const MAX_PAYLOAD: u16 = 16 * 1024;

/// The most bytes that are accepted from a server, headers included, for the login and for
/// each reply. A whole probe run against MariaDB 10.11 receives 1.1 kB.
pub(super) const MAX_TOTAL: usize = 64 * 1024;

/// The length of a packet header: three bytes of payload length, one sequence number.
const HEADER_LENGTH: usize = 4;

/// The first byte of ERR_Packet.
pub(super) const ERR_HEADER: u8 = 0xFF;

/// Splits the server's bytes into packets and checks their sequence numbers.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub(super) struct Deframer {
    buffer: BytesMut,
    /// The sequence number that the next packet of either side must have.
    sequence: u8,
    /// The bytes of all packets so far, headers included.
    total: usize,
    /// Whether a packet of the greeting and login, or of the current reply, has been taken.
    has_begun: bool,
}

impl Deframer {
    pub(super) fn feed(&mut self, input: &[u8]) {
        self.buffer.extend_from_slice(input);
    }

    /// Returns the payload of the next packet, or `None` while it is incomplete.
    pub(super) fn next_payload(&mut self) -> Result<Option<Bytes>, Error> {
        let mut header = Reader::new(&self.buffer);
        let Ok([a, b, c, received]) = header.array::<HEADER_LENGTH>("packet header") else {
            return Ok(None);
        };
        let expected = self.sequence;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if received != expected {
            // MariaDB 10.3 and 10.4 and MaxScale number an ERR in place of the greeting 1. A
            // server that shuts down numbers its ERR 0, whatever command is due.
            let may_be_err = !self.has_begun && (1..=MAX_PAYLOAD.into()).contains(&length);
            match header.peek() {
                Some(ERR_HEADER) if may_be_err => {}
                None if may_be_err => return Ok(None),
                _ => return Err(Error::Sequence { expected, received }),
            }
        }
        if length > MAX_PAYLOAD.into() {
            return Err(Error::TooLarge { what: "packet" });
        }
        if header.bytes(length, "payload").is_err() {
            return Ok(None);
        }
        self.total = self.total.saturating_add(length).saturating_add(HEADER_LENGTH);
        if self.total > MAX_TOTAL {
            return Err(Error::TooLarge { what: "total bytes" });
        }
        self.has_begun = true;
        self.sequence = received.wrapping_add(1);
        self.buffer.advance(HEADER_LENGTH);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Prepares for the reply to a command. A command has sequence number 0, so its reply
    /// begins at 1. The count that [`MAX_TOTAL`] limits starts anew.
    pub(super) fn begin_reply(&mut self) {
        self.sequence = 1;
        self.total = 0;
        self.has_begun = false;
    }

    /// Returns whether all bytes have been consumed.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Returns the sequence number that the next packet of either side must have.
    pub(super) fn sequence(&self) -> u8 {
        self.sequence
    }

    /// Sets the sequence number that the server's next packet must have, after a packet was
    /// sent.
    pub(super) fn expect(&mut self, sequence: u8) {
        self.sequence = sequence;
    }
}

/// Appends one packet, whose payload `write` appends.
///
/// # Errors
/// [`Error::Request`] if the payload is larger than [`MAX_PAYLOAD`].
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
    // The payload may contain a password.
    payload.zeroize();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deframes_the_framed_packets_for_every_split_of_the_bytes() {
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
    fn refuses_a_packet_out_of_order_before_its_payload_arrives() {
        let mut deframer = Deframer::default();
        deframer.feed(&[0, 0, 0, 0, 3, 0, 0, 2]);
        assert_eq!(deframer.next_payload(), Ok(Some(Bytes::new())));
        let error = Error::Sequence { expected: 1, received: 2 };
        assert_eq!(deframer.next_payload(), Err(error));
    }

    #[test]
    fn accepts_any_sequence_number_of_a_first_packet_that_is_an_err_and_of_no_other() {
        let error = Err(Error::Sequence { expected: 0, received: 1 });
        for (bytes, expected) in [
            (&[3, 0, 0, 1][..], Ok(None)),
            (&[3, 0, 0, 1, 0xFF], Ok(None)),
            (&[3, 0, 0, 1, 0xFF, 0x10, 0x04], Ok(Some(Bytes::from_static(b"\xFF\x10\x04")))),
            (&[3, 0, 0, 1, 10], error.clone()),
            (&[0, 0, 0, 1], error.clone()),
            // A length over the cap, as bytes of another protocol have it.
            (&[0, 0, 1, 1], error.clone()),
            (&[0, 0, 1, 1, 0xFF], error),
        ] {
            let mut deframer = Deframer::default();
            deframer.feed(bytes);
            assert_eq!(deframer.next_payload(), expected, "{bytes:?}");
        }
        let mut deframer = Deframer::default();
        deframer.feed(&[1, 0, 0, 1, 0xFF, 1, 0, 0, 1, 0xFF]);
        assert!(deframer.next_payload().is_ok());
        let error = Error::Sequence { expected: 2, received: 1 };
        assert_eq!(deframer.next_payload(), Err(error));
    }

    #[test]
    fn sequence_numbers_wrap_after_255() {
        let mut deframer = Deframer::default();
        deframer.expect(255);
        deframer.feed(&[0, 0, 0, 255, 0, 0, 0, 0]);
        assert_eq!(deframer.next_payload(), Ok(Some(Bytes::new())));
        assert_eq!(deframer.next_payload(), Ok(Some(Bytes::new())));
    }

    #[test]
    fn refuses_a_length_over_the_cap_before_the_payload_arrives() {
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
    fn refuses_packets_over_the_total_cap() {
        let mut deframer = Deframer::default();
        let mut accepted = 0;
        let error = loop {
            deframer.feed(&[0, 0, 0, deframer.sequence()]);
            match deframer.next_payload() {
                Ok(_) => accepted += HEADER_LENGTH,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::TooLarge { what: "total bytes" });
        assert_eq!(accepted, 64 * 1024);
    }

    #[test]
    fn refuses_to_frame_a_payload_over_the_cap() {
        let mut wire = BytesMut::new();
        let error =
            frame(&mut wire, 0, |payload| payload.put_bytes(b'x', usize::from(MAX_PAYLOAD) + 1));
        assert_eq!(error, Err(Error::Request { what: "longer than one packet" }));
        assert!(wire.is_empty());
    }
}
