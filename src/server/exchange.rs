use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::places::Place;
use crate::http::{
    Answer, Asked, Body, Drain, Drained, Foreign, Form, MAX_HEAD, Parsed, Problem, Request, parse,
};
use crate::verdict::Health;

/// For the whole request, so that a byte a second does not hold a place.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// For everything: request, verdict, answer, close.
const EXCHANGE_TIME: Duration = Duration::from_secs(10);

/// For seeing the client close after its answer, and how much is read meanwhile:
/// closing over unread bytes resets the connection, and Azure takes a reset for
/// down.
const CLOSE_TIME: Duration = Duration::from_secs(1);
const MAX_UNREAD: u64 = 64 * 1024;

/// Read at once.
const READ: usize = 1024;

/// One request and its answer. `health` is polled only if it is asked for.
pub(super) async fn exchange<S>(
    stream: S,
    health: impl Future<Output = Health>,
    place: &Place,
    strangers: &Strangers,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection { stream, head: Vec::new(), place };
    timeout(EXCHANGE_TIME, async {
        let (asked, form) = match connection.request().await? {
            Ending::Silence => return Ok(()),
            Ending::Foreign(kind) => {
                strangers.seen(kind);
                return connection.close().await;
            }
            Ending::Asked(asked, form) => (asked, form),
        };
        let answer = match asked {
            Asked::Health => Answer::health(health.await, form),
            Asked::Other(problem) => Answer::problem(problem, form),
        };
        connection.stream.write_all(&answer.encode()).await?;
        connection.close().await
    })
    .await?
}

struct Connection<'a, S> {
    stream: S,
    head: Vec<u8>,
    place: &'a Place,
}

/// What a client's bytes came to.
enum Ending {
    /// It closed without a byte, or let its time pass without one: a TCP check.
    Silence,
    Foreign(Foreign),
    Asked(Asked, Form),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// The request, read to its end. From then on the place is kept.
    async fn request(&mut self) -> io::Result<Ending> {
        let ending = timeout(REQUEST_TIME, async {
            match self.head().await? {
                Some(Parsed::Request(request, length)) => self.body(request, length).await,
                Some(Parsed::Bad(problem)) => Ok(refuse(problem)),
                Some(Parsed::Foreign(kind)) => Ok(Ending::Foreign(kind)),
                Some(Parsed::Incomplete) | None => Ok(Ending::Silence),
            }
        });
        let ending = match ending.await {
            Ok(ending) => ending?,
            Err(_) if self.head.is_empty() => Ending::Silence,
            Err(_) => refuse(Problem::Timeout),
        };
        self.place.busy();
        Ok(ending)
    }

    /// `None` when the client closed without a byte.
    async fn head(&mut self) -> io::Result<Option<Parsed>> {
        loop {
            let room = MAX_HEAD.saturating_sub(self.head.len()).min(READ);
            let mut next = (&mut self.stream).take(room as u64);
            if next.read_buf(&mut self.head).await? == 0 {
                return match self.head.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            self.place.idle();
            match parse(&self.head) {
                Parsed::Incomplete => {}
                parsed => return Ok(Some(parsed)),
            }
        }
    }

    async fn body(&mut self, request: Request, length: usize) -> io::Result<Ending> {
        let Request { asked, form, body, expects_continue } = request;
        let begun = self.head.get(length..).unwrap_or_default();
        let mut drain = Drain::new(body);
        let mut drained = drain.take(begun);
        if expects_continue && body != Body::None && begun.is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut bytes = [0; READ];
        loop {
            match drained {
                Drained::All => return Ok(Ending::Asked(asked, form)),
                Drained::Bad(problem) => return Ok(refuse(problem)),
                Drained::More => {}
            }
            let read = self.stream.read(&mut bytes).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.place.idle();
            drained = drain.take(bytes.get(..read).unwrap_or_default());
        }
    }

    /// Says that nothing more comes, and waits a little for the client to say so.
    async fn close(&mut self) -> io::Result<()> {
        self.place.idle();
        self.stream.shutdown().await?;
        let mut unread = (&mut self.stream).take(MAX_UNREAD);
        let mut nowhere = tokio::io::sink();
        let seen = tokio::io::copy(&mut unread, &mut nowhere);
        // Who does not close in time is closed upon.
        timeout(CLOSE_TIME, seen).await.unwrap_or(Ok(0)).map(drop)
    }
}

fn refuse(problem: Problem) -> Ending {
    Ending::Asked(Asked::Other(problem), Form::default())
}

/// Clients that speak another protocol, each kind logged once a minute: a
/// balancer that is set up wrong comes every few seconds.
#[derive(Default)]
pub(super) struct Strangers {
    logged: Mutex<[Option<Instant>; Foreign::ALL.len()]>,
}

impl Strangers {
    const PAUSE: Duration = Duration::from_secs(60);

    fn seen(&self, kind: Foreign) {
        if self.is_news(kind) {
            warn!("a client of the HTTP port speaks {kind}");
        }
    }

    fn is_news(&self, kind: Foreign) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = Foreign::ALL.into_iter().zip(logged.iter_mut());
        let Some((_, last)) = kinds.into_iter().find(|(other, _)| *other == kind) else {
            return false;
        };
        let now = Instant::now();
        let news = last.is_none_or(|last| now.duration_since(last) >= Self::PAUSE);
        if news {
            *last = Some(now);
        }
        news
    }
}
