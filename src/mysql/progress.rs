//! The progress that a session reports after each call.

use super::reply::Reply;

/// What a session waits for.
///
/// The stages come in this order. A session never goes back to an earlier one, except that
/// a [kept](super::Session::kept) session enters [`Stage::Query`] again for more statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The server's first packet, before the session sends anything.
    Greeting,
    /// The server's reply to the login, or to a further round of the authentication.
    Login,
    /// The replies to the statements.
    Query,
}

/// The state of a session after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The session needs more bytes from the server.
    Wait(Stage),
    /// The output ends with SSLRequest. Send it, begin TLS on the same stream, then call
    /// [`Session::tls_started`]. Only a session on a TLS channel returns this.
    ///
    /// [`Session::tls_started`]: super::Session::tls_started
    StartTls,
    /// Every statement has its reply, in the order of the statements.
    ///
    /// The output of the call that completed the login ends with COM_QUIT. Once that is sent,
    /// the connection can be closed. A [kept](super::Session::kept) session sends no
    /// COM_QUIT, and [`Session::query`] can send more statements.
    ///
    /// [`Session::query`]: super::Session::query
    Done(Vec<Reply>),
}
