//! Tells a load balancer whether a MariaDB Galera node should get traffic.
//!
//! The data flows one way, and each arrow is a function that can be tested alone:
//!
//! ```text
//! HTTP bytes -> Parsed -> (Monitor) -> Probe -> packets -> rows -> Facts -> Verdict -> Answer -> HTTP bytes
//!       http         server    target     probe      mysql            galera      verdict    http
//! ```
//!
//! | module | what it does | what it must not know |
//! |---|---|---|
//! | [`mysql`] | bytes to packets to rows, sans I/O | sockets, clocks, logs, any other module |
//! | [`galera`] | rows to facts to a verdict | where they came from |
//! | [`health`] | serve, or refuse with one reason | anything |
//! | [`http`] | bytes to a request, a verdict to an answer | sockets, the database |
//! | [`option_file`] | an option file's bytes to who logs in where | files |
//! | `dns`, `connect`, `tls` | the way to the node | what is said on it |
//! | `probe` | one probe run under its deadlines | who asks |
//! | `target` | owns a node: sharing, holding, settling; keeps the report | HTTP |
//! | `admin` | the report to `/metrics` and `/status` | sockets |
//! | `server` | the listeners, one exchange a connection | the database |
//! | `aside`, `followed`, `login`, `maintenance` | files and names that may block, in threads | who asks |
//! | `via`, `notify` | a question to a running probe; notices to systemd | the database |
//! | `config`, `log`, `run` | arguments, log lines, the wiring | |
//!
//! The first five build without the default feature `daemon`, for those who embed
//! the protocol: their tree is `bytes`, `httparse`, and what hashes and signs.
//! [`mysql`] says what a session asks of whoever drives it, and `examples/embed.rs`
//! is a whole check over a blocking socket.
//!
//! A verdict over any kind of stream:
//!
//! ```
//! use std::error::Error;
//! use std::io::{Read, Write};
//! use std::sync::Arc;
//!
//! use bytes::BytesMut;
//! use galera_probe::galera::{Facts, Policy, STATEMENTS, judge};
//! use galera_probe::mysql::{Credentials, Password, Progress, Reply, Session};
//! use galera_probe::health::{Role, Verdict};
//!
//! fn ask(mut stream: impl Read + Write) -> Result<Verdict, Box<dyn Error>> {
//!     let credentials = Credentials::new("galera_probe", Password::new("secret"))?;
//!     let mut session = Session::new(Arc::new(credentials), &STATEMENTS)?;
//!     let mut input = [0; 4096];
//!     let mut output = BytesMut::new();
//!     let replies = loop {
//!         // Deadlines are the caller's: the session has no clock.
//!         let length = stream.read(&mut input)?;
//!         if length == 0 {
//!             return Err("the server closed the connection".into());
//!         }
//!         let progress = session.receive(&input[..length], &mut output)?;
//!         stream.write_all(&output.split())?;
//!         if let Progress::Done(replies) = progress {
//!             break replies;
//!         }
//!     };
//!     let mut facts = Facts::default();
//!     for reply in &replies {
//!         let Reply::Rows(rows) = reply else { continue };
//!         for row in rows {
//!             let [Some(name), value] = &row[..] else { return Err("no name and value".into()) };
//!             facts.note(name, value.as_deref());
//!         }
//!     }
//!     // What is missing is refused: there is no serve without every fact.
//!     Ok(judge(&facts, Policy::default(), Role::ReadWrite))
//! }
//! ```

#![warn(unreachable_pub)]
// Nothing that a peer sends may make it panic. The rooms that read a peer's bytes
// deny unchecked arithmetic as well.
#![cfg_attr(
    not(test),
    deny(
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod cli;
#[cfg(feature = "daemon")]
pub mod commands;
pub mod galera;
pub mod health;
pub mod http;
#[cfg(feature = "daemon")]
pub mod monitor;
pub mod mysql;
#[cfg(feature = "daemon")]
pub mod node;
#[cfg(feature = "daemon")]
pub mod os;
#[cfg(feature = "daemon")]
pub mod server;
