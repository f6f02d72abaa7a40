//! The client side of the MySQL protocol, sans I/O: bytes in, bytes and rows out.
//!
//! [`Session`] is the way in. It is fed whatever a server sent, in pieces of
//! any size, and says what to send back and what it waits for. It knows no
//! socket, no clock and no log; whoever drives it owns deadlines and bytes.
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
mod ed25519;
mod error;
mod framing;
mod login;
mod packet;
mod reader;
mod reply;
mod session;

pub use auth::Password;
pub use error::{Error, ServerError};
pub use packet::Row;
pub use reply::Reply;
pub use session::{Channel, Credentials, Progress, Session, Stage};
