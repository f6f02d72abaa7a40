//! Opens the listeners that `--listen` and `--admin-listen` name.

use std::io::{self, ErrorKind};

use tracing::info;

use crate::server::{Listen, Listener};

/// Opens the listener of `flag` and logs its address with `message`.
///
/// # Errors
/// The operating system's error, with the flag and the fix.
pub(super) async fn bind(flag: &str, listen: &Listen, message: &str) -> io::Result<Listener> {
    let listener = Listener::bind(listen).await.map_err(|error| {
        let fix = fix(listen, error.kind());
        io::Error::new(error.kind(), format!("{flag} {listen}: {error}: {fix}"))
    })?;
    info!(address = %listener.address(), "{message}");
    Ok(listener)
}

/// Returns the fix for an address that cannot be bound.
fn fix(listen: &Listen, error: ErrorKind) -> &'static str {
    match (listen, error) {
        (Listen::Tcp(_), ErrorKind::AddrInUse) => {
            "another program listens there (ss -ltnp shows which): stop it, or choose another port"
        }
        (Listen::Tcp(_), ErrorKind::PermissionDenied) => {
            "a port below 1024 needs CAP_NET_BIND_SERVICE: choose a higher one"
        }
        (Listen::Unix(_), ErrorKind::AddrInUse) => {
            "another program uses it (ss -xap shows which), or the file is not a socket: \
             choose another path"
        }
        (Listen::Unix(_), ErrorKind::NotFound) => "create its folder first",
        (Listen::Unix(_), ErrorKind::PermissionDenied) => {
            "allow this user to write to its folder, or choose another path"
        }
        _ => "choose another address",
    }
}
