//! One HTTP exchange: a request and its response, within their timeouts.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::connection_limit::Slot;
use super::lingering_close::LingeringClose;
use crate::http::{
    BodyProgress, BodyReader, Format, Parsed, Problem, Request, Response, Route, WrongProtocol,
    parse,
};
use crate::os::log_throttle::LogThrottle;

/// The deadline of the whole request, not of a read: a client that sends a byte each second
/// cannot hold its slot.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The deadline of the whole exchange: request, verdict and response.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of one read. A balancer's request is under 300 bytes.
const READ_SIZE: usize = 1024;

/// A client's connection.
pub trait Client: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Sends the written bytes at once. Otherwise the stream may hold them back to fill a
    /// segment.
    fn push(&self) {}

    /// Puts the answered connection into lingering close.
    ///
    /// # Errors
    /// The operating system's error.
    fn into_lingering(self) -> io::Result<LingeringClose>;
}

impl Client for DuplexStream {
    fn into_lingering(self) -> io::Result<LingeringClose> {
        Ok(LingeringClose::other(self))
    }
}

/// Reads one request and writes the response of `respond`. Returns the stream, with its
/// write side shut down, for a lingering close; `None` if the client sent nothing.
///
/// # Errors
/// `TimedOut` after [`EXCHANGE_TIMEOUT`], `UnexpectedEof` for a client that closes within its
/// request, or the stream's error.
pub(super) async fn exchange<S, F>(
    stream: S,
    respond: impl FnOnce(Route, Format) -> F,
    slot: &Slot,
    wrong_protocols: &WrongProtocolLog,
) -> io::Result<Option<S>>
where
    S: Client,
    F: Future<Output = Response>,
{
    slot.set_idle();
    let deadline = Instant::now() + EXCHANGE_TIMEOUT;
    let mut connection = Connection { stream, head: Vec::with_capacity(READ_SIZE), slot };
    let received = connection.receive().await?;
    let answered = timeout_at(deadline, async {
        match received {
            Received::Nothing => return Ok(false),
            Received::WrongProtocol(protocol) => wrong_protocols.log(protocol),
            Received::Request(route, format) => {
                connection.stream.write_all(&respond(route, format).await.encode()).await?;
            }
        }
        connection.stream.shutdown().await?;
        io::Result::Ok(true)
    });
    Ok(answered.await??.then_some(connection.stream))
}

struct Connection<'a, S> {
    stream: S,
    /// The request's head, followed by the bytes of the body's last read. One buffer serves
    /// the whole exchange.
    head: Vec<u8>,
    slot: &'a Slot,
}

/// What a client sent.
enum Received {
    /// No byte until it closed or [`REQUEST_TIMEOUT`] passed, such as a TCP check.
    Nothing,
    WrongProtocol(WrongProtocol),
    /// A whole request, or its problem as [`Route::Problem`].
    Request(Route, Format),
}

impl<S: Client> Connection<'_, S> {
    /// Reads to the end of the request. From then on the connection is not evicted.
    async fn receive(&mut self) -> io::Result<Received> {
        let received = timeout(REQUEST_TIMEOUT, async {
            match self.read_head().await? {
                Some(Parsed::Request(request, length)) => self.read_body(request, length).await,
                Some(Parsed::Bad(problem)) => Ok(rejected(problem)),
                Some(Parsed::WrongProtocol(protocol)) => Ok(Received::WrongProtocol(protocol)),
                Some(Parsed::Incomplete) | None => Ok(Received::Nothing),
            }
        });
        let received = match received.await {
            Ok(received) => received?,
            Err(_) if self.head.is_empty() => Received::Nothing,
            Err(_) => rejected(Problem::Timeout),
        };
        self.slot.set_busy();
        Ok(received)
    }

    /// Returns `None` if the client closed without a byte.
    async fn read_head(&mut self) -> io::Result<Option<Parsed>> {
        loop {
            if self.stream.read_buf(&mut self.head).await? == 0 {
                return match self.head.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            match parse(&self.head) {
                Parsed::Incomplete => self.slot.set_idle(),
                parsed => return Ok(Some(parsed)),
            }
        }
    }

    /// Reads the body and discards it. `length` is the length of the head in bytes.
    async fn read_body(&mut self, request: Request, length: usize) -> io::Result<Received> {
        let Request { route, format, body, expects_continue } = request;
        let first = self.head.get(length..).unwrap_or_default();
        let mut body = BodyReader::new(body);
        let mut progress = body.receive(first);
        if expects_continue && progress == BodyProgress::Incomplete && first.is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            self.stream.push();
        }
        loop {
            match progress {
                BodyProgress::Complete => return Ok(Received::Request(route, format)),
                BodyProgress::Bad(problem) => return Ok(rejected(problem)),
                BodyProgress::Incomplete => {}
            }
            self.head.truncate(length);
            if self.stream.read_buf(&mut self.head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.slot.set_idle();
            progress = body.receive(self.head.get(length..).unwrap_or_default());
        }
    }
}

