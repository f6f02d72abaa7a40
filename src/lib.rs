//! Tells a load balancer whether a MariaDB Galera node should get traffic.

#![warn(unreachable_pub)]

#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod connect;
#[cfg(feature = "daemon")]
pub mod dns;
pub mod galera;
pub mod http;
#[cfg(feature = "daemon")]
pub mod log;
pub mod mysql;
#[cfg(feature = "daemon")]
pub mod probe;
#[cfg(feature = "daemon")]
pub mod run;
#[cfg(feature = "daemon")]
pub mod server;
#[cfg(feature = "daemon")]
pub mod target;
pub mod verdict;
