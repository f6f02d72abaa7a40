use super::fields::values;
use super::response::Problem;

/// The most that is read of a body before the answer. No balancer sends one;
/// reading it keeps the answer from being lost in a reset.
const MAX_BODY: u64 = 64 * 1024;

/// What follows a request's head (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, up to one of no bytes.
    Chunked,
}

impl Body {
    /// `None` where the head contradicts itself: then nobody can say where the
    /// request ends.
    pub(super) fn of(request: &httparse::Request<'_, '_>) -> Option<Self> {
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

/// Where a body stands after some of it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyProgress {
    /// There is more to come.
    More,
    /// All of it was there.
    All,
    /// It is too long, or its chunks are none.
    Bad(Problem),
}

/// Reads a body and drops it.
#[derive(Clone, Copy, Debug)]
pub struct BodyReader {
    remaining: Remaining,
    /// Bytes that may still be read, whatever they are.
    left: u64,
}

/// What is still to come.
#[derive(Clone, Copy, Debug)]
enum Remaining {
    Length(u64),
    Chunks(Chunk),
}

/// Where in a chunk the next byte stands.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    /// In the digits of its size.
    Size { size: u64, digits: bool },
    /// In the remaining of that line.
    Extension { size: u64 },
    /// In its bytes, of which so many are left.
    Data(u64),
    /// In the line end behind them.
    DataEnd,
}

impl BodyReader {
    /// Before the body's first byte.
    pub fn new(body: Body) -> Self {
        let remaining = match body {
            Body::None => Remaining::Length(0),
            Body::Length(length) => Remaining::Length(length),
            Body::Chunked => Remaining::Chunks(Chunk::Size { size: 0, digits: false }),
        };
        Self { remaining, left: MAX_BODY }
    }

    /// Takes the next bytes, in pieces of any size; at first an empty piece, as
    /// there may be no body. What comes behind the body is not looked at.
    pub fn take(&mut self, bytes: &[u8]) -> BodyProgress {
        match self.remaining {
            Remaining::Length(length) if length > self.left => {
                BodyProgress::Bad(Problem::BodyTooLarge)
            }
            Remaining::Length(length) => {
                let taken = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let length = length.saturating_sub(taken);
                self.remaining = Remaining::Length(length);
                if length == 0 { BodyProgress::All } else { BodyProgress::More }
            }
            Remaining::Chunks(chunk) => self.take_chunks(chunk, bytes),
        }
    }

    fn take_chunks(&mut self, mut chunk: Chunk, bytes: &[u8]) -> BodyProgress {
        for &byte in bytes {
            let Some(left) = self.left.checked_sub(1) else {
                return BodyProgress::Bad(Problem::BodyTooLarge);
            };
            self.left = left;
            chunk = match chunk.next(byte) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return BodyProgress::All,
                Err(problem) => return BodyProgress::Bad(problem),
            };
        }
        self.remaining = Remaining::Chunks(chunk);
        BodyProgress::More
    }
}

