//! The listener, and one exchange for each connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::http::{self, Answer, Parsed};
use crate::verdict::Health;

/// Connections that are served at once; the next ones wait in the accept queue.
const MAX_CONNECTIONS: usize = 512;

/// For the whole request, so that a byte a second does not hold a place.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// For writing the answer and seeing the client close.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What is still read after the answer, so that closing does not reset the
/// connection under it: Azure takes a reset for down.
const MAX_DRAIN: u64 = 64 * 1024;

/// Accepting fails while file descriptors are used up; trying again at once
/// would take the processor from what could free them.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers for ever. `ask` gives the node's health, in bounded time.
pub async fn serve<F>(listener: TcpListener, ask: impl Fn() -> F)
where
    F: Future<Output = Health> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let health = ask();
                tokio::spawn(async move {
                    if let Err(error) = exchange(stream, health).await {
                        debug!(%peer, %error, "HTTP exchange ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept HTTP connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One request and its answer. `health` is polled only if it is asked for.
async fn exchange<S>(mut stream: S, health: impl Future<Output = Health>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = match timeout(REQUEST_TIME, read_request(&mut stream)).await?? {
        // Closed without a byte: a TCP check. No answer, no error.
        None => return Ok(()),
        Some(Asked::Health { head_only }) => Answer::health(health.await, head_only),
        Some(Asked::Other(answer)) => answer,
    };
    timeout(ANSWER_TIME, async {
        stream.write_all(&answer.encode()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_DRAIN), &mut tokio::io::sink()).await?;
        Ok(())
    })
    .await?
}

/// A request that is complete.
enum Asked {
    Health { head_only: bool },
    Other(Answer),
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Asked>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.take((http::MAX_HEAD - head.len()) as u64).read_buf(&mut head).await? == 0 {
            return match head.len() {
                0 => Ok(None),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        match http::parse(&head) {
            Parsed::Incomplete => {}
            Parsed::Health { head_only } => return Ok(Some(Asked::Health { head_only })),
            Parsed::Other(answer) => return Ok(Some(Asked::Other(answer))),
        }
    }
}
