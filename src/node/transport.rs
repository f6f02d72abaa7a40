//! An open stream to the node, of any kind.

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpStream, UnixStream};

/// An open way to a node.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {
    /// From now on closing it resets the connection, where there is such a thing.
    fn reset_on_close(&self) {}
}

impl Transport for TcpStream {
    fn reset_on_close(&self) {
        // Where it fails, closing is as it always is.
        let _ = self.set_zero_linger();
    }
}

impl Transport for UnixStream {}

impl Transport for DuplexStream {}

/// A way that is being opened. Dropped, it abandons the attempt.
pub type TransportFuture = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;