impl Chunk {
    /// Where the byte after this one stands; `None` after the last chunk's size.
    /// Trailers are left to whoever closes the connection.
    fn next(self, byte: u8) -> Result<Option<Self>, Problem> {
        Ok(Some(match (self, byte) {
            (Chunk::Size { size, digits: true } | Chunk::Extension { size }, b'\n') => match size {
                0 => return Ok(None),
                size => Chunk::Data(size),
            },
            (Chunk::Size { size, digits: true }, b'\r' | b';' | b' ' | b'\t')
            | (Chunk::Extension { size }, _) => Chunk::Extension { size },
            (Chunk::Size { size, .. }, digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Problem::BadRequest)?;
                let size = size.saturating_mul(16).saturating_add(digit.into());
                if size > MAX_BODY {
                    return Err(Problem::BodyTooLarge);
                }
                Chunk::Size { size, digits: true }
            }
            (Chunk::Data(0 | 1), _) => Chunk::DataEnd,
            (Chunk::Data(left), _) => Chunk::Data(left.saturating_sub(1)),
            (Chunk::DataEnd, b'\r') => Chunk::DataEnd,
            (Chunk::DataEnd, b'\n') => Chunk::Size { size: 0, digits: false },
            (Chunk::DataEnd, _) => return Err(Problem::BadRequest),
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
    fn a_body_is_known_from_the_head_or_the_head_contradicts_itself() {
        for (headers, body) in [
            ("", Some(Body::None)),
            ("Content-Length: 0\r\n", Some(Body::Length(0))),
            ("Content-Length: 5\r\n", Some(Body::Length(5))),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Some(Body::Length(5))),
            ("Content-Length: 99999999999999999999999\r\n", Some(Body::Length(u64::MAX))),
            ("Transfer-Encoding: chunked\r\n", Some(Body::Chunked)),
            ("transfer-encoding: Chunked\r\n", Some(Body::Chunked)),
            // What smuggles a request past a proxy.
            ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
            // No space of HTTP's, whatever Unicode says.
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

    /// Drains in pieces of one size; the end, and how many bytes it took.
    fn drain(body: Body, bytes: &[u8], piece: usize) -> (BodyProgress, usize) {
        let mut drain = BodyReader::new(body);
        let mut drained = drain.take(&[]);
        let mut taken = 0;
        for piece in bytes.chunks(piece) {
            if drained != BodyProgress::More {
                break;
            }
            drained = drain.take(piece);
            taken += piece.len();
        }
        (drained, taken)
    }

    #[test]
    fn bodies_are_read_to_their_end_in_pieces_of_any_size() {
        for (body, bytes, end) in [
            (Body::None, &b""[..], BodyProgress::All),
            (Body::Length(0), b"", BodyProgress::All),
            (Body::Length(5), b"12345", BodyProgress::All),
            (Body::Length(5), b"1234", BodyProgress::More),
            (Body::Chunked, b"", BodyProgress::More),
            (Body::Chunked, b"0\r\n", BodyProgress::All),
            (Body::Chunked, b"0\n", BodyProgress::All),
            (Body::Chunked, b"5\r\nabcde\r\n0\r\n", BodyProgress::All),
            (Body::Chunked, b"5;name=\"a;b\"\r\nabcde\r\n000\r\n", BodyProgress::All),
            (Body::Chunked, b"1 \r\na\r\n1\na\n0\n", BodyProgress::All),
            (Body::Chunked, b"1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n", BodyProgress::All),
            (Body::Chunked, b"5\r\nabcde\r\n", BodyProgress::More),
            (Body::Chunked, b"\r\n", BodyProgress::Bad(Problem::BadRequest)),
            (Body::Chunked, b";a\r\n", BodyProgress::Bad(Problem::BadRequest)),
            (Body::Chunked, b"x\r\n", BodyProgress::Bad(Problem::BadRequest)),
            (Body::Chunked, b"-1\r\n", BodyProgress::Bad(Problem::BadRequest)),
            (Body::Chunked, b"1\r\nabc", BodyProgress::Bad(Problem::BadRequest)),
        ] {
            for piece in 1..=bytes.len().max(1) {
                assert_eq!(drain(body, bytes, piece).0, end, "{body:?} {bytes:?}");
            }
        }
    }

    #[test]
    fn bodies_over_the_cap_are_refused_as_soon_as_that_is_known() {
        let too_large = BodyProgress::Bad(Problem::BodyTooLarge);
        for length in [MAX_BODY + 1, u64::MAX] {
            assert_eq!(drain(Body::Length(length), b"", 1), (too_large, 0));
        }
        assert_eq!(drain(Body::Length(MAX_BODY), b"", 1).0, BodyProgress::More);
        assert_eq!(drain(Body::Chunked, b"10000", 1).0, BodyProgress::More);
        assert_eq!(drain(Body::Chunked, b"10001", 1), (too_large, 5));
        assert_eq!(drain(Body::Chunked, b"ffffffffffffffffffff", 1).0, too_large);
        let endless = b"1\r\na\r\n".repeat(100_000);
        assert_eq!(drain(Body::Chunked, &endless, 1), (too_large, 64 * 1024 + 1));
        let extension = [b"1;", &[b'x'; 100_000][..]].concat();
        assert_eq!(drain(Body::Chunked, &extension, 1000).0, too_large);
    }
}
