//! The progress that a session reports after each call.

use super::reply::Reply;

/// What a session waits for.
///
/// The stages come in this order. A session never goes back to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The server's first packet, before the session sends anything.
    Greeting,
    /// The server's reply to the login, or to a further round of the authentication.
    Login,
    /// The reply to a statement.
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
    /// The server accepted the login: [`Session::query`] can send a statement.
    ///
    /// [`Session::query`]: super::Session::query
    LoggedIn,
    /// The reply to the statement is complete: [`Session::query`] can send the next one, and
    /// [`Session::quit`] ends the session.
    ///
    /// [`Session::query`]: super::Session::query
    /// [`Session::quit`]: super::Session::quit
    Reply(Reply),
}
