//! The listening and the accepted sockets. An accepted socket is registered with the runtime
//! only if it has to wait.

use std::io;
use std::mem;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_reuseaddr, set_tcp_nodelay};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, bind, getsockname, listen, recv, send, shutdown, socket_with,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::exchange::Client;
use super::lingering_close::LingeringClose;

/// The most connections that wait to be accepted. net.core.somaxconn may allow fewer. A
/// client that finds the queue full retries only after a second.
const BACKLOG: i32 = 4096;

/// SO_RCVBUF, in bytes: twice the longest head. It bounds the bytes that the kernel buffers
/// for a client that is not read. The kernel uses as much again for its bookkeeping.
const RECEIVE_BUFFER: usize = 16 * 1024;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A socket that is registered with the runtime.
///
/// Only the readiness of tokio's stream is used, which is the same for every kind of socket,
/// listening ones included. tokio's own listeners would register each connection as soon as
/// it is accepted, which costs a system call that most connections do not need.
#[derive(Debug)]
pub(super) struct Watched(TcpStream);

impl Watched {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        TcpStream::from_std(net::TcpStream::from(socket)).map(Self)
    }

    fn poll<T>(
        &self,
        context: &mut Context<'_>,
        interest: Interest,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(match interest {
                Interest::READABLE => self.0.poll_read_ready(context),
                _ => self.0.poll_write_ready(context),
            })?;
            let done = would_block_to_pending(self.0.try_io(interest, || call(self.0.as_fd())));
            if done.is_ready() {
                return done;
            }
        }
    }
}

/// Turns the error `WouldBlock` into `Pending`.
fn would_block_to_pending<T>(done: io::Result<T>) -> Poll<io::Result<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        done => Poll::Ready(done),
    }
}

/// A listening socket, TCP or Unix.
#[derive(Debug)]
pub(super) struct Listening(Watched);

impl Listening {
    /// Listens on a TCP address.
    pub(super) fn tcp(address: &SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        Self::on(family, address, |socket| {
            // Connections in TIME-WAIT must not prevent a restart.
            set_socket_reuseaddr(socket, true)?;
            // Accepted sockets inherit it.
            set_socket_recv_buffer_size(socket, RECEIVE_BUFFER)
        })
    }

    /// Listens on the path of a Unix socket.
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        Self::on(AddressFamily::UNIX, &SocketAddrUnix::new(path)?, |_| Ok(()))
    }

    fn on(
        family: AddressFamily,
        address: &impl SocketAddrArg,
        prepare: impl FnOnce(&OwnedFd) -> rustix::io::Result<()>,
    ) -> io::Result<Self> {
        let socket = socket_with(family, SocketType::STREAM, FLAGS, None)?;
        prepare(&socket)?;
        bind(&socket, address)?;
        listen(&socket, BACKLOG)?;
        Watched::new(socket).map(Self)
    }

    /// Returns the TCP address. A port of 0 is replaced by the one that the operating system
    /// chose.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        Ok(getsockname(&self.0.0)?.try_into()?)
    }

    pub(super) fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        self.0.poll(context, Interest::READABLE, |socket| {
            Ok(Socket::Accepted(accept_with(socket, FLAGS)?))
        })
    }
}

/// An accepted connection, TCP or Unix.
///
/// Each call is tried on the socket itself first. Only a connection that has to wait is
/// registered with the runtime; most never are.
#[derive(Debug)]
pub(super) enum Socket {
    Accepted(OwnedFd),
    /// Had to wait, and has been registered since.
    Watched(Watched),
    /// Could not be registered.
    Broken,
}

impl Socket {
    /// Makes a system call that may have to wait for the client.
    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        interest: Interest,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        if let Self::Accepted(socket) = self {
            let done = would_block_to_pending(call(socket.as_fd()));
            if done.is_ready() {
                return done;
            }
        }
        self.watched()?.poll(context, interest, call)
    }

    fn watched(&mut self) -> io::Result<&Watched> {
        *self = match mem::replace(self, Self::Broken) {
            Self::Accepted(socket) => Self::Watched(Watched::new(socket)?),
            other => other,
        };
        match self {
            Self::Watched(socket) => Ok(socket),
            Self::Accepted(_) | Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Accepted(socket) => Ok(socket.as_fd()),
            Self::Watched(socket) => Ok(socket.0.as_fd()),
            Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = buffer.initialize_unfilled();
        let read = self.poll(context, Interest::READABLE, |socket| {
            Ok(recv(socket, &mut *bytes, RecvFlags::empty())?.0)
        });
        buffer.advance(ready!(read)?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    /// The kernel holds the bytes back (MSG_MORE), so that the shutdown that follows goes in
    /// the same segment. [`push`](Client::push) sends them at once.
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(context, Interest::WRITABLE, |socket| {
            Ok(send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.fd()?, Shutdown::Write)?))
    }
}

impl Client for Socket {
    fn push(&self) {
        // If this fails, the kernel sends the bytes a little later.
        let _ = self.fd().map(|socket| set_tcp_nodelay(socket, true));
    }

    fn into_lingering(self) -> io::Result<LingeringClose> {
        match self {
            Self::Accepted(socket) => Ok(LingeringClose::socket(socket)),
            Self::Watched(Watched(socket)) => Ok(LingeringClose::socket(socket.into_std()?.into())),
            Self::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (UnixStream, Socket) {
        let (client, socket) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        (client, Socket::Accepted(socket.into()))
    }

    #[tokio::test]
    async fn reads_and_answers_a_request_that_is_there_without_the_runtime() {
        let (mut client, mut socket) = pair();
        io::Write::write_all(&mut client, b"GET").unwrap();
        assert_eq!(socket.read(&mut [0; 9]).await.unwrap(), 3);
        socket.write_all(b"200").await.unwrap();
        socket.shutdown().await.unwrap();
        assert!(matches!(socket, Socket::Accepted(_)));
        assert_eq!(io::read_to_string(&client).unwrap(), "200");
        let mut lingering = socket.into_lingering().unwrap();
        assert!(!lingering.is_finished());
        drop(client);
        assert!(lingering.is_finished());
    }

    #[tokio::test]
    async fn waits_for_bytes_and_for_room_in_the_send_buffer() {
        let (client, mut socket) = pair();
        let mut bytes = [0; 9];
        client.set_nonblocking(true).unwrap();
        let mut client = tokio::net::UnixStream::from_std(client).unwrap();
        let (read, ()) = tokio::join!(socket.read(&mut bytes), async {
            client.write_all(b"GET").await.unwrap();
        });
        assert_eq!(read.unwrap(), 3);
        assert!(matches!(socket, Socket::Watched(_)));

        let megabyte = vec![b'x'; 1 << 20];
        let mut answer = Vec::new();
        let write = async {
            socket.write_all(&megabyte).await?;
            socket.shutdown().await
        };
        let (written, read) = tokio::join!(write, client.read_to_end(&mut answer));
        assert!(written.is_ok() && read.is_ok() && answer == megabyte);
        let mut lingering = socket.into_lingering().unwrap();
        assert!(!lingering.is_finished());
        drop(client);
        assert!(lingering.is_finished());
    }
}
