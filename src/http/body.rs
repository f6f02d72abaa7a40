//! The body of a request: its length as the head declares it, and a reader that
//! discards it.

use super::fields::values;
use super::response::Problem;

/// The most bytes of a body that are read before the response, chunk framing included.
/// Balancers send no body. A body is read because closing a socket with unread bytes resets
/// the connection, and a reset can destroy the response on its way.
const MAX_BODY: u64 = 64 * 1024;

/// The body that follows a request's head, by the head's fields (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// No body: the head has neither Content-Length nor Transfer-Encoding.
    None,
    /// A body of this many bytes (Content-Length). A number that does not fit is
    /// `u64::MAX`.
    Length(u64),
    /// A chunked body (RFC 9112, section 7.1), which ends with a chunk of size 0.
    Chunked,
}

impl Body {
    /// Reads the body's length from the head. Returns `None` for an ambiguous head: two
    /// readers could disagree on where the request ends (RFC 9112, section 11.2).
    pub(super) fn from_head(request: &httparse::Request<'_, '_>) -> Option<Self> {
        let mut codings = values(request, "transfer-encoding");
        let mut lengths = values(request, "content-length");
        match (codings.next(), lengths.next()) {
            (None, None) => Some(Self::None),
            (None, Some(length)) => {
                let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                let same = lengths.all(|other| other == length);
                (digits && same).then(|| Self::Length(length.parse().unwrap_or(u64::MAX)))
            }
            (Some(coding), None) => {
                let chunked = coding.eq_ignore_ascii_case("chunked") && codings.next().is_none();
                (chunked && request.version == Some(1)).then_some(Self::Chunked)
            }
            (Some(_), Some(_)) => None,
        }
    }
}

/// The state of a [`BodyReader`] after a piece of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyProgress {
    /// The body continues after this piece.
    Incomplete,
    /// The body is complete.
    Complete,
    /// The body cannot be read to its end: [`Problem::BodyTooLarge`] over 64 KiB, or
    /// [`Problem::BadRequest`] for malformed chunks.
    Bad(Problem),
}

/// Reads a body in pieces and discards it.
///
/// It reads at most 64 KiB, chunk sizes and extensions included. It stops after the line
/// of the last chunk and does not read the trailer section (RFC 9112, section 7.1.2).
#[derive(Clone, Copy, Debug)]
pub struct BodyReader {
    position: Position,
    /// Bytes that may still be read, chunk framing included.
    budget: u64,
}

/// Where in the body the next byte is.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// In a body with this many bytes left.
    Length(u64),
    Chunked(ChunkPosition),
}

/// Where in a chunk the next byte is.
#[derive(Clone, Copy, Debug)]
enum ChunkPosition {
    /// In the size. `digits`: the size has at least one digit so far.
    Size { size: u64, digits: bool },
    /// After the size, before the end of its line.
    Extension { size: u64 },
    /// In the data, with this many bytes left.
    Data(u64),
    /// In the line end after the data.
    DataEnd,
}

impl BodyReader {
    /// Creates a reader that expects the body's first byte.
    pub fn new(body: Body) -> Self {
        let position = match body {
            Body::None => Position::Length(0),
            Body::Length(length) => Position::Length(length),
            Body::Chunked => Position::Chunked(ChunkPosition::Size { size: 0, digits: false }),
        };
        Self { position, budget: MAX_BODY }
    }

    /// Receives the next piece of the body, of any size.
    ///
    /// Call it once with the bytes that came with the head, even if there are none: a
    /// request without a body is then [`BodyProgress::Complete`]. Bytes after the end of
    /// the body are ignored. After [`BodyProgress::Complete`] or [`BodyProgress::Bad`],
    /// drop the reader.
    pub fn receive(&mut self, bytes: &[u8]) -> BodyProgress {
        match self.position {
            Position::Length(left) if left > self.budget => {
                BodyProgress::Bad(Problem::BodyTooLarge)
            }
            Position::Length(left) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let left = left.saturating_sub(length);
                self.position = Position::Length(left);
                if left == 0 { BodyProgress::Complete } else { BodyProgress::Incomplete }
            }
            Position::Chunked(position) => self.receive_chunks(position, bytes),
        }
    }

    fn receive_chunks(&mut self, mut position: ChunkPosition, bytes: &[u8]) -> BodyProgress {
        for &byte in bytes {
            let Some(budget) = self.budget.checked_sub(1) else {
                return BodyProgress::Bad(Problem::BodyTooLarge);
            };
            self.budget = budget;
            position = match position.next(byte) {
                Ok(Some(position)) => position,
                Ok(None) => return BodyProgress::Complete,
                Err(problem) => return BodyProgress::Bad(problem),
            };
        }
        self.position = Position::Chunked(position);
        BodyProgress::Incomplete
    }
}

