//! The way to the database node: its address, how a transport to it is opened, and one
//! probe run over it.

pub mod address;
pub mod connector;
pub mod credentials;
pub mod probe;
pub mod resolver;
pub mod security;
pub mod tls;
pub mod transport;
