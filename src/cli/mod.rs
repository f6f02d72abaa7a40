//! Reads the command line, the environment and the account files into one [`Config`].
//!
//! The result is either a complete `Config` or an error with the flag and the fix.

#[cfg(feature = "daemon")]
mod account;
#[cfg(feature = "daemon")]
mod arguments;
#[cfg(feature = "daemon")]
mod config;
#[cfg(feature = "daemon")]
mod log_format;
pub mod option_file;
#[cfg(feature = "daemon")]
mod read;
#[cfg(feature = "daemon")]
mod shared_arguments;
#[cfg(feature = "daemon")]
mod tls;
#[cfg(feature = "daemon")]
mod values;

#[cfg(feature = "daemon")]
pub use config::{Action, Change, Config, Node, Serve};
#[cfg(feature = "daemon")]
pub use log_format::{LOG_FORMAT_VARIABLE, log_format};
#[cfg(feature = "daemon")]
pub use read::{command, unknown_variables};
#[cfg(feature = "daemon")]
pub use values::Url;
