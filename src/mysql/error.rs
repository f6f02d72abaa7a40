use std::fmt;

/// Why a [`Session`](super::Session) failed. Every failure is final.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The server answered the connection or the login with an ERR packet.
    Refused(ServerError),
    /// A packet ended before this field, or the field has no legal value.
    Malformed {
        /// The field's name in the protocol's documents.
        field: &'static str,
    },
    /// A packet came out of turn.
    Sequence {
        /// The number that the packet should have had.
        expected: u8,
        /// The number that it had.
        received: u8,
    },
    /// A cap was exceeded; the peer wants more memory or time than a probe gives.
    TooLarge {
        /// What there was too much of.
        what: &'static str,
    },
    /// A well-formed packet that has no place where it came.
    Unexpected {
        /// What it was.
        what: &'static str,
    },
    /// The server lacks a part of the protocol that the session cannot do without.
    Incompatible {
        /// What is lacking.
        what: &'static str,
    },
    /// The account wants an authentication plugin that is not spoken here.
    UnknownPlugin {
        /// The plugin's name as the server sent it, printable ASCII, at most
        /// [`ServerError::MAX_TEXT`] bytes.
        plugin: String,
    },
    /// The login asks for the password itself, on a channel that others may read, or
    /// whose other end may be another.
    NeedsTls {
        /// The plugin that asks.
        plugin: &'static str,
    },
    /// The account wants mysql_clear_password, which was not allowed.
    CleartextForbidden,
    /// The server offers no TLS, which the channel needs.
    NoTls,
    /// The user name or a statement cannot be sent.
    Request {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The session was fed after it had ended.
    Ended,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(error) => write!(f, "server refused: {error}"),
            Error::Malformed { field } => write!(f, "malformed packet: {field}"),
            Error::Sequence { expected, received } => {
                write!(f, "packet out of order: expected number {expected}, received {received}")
            }
            Error::TooLarge { what } => write!(f, "server sent too much: {what}"),
            Error::Unexpected { what } => write!(f, "server sent out of place: {what}"),
            Error::Incompatible { what } => write!(f, "server is incompatible: {what}"),
            Error::UnknownPlugin { plugin } => {
                write!(f, "account wants an unsupported authentication plugin: {plugin}")
            }
            Error::NeedsTls { plugin } => {
                write!(
                    f,
                    "{plugin} asks for the password itself, which goes over verified TLS only"
                )
            }
            Error::CleartextForbidden => {
                f.write_str("account wants mysql_clear_password, which is not allowed")
            }
            Error::NoTls => f.write_str("server offers no TLS"),
            Error::Request { what } => write!(f, "cannot be sent: {what}"),
            Error::Ended => f.write_str("session has ended"),
        }
    }
}

impl std::error::Error for Error {}

/// An ERR packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The server's error number, as in 1045.
    pub code: u16,
    /// The server's text: printable ASCII (all else escaped), at most
    /// [`ServerError::MAX_TEXT`] bytes. It may name users and addresses: for
    /// logs, never for a caller.
    pub text: String,
}

impl ServerError {
    /// Bounds what one server can write into a log with one error.
    pub const MAX_TEXT: usize = 256;

    pub(super) fn new(code: u16, text: &[u8]) -> Self {
        let text = escape(text);
        Self { code, text }
    }
}

/// A peer's text made fit for a log: escaped, but for quotation marks, and bounded.
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
    fn every_failure_is_said_in_a_line_for_logs() {
        let what = "rows";
        let refused = Error::Refused(ServerError::new(1045, b"no"));
        for (error, line) in [
            (refused, "server refused: error 1045: no"),
            (Error::Malformed { field: "row" }, "malformed packet: row"),
            (
                Error::Sequence { expected: 1, received: 2 },
                "packet out of order: expected number 1, received 2",
            ),
            (Error::TooLarge { what }, "server sent too much: rows"),
            (Error::Unexpected { what }, "server sent out of place: rows"),
            (Error::Incompatible { what }, "server is incompatible: rows"),
            (
                Error::UnknownPlugin { plugin: "x".into() },
                "account wants an unsupported authentication plugin: x",
            ),
            (
                Error::NeedsTls { plugin: "x" },
                "x asks for the password itself, which goes over verified TLS only",
            ),
            (Error::CleartextForbidden, "account wants mysql_clear_password, which is not allowed"),
            (Error::NoTls, "server offers no TLS"),
            (Error::Request { what }, "cannot be sent: rows"),
            (Error::Ended, "session has ended"),
        ] {
            assert_eq!(error.to_string(), line);
        }
    }

    #[test]
    fn server_text_is_escaped_and_bounded() {
        let error = ServerError::new(1045, b"no 'user'\n\x1b[31m\xff\\");
        assert_eq!(error.to_string(), r"error 1045: no 'user'\n\x1b[31m\xff\\");
        let error = ServerError::new(1, &[0; 4096]);
        assert_eq!(error.text.len(), ServerError::MAX_TEXT);
    }
}
