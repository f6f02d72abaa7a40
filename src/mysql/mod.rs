//! The client side of the MySQL protocol, without I/O: the server's bytes in, the client's
//! bytes and the rows out.
//!
//! [`Session`] is the entry point. It has no socket, no clock and no log. Its caller does
//! four things:
//!
//! 1. **Read first.** The server sends the first packet, and the session sends nothing
//!    before that packet is complete.
//! 2. **Pass the bytes** that were read to [`Session::receive`], in pieces of any size. How
//!    the bytes are split makes no difference.
//! 3. **Send** everything that the session appended to the output, before reading again.
//!    [`Progress`] tells what comes next: while the session waits for the server, [`Stage`]
//!    names what it waits for; once it is idle, [`Session::query`] sends a statement.
//! 4. **Keep the deadlines.** A server can stay silent for ever, or send one byte an hour.
//!    Set one deadline for each stage and one for the whole, and close the connection when
//!    one has passed. Avoid closing connections before [`Stage::Query`]: a server counts
//!    handshakes that its clients leave unfinished, and blocks the client's address at
//!    `max_connect_errors`.
//!
//! Each statement is sent when the reply to the one before it is complete: proxies do not
//! understand several at once, and a server that closes the connection over unread
//! statements takes back its last error with it. A session ends with [`Session::quit`], or
//! with an [`Error`]. Both are final.
//!
//! The memory that a server can make a session use is bounded:
//! there are limits for the packet length, the columns and the rows, and 64 KiB for the
//! login and for each reply. Exceeding a limit is an error.
//!
//! The password enters only hashes and signatures of the
//! server's nonce. It is sent in cleartext only if the server asks for it on a channel that
//! allows it ([`Session::over`]).
//!
//! ```
//! use std::sync::Arc;
//!
//! use bytes::BytesMut;
//! use galera_probe::mysql::{Credentials, Error, Password, Progress, Reply, Session, Stage};
//!
//! # macro_rules! capture {
//! #     ($name:literal) => {
//! #         include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures/", $name, ".bin"))
//! #     };
//! # }
//! // The bytes of a server, as read from a socket.
//! let greeting = capture!("greeting-plain");
//! let login_ok = capture!("auth-ok");
//! let rows = capture!("resultset-status-eof");
//!
//! let credentials = Credentials::new("galera_probe", Password::new("secret"))?;
//! let mut session = Session::new(Arc::new(credentials));
//! let mut output = BytesMut::new();
//!
//! // Half of the greeting: nothing to send yet.
//! let progress = session.receive(&greeting[..50], &mut output)?;
//! assert_eq!(progress, Progress::Wait(Stage::Greeting));
//! assert!(output.is_empty());
//!
//! // The rest of the greeting: the output is the login.
//! let progress = session.receive(&greeting[50..], &mut output)?;
//! assert_eq!(progress, Progress::Wait(Stage::Login));
//! assert!(!output.split().is_empty());
//!
//! // The login succeeded: the first statement can be sent.
//! assert_eq!(session.receive(login_ok, &mut output)?, Progress::LoggedIn);
//! session.query("SHOW SESSION STATUS", &mut output)?;
//! assert_eq!(output.split(), b"\x14\0\0\0\x03SHOW SESSION STATUS"[..]);
//!
//! let Progress::Reply(Reply::Rows(rows)) = session.receive(rows, &mut output)? else { panic!() };
//! assert_eq!(rows.len(), 9);
//!
//! // Take leave, so that the server does not count the connection as aborted.
//! session.quit(&mut output)?;
//! assert_eq!(output, b"\x01\0\0\0\x01"[..]);
//! assert_eq!(session.receive(greeting, &mut output), Err(Error::Ended));
//! # Ok::<(), Error>(())
//! ```
//!
//! The module supports what a health probe needs: protocol version 10, text result sets,
//! COM_QUERY and COM_QUIT. The supported authentication plugins are
//! `mysql_native_password`, `caching_sha2_password`, `client_ed25519`, `parsec`,
//! `unix_socket` and `auth_socket`, and, if allowed, `mysql_clear_password`. Names are those
//! of the protocol's documents ([MySQL], [MariaDB]).
//!
//! [MySQL]: https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html
//! [MariaDB]: https://mariadb.com/kb/en/clientserver-protocol/

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod auth;
mod channel;
mod credentials;
mod ed25519;
mod error;
mod framing;
mod login;
mod packet;
mod progress;
mod proof;
mod reader;
mod reply;
mod session;

pub use auth::Password;
pub use channel::Channel;
pub use credentials::Credentials;
pub use error::{Error, ServerError};
pub use packet::Row;
pub use progress::{Progress, Stage};
pub use reply::Reply;
pub use session::Session;
