//! A checked cursor over the payload of one packet.

use super::error::Error;

/// A cursor over a payload. Packets are parsed only through it, so that no parser slices
/// bytes unchecked. Each method that reads a field returns [`Error::Malformed`] with the
/// field's name if the payload is too short. The cursor is of no use after an error: it may
/// have consumed a part of the field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the next byte without consuming it.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Returns the bytes that are left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, Error> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(super) fn u16_le(&mut self, field: &'static str) -> Result<u16, Error> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Error::Malformed { field })?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn bytes(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Error::Malformed { field })?;
        self.rest = rest;
        Ok(head)
    }

    /// Reads Protocol::NullTerminatedString, and returns it without its NUL.
    pub(super) fn null_terminated(&mut self, field: &'static str) -> Result<&'a [u8], Error> {
        let length = self.rest.iter().position(|&byte| byte == 0);
        let text = self.bytes(length.ok_or(Error::Malformed { field })?, field)?;
        self.u8(field)?;
        Ok(text)
    }

    /// Reads Protocol::LengthEncodedInteger.
    pub(super) fn length_encoded_integer(&mut self, field: &'static str) -> Result<u64, Error> {
        match self.u8(field)? {
            small @ 0..=0xFA => Ok(small.into()),
            0xFC => Ok(self.u16_le(field)?.into()),
            0xFD => {
                let [a, b, c] = self.array(field)?;
                Ok(u32::from_le_bytes([a, b, c, 0]).into())
            }
            0xFE => self.array(field).map(u64::from_le_bytes),
            // 0xFB marks NULL and 0xFF an ERR packet. Neither begins an integer.
            0xFB | 0xFF => Err(Error::Malformed { field }),
        }
    }

    /// Reads Protocol::LengthEncodedString.
    pub(super) fn length_encoded_bytes(&mut self, field: &'static str) -> Result<&'a [u8], Error> {
        let length = self.length_encoded_integer(field)?;
        let length = usize::try_from(length).map_err(|_| Error::Malformed { field })?;
        self.bytes(length, field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_length_encoded_integer_of_each_size() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0xFA], 250),
            (&[0xFC, 0xFB, 0x00], 251),
            (&[0xFC, 0xFF, 0xFF], 0xFFFF),
            (&[0xFD, 0x00, 0x00, 0x01], 0x01_0000),
            (&[0xFE, 1, 2, 3, 4, 5, 6, 7, 8], 0x0807_0605_0403_0201),
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.length_encoded_integer("n").unwrap(), value);
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn refuses_null_and_err_markers_as_integers() {
        for marker in [0xFB, 0xFF] {
            let error = Reader::new(&[marker, 0, 0]).length_encoded_integer("n");
            assert_eq!(error, Err(Error::Malformed { field: "n" }));
        }
    }

    #[test]
    fn a_short_payload_is_an_error_with_the_fields_name_and_consumes_nothing() {
        let short = Err(Error::Malformed { field: "f" });
        let mut reader = Reader::new(&[0xFC]);
        assert_eq!(reader.u16_le("f").map(drop), short);
        assert_eq!(reader.bytes(2, "f").map(drop), short);
        assert_eq!(reader.null_terminated("f").map(drop), short);
        assert_eq!(reader.rest(), [0xFC]);
        assert_eq!(reader.length_encoded_bytes("f").map(drop), short);
        assert_eq!(Reader::new(&[]).u8("f").map(drop), short);
    }

    #[test]
    fn refuses_a_string_longer_than_the_packet() {
        for claim in [&[0x02, b'x'][..], &[0xFE, 255, 255, 255, 255, 255, 255, 255, 255, b'x']] {
            let error = Reader::new(claim).length_encoded_bytes("s");
            assert_eq!(error, Err(Error::Malformed { field: "s" }));
        }
    }

    #[test]
    fn reads_a_null_terminated_string_without_its_terminator() {
        let mut reader = Reader::new(b"abc\0def");
        assert_eq!(reader.null_terminated("s").unwrap(), b"abc");
        assert_eq!(reader.rest(), b"def");
    }
}
