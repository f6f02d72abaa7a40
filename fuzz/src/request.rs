//! Whatever a client sends first: a head is read alike however it came in pieces,
//! and never where two readers could disagree on where it ends.

use galera_probe::http::{Body, Parsed, Problem, Route, parse};

/// All of a head that is ever read.
const MAX_HEAD: usize = 8 * 1024;

/// The bytes are a client's.
pub fn check(bytes: &[u8]) {
    let whole = parse(bytes);
    for end in ends(bytes.len()) {
        let part = parse(&bytes[..end]);
        assert!(part == Parsed::Incomplete || part == whole, "{end}: {part:?}, then {whole:?}");
        assert!(part != Parsed::Incomplete || end < MAX_HEAD, "{end} bytes and no end");
    }
    match whole {
        Parsed::Request(request, length) => {
            assert!(length <= MAX_HEAD);
            let head = &bytes[..length];
            // What comes behind the head changes nothing.
            assert_eq!(parse(head), whole);
            assert!(head.ends_with(b"\n"));
            assert!(!head.contains(&0), "a NUL in a head");
            ends_where_everybody_says(head, request.body);
            answers_what_was_asked(head, request.route);
            let named = |media| lines(head, "accept").any(|line| has(&line, media));
            assert!(!request.format.json || named("application/json"));
            assert!(!request.format.openmetrics || named("application/openmetrics-text"));
        }
        Parsed::Bad(problem) => {
            let never = [Problem::NotFound, Problem::MethodNotAllowed, Problem::BodyTooLarge];
            assert!(!never.contains(&problem), "{problem:?} of a head that cannot be read");
        }
        Parsed::WrongProtocol(_) | Parsed::Incomplete => {}
    }
}

/// Every length of a short head; of a long one some, and all around the cap.
fn ends(length: usize) -> impl Iterator<Item = usize> {
    let near = |end: &usize| end.abs_diff(MAX_HEAD) < 3;
    (0..=length).filter(move |end| length <= 400 || end % 211 == 0 || near(end) || end + 3 > length)
}

/// Header lines as a naive reader sees them.
fn lines<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = String> + 'a {
    head.split(|byte| *byte == b'\n').skip(1).filter_map(move |line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (found, value) = line.split_at(colon);
        let found = found.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        found.then(|| String::from_utf8_lossy(&value[1..]).trim().to_owned())
    })
}

fn has(line: &str, media: &str) -> bool {
    line.to_ascii_lowercase().contains(media)
}

/// RFC 9112, section 6.3: no two lengths, and no length beside a coding.
fn ends_where_everybody_says(head: &[u8], body: Body) {
    let codings: Vec<_> = lines(head, "transfer-encoding").collect();
    let lengths: Vec<_> = lines(head, "content-length").collect();
    match body {
        Body::None => assert!(codings.is_empty() && lengths.is_empty()),
        Body::Chunked => {
            assert!(lengths.is_empty());
            assert!(matches!(&codings[..], [one] if one.eq_ignore_ascii_case("chunked")));
        }
        Body::Length(length) => {
            assert!(codings.is_empty());
            for value in lengths.iter().flat_map(|line| line.split(',')).map(str::trim) {
                assert!(value.bytes().all(|byte| byte.is_ascii_digit()), "{value}");
                assert_eq!(value.parse().unwrap_or(u64::MAX), length);
            }
        }
    }
}

fn answers_what_was_asked(head: &[u8], route: Route) {
    let head = head.trim_ascii_start();
    let method = head.split(|byte| *byte == b' ').next().unwrap_or_default();
    let known = matches!(method, b"GET" | b"HEAD" | b"OPTIONS");
    assert_eq!(known, route != Route::Problem(Problem::MethodNotAllowed));
}
