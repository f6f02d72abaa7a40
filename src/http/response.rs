use std::fmt::{self, Write as _};
use std::io::Write as _;

use crate::health::{Health, Time, Verdict};

/// How an answer is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// The head alone, with the length that the body would have (HEAD).
    pub head_only: bool,
    /// The body as JSON.
    pub json: bool,
    /// Metrics as OpenMetrics.
    pub openmetrics: bool,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No HTTP/1 request, or one that contradicts itself.
    BadRequest,
    /// No such path.
    NotFound,
    /// No such method.
    MethodNotAllowed,
    /// The request did not come within its time.
    Timeout,
    /// The body is over 64 KiB.
    BodyTooLarge,
    /// The target is over 2 KiB.
    TargetTooLong,
    /// The head is over 8 KiB or 64 lines.
    HeadTooLarge,
}

/// What heads and bodies take, but for the longest.
const HEAD: usize = 256;
const BODY: usize = 128;

/// What is sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: &'static str,
    headers: &'static str,
    /// The word of the header `Galera-Probe`, where there is one.
    word: Option<&'static str>,
    content_type: &'static str,
    body: String,
    head_only: bool,
}

impl Response {
    /// 200 for serve, 503 for everything else.
    pub fn health(health: Health, format: Format) -> Self {
        let (status, headers) = match health.verdict {
            Verdict::Serve => ("200 OK", ""),
            // Verdicts change within seconds; a balancer asks when it does.
            Verdict::Refuse(_) => ("503 Service Unavailable", "Retry-After: 5\r\n"),
        };
        Self::words(status, headers, health.verdict.as_str(), &health, health.time, format)
    }

    /// The probe itself runs, whatever the node does.
    pub fn live(format: Format) -> Self {
        Self::words("200 OK", "", "live", &"the probe is running", None, format)
    }

    /// A page of another kind.
    pub fn page(content_type: &'static str, body: String, format: Format) -> Self {
        let head_only = format.head_only;
        Self { status: "200 OK", headers: "", word: None, content_type, body, head_only }
    }

    /// What a request that cannot be served gets.
    pub fn problem(problem: Problem, format: Format) -> Self {
        let (status, headers, word, explanation) = match problem {
            Problem::BadRequest => {
                ("400 Bad Request", "", "bad-request", "this is no HTTP/1.0 or HTTP/1.1 request")
            }
            Problem::NotFound => ("404 Not Found", "", "not-found", "nothing is answered here"),
            Problem::MethodNotAllowed => (
                "405 Method Not Allowed",
                "Allow: GET, HEAD, OPTIONS\r\n",
                "method-not-allowed",
                "ask with GET, HEAD or OPTIONS",
            ),
            Problem::Timeout => {
                ("408 Request Timeout", "", "request-timeout", "the request took over 5 s")
            }
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
        Self::words(status, headers, word, &explanation, None, format)
    }

    /// One word and a line for people. Both are constants without a character that
    /// JSON escapes; a test holds them to that.
    fn words(
        status: &'static str,
        headers: &'static str,
        word: &'static str,
        explanation: &dyn fmt::Display,
        time: Option<Time>,
        format: Format,
    ) -> Self {
        let (content_type, body) = match format.json {
            false => {
                let mut body = String::with_capacity(BODY);
                // Writing into memory does not fail.
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
                let said = format!("\"reason\":\"{word}\",\"explanation\":\"{explanation}\"");
                ("application/json", format!("{{{said}{time}}}\n"))
            }
        };
        let head_only = format.head_only;
        Self { status, headers, word: Some(word), content_type, body, head_only }
    }

    /// The code of the status line.
    pub fn status(&self) -> &'static str {
        self.status.split(' ').next().unwrap_or_default()
    }

    /// The answer's bytes. Every answer ends its connection: fewer states, and
    /// nothing for an idle client to hold.
    pub fn encode(&self) -> Vec<u8> {
        let Self { status, headers, content_type, body, .. } = self;
        let (named, word, end) =
            self.word.map_or(("", "", ""), |word| ("Galera-Probe: ", word, "\r\n"));
        let mut bytes = Vec::with_capacity(HEAD.saturating_add(body.len()));
        // Writing into memory does not fail.
        let _ = write!(
            bytes,
            "HTTP/1.1 {status}\r\n\
             Content-Type: {content_type}\r\n\
             Content-Length: {}\r\n\
             Cache-Control: no-store\r\n\
             {named}{word}{end}\
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

    fn text(answer: &Response) -> String {
        String::from_utf8(answer.encode()).unwrap()
    }

    fn stalled() -> Health {
        Health {
            verdict: Verdict::Refuse(Reason::StalledQuery),
            time: Some(Time::For(Duration::from_millis(12_345))),
        }
    }

    #[test]
    fn an_answer_is_whole() {
        let answer = Response::health(Verdict::Refuse(Reason::NonPrimary).into(), TEXT);
        assert_eq!(
            text(&answer),
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
    fn json_holds_the_same_facts() {
        let answer = text(&Response::health(stalled(), JSON));
        assert!(answer.contains("\r\nContent-Type: application/json\r\n"), "{answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
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
    fn no_word_needs_an_escape_in_json() {
        let verdicts = Reason::ALL.iter().map(|reason| Verdict::Refuse(*reason).into());
        let healths = verdicts.map(|health| Response::health(health, TEXT));
        let problems = PROBLEMS.map(|problem| Response::problem(problem, TEXT));
        for answer in healths.chain(problems).chain([Response::live(TEXT)]) {
            let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            assert!(answer.body.lines().all(|line| line.bytes().all(plain)), "{answer:?}");
        }
    }

    #[test]
    fn an_answer_to_head_has_the_length_of_the_body_that_it_leaves_out() {
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
    fn serve_is_200_and_every_refusal_503_with_when_to_ask_again() {
        assert_eq!(Response::health(Verdict::Serve.into(), TEXT).status(), "200");
        for reason in Reason::ALL {
            let answer = Response::health(Verdict::Refuse(*reason).into(), TEXT);
            assert_eq!(answer.status(), "503");
            assert!(text(&answer).contains("\r\nRetry-After: 5\r\n"));
        }
    }

    #[test]
    fn a_page_is_what_it_is_and_has_no_word() {
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
    fn the_probe_is_live_with_200() {
        let live = text(&Response::live(TEXT));
        assert!(live.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(live.ends_with("\r\n\r\nlive\nthe probe is running\n"));
    }

    #[test]
    fn every_problem_has_a_status_of_its_own_that_is_no_verdict() {
        let mut statuses: Vec<_> =
            PROBLEMS.iter().map(|problem| Response::problem(*problem, TEXT).status).collect();
        assert!(statuses.iter().all(|status| status.starts_with('4')));
        statuses.dedup();
        assert_eq!(statuses.len(), PROBLEMS.len());
        let not_allowed = text(&Response::problem(Problem::MethodNotAllowed, TEXT));
        assert!(not_allowed.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"));
    }
}
