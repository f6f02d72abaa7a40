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

/// For the whole request, so that a byte a second does not hold a slot.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// For everything: request, verdict, answer.
const EXCHANGE_TIME: Duration = Duration::from_secs(10);

/// Read at once. A balancer's request is under 300 bytes.
const READ: usize = 1024;

/// A connection of somebody who asks.
pub trait Client: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Sends what was written, where that waits for more.
    fn push(&self) {}

    /// What is left after the answer, for the client to close.
    ///
    /// # Errors
    /// What the operating system says.
    fn into_lingering(self) -> io::Result<LingeringClose>;
}

impl Client for DuplexStream {
    fn into_lingering(self) -> io::Result<LingeringClose> {
        Ok(LingeringClose::other(self))
    }
}

/// One request and its answer. What comes back is to be closed after the client has.
pub(super) async fn exchange<S, F>(
    stream: S,
    answer: impl FnOnce(Route, Format) -> F,
    slot: &Slot,
    wrong_protocols: &WrongProtocolLog,
) -> io::Result<Option<S>>
where
    S: Client,
    F: Future<Output = Response>,
{
    slot.idle();
    let until = Instant::now() + EXCHANGE_TIME;
    let mut connection = Connection { stream, head: Vec::with_capacity(READ), slot };
    let ending = connection.request().await?;
    let answered = timeout_at(until, async {
        match ending {
            Ending::Silence => return Ok(false),
            Ending::WrongProtocol(kind) => wrong_protocols.seen(kind),
            Ending::Route(route, format) => {
                connection.stream.write_all(&answer(route, format).await.encode()).await?;
            }
        }
        connection.stream.shutdown().await?;
        io::Result::Ok(true)
    });
    Ok(answered.await??.then_some(connection.stream))
}

struct Connection<'a, S> {
    stream: S,
    /// The request's head, and behind it whatever was read last: every read goes
    /// there, so that an exchange has one buffer.
    head: Vec<u8>,
    slot: &'a Slot,
}

/// What a client's bytes came to.
enum Ending {
    /// It closed without a byte, or let its time pass without one: a TCP check.
    Silence,
    WrongProtocol(WrongProtocol),
    Route(Route, Format),
}

impl<S: Client> Connection<'_, S> {
    /// The request, read to its end. From then on the slot is kept.
    async fn request(&mut self) -> io::Result<Ending> {
        let ending = timeout(REQUEST_TIME, async {
            match self.head().await? {
                Some(Parsed::Request(request, length)) => self.body(request, length).await,
                Some(Parsed::Bad(problem)) => Ok(refuse(problem)),
                Some(Parsed::WrongProtocol(kind)) => Ok(Ending::WrongProtocol(kind)),
                Some(Parsed::Incomplete) | None => Ok(Ending::Silence),
            }
        });
        let ending = match ending.await {
            Ok(ending) => ending?,
            Err(_) if self.head.is_empty() => Ending::Silence,
            Err(_) => refuse(Problem::Timeout),
        };
        self.slot.busy();
        Ok(ending)
    }

    /// `None` when the client closed without a byte.
    async fn head(&mut self) -> io::Result<Option<Parsed>> {
        loop {
            if self.stream.read_buf(&mut self.head).await? == 0 {
                return match self.head.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            match parse(&self.head) {
                Parsed::Incomplete => self.slot.idle(),
                parsed => return Ok(Some(parsed)),
            }
        }
    }

    async fn body(&mut self, request: Request, length: usize) -> io::Result<Ending> {
        let Request { route, format, body, expects_continue } = request;
        let begun = self.head.get(length..).unwrap_or_default();
        let mut drain = BodyReader::new(body);
        let mut drained = drain.take(begun);
        if expects_continue && drained == BodyProgress::More && begun.is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            self.stream.push();
        }
        loop {
            match drained {
                BodyProgress::All => return Ok(Ending::Route(route, format)),
                BodyProgress::Bad(problem) => return Ok(refuse(problem)),
                BodyProgress::More => {}
            }
            self.head.truncate(length);
            if self.stream.read_buf(&mut self.head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.slot.idle();
            drained = drain.take(self.head.get(length..).unwrap_or_default());
        }
    }
}

fn refuse(problem: Problem) -> Ending {
    Ending::Route(Route::Problem(problem), Format::default())
}

/// Clients that speak another protocol: a balancer that is set up wrong comes
/// every few seconds.
#[derive(Default)]
pub(super) struct WrongProtocolLog([LogThrottle; WrongProtocol::ALL.len()]);

impl WrongProtocolLog {
    fn seen(&self, kind: WrongProtocol) {
        let mut kinds = WrongProtocol::ALL.iter().zip(&self.0);
        if kinds.any(|(other, seldom)| *other == kind && seldom.is_due()) {
            warn!("a client of the HTTP port speaks {kind}");
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

    async fn serve(route: Route, format: Format) -> Response {
        match route {
            Route::Problem(problem) => Response::problem(problem, format),
            _ => Response::health(Verdict::Serve.into(), format),
        }
    }

    /// An exchange on a stream with a small window, and the client's end of it.
    fn begin<F>(
        answer: impl FnOnce(Route, Format) -> F + Send + 'static,
    ) -> (DuplexStream, impl Future<Output = (io::Result<()>, Duration)>)
    where
        F: Future<Output = Response> + Send,
    {
        let (client, stream) = duplex(64);
        let exchange = tokio::spawn(async move {
            let began = Instant::now();
            let slot = Arc::new(ConnectionLimit::new(1)).take().await;
            let ended = exchange(stream, answer, &slot, &WrongProtocolLog::default()).await;
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
    async fn an_exchange_is_over_with_its_answer() {
        let (mut client, ended) = begin(serve);
        client.write_all(GET).await.unwrap();
        assert!(read(client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        let (result, took) = ended.await;
        assert!(result.is_ok() && took == Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_a_second_is_told_so_after_5_s() {
        for (request, told) in [(&b""[..], ""), (GET, "HTTP/1.1 408 ")] {
            let (client, ended) = begin(serve);
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
            assert!(answer.starts_with(told) && answer.is_empty() == told.is_empty(), "{answer}");
            assert_eq!(began.elapsed(), REQUEST_TIME);
            assert_eq!(ended.await.1, REQUEST_TIME);
            drip.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_told_so_after_5_s() {
        let (mut client, _ended) = begin(serve);
        client.write_all(b"GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\n").await.unwrap();
        assert!(read(client).await.starts_with("HTTP/1.1 408 "));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_its_answer_goes_after_10_s() {
        let (mut client, ended) = begin(serve);
        client.write_all(GET).await.unwrap();
        let (result, took) = ended.await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(took, EXCHANGE_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_that_does_not_come_ends_the_exchange_after_10_s() {
        let (mut client, ended) = begin(|_, _| pending());
        client.write_all(GET).await.unwrap();
        assert_eq!(ended.await.1, EXCHANGE_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_in_the_middle_of_its_request_is_an_early_end() {
        for request in [&GET[..9], b"GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"] {
            let (mut client, ended) = begin(serve);
            client.write_all(request).await.unwrap();
            drop(client);
            assert_eq!(ended.await.0.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_stranger_is_news_once_a_minute() {
        let wrong_protocols = WrongProtocolLog::default();
        wrong_protocols.seen(WrongProtocol::Http2);
        let due = || wrong_protocols.0.each_ref().map(LogThrottle::is_due);
        assert_eq!(due(), [true, false, true]);
        assert_eq!(due(), [false; 3]);
        advance(60 * SECOND).await;
        assert_eq!(due(), [true; 3]);
    }
}
