use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, ReadBuf};

/// How much of what a client still sends after its answer is read. Closing over
/// unread bytes resets the connection, and Azure takes a reset for down.
const MAX_UNREAD: usize = 64 * 1024;

/// Read at once: as much as the kernel keeps of a TCP connection.
const LOOK: usize = 16 * 1024;

/// What is left of a connection that was answered: nobody waits for its bytes, but it
/// is looked after now and then until the client closes it, too.
pub struct LingeringClose {
    stream: Stream,
    /// Bytes that came after the request.
    unread: usize,
}

enum Stream {
    Socket(OwnedFd),
    Other(Box<dyn AsyncRead + Send + Sync + Unpin>),
}

impl LingeringClose {
    /// Of a socket.
    pub fn socket(socket: OwnedFd) -> Self {
        Self { stream: Stream::Socket(socket), unread: 0 }
    }

    /// Of any other stream.
    pub fn other(stream: impl AsyncRead + Send + Sync + Unpin + 'static) -> Self {
        Self { stream: Stream::Other(Box::new(stream)), unread: 0 }
    }

    /// Reads what has come, without waiting. Whether the connection may be closed: the
    /// client has closed it, or sends too much.
    pub(super) fn is_over(&mut self) -> bool {
        let mut bytes = [MaybeUninit::uninit(); LOOK];
        // What was kept, and the end behind it. Who goes on sending meanwhile gets no
        // more of everybody's time.
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
