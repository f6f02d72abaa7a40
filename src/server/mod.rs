//! The listeners, their limits, and one exchange for each connection.

mod connection_limit;
mod exchange;
mod lingering_close;
mod socket;

use std::fmt;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::net::UnixStream;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::http::{Format, Response, Route};

use crate::os::log_throttle::LogThrottle;
use connection_limit::ConnectionLimit;
use exchange::{WrongProtocolLog, exchange};
use socket::{Listening, Socket};

pub use exchange::Client;
pub use lingering_close::LingeringClose;

/// Connections that are served at once. The memory of one that is silent is under
/// 3 kB, and of any other under 10 kB.
pub const MAX_CONNECTIONS: usize = 2048;

/// File descriptors that connections leave to everything else but the listeners:
/// standard streams, the runtime, the probe run with the node, a name's lookup, some that
/// were inherited, and 16 connections of operators.
const OTHER_DESCRIPTORS: usize = 36;

/// Connections that are begun before everybody else has a turn, and the runtime sees
/// what has come: a crowd of callers does not keep the node from being heard.
const IN_A_ROW: usize = 16;

/// Accepting fails while file descriptors are used up; trying again at once
/// would take the processor from what could free them.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where balancers are listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A numeric address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    /// As on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An open listener.
#[derive(Debug)]
pub struct Listener {
    socket: Listening,
    address: Listen,
    /// A Unix socket's, which goes with it.
    _file: Option<SocketFile>,
}

impl Listener {
    /// Opens it. A socket that a killed program left behind is taken away first,
    /// and nothing else that may be at its path.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let socket = Listening::tcp(address)?;
                let address = Listen::Tcp(socket.address()?);
                Ok(Self { socket, address, _file: None })
            }
            Listen::Unix(path) => {
                if is_dead_socket(path).await {
                    fs::remove_file(path)?;
                }
                let socket = Listening::unix(path)?;
                let file = SocketFile::of(path)?;
                Ok(Self { socket, address: listen.clone(), _file: Some(file) })
            }
        }
    }

    /// Where it listens, with the port that the operating system chose for 0.
    pub fn address(&self) -> &Listen {
        &self.address
    }
}

/// A socket's file, removed when this is dropped, unless another has taken its
/// slot meanwhile.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Its device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Where it cannot be removed, the next start does it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A socket that nobody listens on refuses connections; so does every other kind
/// of file.
async fn is_dead_socket(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let answer = UnixStream::connect(path).await;
    is_socket && answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Answers HTTP requests.
pub struct Server<A> {
    listeners: Vec<Listener>,
    answer: A,
    limit: Arc<ConnectionLimit>,
    wrong_protocols: Arc<WrongProtocolLog>,
    trouble: LogThrottle,
}

impl<A, F> Server<A>
where
    A: Fn(Route, Format) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    /// A server on `listeners`, for at most `most` connections at once, and fewer
    /// where file descriptors are. `answer` gives each answer, in bounded time.
    pub fn new(listeners: Vec<Listener>, most: usize, answer: A) -> Self {
        let limit = Arc::new(ConnectionLimit::new(most_connections(listeners.len()).min(most)));
        Self {
            listeners,
            answer,
            limit,
            wrong_protocols: Arc::default(),
            trouble: LogThrottle::default(),
        }
    }

    /// Answers for ever. Dropped, it accepts no more; exchanges under way go on.
    pub async fn run(&self) {
        let mut turn = 0;
        loop {
            for _ in 0..IN_A_ROW {
                match self.accept(&mut turn).await {
                    Ok(socket) => self.begin(socket).await,
                    Err(error) => {
                        if self.trouble.is_due() {
                            warn!(%error, "cannot accept HTTP connections");
                        }
                        if !self.limit.evict_longest_idle() {
                            sleep(ACCEPT_PAUSE).await;
                        }
                        // Who was told to go does so before the next is accepted.
                        yield_now().await;
                    }
                }
            }
            yield_now().await;
        }
    }

    /// Begins no exchange but with those who stand in the listeners' queues
    /// already, and waits for all that are under way; who has not asked anything
    /// after `budget` has to go.
    pub async fn stop(self, budget: Duration) {
        while let Ok(Ok(socket)) = timeout(Duration::ZERO, self.accept(&mut 0)).await {
            self.begin(socket).await;
        }
        let Self { listeners, limit, .. } = self;
        drop(listeners);
        if timeout(budget, limit.empty()).await.is_err() {
            while limit.evict_longest_idle() {}
            limit.empty().await;
        }
    }

    /// The next connection of any listener; those after the last one's come first.
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

    /// Begins an exchange on a connection of any kind, as soon as there is a slot
    /// for it.
    pub async fn begin(&self, stream: impl Client) {
        let slot = self.limit.take().await;
        let answer = self.answer.clone();
        let wrong_protocols = Arc::clone(&self.wrong_protocols);
        let mut served = Box::pin(async move {
            let answered = tokio::select! {
                // A request that has come is read before anybody is made to go.
                biased;
                answered = exchange(stream, answer, &slot, &wrong_protocols) => answered,
                () = slot.evicted() => Ok(None),
            };
            match answered.and_then(|stream| stream.map(Client::into_lingering).transpose()) {
                Ok(Some(rest)) => slot.close(rest),
                Ok(None) => {}
                Err(error) => debug!(%error, "HTTP exchange ended early"),
            }
        });
        // A request that came with its connection, to be answered from what is known,
        // needs no task.
        if poll_fn(|context| Poll::Ready(served.as_mut().poll(context))).await.is_pending() {
            tokio::spawn(served);
        }
    }
}

/// As many as file descriptors allow.
fn most_connections(listeners: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current;
    let descriptors = descriptors.and_then(|most| usize::try_from(most).ok());
    descriptors.map_or(MAX_CONNECTIONS, |most| {
        most.saturating_sub(listeners + OTHER_DESCRIPTORS).clamp(1, MAX_CONNECTIONS)
    })
}
