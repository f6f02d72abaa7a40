//! The balancer's side, without its sockets: bytes to a request, a verdict to
//! an answer.

// This file reads a peer's bytes: nothing in it may panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use std::borrow::Cow;

use crate::verdict::{Health, Verdict};

/// The longest request head. Balancers send under 300 bytes.
pub const MAX_HEAD: usize = 8 * 1024;

/// The most header lines. Balancers send under ten.
const MAX_HEADERS: usize = 64;

/// What the bytes of a request come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is not complete; more is to be read.
    Incomplete,
    /// The node's health is asked for.
    Health {
        /// The answer has no body (HEAD).
        head_only: bool,
    },
    /// Anything else; the answer is known without asking the node.
    Other(Answer),
}

/// Reads as much of a request as has come.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Parsed::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Other(Answer::HEAD_TOO_LARGE);
        }
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Parsed::Other(Answer::BAD_REQUEST),
    }
    let head_only = match request.method {
        Some("GET" | "OPTIONS") => false,
        Some("HEAD") => true,
        _ => return Parsed::Other(Answer::METHOD_NOT_ALLOWED),
    };
    match path(request.path.unwrap_or_default()) {
        "/" | "*" => Parsed::Health { head_only },
        _ => Parsed::Other(Answer { head_only, ..Answer::NOT_FOUND }),
    }
}

/// The path of a request target in origin form, absolute form or `*`.
fn path(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => match rest.find('/') {
            Some(start) => rest.get(start..).unwrap_or("/"),
            None => "/",
        },
        _ => target,
    };
    path.split(['?', '#']).next().unwrap_or("/")
}

/// What is sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: &'static str,
    headers: &'static str,
    word: &'static str,
    explanation: Cow<'static, str>,
    head_only: bool,
}

impl Answer {
    const NOT_FOUND: Answer = Answer {
        status: "404 Not Found",
        headers: "",
        word: "not-found",
        explanation: Cow::Borrowed("the node's health is at /"),
        head_only: false,
    };
    const METHOD_NOT_ALLOWED: Answer = Answer {
        status: "405 Method Not Allowed",
        headers: "Allow: GET, HEAD, OPTIONS\r\n",
        word: "method-not-allowed",
        explanation: Cow::Borrowed("ask with GET, HEAD or OPTIONS"),
        head_only: false,
    };
    const BAD_REQUEST: Answer = Answer {
        status: "400 Bad Request",
        headers: "",
        word: "bad-request",
        explanation: Cow::Borrowed("this is no HTTP/1.0 or HTTP/1.1 request"),
        head_only: false,
    };
    const HEAD_TOO_LARGE: Answer = Answer {
        status: "431 Request Header Fields Too Large",
        headers: "",
        word: "head-too-large",
        explanation: Cow::Borrowed("the request's head is over 8 KiB or 64 lines"),
        head_only: false,
    };

    /// 200 for serve, 503 for everything else.
    pub fn health(health: Health, head_only: bool) -> Self {
        let status = match health.verdict {
            Verdict::Serve => "200 OK",
            Verdict::Refuse(_) => "503 Service Unavailable",
        };
        let word = health.verdict.as_str();
        Self { status, headers: "", word, explanation: health.to_string().into(), head_only }
    }

    /// The answer's bytes. Every answer ends its connection: fewer states, and
    /// nothing for an idle client to hold.
    pub fn encode(&self) -> Vec<u8> {
        let Self { status, headers, word, explanation, head_only } = self;
        let body = format!("{word}\n{explanation}\n");
        let head = format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\
             Cache-Control: no-store\r\n\
             {headers}\
             Connection: close\r\n\r\n",
            body.len()
        );
        if *head_only { head.into_bytes() } else { (head + &body).into_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Reason;

    const ASKED: Parsed = Parsed::Health { head_only: false };

    #[test]
    fn the_health_is_asked_for_by_get_options_and_head_in_every_form_of_target() {
        for request in [
            "GET / HTTP/1.1\r\nHost: 10.0.0.1:9200\r\nUser-Agent: Load Balancer Agent\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "OPTIONS / HTTP/1.0\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://10.0.0.1:9200/ HTTP/1.1\r\n\r\n",
            "GET http://10.0.0.1:9200 HTTP/1.1\r\n\r\n",
            "GET /?pool=a://b HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\n\n",
        ] {
            assert_eq!(parse(request.as_bytes()), ASKED, "{request}");
        }
        assert_eq!(parse(b"HEAD / HTTP/1.1\r\n\r\n"), Parsed::Health { head_only: true });
    }

    #[test]
    fn a_request_is_incomplete_until_its_last_byte() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for length in 0..request.len() {
            assert_eq!(parse(&request[..length]), Parsed::Incomplete);
        }
        assert_eq!(parse(request), ASKED);
    }

    #[test]
    fn what_is_not_asked_for_right_gets_its_own_status() {
        for (request, status) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", "404"),
            ("HEAD /x HTTP/1.1\r\n\r\n", "404"),
            ("POST / HTTP/1.1\r\n\r\n", "405"),
            ("get / HTTP/1.1\r\n\r\n", "405"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
            ("\x16\x03\x01\x02\0\x01\0", "400"),
            ("GET / HTTP/1.1\r\nbad header\r\n\r\n", "400"),
        ] {
            let Parsed::Other(answer) = parse(request.as_bytes()) else { panic!("{request}") };
            assert!(answer.status.starts_with(status), "{request}: {answer:?}");
        }
    }

    #[test]
    fn a_head_over_8_kib_or_64_lines_is_refused() {
        let long = format!("GET /{} HTTP/1.1", "x".repeat(MAX_HEAD));
        assert_eq!(parse(long.as_bytes()), Parsed::Other(Answer::HEAD_TOO_LARGE));
        let lines = |n| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(n));
        assert_eq!(parse(lines(64).as_bytes()), ASKED);
        assert_eq!(parse(lines(65).as_bytes()), Parsed::Other(Answer::HEAD_TOO_LARGE));
    }

    #[test]
    fn an_answer_is_whole() {
        let answer = Answer::health(Verdict::Refuse(Reason::NonPrimary).into(), false).encode();
        assert_eq!(
            String::from_utf8(answer).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 54\r\n\
             Cache-Control: no-store\r\n\
             Connection: close\r\n\r\n\
             non-primary\n\
             the node is in a component without quorum\n"
        );
    }

    #[test]
    fn an_answer_to_head_has_the_length_of_the_body_that_it_leaves_out() {
        let whole = Answer::health(Verdict::Serve.into(), false).encode();
        let head = Answer::health(Verdict::Serve.into(), true).encode();
        assert!(whole.starts_with(&head) && head.ends_with(b"\r\n\r\n"));
        assert_eq!(whole.len() - head.len(), "serve\nthe node is fit to serve\n".len());
    }

    #[test]
    fn serve_is_200_and_every_refusal_503() {
        let status = |verdict: Verdict| Answer::health(verdict.into(), false).status;
        assert_eq!(status(Verdict::Serve), "200 OK");
        for reason in Reason::ALL {
            assert_eq!(status(Verdict::Refuse(*reason)), "503 Service Unavailable");
        }
    }

    #[test]
    fn a_method_that_is_not_allowed_is_told_which_are() {
        let answer = String::from_utf8(Answer::METHOD_NOT_ALLOWED.encode()).unwrap();
        assert!(answer.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{answer}");
    }
}
