//! The pages of the admin listener: `/metrics` and `/status`.
//!
//! Both show the monitor's [`Report`](crate::monitor::Report) and probe no node themselves.

mod metrics;
mod status;

pub use metrics::{ExchangeCounter, Exposition, metrics};
pub use status::status;

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The Cargo features that the program was built with.
pub const FEATURES: &str = if cfg!(feature = "tls") { "tls" } else { "none" };
