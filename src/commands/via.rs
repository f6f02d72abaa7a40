//! A question to a probe that is running, over HTTP.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::cli::Url;
use crate::node::connector::{Connect, Connector};

/// The longest answer that is read. A probe's is under 1 kB.
const MAX_ANSWER: u64 = 16 * 1024;

/// The longest line that is printed.
const MAX_LINE: usize = 300;

/// What a probe answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProbeResponse {
    /// The status code.
    pub(super) status: u16,
    /// The word and its meaning, in one line of printable characters.
    pub(super) line: String,
}

/// Asks once, within `budget`.
///
/// # Errors
/// That there was no answer, or none that is HTTP.
pub(super) async fn query(url: &Url, budget: Duration) -> io::Result<ProbeResponse> {
    let exchange = async {
        let mut stream = Connector::new(&url.address).connect(budget).await?;
        let Url { authority, path, .. } = url;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        read(&answer)
    };
    timeout(budget, exchange).await.map_err(io::Error::from)?
}

fn read(answer: &[u8]) -> io::Result<ProbeResponse> {
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP");
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(answer) else {
        return Err(no_http());
    };
    let status = response.code.ok_or_else(no_http)?;
    let body = String::from_utf8_lossy(answer.get(head..).unwrap_or_default());
    let lines: Vec<_> = body.lines().take(2).collect();
    let line = lines.join(": ").chars().filter(|char| !char.is_control()).take(MAX_LINE).collect();
    Ok(ProbeResponse { status, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_one_printable_line() {
        let answer =
            b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\ndonor\nit \x1b[1mgives\nmore";
        let expected = ProbeResponse { status: 503, line: "donor: it [1mgives".to_owned() };
        assert_eq!(read(answer).unwrap(), expected);
        let long = [b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 1000][..]].concat();
        assert_eq!(read(&long).unwrap().line.len(), MAX_LINE);
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().line, "");
    }

    #[test]
    fn what_is_no_http_is_an_error() {
        for answer in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-x\r\n\r\n", b"\x15\x03\x01"] {
            assert_eq!(read(answer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
