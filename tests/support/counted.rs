//! Counts the connections that the probe has open, on its side.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use galera_probe::node::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts one connection or connection attempt until it is dropped.
pub struct OpenGuard(Arc<AtomicUsize>);

impl OpenGuard {
    pub fn counted(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, SeqCst);
        Self(Arc::clone(open))
    }

    /// The connection, which is counted until it is dropped.
    pub fn over(self, stream: Box<dyn Transport>) -> Box<dyn Transport> {
        Box::new(CountedTransport { stream, _open: self })
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

struct CountedTransport {
    stream: Box<dyn Transport>,
    _open: OpenGuard,
}

impl Transport for CountedTransport {}

impl AsyncRead for CountedTransport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CountedTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
