//! The head of a request: bytes to a route, a response format and the body that follows.

use std::fmt;

use super::body::Body;
use super::fields::values;
use super::response::{Format, Problem};
use crate::health::Role;

/// The longest request head, in bytes. It limits the memory that a client can use: the
/// caller of [`parse`] keeps the whole head. Health checks send under 300 bytes.
const MAX_HEAD: usize = 8 * 1024;

/// The longest request target, in bytes. A health check's path is under 100 bytes.
const MAX_TARGET: usize = 2 * 1024;

/// The most header lines: [`parse`] has room for them on the stack. Health checks send
/// under ten.
const MAX_HEADERS: usize = 64;

/// The result of [`parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is incomplete: read more bytes and parse them all again.
    Incomplete,
    /// A complete head, and its length in bytes. The bytes after it belong to the body.
    Request(Request, usize),
    /// The bytes are malformed, ambiguous or over a limit: respond with
    /// [`Response::problem`](super::Response::problem).
    Bad(Problem),
    /// Another protocol: close the connection without a response, because the client
    /// cannot read an HTTP response.
    WrongProtocol(WrongProtocol),
}

/// The head of a request, as far as it matters for the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The requested resource.
    pub route: Route,
    /// The format of the response, by the method and the Accept field.
    pub format: Format,
    /// The body that follows the head. Read it with a
    /// [`BodyReader`](super::BodyReader) before the response is sent.
    pub body: Body,
    /// The client waits for a 100 (Continue) response before it sends the body (RFC 9110,
    /// section 10.1.1).
    pub expects_continue: bool,
}

/// The resource that a request's path names.
///
/// A listener that does not offer a route responds with [`Problem::NotFound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// The node's health for a role: `/` and `/read-write`, `/reader`, `/writer`. The
    /// target `*` of an OPTIONS request is the same as `/`.
    Health(Role),
    /// Whether the probe itself runs: `/livez`.
    Live,
    /// The metrics for Prometheus: `/metrics`.
    Metrics,
    /// The report for people and scripts: `/status`.
    Status,
    /// No resource: respond with [`Response::problem`](super::Response::problem).
    /// [`parse`] returns only [`Problem::NotFound`] and [`Problem::MethodNotAllowed`] here.
    Problem(Problem),
}

/// A protocol other than HTTP/1, recognized by its first bytes.
///
/// `Display` gives the protocol and the change that the balancer's check needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WrongProtocol {
    /// A TLS handshake record: the balancer's check uses HTTPS.
    Tls,
    /// The connection preface of HTTP/2 with prior knowledge (RFC 9113, section 3.4).
    Http2,
    /// A PROXY protocol header, version 1 or 2.
    Proxy,
}

impl WrongProtocol {
    /// Every protocol that is recognized.
    pub const ALL: &[WrongProtocol] =
        &[WrongProtocol::Tls, WrongProtocol::Http2, WrongProtocol::Proxy];
}

impl fmt::Display for WrongProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WrongProtocol::Tls => "TLS: set the balancer's check to plain HTTP",
            WrongProtocol::Http2 => "HTTP/2: set the balancer's check to HTTP/1.1",
            WrongProtocol::Proxy => "the PROXY protocol: turn it off for the balancer's check",
        })
    }
}

/// Parses the head of a request from the bytes that have arrived so far.
///
/// Call it with all bytes again whenever more have arrived. The first result that is not
/// [`Parsed::Incomplete`] does not depend on how the bytes were split.
///
/// A head over 8 KiB or 64 header lines is [`Problem::HeadTooLarge`]. A target over 2 KiB
/// is [`Problem::TargetTooLong`].
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    // Bytes beyond the cap are not parsed: the result must not depend on whether they have
    // arrived yet.
    match request.parse(bytes.get(..MAX_HEAD).unwrap_or(bytes)) {
        Ok(httparse::Status::Complete(length)) => read_head(&request, length),
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Parsed::Incomplete,
        Ok(httparse::Status::Partial) => Parsed::Bad(oversize_problem(bytes)),
        Err(httparse::Error::TooManyHeaders) => Parsed::Bad(Problem::HeadTooLarge),
        Err(_) => recognize(bytes),
    }
}