fn rejected(problem: Problem) -> Received {
    Received::Request(Route::Problem(problem), Format::default())
}

/// Logs clients that speak another protocol, at most once a minute for each protocol. A
/// misconfigured balancer connects every few seconds.
#[derive(Default)]
pub(super) struct WrongProtocolLog([LogThrottle; WrongProtocol::ALL.len()]);

impl WrongProtocolLog {
    fn log(&self, protocol: WrongProtocol) {
        let mut throttles = WrongProtocol::ALL.iter().zip(&self.0);
        let throttle = throttles.find(|(other, _)| **other == protocol);
        if throttle.is_some_and(|(_, throttle)| throttle.is_due()) {
            warn!("a client of the HTTP port speaks {protocol}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use tokio::io::{DuplexStream, duplex};
    use tokio::time::{advance, sleep};

    use super::super::connection_limit::ConnectionLimit;
    use super::*;
    use crate::health::Verdict;

    const GET: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
    const SECOND: Duration = Duration::from_secs(1);

    async fn respond(route: Route, format: Format) -> Response {
        match route {
            Route::Problem(problem) => Response::problem(problem, format),
            _ => Response::health(Verdict::Serve.into(), format),
        }
    }

    /// Starts an exchange on a stream with a small buffer. Returns the client's end.
    fn begin<F>(
        respond: impl FnOnce(Route, Format) -> F + Send + 'static,
    ) -> (DuplexStream, impl Future<Output = (io::Result<()>, Duration)>)
    where
        F: Future<Output = Response> + Send,
    {
        let (client, stream) = duplex(64);
        let exchange = tokio::spawn(async move {
            let began = Instant::now();
            let slot = Arc::new(ConnectionLimit::new(1)).acquire().await;
            let ended = exchange(stream, respond, &slot, &WrongProtocolLog::default()).await;
            (ended.map(|_| ()), began.elapsed())
        });
        (client, async { exchange.await.unwrap() })
    }

    async fn read(mut client: DuplexStream) -> String {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_ends_with_its_response() {
        let (mut client, ended) = begin(respond);
        client.write_all(GET).await.unwrap();
        assert!(read(client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        let (result, took) = ended.await;
        assert!(result.is_ok() && took == Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_of_a_byte_each_second_gets_408_after_5_s() {
        for (request, expected) in [(&b""[..], ""), (GET, "HTTP/1.1 408 ")] {
            let (client, ended) = begin(respond);
            let (reading, mut writing) = tokio::io::split(client);
            let drip = tokio::spawn(async move {
                for byte in request {
                    writing.write_all(&[*byte]).await?;
                    sleep(SECOND).await;
                }
                sleep(3600 * SECOND).await;
                io::Result::Ok(writing)
            });
            let began = Instant::now();
            let mut answer = String::new();
            let mut reading = reading;
            reading.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with(expected) && answer.is_empty() == expected.is_empty(),
                "{answer}"
            );
            assert_eq!(began.elapsed(), REQUEST_TIMEOUT);
            assert_eq!(ended.await.1, REQUEST_TIMEOUT);
            drip.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_gets_408_after_5_s() {
        let (mut client, _ended) = begin(respond);
        client.write_all(b"GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\n").await.unwrap();
        assert!(read(client).await.starts_with("HTTP/1.1 408 "));
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_with_a_client_that_never_reads_ends_after_10_s() {
        let (mut client, ended) = begin(respond);
        client.write_all(GET).await.unwrap();
        let (result, took) = ended.await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(took, EXCHANGE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_without_a_verdict_ends_after_10_s() {
        let (mut client, ended) = begin(|_, _| pending());
        client.write_all(GET).await.unwrap();
        assert_eq!(ended.await.1, EXCHANGE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_closes_within_its_request_is_an_unexpected_eof() {
        for request in [&GET[..9], b"GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"] {
            let (mut client, ended) = begin(respond);
            client.write_all(request).await.unwrap();
            drop(client);
            assert_eq!(ended.await.0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_wrong_protocol_is_logged_once_a_minute() {
        let log = WrongProtocolLog::default();
        log.log(WrongProtocol::Http2);
        let due = || log.0.each_ref().map(LogThrottle::is_due);
        assert_eq!(due(), [true, false, true]);
        assert_eq!(due(), [false; 3]);
        advance(60 * SECOND).await;
        assert_eq!(due(), [true; 3]);
    }
}
