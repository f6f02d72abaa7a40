//! The response: a verdict, a page or a problem to bytes.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use crate::health::{Health, Time, Verdict};

/// The format of a response.
///
/// [`parse`](super::parse) sets it by the method and the Accept field. The default is text
/// with a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Sends the head only, with the Content-Length that the body would have (HEAD; RFC
    /// 9110, section 9.3.2).
    pub head_only: bool,
    /// Writes the body as JSON. Pages ignore it.
    pub json: bool,
    /// Writes metrics as OpenMetrics. Responses other than the metrics page ignore it.
    pub openmetrics: bool,
}

/// Why a request gets an error response, with the status of that response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// 400: not an HTTP/1.0 or HTTP/1.1 request, one with an ambiguous end, or malformed
    /// chunks.
    BadRequest,
    /// 404: the listener does not offer this path.
    NotFound,
    /// 405: the method is not GET, HEAD or OPTIONS.
    MethodNotAllowed,
    /// 408: the request was not complete within 5 s. The caller of this module keeps the
    /// time.
    Timeout,
    /// 413: the body is over 64 KiB.
    BodyTooLarge,
    /// 414: the target is over 2 KiB.
    TargetTooLong,
    /// 431: the head is over 8 KiB, or has over 64 header lines.
    HeadTooLarge,
}

/// Initial capacities of the head's and the body's buffer, in bytes. Only the longest heads
/// and bodies need more.
const HEAD_CAPACITY: usize = 256;
const BODY_CAPACITY: usize = 128;

/// A response to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: &'static str,
    headers: &'static str,
    /// The value of the header field `Galera-Probe`. Pages have none.
    word: Option<&'static str>,
    content_type: &'static str,
    body: String,
    head_only: bool,
}

impl Response {
    /// Creates the response for a health path: 200 for [`Verdict::Serve`], 503 for every
    /// refusal.
    ///
    /// The header field `Galera-Probe` and the first line of the body have the word
    /// `serve` or the reason's word. The second line is the explanation. In JSON, they are
    /// `reason` and `explanation`, and the verdict's time is `for_seconds` or
    /// `left_seconds`.
    pub fn health(health: Health, format: Format) -> Self {
        let (status, headers) = match health.verdict {
            Verdict::Serve => ("200 OK", ""),
            // A verdict can change within seconds. Balancers keep their own interval.
            Verdict::Refuse(_) => ("503 Service Unavailable", "Retry-After: 5\r\n"),
        };
        Self::with_word(status, headers, health.verdict.as_str(), &health, health.time, format)
    }

    /// Creates the response for `/livez`: 200, whatever the state of the node.
    pub fn live(format: Format) -> Self {
        Self::with_word("200 OK", "", "live", &"the probe is running", None, format)
    }

    /// Creates a 200 response with a body of any content type, without a `Galera-Probe`
    /// field.
    pub fn page(content_type: &'static str, body: String, format: Format) -> Self {
        let head_only = format.head_only;
        Self { status: "200 OK", headers: "", word: None, content_type, body, head_only }
    }

    /// Creates the error response for a problem: a 4xx status, and the problem's word in
    /// the place of the reason.
    pub fn problem(problem: Problem, format: Format) -> Self {
        let (status, headers, word, explanation) = match problem {
            Problem::BadRequest => (
                "400 Bad Request",
                "",
                "bad-request",
                "the request is not valid HTTP/1.0 or HTTP/1.1",
            ),
            Problem::NotFound => {
                ("404 Not Found", "", "not-found", "this listener does not serve the path")
            }
            Problem::MethodNotAllowed => (
                "405 Method Not Allowed",
                "Allow: GET, HEAD, OPTIONS\r\n",
                "method-not-allowed",
                "the method must be GET, HEAD or OPTIONS",
            ),
            Problem::Timeout => (
                "408 Request Timeout",
                "",
                "request-timeout",
                "the request was not complete within 5 s",
            ),
            Problem::BodyTooLarge => {
                ("413 Content Too Large", "", "body-too-large", "the request's body is over 64 KiB")
            }
            Problem::TargetTooLong => {
                ("414 URI Too Long", "", "target-too-long", "the request's target is over 2 KiB")
            }
            Problem::HeadTooLarge => (
                "431 Request Header Fields Too Large",
                "",
                "head-too-large",
                "the request's head is over 8 KiB or 64 lines",
            ),
        };
        Self::with_word(status, headers, word, &explanation, None, format)
    }

