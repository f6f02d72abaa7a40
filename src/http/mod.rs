//! The balancer's side, without its sockets: bytes to a request, a verdict to
//! an answer. Pure functions and one small state machine.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod body;
mod fields;
mod request;
mod response;

pub use body::{Body, BodyProgress, BodyReader};
pub use request::{Parsed, Request, Route, WrongProtocol, parse};
pub use response::{Format, Problem, Response};
