use std::io::{self, ErrorKind};

use tracing::info;

use crate::server::{Listen, Listener};

/// Opens the listener of a flag and logs its address after `what`.
///
/// # Errors
/// The operating system's, with the flag and the fix.
pub(super) async fn bind(flag: &str, listen: &Listen, what: &str) -> io::Result<Listener> {
    let listener = Listener::bind(listen).await.map_err(|error| {
        let fix = fix(listen, error.kind());
        io::Error::new(error.kind(), format!("{flag} {listen}: {error}: {fix}"))
    })?;
    info!(address = %listener.address(), "{what}");
    Ok(listener)
}

/// What to do where an address cannot be listened on.
fn fix(listen: &Listen, error: ErrorKind) -> &'static str {
    match (listen, error) {
        (Listen::Tcp(_), ErrorKind::AddrInUse) => {
            "another program listens there (ss -ltnp shows which): stop it, or choose another port"
        }
        (Listen::Tcp(_), ErrorKind::PermissionDenied) => {
            "a port below 1024 needs CAP_NET_BIND_SERVICE: choose a higher one"
        }
        (Listen::Unix(_), ErrorKind::AddrInUse) => {
            "another program listens there (ss -lxp shows which), or the file is no socket: \
             choose another path"
        }
        (Listen::Unix(_), ErrorKind::NotFound) => "make its folder first",
        (Listen::Unix(_), ErrorKind::PermissionDenied) => {
            "let this user write into its folder, or choose another path"
        }
        _ => "choose another address",
    }
}
