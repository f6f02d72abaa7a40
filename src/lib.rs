//! Tells a load balancer whether a MariaDB Galera node should get traffic.
//!
//! The balancer sends an HTTP request. The probe opens a MySQL connection to the node,
//! logs in, reads a dozen variables, and answers 200 or 503. It speaks the MySQL
//! protocol itself, without an SQL driver, so that each step has a deadline.
//!
//! # For embedders
//!
//! Four modules need no runtime, socket, clock or log. They build without the default
//! feature `daemon`, with `bytes`, `httparse` and the hashes as their only dependencies:
//!
//! | module | what it does |
//! |---|---|
//! | [`mysql`] | the client side of the MySQL protocol: bytes to packets to rows |
//! | [`galera`] | the one place that knows what healthy means: names and values to a verdict |
//! | [`health`] | the verdict, its reason, and the role that a caller wants the node for |
//! | [`http`] | bytes to a request, a verdict to a response |
//!
//! `examples/embed.rs` is a whole check over a blocking socket. The same for any kind of
//! stream:
//!
//! ```
//! use std::error::Error;
//! use std::io::{Read, Write};
//! use std::sync::Arc;
//!
//! use bytes::BytesMut;
//! use galera_probe::galera::{Facts, Policy, STATEMENTS, judge};
//! use galera_probe::health::{Role, Verdict};
//! use galera_probe::mysql::{Credentials, Password, Progress, Reply, Session};
//!
//! fn check(mut stream: impl Read + Write) -> Result<Verdict, Box<dyn Error>> {
//!     let credentials = Credentials::new("galera_probe", Password::new("secret"))?;
//!     let mut session = Session::new(Arc::new(credentials));
//!     let mut statements = STATEMENTS.into_iter();
//!     let mut facts = Facts::default();
//!     let mut input = [0; 4096];
//!     let mut output = BytesMut::new();
//!     loop {
//!         // The session has no clock: deadlines are up to the stream.
//!         let length = stream.read(&mut input)?;
//!         if length == 0 {
//!             return Err("the server closed the connection".into());
//!         }
//!         let progress = session.receive(&input[..length], &mut output)?;
//!         if let Progress::Reply(Reply::Rows(rows)) = progress {
//!             for row in &rows {
//!                 let [Some(name), value] = &row[..] else { return Err("no name".into()) };
//!                 facts.note(name, value.as_deref());
//!             }
//!         }
//!         if session.is_idle() {
//!             let Some(statement) = statements.next() else { break };
//!             session.query(statement, &mut output)?;
//!         }
//!         stream.write_all(&output.split())?;
//!     }
//!     session.quit(&mut output)?;
//!     stream.write_all(&output)?;
//!     // A missing fact is a refusal.
//!     Ok(judge(&facts, Policy::default(), Role::ReadWrite))
//! }
//! ```
//!
//! # Architecture
//!
//! The data flows one way. Each arrow is a function that can be tested alone:
//!
//! ```text
//! HTTP bytes -> Request -> Monitor -> Probe -> packets -> rows -> Facts -> Verdict -> Response -> HTTP bytes
//!       server     http     monitor    node      mysql     mysql    galera    health      http      server
//! ```
//!
//! | module | what it holds | what it must not know |
//! |---|---|---|
//! | [`health`] | `Verdict`, `Reason`, `Role`: the words that every part speaks | any other module |
//! | [`galera`] | facts to a verdict | the protocol, HTTP, the runtime |
//! | [`mysql`] | the MySQL client protocol, without I/O | any other module, sockets, clocks, logs |
//! | [`http`] | HTTP/1 requests and responses, without I/O | the database, the runtime |
//! | `os` | blocking work on threads, reloaded files, the log, systemd | any other module |
//! | `node` | the way to the database: address, name lookup, transport, TLS, credentials, one probe run | HTTP, who calls |
//! | `monitor` | owns the node: shared probe runs, held connections, back-off, settling, the report | HTTP, the protocol |
//! | `server` | listeners, the connection limit, one exchange, lingering close | the database |
//! | `cli` | command line, variables and files to a `Config`, whole or not at all | the runtime |
//! | `commands` | `serve`, `check` and `maintenance`: each wires the others together; the admin pages | |
//!
//! `tests/layout` checks this table, and that no two files import each other.
//!
//! To find the rule behind a word such as `donor`, search for the word in `src/health.rs`.
//! The list of [reasons](health::Reason) there names the function that decides:
//!
//! - [`galera::judge`] for the facts that a node reports,
//! - `node::probe::Stalled::reason` for a deadline that passed,
//! - `node::probe::Failure::reason` for every other failure,
//! - `monitor::Monitor` for a verdict without a new probe run, and for settling,
//! - `commands::serve` for maintenance and the drain.

#![warn(unreachable_pub)]
// Bytes of a peer must not cause a panic. The modules that read them deny unchecked
// arithmetic as well.
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

pub mod galera;
pub mod health;
pub mod http;
pub mod mysql;

// The program's own modules. They are public for the binary, the tests and the benches
// only, and change without notice.
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod commands;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod monitor;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod node;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod os;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod server;
