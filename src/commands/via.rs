//! The HTTP client of `check --via`: sends one request to a running probe.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time;

use crate::cli::Url;
use crate::node::connector::{Connect, Connector};

/// The most bytes that are read of a response. A probe sends under 1 kB.
const MAX_RESPONSE: u64 = 16 * 1024;

/// The most characters that are printed of a response.
const MAX_LINE: usize = 300;

/// The response of a running probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProbeResponse {
    /// The status code.
    pub(super) status: u16,
    /// The reason and its explanation, in one line without control characters.
    pub(super) line: String,
}

/// Sends one request and reads the response. `timeout` limits the whole exchange.
///
/// # Errors
/// The connection failed or timed out, or the response is not HTTP.
pub(super) async fn query(url: &Url, timeout: Duration) -> io::Result<ProbeResponse> {
    let exchange = async {
        let mut stream = Connector::new(&url.address).connect(timeout).await?;
        let Url { authority, path, .. } = url;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        stream.take(MAX_RESPONSE).read_to_end(&mut response).await?;
        parse_response(&response)
    };
    time::timeout(timeout, exchange).await.map_err(io::Error::from)?
}

fn parse_response(bytes: &[u8]) -> io::Result<ProbeResponse> {
    let not_http = || io::Error::new(io::ErrorKind::InvalidData, "the response is not HTTP");
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(bytes) else {
        return Err(not_http());
    };
    let status = response.code.ok_or_else(not_http)?;
    let body = String::from_utf8_lossy(bytes.get(head..).unwrap_or_default());
    let lines: Vec<_> = body.lines().take(2).collect();
    let line = lines.join(": ").chars().filter(|char| !char.is_control()).take(MAX_LINE).collect();
    Ok(ProbeResponse { status, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_status_and_one_printable_line() {
        let response =
            b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\ndonor\nit \x1b[1mgives\nmore";
        let expected = ProbeResponse { status: 503, line: "donor: it [1mgives".to_owned() };
        assert_eq!(parse_response(response).unwrap(), expected);
        let long = [b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 1000][..]].concat();
        assert_eq!(parse_response(&long).unwrap().line.len(), MAX_LINE);
        assert_eq!(parse_response(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().line, "");
    }

    #[test]
    fn refuses_a_response_that_is_not_http() {
        for response in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-x\r\n\r\n", b"\x15\x03\x01"] {
            assert_eq!(parse_response(response).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
