//! The addresses that the server listens on, and the files of its Unix sockets.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixDatagram, UnixStream};

use super::socket::Listening;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A numeric address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    /// Writes the address as on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An open listener.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: Listening,
    address: Listen,
    /// Removes the file of a Unix socket.
    _file: Option<SocketFile>,
}

impl Listener {
    /// Opens the listener. At the path of a Unix socket, it replaces a socket file that a
    /// killed program left, and no other file.
    ///
    /// # Errors
    /// The operating system's error.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let socket = Listening::tcp(address)?;
                let address = Listen::Tcp(socket.address()?);
                Ok(Self { socket, address, _file: None })
            }
            Listen::Unix(path) => {
                if is_dead_socket(path).await {
                    fs::remove_file(path)?;
                }
                let socket = Listening::unix(path)?;
                let file = SocketFile::of(path)?;
                Ok(Self { socket, address: listen.clone(), _file: Some(file) })
            }
        }
    }

    /// Returns the address. A port of 0 is replaced by the one that the operating system
    /// chose.
    pub fn address(&self) -> &Listen {
        &self.address
    }
}

/// The file of a Unix socket. Dropping this removes the file, unless another file has
/// replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The file's device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // If this fails, the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Returns whether the path is a socket that no process has open.
///
/// A connection is also refused by another kind of file, and by a socket that another process
/// has bound and does not listen on yet. But only for a socket that nobody has open is a
/// datagram refused too: else the kernel finds the socket, and that it is of another type
/// (EPROTOTYPE). The stream decides where the kernel is not Linux.
async fn is_dead_socket(path: &Path) -> bool {
    fn is_refused<T>(connected: io::Result<T>) -> bool {
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && is_refused(UnixDatagram::unbound().and_then(|socket| socket.connect(path)))
        && is_refused(UnixStream::connect(path).await)
}