/// Interprets a head that is valid HTTP/1.
fn read_head(request: &httparse::Request<'_, '_>, length: usize) -> Parsed {
    let target = request.path.unwrap_or_default();
    if target.len() > MAX_TARGET {
        return Parsed::Bad(Problem::TargetTooLong);
    }
    let Some(body) = Body::from_head(request) else { return Parsed::Bad(Problem::BadRequest) };
    let (is_allowed, head_only) = match request.method {
        Some("HEAD") => (true, true),
        Some("GET" | "OPTIONS") => (true, false),
        _ => (false, false),
    };
    let route = match path(target) {
        _ if !is_allowed => Route::Problem(Problem::MethodNotAllowed),
        "/" | "*" | "/read-write" => Route::Health(Role::ReadWrite),
        "/reader" => Route::Health(Role::Reader),
        "/writer" => Route::Health(Role::Writer),
        "/livez" => Route::Live,
        "/metrics" => Route::Metrics,
        "/status" => Route::Status,
        _ => Route::Problem(Problem::NotFound),
    };
    let format = Format {
        head_only,
        json: weight(request, "application/json") > 0.0,
        openmetrics: route == Route::Metrics && prefers_openmetrics(request),
    };
    // RFC 9110, section 10.1.1: a server ignores this expectation in an HTTP/1.0 request.
    let expects_continue = request.version == Some(1)
        && values(request, "expect").any(|value| value.eq_ignore_ascii_case("100-continue"));
    Parsed::Request(Request { route, format, body, expects_continue }, length)
}

/// Returns whether Accept names OpenMetrics, with at least the weight of the text format.
fn prefers_openmetrics(request: &httparse::Request<'_, '_>) -> bool {
    let openmetrics = weight(request, "application/openmetrics-text");
    openmetrics > 0.0 && openmetrics >= weight(request, "text/plain")
}

/// Returns the highest weight that Accept gives to a media type by name, or 0 if it does
/// not name it. Wildcards do not count.
fn weight(request: &httparse::Request<'_, '_>, media: &str) -> f32 {
    values(request, "accept").filter_map(|range| weight_in(range, media)).fold(0.0, f32::max)
}

/// Returns the weight of a media type in one media range, or `None` if the range names
/// another (RFC 9110, section 12.4.2: the default is 1).
fn weight_in(range: &str, media: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    parts.next()?.eq_ignore_ascii_case(media).then_some(())?;
    let value = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    Some(value.and_then(|value| value.parse().ok()).unwrap_or(1.0))
}

/// Returns the path of a request target in origin form, absolute form or asterisk form
/// (RFC 9112, section 3.2).
fn path(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').and_then(|start| rest.get(start..)).unwrap_or("/")
        }
        _ => target,
    }
}

/// Returns which part of a head over the cap is too long: the target, if the first line
/// has no end within the target's cap.
fn oversize_problem(bytes: &[u8]) -> Problem {
    match bytes.iter().take(MAX_TARGET).any(|&byte| byte == b'\n') {
        true => Problem::HeadTooLarge,
        false => Problem::TargetTooLong,
    }
}

