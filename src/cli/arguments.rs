//! The command line as clap reads it: commands, flags, their variables and the help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use super::config::Change;
use super::shared_arguments::{LogArgs, NodeArgs, TimingArgs};
use super::values;
use crate::health;
use crate::server::Listen;

#[cfg(feature = "tls")]
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: tls");
#[cfg(not(feature = "tls"))]
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: none");

const EXAMPLES: &str = "\
Examples:
  Probe the node once, with a password file that only this user may read:
    galera-probe check --password-file password
  Answer a load balancer at http://NODE:9200/:
    galera-probe serve --password-file password
  Query the running probe, as a container's health check does:
    galera-probe check --via http://127.0.0.1:9200/livez

Each flag except --role and --via has an environment variable: --password-file
has GALERA_PROBE_PASSWORD_FILE.";

const SERVE_EXAMPLES: &str = "\
Paths:
  /, /read-write  200 if the node is fit to serve, else 503 and the reason
  /reader         the same, but a read_only node may serve
  /writer         the same, but only the node with wsrep_local_index 0 may serve
  /livez          200 while the probe runs; does not depend on the node

Examples:
  galera-probe serve --target 10.0.0.5:3306 --password-file password
  galera-probe serve --defaults-file probe.cnf --drain 15s \\
    --maintenance-file /run/galera-probe/maintenance \\
    --admin-listen 127.0.0.1:9201";

const CHECK_EXAMPLES: &str = "\
Each check opens a new connection and closes it at the deadline. Checks that run
every second against a frozen node fill its queue of new connections. If the
node is not on loopback or a Unix socket, query a running probe with --via.

Examples:
  galera-probe check --password-file password
  galera-probe check --role reader --target unix:/run/mysqld/mysqld.sock
  galera-probe check --via http://127.0.0.1:9200/livez";

const MAINTENANCE_EXAMPLES: &str = "\
Example:
  galera-probe maintenance on --maintenance-file /run/galera-probe/maintenance";

/// Tells a load balancer whether a MariaDB Galera node should get traffic.
#[derive(Parser)]
#[command(
    name = "galera-probe",
    version = VERSION,
    arg_required_else_help = true,
    after_help = EXAMPLES,
    disable_help_flag = true
)]
pub(super) struct Cli {
    /// Print help.
    // -h prints the long form too: the short form puts variables and defaults in one line.
    #[arg(short, long, global = true, action = ArgAction::HelpLong)]
    help: Option<bool>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Answer load balancers over HTTP: 200 to send traffic, else 503.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve {
        /// Address of the health paths: ADDRESS:PORT or unix:PATH; repeatable.
        #[arg(
            long,
            env = "GALERA_PROBE_LISTEN",
            hide_env_values = true,
            value_name = "ADDRESS:PORT",
            value_delimiter = ',',
            default_value = "0.0.0.0:9200",
            value_parser = values::listen,
            help_heading = "HTTP"
        )]
        listen: Vec<Listen>,
        /// Address of /metrics and /status: ADDRESS:PORT or unix:PATH.
        #[arg(
            long,
            env = "GALERA_PROBE_ADMIN_LISTEN",
            hide_env_values = true,
            value_name = "ADDRESS:PORT",
            value_parser = values::listen,
            help_heading = "HTTP"
        )]
        admin_listen: Option<Listen>,
        /// File that puts the node into maintenance while it exists.
        #[arg(
            long,
            env = "GALERA_PROBE_MAINTENANCE_FILE",
            hide_env_values = true,
            value_name = "PATH",
            help_heading = "HTTP"
        )]
        maintenance_file: Option<PathBuf>,
        /// Time to answer 503 after SIGTERM before the program exits.
        #[arg(
            long,
            env = "GALERA_PROBE_DRAIN",
            hide_env_values = true,
            value_name = "DURATION",
            default_value = "0s",
            value_parser = values::duration,
            help_heading = "HTTP"
        )]
        drain: Duration,
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        timing: TimingArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Probe the node once: one line, exit code 0 to serve, 1 to refuse.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// What the caller wants the node for.
        #[arg(
            long,
            value_name = "ROLE",
            default_value = "read-write",
            conflicts_with = "via",
            help_heading = "Query"
        )]
        role: Role,
        /// Query the running probe at this URL instead of the node.
        #[arg(
            long,
            value_name = "URL",
            value_parser = values::url,
            help_heading = "Query"
        )]
        via: Option<values::Url>,
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Start or end maintenance of the node, or print whether it is on.
    #[command(after_help = MAINTENANCE_EXAMPLES)]
    Maintenance {
        /// What to do.
        change: Change,
        /// The file that `serve` checks for.
        #[arg(
            long,
            env = "GALERA_PROBE_MAINTENANCE_FILE",
            hide_env_values = true,
            value_name = "PATH"
        )]
        maintenance_file: PathBuf,
        #[command(flatten)]
        log: LogArgs,
    },
}

/// The values of `--role`.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Role {
    ReadWrite,
    Reader,
    Writer,
}

impl From<Role> for health::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::ReadWrite => Self::ReadWrite,
            Role::Reader => Self::Reader,
            Role::Writer => Self::Writer,
        }
    }
}
