//! Tells a load balancer whether a MariaDB Galera node should get traffic.
pub mod mysql;
