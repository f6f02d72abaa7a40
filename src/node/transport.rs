//! An open stream to the node: TCP, TLS or a Unix socket.

use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpStream, UnixStream};

/// An open stream to a node.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {
    /// Makes a later close reset the connection (TCP RST). Does nothing on a stream that
    /// cannot be reset.
    fn reset_on_close(&self) {}

    /// Returns the SHA-256 of the server's certificate (its DER). `None` on a stream without
    /// TLS.
    fn certificate_fingerprint(&self) -> Option<[u8; 32]> {
        None
    }
}

impl Transport for TcpStream {
    fn reset_on_close(&self) {
        // On an error, the connection is closed in the normal way.
        let _ = self.set_zero_linger();
    }
}

impl Transport for UnixStream {}

impl Transport for DuplexStream {}

/// Opens a transport. Dropping the future abandons the attempt.
pub type TransportFuture = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;
