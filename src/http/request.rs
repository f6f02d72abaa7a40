use std::fmt;

use super::body::Body;
use super::fields::values;
use super::response::{Format, Problem};
use crate::health::Role;

/// The longest request head. HealthService send under 300 bytes.
const MAX_HEAD: usize = 8 * 1024;

/// The longest request target. A balancer's path is under 100 bytes.
const MAX_TARGET: usize = 2 * 1024;

/// The most header lines. HealthService send under ten.
const MAX_HEADERS: usize = 64;

/// What the bytes of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is not complete; more is to be read.
    Incomplete,
    /// A whole head, of so many bytes; what follows belongs to the body.
    Request(Request, usize),
    /// No request that can be answered as it was meant.
    Bad(Problem),
    /// Another protocol: there is nobody to read an answer.
    WrongProtocol(WrongProtocol),
}

/// A request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub route: Route,
    /// How the answer is to be written.
    pub format: Format,
    /// What follows the head.
    pub body: Body,
    /// The client waits for 100 Continue before it sends the body.
    pub expects_continue: bool,
}

/// What is asked for. A listener may answer some of it with
/// [`Problem::NotFound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The node's health: `/` and `/read-write`, `/reader`, `/writer`.
    Health(Role),
    /// Whether the probe itself runs: `/livez`.
    Live,
    /// The counters, for Prometheus: `/metrics`.
    Metrics,
    /// All that is known, for people and scripts: `/status`.
    Status,
    /// What nobody answers.
    Problem(Problem),
}

/// A protocol that is not HTTP/1, known by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongProtocol {
    /// A TLS ClientHello: the balancer is set to HTTPS.
    Tls,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A PROXY protocol header, version 1 or 2.
    Proxy,
}

impl WrongProtocol {
    /// Every kind.
    pub const ALL: [WrongProtocol; 3] =
        [WrongProtocol::Tls, WrongProtocol::Http2, WrongProtocol::Proxy];
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

/// Reads as much of a request as has come. However the bytes came in pieces,
/// the first answer that is not [`Parsed::Incomplete`] is the same.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    // What stands beyond the cap is not looked at, or it would make a difference
    // whether it had come by then.
    match request.parse(bytes.get(..MAX_HEAD).unwrap_or(bytes)) {
        Ok(httparse::Status::Complete(length)) => read(&request, length),
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Parsed::Incomplete,
        Ok(httparse::Status::Partial) => Parsed::Bad(too_long(bytes)),
        Err(httparse::Error::TooManyHeaders) => Parsed::Bad(Problem::HeadTooLarge),
        Err(_) => foreign(bytes),
    }
}

fn read(request: &httparse::Request<'_, '_>, length: usize) -> Parsed {
    let target = request.path.unwrap_or_default();
    if target.len() > MAX_TARGET {
        return Parsed::Bad(Problem::TargetTooLong);
    }
    let Some(body) = Body::of(request) else { return Parsed::Bad(Problem::BadRequest) };
    let (method, head_only) = match request.method {
        Some("HEAD") => (true, true),
        Some("GET" | "OPTIONS") => (true, false),
        _ => (false, false),
    };
    let route = match path(target) {
        _ if !method => Route::Problem(Problem::MethodNotAllowed),
        "/" | "*" | "/read-write" => Route::Health(Role::ReadWrite),
        "/reader" => Route::Health(Role::Reader),
        "/writer" => Route::Health(Role::Writer),
        "/livez" => Route::Live,
        "/metrics" => Route::Metrics,
        "/status" => Route::Status,
        _ => Route::Problem(Problem::NotFound),
    };
    let openmetrics = weight(request, "application/openmetrics-text");
    let format = Format {
        head_only,
        json: weight(request, "application/json") > 0.0,
        openmetrics: openmetrics > 0.0 && openmetrics >= weight(request, "text/plain"),
    };
    // RFC 9110, 10.1.1: to be ignored in HTTP/1.0.
    let expects_continue = request.version == Some(1)
        && values(request, "expect").any(|value| value.eq_ignore_ascii_case("100-continue"));
    Parsed::Request(Request { route, format, body, expects_continue }, length)
}

/// The highest weight that Accept gives a media type by name; 0 if it is not named.
fn weight(request: &httparse::Request<'_, '_>, media: &str) -> f32 {
    values(request, "accept").filter_map(|range| weight_in(range, media)).fold(0.0, f32::max)
}

/// The weight of a media type in one media range (RFC 9110, 12.4.2: 1 by default).
fn weight_in(range: &str, media: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    parts.next()?.eq_ignore_ascii_case(media).then_some(())?;
    let value = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    Some(value.and_then(|value| value.parse().ok()).unwrap_or(1.0))
}

/// The path of a request target in origin format, absolute format or `*`.
fn path(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').and_then(|start| rest.get(start..)).unwrap_or("/")
        }
        _ => target,
    }
}

/// Whether it was the target or the header lines that went over the cap.
fn too_long(bytes: &[u8]) -> Problem {
    match bytes.iter().take(MAX_TARGET).any(|&byte| byte == b'\n') {
        true => Problem::HeadTooLarge,
        false => Problem::TargetTooLong,
    }
}

