//! The client side of the MySQL protocol, sans I/O: bytes in, bytes and rows out.
//!
//! [`Session`] is the way in. It knows no socket, no clock and no log. Whoever
//! drives it has four things to do:
//!
//! 1. **Read first.** The server speaks first, and a session writes nothing before
//!    its greeting is complete.
//! 2. **Feed** [`Session::receive`] whatever was read, in pieces of any size: how
//!    the bytes are cut makes no difference.
//! 3. **Send** all that it appended to the output before reading on; it asks for
//!    that by nothing else than appending. Until [`Progress::Done`] it waits for
//!    the server, and [`Stage`] says for what.
//! 4. **Keep the time.** A server may stay silent for ever, or send a byte an hour.
//!    A deadline for each stage and one for the whole are the driver's, who closes
//!    the connection when one has passed. Since a server counts handshakes that its
//!    clients leave unfinished, and in the end blocks their address, a driver should
//!    not close one often before [`Stage::Query`].
//!
//! The end is [`Progress::Done`] with a reply for each statement, or an [`Error`];
//! both are final, but that a session that is [`kept`](Session::kept) can be asked more
//! once it is done, and says COM_QUIT when it is told to. What a server can make a session keep is bounded: a packet's
//! length, the columns and rows, and 64 KiB in all; beyond that it fails. The
//! password leaves it as a scramble of the server's nonce alone.
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
//! // What a server sent, read from its socket.
//! let greeting = capture!("greeting-plain");
//! let login_ok = capture!("auth-ok");
//! let rows = capture!("resultset-status-eof");
//!
//! let credentials = Credentials::new("galera_probe", Password::new("secret"))?;
//! let mut session = Session::new(Arc::new(credentials), &["SHOW SESSION STATUS"])?;
//! let mut output = BytesMut::new();
//!
//! // Half of a greeting: nothing to send yet.
//! let progress = session.receive(&greeting[..50], &mut output)?;
//! assert_eq!(progress, Progress::Wait(Stage::Greeting));
//! assert!(output.is_empty());
//!
//! // The rest of it: the login is to be sent.
//! let progress = session.receive(&greeting[50..], &mut output)?;
//! assert_eq!(progress, Progress::Wait(Stage::Login));
//! assert!(!output.split().is_empty());
//!
//! // The statements and COM_QUIT go out together.
//! let progress = session.receive(login_ok, &mut output)?;
//! assert_eq!(progress, Progress::Wait(Stage::Query));
//! assert!(output.split().ends_with(b"\x01\0\0\0\x01"));
//!
//! let Progress::Done(replies) = session.receive(rows, &mut output)? else { panic!() };
//! assert!(matches!(&replies[..], [Reply::Rows(rows)] if rows.len() == 9));
//!
//! // What has ended stays so.
//! assert_eq!(session.receive(greeting, &mut output), Err(Error::Ended));
//! # Ok::<(), Error>(())
//! ```
//!
//! Only what a health probe needs is spoken: protocol version 10, text result
//! sets, COM_QUERY and COM_QUIT; and of the authentication plugins
//! `mysql_native_password`, `caching_sha2_password`, `client_ed25519`, `parsec`,
//! those that ask who is at the other end of a Unix socket, and, where it is
//! allowed, `mysql_clear_password`. Names are those of the protocol's own documents
//! ([MySQL], [MariaDB]).
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
