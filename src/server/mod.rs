//! The HTTP server: listeners, the connection limit, and one exchange for each connection.

mod connection_limit;
mod exchange;
mod lingering_close;
mod listener;
mod socket;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::http::{Format, Response, Route};
use crate::os::log_throttle::LogThrottle;

use connection_limit::ConnectionLimit;
use exchange::{WrongProtocolLog, exchange};
use socket::Socket;

pub use exchange::Client;
pub use lingering_close::LingeringClose;
pub use listener::{Listen, Listener};

/// The most connections that are served at once. A silent connection takes under 3 kB of
/// memory, any other under 10 kB.
pub const MAX_CONNECTIONS: usize = 2048;

/// File descriptors that HTTP connections leave free, besides the listeners': standard
/// streams, the runtime, the connection to the node, a name lookup, some inherited ones, and
/// 16 connections to the admin listener.
const OTHER_DESCRIPTORS: usize = 36;

/// How many connections are accepted before the other tasks and the runtime's poller get
/// their turn. Many callers at once must not delay reading from the node.
const MAX_ACCEPTS_PER_TURN: usize = 16;

/// The pause after a failed accept. File descriptors may be used up: retrying at once would
/// take the processor from the tasks that can free them.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An HTTP server: answers the connections of its listeners, within the connection limit.
pub struct Server<R> {
    listeners: Vec<Listener>,
    respond: R,
    limit: Arc<ConnectionLimit>,
    wrong_protocols: Arc<WrongProtocolLog>,
    accept_errors: LogThrottle,
}

impl<R, F> Server<R>
where
    R: Fn(Route, Format) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    /// Creates a server for at most `max` connections at once, or fewer if the limit of file
    /// descriptors is low. `respond` returns the response to each request. An exchange that
    /// takes over 10 s is dropped.
    pub fn new(listeners: Vec<Listener>, max: usize, respond: R) -> Self {
        let max = max_connections(listeners.len()).min(max);
        Self {
            listeners,
            respond,
            limit: Arc::new(ConnectionLimit::new(max)),
            wrong_protocols: Arc::default(),
            accept_errors: LogThrottle::default(),
        }
    }

    /// Accepts and answers connections without end. Dropping the future stops accepting.
    /// Exchanges under way continue.
    pub async fn run(&self) {
        let mut turn = 0;
        loop {
            for _ in 0..MAX_ACCEPTS_PER_TURN {
                match self.accept(&mut turn).await {
                    Ok(socket) => self.serve_connection(socket).await,
                    Err(error) => {
                        if self.accept_errors.is_due() {
                            warn!(%error, "cannot accept HTTP connections");
                        }
                        if !self.limit.evict_longest_idle() {
                            sleep(ACCEPT_PAUSE).await;
                        }
                        // An evicted connection closes before the next accept.
                        yield_now().await;
                    }
                }
            }
            yield_now().await;
        }
    }

    /// Serves the connections that are in the listeners' queues already, closes the
    /// listeners, and waits for the exchanges under way. After `grace`, evicts connections
    /// without a complete request.
    pub async fn stop(self, grace: Duration) {
        while let Ok(Ok(socket)) = timeout(Duration::ZERO, self.accept(&mut 0)).await {
            self.serve_connection(socket).await;
        }
        let Self { listeners, limit, .. } = self;
        drop(listeners);
        if timeout(grace, limit.wait_until_empty()).await.is_err() {
            while limit.evict_longest_idle() {}
            limit.wait_until_empty().await;
        }
    }

    /// Accepts the next connection. Begins with the listener after the last one served.
    async fn accept(&self, turn: &mut usize) -> io::Result<Socket> {
        poll_fn(|context| {
            let (first, last) = self.listeners.split_at(*turn % self.listeners.len().max(1));
            for listener in last.iter().chain(first) {
                *turn = turn.wrapping_add(1);
                if let Poll::Ready(accepted) = listener.socket.poll_accept(context) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for a slot, then runs the exchange in the background.
    pub async fn serve_connection(&self, stream: impl Client) {
        let slot = self.limit.acquire().await;
        let respond = self.respond.clone();
        let wrong_protocols = Arc::clone(&self.wrong_protocols);
        let mut served = Box::pin(async move {
            let answered = tokio::select! {
                // A request that has arrived is read first, so that it is not evicted.
                biased;
                answered = exchange(stream, respond, &slot, &wrong_protocols) => answered,
                () = slot.evicted() => Ok(None),
            };
            match answered.and_then(|stream| stream.map(Client::into_lingering).transpose()) {
                Ok(Some(connection)) => slot.linger(connection),
                Ok(None) => {}
                Err(error) => debug!(%error, "HTTP exchange ended early"),
            }
        });
        // An exchange that does not wait, such as one answered from the cached verdict, needs
        // no task.
        if poll_fn(|context| Poll::Ready(served.as_mut().poll(context))).await.is_pending() {
            tokio::spawn(served);
        }
    }
}

/// Raises the soft limit of file descriptors to what [`MAX_CONNECTIONS`] need, as far as the hard
/// one allows. The soft one is 1,024 by tradition, and a pod cannot set it.
pub fn raise_descriptor_limit(listeners: usize) {
    let limit = getrlimit(Resource::Nofile);
    let needed = u64::try_from(MAX_CONNECTIONS + listeners + OTHER_DESCRIPTORS).ok();
    let needed = needed.map(|needed| limit.maximum.map_or(needed, |hard| needed.min(hard)));
    if limit.current.is_some_and(|soft| needed.is_some_and(|needed| soft < needed)) {
        // If this fails, fewer connections are served.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: needed, ..limit });
    }
}

/// Returns how many connections the limit of file descriptors allows.
fn max_connections(listeners: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current;
    let descriptors = descriptors.and_then(|limit| usize::try_from(limit).ok());
    descriptors.map_or(MAX_CONNECTIONS, |limit| {
        limit.saturating_sub(listeners + OTHER_DESCRIPTORS).clamp(1, MAX_CONNECTIONS)
    })
}
