//! The way to the node: a TCP address or a Unix socket, and how it is opened.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

/// Finds a peer that is gone while a dialogue waits for it: after 15 s of
/// silence, three questions 5 s apart, so within half a minute.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// An open way to a node.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A way that is being opened. Dropped, it abandons the attempt.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Opens ways to one node.
pub trait Connect: Send + Sync {
    /// Begins to connect. The caller keeps the deadline; `budget` is what the
    /// node's addresses have to share among them.
    fn connect(&self, budget: Duration) -> Opening;
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name, or an IPv4 or IPv6 address without brackets, and a port.
    Tcp {
        /// The name or address.
        host: String,
        /// The port, never 0.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    /// As on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Connect for Address {
    fn connect(&self, budget: Duration) -> Opening {
        let address = self.clone();
        Box::pin(async move {
            Ok(match address {
                Address::Unix(path) => {
                    Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>
                }
                Address::Tcp { host, port } => Box::new(connect_tcp(&host, port, budget).await?),
            })
        })
    }
}

/// Tries every address of the name in turn, each with its share of the time.
async fn connect_tcp(host: &str, port: u16, budget: Duration) -> io::Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    let share = budget / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let attempt = TcpStream::connect(address);
        // The last one may use all that is left.
        let attempted = match index + 1 == addresses.len() {
            true => attempt.await,
            false => timeout(share, attempt).await.unwrap_or_else(|elapsed| Err(elapsed.into())),
        };
        match attempted {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_keepalive(&KEEP_ALIVE)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
