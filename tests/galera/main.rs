//! Tests with real MariaDB Galera nodes, which the script `tests/galera/cluster` starts:
//!
//!     tests/galera/cluster start 3
//!     cargo test --test galera -- --ignored --test-threads=1 nodes_3
//!     tests/galera/cluster stop

mod balancers;
mod cluster;
mod nodes_1;
mod nodes_3;
mod operators;
mod option_files;
#[path = "../support/program.rs"]
mod program;
mod recipes;
mod stalls;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tls.rs"]
mod tls;
mod tls_1;
mod tls_3;
