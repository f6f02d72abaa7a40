//! A connection in lingering close: answered, and kept open until the client closes its
//! side. Closing a socket with unread bytes resets the connection, which Azure counts as
//! down.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, ReadBuf};

/// The most bytes that are read and discarded after the response. A client that sends more
/// is closed, so that it cannot take the server's time.
const MAX_DISCARDED: usize = 64 * 1024;

/// The most bytes of one read: as much as the kernel's receive buffer of a TCP connection
/// holds.
const READ_SIZE: usize = 16 * 1024;

/// An answered connection. No task waits for it. The connection limit checks it when others
/// are answered, and at its timeout. Dropping it closes the connection.
pub struct LingeringClose {
    stream: Stream,
    /// How many bytes were read after the response.
    discarded: usize,
}

enum Stream {
    Socket(OwnedFd),
    Other(Box<dyn AsyncRead + Send + Sync + Unpin>),
}

impl LingeringClose {
    /// Begins the lingering close of a socket whose write side is shut down.
    pub fn socket(socket: OwnedFd) -> Self {
        Self { stream: Stream::Socket(socket), discarded: 0 }
    }

    /// Begins the lingering close of any other stream.
    pub fn other(stream: impl AsyncRead + Send + Sync + Unpin + 'static) -> Self {
        Self { stream: Stream::Other(Box::new(stream)), discarded: 0 }
    }

    /// Reads the bytes that have arrived, without waiting. Returns whether the connection can
    /// be closed: the client has closed its side, or has sent [`MAX_DISCARDED`] bytes.
    pub(super) fn is_finished(&mut self) -> bool {
        let mut bytes = [MaybeUninit::uninit(); READ_SIZE];
        // One read for the bytes in the receive buffer, and one for the end of the stream
        // behind them. A client that keeps sending has no more reads in this check.
        for _ in 0..2 {
            match self.stream.read(&mut bytes) {
                Poll::Ready(Ok(read)) if read > 0 => self.discarded += read,
                Poll::Ready(_) => return true,
                Poll::Pending => break,
            }
        }
        self.discarded >= MAX_DISCARDED
    }
}

impl Stream {
    /// Reads without waiting.
    fn read(&mut self, bytes: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => match recv(socket, bytes, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => Poll::Pending,
                read => Poll::Ready(Ok(read?.1)),
            },
            Self::Other(stream) => {
                let mut buffer = ReadBuf::uninit(bytes);
                let mut context = Context::from_waker(Waker::noop());
                let read = Pin::new(stream).poll_read(&mut context, &mut buffer);
                read.map_ok(|()| buffer.filled().len())
            }
        }
    }
}
