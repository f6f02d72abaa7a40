//! HTTP/1 without I/O: bytes to a request, a verdict to a response.
//!
//! This is the server side of one exchange, as load balancers use it for health checks:
//!
//! 1. [`parse`] turns the bytes of a head into a [`Request`]: the [`Route`], the [`Format`]
//!    of the response and the [`Body`] that follows.
//! 2. [`BodyReader`] reads the body to its end and discards it.
//! 3. [`Response::health`] turns the verdict for the route into a response, and
//!    [`Response::encode`] turns the response into bytes.
//!
//! The caller reads and writes the bytes, keeps the deadlines and closes the connection.
//! The module parses HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112) and recognizes clients
//! that speak another protocol.
//!
//! ```
//! use galera_probe::health::{Health, Reason, Role, Verdict};
//! use galera_probe::http::{
//!     BodyProgress, BodyReader, Format, Parsed, Problem, Response, Route, parse,
//! };
//!
//! /// Returns the bytes to send, or `None` to close the connection without a response.
//! /// `received` is all that the client sent.
//! fn respond(received: &[u8], health: impl Fn(Role) -> Health) -> Option<Vec<u8>> {
//!     let response = match parse(received) {
//!         Parsed::Request(request, length) => {
//!             // A response that is sent before the body was read can be lost.
//!             match BodyReader::new(request.body).receive(&received[length..]) {
//!                 BodyProgress::Complete => {}
//!                 BodyProgress::Incomplete => return None,
//!                 BodyProgress::Bad(problem) => {
//!                     return Some(Response::problem(problem, request.format).encode());
//!                 }
//!             }
//!             match request.route {
//!                 Route::Health(role) => Response::health(health(role), request.format),
//!                 Route::Live => Response::live(request.format),
//!                 Route::Problem(problem) => Response::problem(problem, request.format),
//!                 _ => Response::problem(Problem::NotFound, request.format),
//!             }
//!         }
//!         Parsed::Bad(problem) => Response::problem(problem, Format::default()),
//!         Parsed::WrongProtocol(_) | Parsed::Incomplete => return None,
//!     };
//!     Some(response.encode())
//! }
//!
//! // A node that serves readers only.
//! let health = |role| match role {
//!     Role::Reader => Verdict::Serve.into(),
//!     _ => Verdict::Refuse(Reason::ReadOnly).into(),
//! };
//! let bytes = respond(b"GET /reader HTTP/1.1\r\nHost: db1:9200\r\n\r\n", health).unwrap();
//! assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"));
//! let bytes = respond(b"HEAD /writer HTTP/1.0\r\n\r\n", health).unwrap();
//! let head = String::from_utf8(bytes).unwrap();
//! assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
//! assert!(head.contains("\r\nGalera-Probe: read-only\r\n"));
//! // A TLS handshake.
//! assert_eq!(respond(b"\x16\x03\x01\x02\x00\x01", health), None);
//! ```
//!
//! # Limits
//!
//! | part of a request | limit | problem |
//! |---|---|---|
//! | head | 8 KiB, 64 header lines | [`Problem::HeadTooLarge`] |
//! | target | 2 KiB | [`Problem::TargetTooLong`] |
//! | body | 64 KiB, chunk framing included | [`Problem::BodyTooLarge`] |
//!
//! [`parse`] refuses a head with [`Problem::BadRequest`] if two readers could disagree on
//! where the request ends, because such a request can be smuggled past a proxy (RFC 9112,
//! section 11.2). Such a head has two different lengths, a length and a transfer coding, a
//! coding other than a single `chunked`, chunks in HTTP/1.0, folded lines, or NUL.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod body;
mod fields;
mod request;
mod response;

pub use body::{Body, BodyProgress, BodyReader};
pub use request::{Parsed, Request, Route, WrongProtocol, parse};
pub use response::{Format, Problem, Response};