    /// Creates a response with a word and an explanation. They are written into JSON
    /// unescaped: a test checks that no word or explanation has a character to escape.
    fn with_word(
        status: &'static str,
        headers: &'static str,
        word: &'static str,
        explanation: &dyn fmt::Display,
        time: Option<Time>,
        format: Format,
    ) -> Self {
        let (content_type, body) = match format.json {
            false => {
                let mut body = String::with_capacity(BODY_CAPACITY);
                // Writing to memory cannot fail.
                let _ = writeln!(body, "{word}\n{explanation}");
                ("text/plain; charset=utf-8", body)
            }
            true => {
                let time = match time {
                    None => String::new(),
                    Some(Time::For(time)) => format!(",\"for_seconds\":{:.1}", time.as_secs_f64()),
                    Some(Time::Left(time)) => {
                        format!(",\"left_seconds\":{:.1}", time.as_secs_f64())
                    }
                };
                let members = format!("\"reason\":\"{word}\",\"explanation\":\"{explanation}\"");
                ("application/json", format!("{{{members}{time}}}\n"))
            }
        };
        let head_only = format.head_only;
        Self { status, headers, word: Some(word), content_type, body, head_only }
    }

    /// Returns the status code, such as `503`.
    pub fn status(&self) -> &'static str {
        self.status.split(' ').next().unwrap_or_default()
    }

    /// Returns the bytes of the response: an HTTP/1.1 status line, the header fields and
    /// the body.
    ///
    /// Every response has `Connection: close` (RFC 9112, section 9.6). One exchange for
    /// each connection needs fewer states, and idle clients cannot hold connections.
    pub fn encode(&self) -> Vec<u8> {
        let Self { status, headers, content_type, body, .. } = self;
        let (name, word, line_end) =
            self.word.map_or(("", "", ""), |word| ("Galera-Probe: ", word, "\r\n"));
        let mut bytes = Vec::with_capacity(HEAD_CAPACITY.saturating_add(body.len()));
        // Writing to memory cannot fail.
        let _ = write!(
            bytes,
            "HTTP/1.1 {status}\r\n\
             Content-Type: {content_type}\r\n\
             Content-Length: {}\r\n\
             Cache-Control: no-store\r\n\
             {name}{word}{line_end}\
             {headers}\
             Connection: close\r\n\r\n",
            body.len()
        );
        if !self.head_only {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::Reason;

    const TEXT: Format = Format { head_only: false, json: false, openmetrics: false };
    const JSON: Format = Format { json: true, ..TEXT };

    const PROBLEMS: [Problem; 7] = [
        Problem::BadRequest,
        Problem::NotFound,
        Problem::MethodNotAllowed,
        Problem::Timeout,
        Problem::BodyTooLarge,
        Problem::TargetTooLong,
        Problem::HeadTooLarge,
    ];

    fn text(response: &Response) -> String {
        String::from_utf8(response.encode()).unwrap()
    }

    fn stalled() -> Health {
        Health {
            verdict: Verdict::Refuse(Reason::StalledQuery),
            time: Some(Time::For(Duration::from_millis(12_345))),
        }
    }

    #[test]
    fn a_response_is_complete() {
        let response = Response::health(Verdict::Refuse(Reason::NonPrimary).into(), TEXT);
        assert_eq!(
            text(&response),
            "HTTP/1.1 503 Service Unavailable\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 54\r\n\
             Cache-Control: no-store\r\n\
             Galera-Probe: non-primary\r\n\
             Retry-After: 5\r\n\
             Connection: close\r\n\r\n\
             non-primary\n\
             the node is in a component without quorum\n"
        );
    }

    #[test]
    fn json_has_the_reason_the_explanation_and_the_time() {
        let response = text(&Response::health(stalled(), JSON));
        assert!(response.contains("\r\nContent-Type: application/json\r\n"), "{response}");
        let body = response.split("\r\n\r\n").nth(1).unwrap();
        assert_eq!(
            body,
            "{\"reason\":\"stalled-query\",\"explanation\":\"the server did not answer the \
             statements within the deadline; for 12.3 s\",\"for_seconds\":12.3}\n"
        );
        let settling = Health {
            verdict: Verdict::Refuse(Reason::Settling),
            time: Some(Time::Left(Duration::from_secs(4))),
        };
        assert!(text(&Response::health(settling, JSON)).ends_with(",\"left_seconds\":4.0}\n"));
        assert!(text(&Response::health(Verdict::Serve.into(), JSON)).ends_with("to serve\"}\n"));
    }

    #[test]
    fn words_and_explanations_need_no_escape_in_json() {
        let verdicts = Reason::ALL.iter().map(|reason| Verdict::Refuse(*reason).into());
        let healths = verdicts.map(|health| Response::health(health, TEXT));
        let problems = PROBLEMS.map(|problem| Response::problem(problem, TEXT));
        for response in healths.chain(problems).chain([Response::live(TEXT)]) {
            let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            assert!(response.body.lines().all(|line| line.bytes().all(plain)), "{response:?}");
        }
    }

    #[test]
    fn a_response_to_head_has_the_length_of_the_omitted_body() {
        for json in [false, true] {
            let whole = Response::health(stalled(), Format { json, ..TEXT }).encode();
            let head =
                Response::health(stalled(), Format { head_only: true, json, ..TEXT }).encode();
            assert!(whole.starts_with(&head) && head.ends_with(b"\r\n\r\n"));
            let length = format!("\r\nContent-Length: {}\r\n", whole.len() - head.len());
            assert!(String::from_utf8(head).unwrap().contains(&length));
        }
    }

    #[test]
    fn serve_is_200_and_every_refusal_is_503_with_retry_after() {
        assert_eq!(Response::health(Verdict::Serve.into(), TEXT).status(), "200");
        for reason in Reason::ALL {
            let response = Response::health(Verdict::Refuse(*reason).into(), TEXT);
            assert_eq!(response.status(), "503");
            assert!(text(&response).contains("\r\nRetry-After: 5\r\n"));
        }
    }

    #[test]
    fn a_page_has_its_own_content_type_and_no_word() {
        let page = text(&Response::page("text/x", "content\n".to_owned(), TEXT));
        assert_eq!(
            page,
            "HTTP/1.1 200 OK\r\n\
             Content-Type: text/x\r\n\
             Content-Length: 8\r\n\
             Cache-Control: no-store\r\n\
             Connection: close\r\n\r\n\
             content\n"
        );
        let head =
            Response::page("text/x", "content\n".to_owned(), Format { head_only: true, ..TEXT });
        assert!(text(&head).contains("Content-Length: 8\r\n") && text(&head).ends_with("\r\n\r\n"));
    }

    #[test]
    fn livez_is_200() {
        let live = text(&Response::live(TEXT));
        assert!(live.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(live.ends_with("\r\n\r\nlive\nthe probe is running\n"));
    }

    #[test]
    fn each_problem_has_its_own_4xx_status() {
        let mut statuses: Vec<_> =
            PROBLEMS.iter().map(|problem| Response::problem(*problem, TEXT).status).collect();
        assert!(statuses.iter().all(|status| status.starts_with('4')));
        statuses.dedup();
        assert_eq!(statuses.len(), PROBLEMS.len());
        let not_allowed = text(&Response::problem(Problem::MethodNotAllowed, TEXT));
        assert!(not_allowed.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"));
    }
}
