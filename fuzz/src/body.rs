//! Fuzz target for HTTP bodies: a body ends at the same byte for every split into pieces,
//! and nothing is read beyond the cap.

use galera_probe::http::{Body, BodyProgress, BodyReader, Problem};

/// The most bytes of a body that are read.
const MAX_BODY: usize = 64 * 1024;

/// The first byte selects the kind of body. The second byte is how often the rest is
/// repeated, so that a short input can reach the cap.
pub fn check(bytes: &[u8]) {
    let Some((&[kind, times], part)) = bytes.split_first_chunk() else { return };
    let bytes = part.repeat(usize::from(times) + 1);
    let body = match kind {
        0..200 => Body::Chunked,
        200 => Body::None,
        201 => Body::Length(u64::MAX),
        kind => Body::Length(u64::from(kind - 202) * 1300),
    };
    let (expected, length) = match body {
        Body::None => (BodyProgress::Complete, 0),
        Body::Chunked => chunked(&bytes),
        Body::Length(length) if length > MAX_BODY as u64 => {
            (BodyProgress::Bad(Problem::BodyTooLarge), 0)
        }
        Body::Length(length) if length <= bytes.len() as u64 => {
            (BodyProgress::Complete, length as usize)
        }
        Body::Length(_) => (BodyProgress::Incomplete, bytes.len()),
    };
    for piece in [1, 7, 1024, bytes.len().max(1)] {
        let (progress, taken) = drain(body, &bytes, piece);
        assert_eq!(progress, expected, "{body:?} in pieces of {piece}");
        // The end is reported with the piece that contains it.
        assert!(taken >= length && taken < length + piece, "{taken} taken of {length}");
    }
}

/// Reads the body in pieces. Returns the progress at the end, and how many bytes were read.
fn drain(body: Body, bytes: &[u8], piece: usize) -> (BodyProgress, usize) {
    let mut reader = BodyReader::new(body);
    let mut progress = reader.receive(&[]);
    let mut taken = 0;
    for piece in bytes.chunks(piece) {
        if progress != BodyProgress::Incomplete {
            break;
        }
        progress = reader.receive(piece);
        taken += piece.len();
    }
    (progress, taken)
}

/// Reads a chunked body (RFC 9112, section 7.1) that is there as a whole, independent of the
/// tested code. Returns the expected progress, and how many bytes lead to it.
fn chunked(bytes: &[u8]) -> (BodyProgress, usize) {
    let within = &bytes[..bytes.len().min(MAX_BODY)];
    let mut at = 0;
    let end = loop {
        match chunk(&within[at..]) {
            Ok(Some((0, length))) => break (BodyProgress::Complete, at + length),
            Ok(Some((_, length))) => at += length,
            Ok(None) => break (BodyProgress::Incomplete, bytes.len()),
            Err((problem, byte)) => break (BodyProgress::Bad(problem), at + byte),
        }
    };
    match end.0 {
        BodyProgress::Incomplete if bytes.len() > MAX_BODY => {
            (BodyProgress::Bad(Problem::BodyTooLarge), MAX_BODY + 1)
        }
        _ => end,
    }
}

/// Returns a chunk's size and its length with framing, or `None` if it is incomplete. An
/// error has the length up to the bad byte.
fn chunk(bytes: &[u8]) -> Result<Option<(usize, usize)>, (Problem, usize)> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let mut size = 0;
    for (at, digit) in bytes[..digits].iter().enumerate() {
        size = size * 16 + char::from(*digit).to_digit(16).unwrap() as usize;
        if size > MAX_BODY {
            return Err((Problem::BodyTooLarge, at + 1));
        }
    }
    let Some(next) = bytes.get(digits) else { return Ok(None) };
    if digits == 0 || !b"\r\n; \t".contains(next) {
        return Err((Problem::BadRequest, digits + 1));
    }
    let Some(line) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let data = line + 1;
    if size == 0 {
        return Ok(Some((0, data)));
    }
    let Some(tail) = bytes.get(data + size..) else { return Ok(None) };
    let returns = tail.iter().take_while(|byte| **byte == b'\r').count();
    match tail.get(returns) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((size, data + size + returns + 1))),
        Some(_) => Err((Problem::BadRequest, data + size + returns + 1)),
    }
}
