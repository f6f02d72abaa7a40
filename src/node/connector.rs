//! The way to the node: a TCP address or a Unix socket, and how it is opened.

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

/// Finds a peer that is gone while a probe run waits for it: after so much silence,
/// questions at such intervals, so that it is found within 30 s.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_COUNT: u32 = 3;

/// The same, in milliseconds, where bytes of ours are on their way: their repetition
/// would go on for a quarter of an hour, and keep-alive would not begin.
const GONE: u32 = 30_000;

/// Opens ways to one node.
pub trait Connect: Send + Sync {
    /// Begins to connect. The caller keeps the deadline; `budget` is what the
    /// node's addresses have to share among them.
    fn connect(&self, budget: Duration) -> TransportFuture;

    /// How these ways are protected; not at all, unless said otherwise.
    fn security(&self) -> Security {
        Security::default()
    }
}

/// Opens real ways to an [`Address`].
#[derive(Clone)]
pub struct Connector {
    endpoint: Endpoint,
    security: Security,
}

#[derive(Clone)]
enum Endpoint {
    /// Over IPv4 or IPv6.
    Tcp(Resolver),
    Unix(PathBuf),
}

impl Connector {
    /// The connector to an address, without TLS.
    pub fn new(address: &Address) -> Self {
        let is_socket = matches!(address, Address::Unix(_));
        Self::secured(address, Security { is_socket, ..Security::default() })
    }

    /// The connector to an address, protected like this.
    pub fn secured(address: &Address, security: Security) -> Self {
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
                // Half, so that the last good addresses get the other half.
                let addresses = resolver.resolve(budget / 2).await?;
                let stream = connect_in_turn(&addresses, deadline).await?;
                prepare(&stream)?;
                let stream: Box<dyn Transport> = Box::new(stream);
                Ok(stream)
            }),
        }
    }

    fn security(&self) -> Security {
        self.security.clone()
    }
}

/// Tries every address in turn. Each gets its share of the time that is left;
/// the last is the caller's to end.
async fn connect_in_turn(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let (last, others) = addresses.split_last().ok_or(io::ErrorKind::NotFound)?;
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    let mut stalled = None;
    for (address, left) in others.iter().zip((2..=count).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) => {}
            Err(elapsed) => stalled = Some(elapsed.into()),
        }
    }
    // Where one address stalled and another refused, the node may be behind the first.
    TcpStream::connect(last).await.map_err(|error| stalled.unwrap_or(error))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    set_socket_keepalive(stream, true)?;
    set_tcp_keepidle(stream, KEEP_ALIVE_IDLE)?;
    set_tcp_keepintvl(stream, KEEP_ALIVE_INTERVAL)?;
    set_tcp_keepcnt(stream, KEEP_ALIVE_COUNT)?;
    Ok(set_tcp_user_timeout(stream, GONE)?)
}
