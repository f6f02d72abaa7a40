//! The pages of the admin listener: what a target has seen and done, in Prometheus'
//! form and as JSON. Functions of a [`Report`](crate::monitor::Report).

mod metrics;
mod status;

pub use metrics::{ExchangeCounter, Exposition, metrics};
pub use status::status;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The features that this program was built with.
pub const FEATURES: &str = if cfg!(feature = "tls") { "tls" } else { "none" };
