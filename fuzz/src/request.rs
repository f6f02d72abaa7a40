//! Fuzz target for HTTP requests: a head is parsed alike for every split into pieces, and is
//! refused if two readers could disagree on where the request ends.

use galera_probe::http::{Body, Parsed, Problem, Route, parse};

/// The most bytes of a head that are read.
const MAX_HEAD: usize = 8 * 1024;

/// The bytes are the first that a client sends.
pub fn check(bytes: &[u8]) {
    let whole = parse(bytes);
    for end in prefix_lengths(bytes.len()) {
        let part = parse(&bytes[..end]);
        assert!(part == Parsed::Incomplete || part == whole, "{end}: {part:?}, then {whole:?}");
        assert!(part != Parsed::Incomplete || end < MAX_HEAD, "{end} bytes without an end");
    }
    match whole {
        Parsed::Request(request, length) => {
            assert!(length <= MAX_HEAD);
            let head = &bytes[..length];
            // The bytes after the head change nothing.
            assert_eq!(parse(head), whole);
            assert!(head.ends_with(b"\n"));
            assert!(!head.contains(&0), "a NUL in a head");
            check_body_length(head, request.body);
            check_route(head, request.route);
            let named = |media| field_values(head, "accept").any(|line| has(&line, media));
            assert!(!request.format.json || named("application/json"));
            assert!(!request.format.openmetrics || named("application/openmetrics-text"));
        }
        Parsed::Bad(problem) => {
            let never = [Problem::NotFound, Problem::MethodNotAllowed, Problem::BodyTooLarge];
            assert!(!never.contains(&problem), "{problem:?} for a malformed head");
        }
        Parsed::WrongProtocol(_) | Parsed::Incomplete => {}
    }
}

/// Returns the lengths of the prefixes to check: all of a short head; of a long one a sample,
/// and those near the cap and the end.
fn prefix_lengths(length: usize) -> impl Iterator<Item = usize> {
    let near = |end: &usize| end.abs_diff(MAX_HEAD) < 3;
    (0..=length).filter(move |end| length <= 400 || end % 211 == 0 || near(end) || end + 3 > length)
}

/// Returns the values of a header field, with a simple reader of its own.
fn field_values<'a>(head: &'a [u8], name: &'a str) -> impl Iterator<Item = String> + 'a {
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

/// RFC 9112, section 6.3: no two different lengths, and no length beside a transfer coding.
fn check_body_length(head: &[u8], body: Body) {
    let codings: Vec<_> = field_values(head, "transfer-encoding").collect();
    let lengths: Vec<_> = field_values(head, "content-length").collect();
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

/// Only GET, HEAD and OPTIONS are routed.
fn check_route(head: &[u8], route: Route) {
    let head = head.trim_ascii_start();
    let method = head.split(|byte| *byte == b' ').next().unwrap_or_default();
    let known = matches!(method, b"GET" | b"HEAD" | b"OPTIONS");
    assert_eq!(known, route != Route::Problem(Problem::MethodNotAllowed));
}