/// What cannot be parsed: another protocol, the beginning of one, or nothing
/// that is known.
fn foreign(bytes: &[u8]) -> Parsed {
    const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    if bytes.starts_with(b"\x16") {
        Parsed::WrongProtocol(WrongProtocol::Tls)
    } else if bytes.starts_with(b"PRI * HTTP/2") {
        Parsed::WrongProtocol(WrongProtocol::Http2)
    } else if bytes.starts_with(b"PROXY ") || bytes.starts_with(PROXY_2) {
        Parsed::WrongProtocol(WrongProtocol::Proxy)
    } else if PROXY_2.starts_with(bytes) {
        Parsed::Incomplete
    } else {
        Parsed::Bad(Problem::BadRequest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(request: &str) -> Request {
        match parse(request.as_bytes()) {
            Parsed::Request(parsed, length) if length == request.len() => parsed,
            parsed => panic!("{request}: {parsed:?}"),
        }
    }

    #[test]
    fn the_health_is_asked_for_by_get_options_and_head_in_every_form_of_target() {
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
            assert_eq!(health(request), expected, "{request}");
        }
        assert!(health("HEAD / HTTP/1.1\r\n\r\n").format.head_only);
    }

    #[test]
    fn what_is_asked_for_is_in_the_path() {
        for (path, route) in [
            ("/read-write", Route::Health(Role::ReadWrite)),
            ("/reader", Route::Health(Role::Reader)),
            ("/reader?pool=a", Route::Health(Role::Reader)),
            ("http://10.0.0.1:9200/writer", Route::Health(Role::Writer)),
            ("/livez", Route::Live),
            ("/metrics", Route::Metrics),
            ("/status", Route::Status),
        ] {
            assert_eq!(health(&format!("GET {path} HTTP/1.1\r\n\r\n")).route, route);
        }
    }

    #[test]
    fn json_is_asked_for_by_name() {
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
            let format = health(&request).format;
            assert_eq!((format.json, format.openmetrics), (json, false), "{accept}");
        }
    }

    #[test]
    fn openmetrics_is_asked_for_by_name_and_yields_to_a_preferred_text_format() {
        for (accept, openmetrics) in [
            // Prometheus 2 and 3, as they send it.
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
            let format = health(&request).format;
            assert_eq!((format.openmetrics, format.json), (openmetrics, false), "{accept}");
        }
        let lines = "Accept: text/plain;q=0.5\r\naccept: application/openmetrics-text\r\n";
        assert!(health(&format!("GET /metrics HTTP/1.1\r\n{lines}\r\n")).format.openmetrics);
    }

    #[test]
    fn a_body_that_waits_for_100_continue_is_known() {
        let request = "GET / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n";
        let request = health(request);
        assert!(request.expects_continue);
        assert_eq!(request.body, Body::Length(5));
        let old = "GET / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        assert!(!health(old).expects_continue);
    }

    #[test]
    fn a_pipelined_request_is_not_part_of_the_first() {
        let first = "GET / HTTP/1.1\r\n\r\n";
        let both = format!("{first}GET /other HTTP/1.1\r\n\r\n");
        let Parsed::Request(request, length) = parse(both.as_bytes()) else { panic!() };
        assert_eq!((request.route, length), (Route::Health(Role::ReadWrite), first.len()));
    }

    #[test]
    fn what_is_not_asked_for_right_has_its_own_problem() {
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
    fn heads_and_targets_over_their_caps_are_refused() {
        let lines = |n| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(n));
        assert_eq!(health(&lines(64)).route, Route::Health(Role::ReadWrite));
        assert_eq!(parse(lines(65).as_bytes()), Parsed::Bad(Problem::HeadTooLarge));

        let with_line = |n| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(n));
        let fits = MAX_HEAD - with_line(0).len();
        assert_eq!(health(&with_line(fits)).route, Route::Health(Role::ReadWrite));
        for long in [fits + 1, MAX_HEAD * 2] {
            assert_eq!(parse(with_line(long).as_bytes()), Parsed::Bad(Problem::HeadTooLarge));
        }

        assert_eq!((MAX_HEAD, MAX_TARGET, MAX_HEADERS), (8192, 2048, 64), "as the README says");
        let with_target = |n: usize| format!("GET /?{} HTTP/1.1\r\n\r\n", "x".repeat(n - 2));
        assert_eq!(health(&with_target(MAX_TARGET)).route, Route::Health(Role::ReadWrite));
        for long in [MAX_TARGET + 1, MAX_HEAD * 2] {
            assert_eq!(parse(with_target(long).as_bytes()), Parsed::Bad(Problem::TargetTooLong));
        }
        let endless = vec![b'x'; MAX_HEAD];
        assert_eq!(parse(&endless), Parsed::Bad(Problem::TargetTooLong));
    }

    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        for (bytes, kind) in [
            (&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], WrongProtocol::Tls),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", WrongProtocol::Http2),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\n\r\n", WrongProtocol::Proxy),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", WrongProtocol::Proxy),
        ] {
            assert_eq!(parse(bytes), Parsed::WrongProtocol(kind));
            assert!(!kind.to_string().is_empty());
        }
    }

    #[test]
    fn what_the_bytes_come_to_is_the_same_however_they_come_in_pieces() {
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
