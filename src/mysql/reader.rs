use super::Error;

/// A checked cursor over one packet's payload: the only place that cuts a
/// slice of a peer's bytes. Every error names the field that was missing.
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

    /// The next byte, without taking it.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// All that is left.
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

    /// Protocol::NullTerminatedString, without its NUL.
    pub(super) fn null_terminated(&mut self, field: &'static str) -> Result<&'a [u8], Error> {
        let length = self.rest.iter().position(|&byte| byte == 0);
        let text = self.bytes(length.ok_or(Error::Malformed { field })?, field)?;
        self.u8(field)?;
        Ok(text)
    }

    /// Protocol::LengthEncodedInteger.
    pub(super) fn length_encoded_integer(&mut self, field: &'static str) -> Result<u64, Error> {
        match self.u8(field)? {
            small @ 0..=0xFA => Ok(small.into()),
            0xFC => Ok(self.u16_le(field)?.into()),
            0xFD => {
                let [a, b, c] = self.array(field)?;
                Ok(u32::from_le_bytes([a, b, c, 0]).into())
            }
            0xFE => self.array(field).map(u64::from_le_bytes),
            // 0xFB stands for NULL and 0xFF for an error; neither is a length.
            0xFB | 0xFF => Err(Error::Malformed { field }),
        }
    }

    /// Protocol::LengthEncodedString.
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
    fn a_length_encoded_integer_comes_in_four_sizes() {
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
    fn null_and_error_markers_are_no_lengths() {
        for marker in [0xFB, 0xFF] {
            let error = Reader::new(&[marker, 0, 0]).length_encoded_integer("n");
            assert_eq!(error, Err(Error::Malformed { field: "n" }));
        }
    }

    #[test]
    fn a_short_payload_is_an_error_that_names_the_field_and_takes_nothing() {
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
    fn a_string_longer_than_the_packet_is_an_error_whatever_length_it_claims() {
        for claim in [&[0x02, b'x'][..], &[0xFE, 255, 255, 255, 255, 255, 255, 255, 255, b'x']] {
            let error = Reader::new(claim).length_encoded_bytes("s");
            assert_eq!(error, Err(Error::Malformed { field: "s" }));
        }
    }

    #[test]
    fn a_null_terminated_string_leaves_its_terminator_behind() {
        let mut reader = Reader::new(b"abc\0def");
        assert_eq!(reader.null_terminated("s").unwrap(), b"abc");
        assert_eq!(reader.rest(), b"def");
    }
}
