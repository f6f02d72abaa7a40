//! The balancer's side, without its sockets: bytes to a request, a verdict to
//! an answer. Pure functions and one small state machine.

// These files read a peer's bytes: nothing in them may panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod answer;
mod body;
mod request;

pub use answer::{Answer, Form, Problem};
pub use body::{Body, Drain, Drained};
pub use request::{Asked, Foreign, MAX_HEAD, Parsed, Request, parse};
