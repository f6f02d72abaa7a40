//! The errors of a session, and the server's own errors.

use std::fmt;

/// The reason that a [`Session`](super::Session) failed. Every error is final.
///
/// `Display` gives one line for logs: lower case, no full stop, printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The server refused the connection or the login with an ERR packet.
    Refused(ServerError),
    /// A packet ended before a field was complete, or the field has an illegal value.
    Malformed {
        /// The field's name in the protocol's documents.
        field: &'static str,
    },
    /// A packet has the wrong sequence number.
    Sequence {
        /// The sequence number that was due.
        expected: u8,
        /// The packet's sequence number.
        received: u8,
    },
    /// The server exceeded a limit that bounds the session's memory or time.
    TooLarge {
        /// The quantity that is limited.
        what: &'static str,
    },
    /// The server sent data that the protocol does not allow in this state.
    Unexpected {
        /// The kind of data.
        what: &'static str,
    },
    /// The server lacks a protocol feature that the session requires.
    Incompatible {
        /// The missing feature.
        what: &'static str,
    },
    /// The account uses an authentication plugin that the session does not support.
    UnsupportedPlugin {
        /// The plugin's name as the server sent it, escaped to printable ASCII, at most
        /// [`ServerError::MAX_TEXT`] bytes.
        plugin: String,
    },
    /// The server asked for the cleartext password on a channel that others can read, or
    /// on which another host can pose as the server.
    NeedsTls {
        /// The plugin that needs the cleartext password.
        plugin: &'static str,
    },
    /// The account uses mysql_clear_password, which
    /// [`Session::over`](super::Session::over) did not allow.
    CleartextForbidden,
    /// The server does not offer TLS, and the channel requires it.
    NoTls,
    /// The server accepted the login, but did not prove its certificate by the account's
    /// password, which [`Channel::ProvenTls`](super::Channel::ProvenTls) requires.
    NoProof,
    /// The server's proof is for another certificate or another password: the host that the
    /// session talks to is not the server, and may relay the login to it.
    FalseProof,
    /// A user name or a statement cannot be sent.
    Request {
        /// The problem with it.
        what: &'static str,
    },
    /// The session was used after it had ended, or a method was called in the wrong state.
    Ended,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(error) => write!(f, "server refused: {error}"),
            Error::Malformed { field } => write!(f, "malformed packet: {field}"),
            Error::Sequence { expected, received } => {
                write!(f, "packet out of order: expected {expected}, received {received}")
            }
            Error::TooLarge { what } => write!(f, "server exceeded a limit: {what}"),
            Error::Unexpected { what } => write!(f, "server sent unexpected data: {what}"),
            Error::Incompatible { what } => write!(f, "server is incompatible: {what}"),
            Error::UnsupportedPlugin { plugin } => {
                write!(f, "account uses an unsupported authentication plugin: {plugin}")
            }
            Error::NeedsTls { plugin } => {
                write!(
                    f,
                    "{plugin} needs the cleartext password, which is sent only over verified TLS"
                )
            }
            Error::CleartextForbidden => {
                f.write_str("account uses mysql_clear_password, which is not allowed")
            }
            Error::NoTls => f.write_str("server does not offer TLS"),
            Error::NoProof => {
                f.write_str("server did not prove its certificate by the account's password")
            }
            Error::FalseProof => {
                f.write_str("server's proof by the account's password is not for its certificate")
            }
            Error::Request { what } => write!(f, "cannot send request: {what}"),
            Error::Ended => f.write_str("session has ended"),
        }
    }
}

impl std::error::Error for Error {}

/// An ERR packet.
///
/// `Display` gives `error CODE: TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerError {
    /// The server's error code, such as 1045.
    pub code: u16,
    /// The server's error message, escaped to printable ASCII, at most
    /// [`ServerError::MAX_TEXT`] bytes. It can contain user names and addresses: write it
    /// to logs, but do not send it to clients.
    pub text: String,
}

impl ServerError {
    /// The longest error message in bytes. It bounds what a server can write into a log.
    pub const MAX_TEXT: usize = 256;

    pub(super) fn new(code: u16, text: &[u8]) -> Self {
        Self { code, text: escape(text) }
    }
}

/// Returns a server's text for a log: quotation marks kept, everything else escaped as by
/// [`u8::escape_ascii`], cut to [`ServerError::MAX_TEXT`] bytes.
pub(super) fn escape(text: &[u8]) -> String {
    let mut escaped = String::new();
    for &byte in text.iter().take(ServerError::MAX_TEXT) {
        match byte {
            b'\'' | b'"' => escaped.push(char::from(byte)),
            byte => escaped.extend(byte.escape_ascii().map(char::from)),
        }
    }
    escaped.truncate(ServerError::MAX_TEXT);
    escaped
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}: {}", self.code, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_every_error_in_one_line() {
        let what = "rows";
        let refused = Error::Refused(ServerError::new(1045, b"no"));
        for (error, line) in [
            (refused, "server refused: error 1045: no"),
            (Error::Malformed { field: "row" }, "malformed packet: row"),
            (
                Error::Sequence { expected: 1, received: 2 },
                "packet out of order: expected 1, received 2",
            ),
            (Error::TooLarge { what }, "server exceeded a limit: rows"),
            (Error::Unexpected { what }, "server sent unexpected data: rows"),
            (Error::Incompatible { what }, "server is incompatible: rows"),
            (
                Error::UnsupportedPlugin { plugin: "x".into() },
                "account uses an unsupported authentication plugin: x",
            ),
            (
                Error::NeedsTls { plugin: "x" },
                "x needs the cleartext password, which is sent only over verified TLS",
            ),
            (Error::CleartextForbidden, "account uses mysql_clear_password, which is not allowed"),
            (Error::NoTls, "server does not offer TLS"),
            (Error::Request { what }, "cannot send request: rows"),
            (Error::Ended, "session has ended"),
        ] {
            assert_eq!(error.to_string(), line);
        }
    }

    #[test]
    fn escapes_and_bounds_server_text() {
        let error = ServerError::new(1045, b"no 'user'\n\x1b[31m\xff\\");
        assert_eq!(error.to_string(), r"error 1045: no 'user'\n\x1b[31m\xff\\");
        let error = ServerError::new(1, &[0; 4096]);
        assert_eq!(error.text.len(), ServerError::MAX_TEXT);
    }
}