impl ChunkPosition {
    /// Returns the position after `byte`, or `None` at the end of the last chunk's line.
    fn next(self, byte: u8) -> Result<Option<Self>, Problem> {
        Ok(Some(match (self, byte) {
            (Self::Size { size, digits: true } | Self::Extension { size }, b'\n') => match size {
                0 => return Ok(None),
                size => Self::Data(size),
            },
            (Self::Size { size, digits: true }, b'\r' | b';' | b' ' | b'\t')
            | (Self::Extension { size }, _) => Self::Extension { size },
            (Self::Size { size, .. }, digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Problem::BadRequest)?;
                let size = size.saturating_mul(16).saturating_add(digit.into());
                if size > MAX_BODY {
                    return Err(Problem::BodyTooLarge);
                }
                Self::Size { size, digits: true }
            }
            (Self::Data(0 | 1), _) => Self::DataEnd,
            (Self::Data(left), _) => Self::Data(left.saturating_sub(1)),
            (Self::DataEnd, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::Size { size: 0, digits: false },
            (Self::DataEnd, _) => return Err(Problem::BadRequest),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Parsed, parse};

    fn body_of(version: &str, headers: &str) -> Option<Body> {
        match parse(format!("GET / HTTP/{version}\r\n{headers}\r\n").as_bytes()) {
            Parsed::Request(request, _) => Some(request.body),
            Parsed::Bad(Problem::BadRequest) => None,
            parsed => panic!("{headers}: {parsed:?}"),
        }
    }

    #[test]
    fn reads_the_length_of_the_body_and_refuses_an_ambiguous_head() {
        for (headers, body) in [
            ("", Some(Body::None)),
            ("Content-Length: 0\r\n", Some(Body::Length(0))),
            ("Content-Length: 5\r\n", Some(Body::Length(5))),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Some(Body::Length(5))),
            ("Content-Length: 99999999999999999999999\r\n", Some(Body::Length(u64::MAX))),
            ("Transfer-Encoding: chunked\r\n", Some(Body::Chunked)),
            ("transfer-encoding: Chunked\r\n", Some(Body::Chunked)),
            // Ambiguous heads, which can smuggle a request past a proxy.
            ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
            // U+00A0 is a space in Unicode, and not in HTTP.
            ("Content-Length: \u{A0}5\r\n", None),
            ("Transfer-Encoding: \u{A0}chunked\r\n", None),
            ("Content-Length: 5, 6\r\n", None),
            ("Content-Length: +5\r\n", None),
            ("Content-Length: 0x5\r\n", None),
            ("Content-Length:\r\n", None),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", None),
            ("Transfer-Encoding: gzip, chunked\r\n", None),
            ("Transfer-Encoding: chunked, chunked\r\n", None),
            ("Transfer-Encoding: identity\r\n", None),
            ("Transfer-Encoding: \u{b}chunked\r\n", None),
        ] {
            assert_eq!(body_of("1.1", headers), body, "{headers}");
        }
        assert_eq!(body_of("1.0", "Transfer-Encoding: chunked\r\n"), None);
    }

    /// Reads a body in pieces of one size. Returns the last progress, and how many bytes
    /// were read by then.
    fn read(body: Body, bytes: &[u8], size: usize) -> (BodyProgress, usize) {
        let mut reader = BodyReader::new(body);
        let mut progress = reader.receive(&[]);
        let mut length = 0;
        for piece in bytes.chunks(size) {
            if progress != BodyProgress::Incomplete {
                break;
            }
            progress = reader.receive(piece);
            length += piece.len();
        }
        (progress, length)
    }

    #[test]
    fn reads_a_body_to_its_end_in_pieces_of_any_size() {
        for (body, bytes, end) in [
            (Body::None, &b""[..], BodyProgress::Complete),
            (Body::Length(0), b"", BodyProgress::Complete),
            (Body::Length(5), b"12345", BodyProgress::Complete),
            (Body::Length(5), b"1234", BodyProgress::Incomplete),
            (Body::Chunked, b"", BodyProgress::Incomplete),
            (Body::Chunked, b"0\r\n", BodyProgress::Complete),
            (Body::Chunked, b"0\n", BodyProgress::Complete),
            (Body::Chunked, b"5\r\nabcde\r\n0\r\n", BodyProgress::Complete),
            (Body::Chunked, b"5;name=\"a;b\"\r\nabcde\r\n000\r\n", BodyProgress::Complete),
            (Body::Chunked, b"1 \r\na\r\n1\na\n0\n", BodyProgress::Complete),
            (Body::Chunked, b"1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n", BodyProgress::Complete),
            (Body::Chunked, b"5\r\nabcde\r\n", BodyProgress::Incomplete),
            (Body::Chunked, b"\r\n", BodyProgress::Bad(Problem::BadRequest)),
            (Body::Chunked, b";a\r\n", BodyProgress::Bad(Problem::BadRequest)),
            (Body::Chunked, b"x\r\n", BodyProgress::Bad(Problem::BadRequest)),
            (Body::Chunked, b"-1\r\n", BodyProgress::Bad(Problem::BadRequest)),
            (Body::Chunked, b"1\r\nabc", BodyProgress::Bad(Problem::BadRequest)),
        ] {
            for size in 1..=bytes.len().max(1) {
                assert_eq!(read(body, bytes, size).0, end, "{body:?} {bytes:?}");
            }
        }
    }

    #[test]
    fn refuses_a_body_over_the_cap_at_the_first_byte_that_shows_it() {
        let too_large = BodyProgress::Bad(Problem::BodyTooLarge);
        for length in [MAX_BODY + 1, u64::MAX] {
            assert_eq!(read(Body::Length(length), b"", 1), (too_large, 0));
        }
        assert_eq!(read(Body::Length(MAX_BODY), b"", 1).0, BodyProgress::Incomplete);
        assert_eq!(read(Body::Chunked, b"10000", 1).0, BodyProgress::Incomplete);
        assert_eq!(read(Body::Chunked, b"10001", 1), (too_large, 5));
        assert_eq!(read(Body::Chunked, b"ffffffffffffffffffff", 1).0, too_large);
        let endless = b"1\r\na\r\n".repeat(100_000);
        assert_eq!(read(Body::Chunked, &endless, 1), (too_large, 64 * 1024 + 1));
        let extension = [b"1;", &[b'x'; 100_000][..]].concat();
        assert_eq!(read(Body::Chunked, &extension, 1000).0, too_large);
    }
}
