//! Connects to the node, by TCP or over a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
    set_tcp_user_timeout,
};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::address::Address;
use super::resolver::Resolver;
use super::security::Security;
use super::transport::{Transport, TransportFuture};

// TCP keep-alive detects a dead peer within 30 s while a probe run waits for it.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_COUNT: u32 = 3;

/// TCP_USER_TIMEOUT in milliseconds: detects a dead peer in the same time while sent bytes
/// are not acknowledged. Keep-alive does not run then, and by default the kernel would
/// retransmit the bytes for a quarter of an hour.
const USER_TIMEOUT: u32 = 30_000;

/// Opens transports to one node.
pub trait Connect: Send + Sync {
    /// Starts to connect.
    ///
    /// The future has no deadline of its own: the caller drops it at its deadline. `budget`
    /// is the time until then. It is divided among the addresses of the node.
    fn connect(&self, budget: Duration) -> TransportFuture;

    /// How the transports are protected. By default, not at all.
    fn security(&self) -> Security {
        Security::default()
    }
}

/// Connects to an [`Address`].
#[derive(Clone)]
pub struct Connector {
    endpoint: Endpoint,
    security: Security,
}

#[derive(Clone)]
enum Endpoint {
    Tcp(Resolver),
    Unix(PathBuf),
}

impl Connector {
    /// Creates a connector to an address, without TLS.
    pub fn new(address: &Address) -> Self {
        let is_unix_socket = matches!(address, Address::Unix(_));
        Self::with_security(address, Security { is_unix_socket, ..Security::default() })
    }

    /// Creates a connector to an address. `security` must be for the same kind of address.
    pub fn with_security(address: &Address, security: Security) -> Self {
        let endpoint = match address {
            Address::Tcp { host, port } => Endpoint::Tcp(Resolver::new(host, *port)),
            Address::Unix(path) => Endpoint::Unix(path.clone()),
        };
        Self { endpoint, security }
    }
}

impl Connect for Connector {
    fn connect(&self, budget: Duration) -> TransportFuture {
        match self.endpoint.clone() {
            Endpoint::Unix(path) => Box::pin(async move {
                let stream: Box<dyn Transport> = Box::new(UnixStream::connect(path).await?);
                Ok(stream)
            }),
            Endpoint::Tcp(resolver) => Box::pin(async move {
                let deadline = Instant::now() + budget;
                // The lookup gets half of the budget. If it stalls, the other half is for
                // connecting to the last known addresses.
                let addresses = resolver.resolve(budget / 2).await?;
                let stream = connect_in_turn(&addresses, deadline).await?;
                set_options(&stream)?;
                let stream: Box<dyn Transport> = Box::new(stream);
                Ok(stream)
            }),
        }
    }

    fn security(&self) -> Security {
        self.security.clone()
    }
}

/// Tries the addresses in order until one connects.
///
/// Each attempt but the last gets an equal share of the remaining time. The last one has no
/// timeout: the caller's deadline ends it.
async fn connect_in_turn(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let (last, others) = addresses.split_last().ok_or(io::ErrorKind::NotFound)?;
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut timed_out = None;
    for (address, remaining) in others.iter().zip((2..=count).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / remaining;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) => {}
            Err(elapsed) => timed_out = Some(elapsed.into()),
        }
    }
    // If one address timed out and another refused, report the timeout: the node may be
    // behind the address that timed out.
    TcpStream::connect(last).await.map_err(|error| timed_out.unwrap_or(error))
}

/// Disables Nagle's algorithm, and makes the kernel report a dead peer.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, KEEP_ALIVE_IDLE)?;
    set_tcp_keepintvl(stream, KEEP_ALIVE_INTERVAL)?;
    set_tcp_keepcnt(stream, KEEP_ALIVE_COUNT)?;
    Ok(set_tcp_user_timeout(stream, USER_TIMEOUT)?)
}
