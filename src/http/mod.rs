//! The balancer's side, without its sockets: bytes to a request, a verdict to
//! an answer. Pure functions and one small state machine.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod answer;
mod body;
mod fields;
mod request;

pub use answer::{Answer, Form, Problem};
pub use body::{Body, Drain, Drained};
pub use request::{Asked, Foreign, Parsed, Request, parse};