/// Recognizes the protocol of bytes that are not HTTP/1. A part of a PROXY header of
/// version 2 is [`Parsed::Incomplete`].
fn recognize(bytes: &[u8]) -> Parsed {
    const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    if bytes.starts_with(b"\x16") {
        Parsed::WrongProtocol(WrongProtocol::Tls)
    } else if bytes.starts_with(b"PRI * HTTP/2") {
        Parsed::WrongProtocol(WrongProtocol::Http2)
    } else if bytes.starts_with(b"PROXY ") || bytes.starts_with(PROXY_V2) {
        Parsed::WrongProtocol(WrongProtocol::Proxy)
    } else if PROXY_V2.starts_with(bytes) {
        Parsed::Incomplete
    } else {
        Parsed::Bad(Problem::BadRequest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a request that is a complete head and nothing else.
    fn parse_head(request: &str) -> Request {
        match parse(request.as_bytes()) {
            Parsed::Request(parsed, length) if length == request.len() => parsed,
            parsed => panic!("{request}: {parsed:?}"),
        }
    }

    #[test]
    fn get_head_and_options_request_the_health_in_every_form_of_target() {
        for request in [
            "GET / HTTP/1.1\r\nHost: 10.0.0.1:9200\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \x22odd host\x22 \r\n\r\n",
            "OPTIONS / HTTP/1.0\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://10.0.0.1:9200/ HTTP/1.1\r\n\r\n",
            "GET http://10.0.0.1:9200 HTTP/1.1\r\n\r\n",
            "GET http://10.0.0.1:9200?a HTTP/1.1\r\n\r\n",
            "GET /?pool=a://b HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\n\n",
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            let expected = Request {
                route: Route::Health(Role::ReadWrite),
                format: Format::default(),
                body: Body::None,
                expects_continue: false,
            };
            assert_eq!(parse_head(request), expected, "{request}");
        }
        assert!(parse_head("HEAD / HTTP/1.1\r\n\r\n").format.head_only);
    }

    #[test]
    fn the_path_selects_the_route() {
        for (path, route) in [
            ("/read-write", Route::Health(Role::ReadWrite)),
            ("/reader", Route::Health(Role::Reader)),
            ("/reader?pool=a", Route::Health(Role::Reader)),
            ("http://10.0.0.1:9200/writer", Route::Health(Role::Writer)),
            ("/livez", Route::Live),
            ("/metrics", Route::Metrics),
            ("/status", Route::Status),
        ] {
            assert_eq!(parse_head(&format!("GET {path} HTTP/1.1\r\n\r\n")).route, route);
        }
    }

    #[test]
    fn json_is_selected_by_its_name_in_accept() {
        for (accept, json) in [
            ("application/json", true),
            ("text/html, application/JSON;q=0.5", true),
            ("*/*", false),
            ("text/plain", false),
            ("application/json;q=0", false),
            ("application/json; Q=0.000", false),
            ("application/json;q=0.001", true),
            ("application/json;q=x", true),
            ("application/json;q=0, application/json", true),
            ("application/json-seq", false),
        ] {
            let request = format!("GET / HTTP/1.1\r\nAccept: {accept}\r\n\r\n");
            let format = parse_head(&request).format;
            assert_eq!((format.json, format.openmetrics), (json, false), "{accept}");
        }
    }

    #[test]
    fn openmetrics_is_selected_by_its_name_unless_accept_prefers_text() {
        for (accept, openmetrics) in [
            // The Accept fields of Prometheus 2 and 3.
            (
                "application/openmetrics-text;version=1.0.0,\
                 application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                true,
            ),
            ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text;q=0.4", false),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", false),
            ("Application/OpenMetrics-Text", true),
            ("application/openmetrics-text, text/plain", true),
            ("application/openmetrics-text;version=1.0.0; q=0, text/plain;q=0", false),
            ("application/openmetrics-text;q=NaN", false),
            ("application/openmetrics-text2", false),
            ("application/*", false),
            ("*/*", false),
            ("", false),
        ] {
            let request = format!("GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n");
            let format = parse_head(&request).format;
            assert_eq!((format.openmetrics, format.json), (openmetrics, false), "{accept}");
        }
        let lines = "Accept: text/plain;q=0.5\r\naccept: application/openmetrics-text\r\n";
        assert!(parse_head(&format!("GET /metrics HTTP/1.1\r\n{lines}\r\n")).format.openmetrics);
    }

    #[test]
    fn reads_expect_100_continue_in_http_1_1_only() {
        let request = "GET / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n";
        let request = parse_head(request);
        assert!(request.expects_continue);
        assert_eq!(request.body, Body::Length(5));
        let old = "GET / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        assert!(!parse_head(old).expects_continue);
    }

    #[test]
    fn the_length_of_a_head_excludes_a_pipelined_request() {
        let first = "GET / HTTP/1.1\r\n\r\n";
        let both = format!("{first}GET /other HTTP/1.1\r\n\r\n");
        let Parsed::Request(request, length) = parse(both.as_bytes()) else { panic!() };
        assert_eq!((request.route, length), (Route::Health(Role::ReadWrite), first.len()));
    }

    #[test]
    fn returns_the_problem_of_a_bad_request() {
        for (request, problem) in [
            ("GET /other HTTP/1.1\r\n\r\n", Problem::NotFound),
            ("GET /reader/ HTTP/1.1\r\n\r\n", Problem::NotFound),
            ("GET /Reader HTTP/1.1\r\n\r\n", Problem::NotFound),
            ("HEAD /x HTTP/1.1\r\n\r\n", Problem::NotFound),
            ("GET /a://b HTTP/1.1\r\n\r\n", Problem::NotFound),
            ("GET  HTTP/1.1\r\n\r\n", Problem::BadRequest),
            ("POST / HTTP/1.1\r\n\r\n", Problem::MethodNotAllowed),
            ("get / HTTP/1.1\r\n\r\n", Problem::MethodNotAllowed),
            ("CONNECT a:1 HTTP/1.1\r\n\r\n", Problem::MethodNotAllowed),
            ("GET / HTTP/1.1\r\nbad header\r\n\r\n", Problem::BadRequest),
            ("GET / HTTP/3.0\r\n\r\n", Problem::BadRequest),
            ("GET / HTTP/1.1\r\nA: \0\r\n\r\n", Problem::BadRequest),
            ("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", Problem::BadRequest),
        ] {
            let found = match parse(request.as_bytes()) {
                Parsed::Request(Request { route: Route::Problem(problem), .. }, _) => problem,
                Parsed::Bad(problem) => problem,
                parsed => panic!("{request}: {parsed:?}"),
            };
            assert_eq!(found, problem, "{request}");
        }
    }

    #[test]
    fn refuses_heads_and_targets_over_their_caps() {
        let lines = |n| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(n));
        assert_eq!(parse_head(&lines(64)).route, Route::Health(Role::ReadWrite));
        assert_eq!(parse(lines(65).as_bytes()), Parsed::Bad(Problem::HeadTooLarge));

        let with_line = |n| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(n));
        let fits = MAX_HEAD - with_line(0).len();
        assert_eq!(parse_head(&with_line(fits)).route, Route::Health(Role::ReadWrite));
        for long in [fits + 1, MAX_HEAD * 2] {
            assert_eq!(parse(with_line(long).as_bytes()), Parsed::Bad(Problem::HeadTooLarge));
        }

        assert_eq!((MAX_HEAD, MAX_TARGET, MAX_HEADERS), (8192, 2048, 64), "as the README says");
        let with_target = |n: usize| format!("GET /?{} HTTP/1.1\r\n\r\n", "x".repeat(n - 2));
        assert_eq!(parse_head(&with_target(MAX_TARGET)).route, Route::Health(Role::ReadWrite));
        for long in [MAX_TARGET + 1, MAX_HEAD * 2] {
            assert_eq!(parse(with_target(long).as_bytes()), Parsed::Bad(Problem::TargetTooLong));
        }
        let endless = vec![b'x'; MAX_HEAD];
        assert_eq!(parse(&endless), Parsed::Bad(Problem::TargetTooLong));
    }

    #[test]
    fn recognizes_other_protocols_by_their_first_bytes() {
        for (bytes, protocol) in [
            (&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], WrongProtocol::Tls),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", WrongProtocol::Http2),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\n\r\n", WrongProtocol::Proxy),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", WrongProtocol::Proxy),
        ] {
            assert_eq!(parse(bytes), Parsed::WrongProtocol(protocol));
            assert!(!protocol.to_string().is_empty());
        }
    }

    #[test]
    fn the_result_does_not_depend_on_how_the_bytes_are_split() {
        let with_nul = b"\r\n\r\n\0\r\nQUIX".to_vec();
        let beyond_the_cap = format!("GET / HTTP/1.1\r\nA: {}\0", "x".repeat(MAX_HEAD));
        for request in [
            b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            with_nul,
            beyond_the_cap.into_bytes(),
        ] {
            let whole = parse(&request);
            let first = (0..=request.len())
                .map(|length| parse(&request[..length]))
                .find(|parsed| *parsed != Parsed::Incomplete);
            assert_eq!(first, Some(whole), "{request:?}");
        }
    }
}
