//! Access to the database node: its address, name resolution, transports, TLS, credentials,
//! and one probe run.

pub mod address;
pub mod connector;
pub mod credentials;
pub mod probe;
pub mod resolver;
pub mod security;
pub mod tls;
pub mod transport;
