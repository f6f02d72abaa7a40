//! A connection in lingering close: answered, and kept open until the client closes its
//! side. Closing over unread bytes would reset it, which Azure counts as down.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, ReadBuf};

/// The most bytes that are read after the response; then the connection is closed.
const MAX_UNREAD: usize = 64 * 1024;

/// The bytes of one read: as much as the kernel keeps of a TCP connection.
const READ_SIZE: usize = 16 * 1024;

/// An answered connection. No task waits for it: the connection limit checks it now and
/// then. Dropping it closes the connection.
pub struct LingeringClose {
    stream: Stream,
    /// Bytes so far that came after the request.
    unread: usize,
}

enum Stream {
    Socket(OwnedFd),
    Other(Box<dyn AsyncRead + Send + Sync + Unpin>),
}

impl LingeringClose {
    /// A socket. Its write side is shut down already.
    pub fn socket(socket: OwnedFd) -> Self {
        Self { stream: Stream::Socket(socket), unread: 0 }
    }

    /// Any other stream.
    pub fn other(stream: impl AsyncRead + Send + Sync + Unpin + 'static) -> Self {
        Self { stream: Stream::Other(Box::new(stream)), unread: 0 }
    }

    /// Reads what has come, without waiting. Returns whether the connection can be closed:
    /// the client has closed its side, or sent [`MAX_UNREAD`] bytes or more.
    pub(super) fn is_finished(&mut self) -> bool {
        let mut bytes = [MaybeUninit::uninit(); READ_SIZE];
        // The bytes that the kernel kept, and the end behind them. A client that goes on
        // sending must not take more of the server's time.
        for _ in 0..2 {
            match self.stream.read(&mut bytes) {
                Poll::Ready(Ok(read)) if read > 0 => self.unread += read,
                Poll::Ready(_) => return true,
                Poll::Pending => break,
            }
        }
        self.unread >= MAX_UNREAD
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
