//! The command line, as clap derives it.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use tracing::Level;

use super::config::Change;
use super::tls::TlsArgs;
use super::values;
use crate::galera;
use crate::health;
use crate::node::address::Address;
use crate::os::logging;
use crate::server::Listen;

#[cfg(feature = "tls")]
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: tls");
#[cfg(not(feature = "tls"))]
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nfeatures: none");

const EXAMPLES: &str = "\
Examples:
  Ask once, with the password in a file that only this user may read:
    galera-probe check --password-file password
  Answer a load balancer at http://NODE:9200/:
    galera-probe serve --password-file password
  Ask the probe that is running, as a container's health check does:
    galera-probe check --via http://127.0.0.1:9200/livez

Each flag but --role and --via has a variable: --password-file is
GALERA_PROBE_PASSWORD_FILE.";

const SERVE_EXAMPLES: &str = "\
Paths:
  /, /read-write  200 if the node is fit to serve, else 503 and the reason
  /reader         the same, but a read_only node will do
  /writer         the same, on one node of the cluster at a time
  /livez          200 while the probe runs; the node is not asked

Examples:
  galera-probe serve --target 10.0.0.5:3306 --password-file password
  galera-probe serve --defaults-file probe.cnf --drain 15s \\
    --maintenance-file /run/galera-probe/maintenance \\
    --admin-listen 127.0.0.1:9201";

const CHECK_EXAMPLES: &str = "\
A check opens a connection of its own and gives it up at its deadline: asked
each second of a node that is frozen, it fills the node's queue. Where the node
is not on loopback or a Unix socket, ask a running probe instead, with --via.

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
    // The long form for -h too: the short one puts variables and defaults in one line.
    #[arg(short, long, global = true, action = ArgAction::HelpLong)]
    help: Option<bool>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Answer balancers over HTTP: 200 to give it traffic, else 503.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve {
        /// Where to answer HTTP: ADDRESS:PORT or unix:PATH; may be repeated.
        #[arg(
            long,
            env = "GALERA_PROBE_LISTEN",
            hide_env_values = true,
            value_name = "ADDRESS:PORT",
            value_delimiter = ',',
            default_value = "0.0.0.0:9200",
            value_parser = values::listen,
            help_heading = "Answers"
        )]
        listen: Vec<Listen>,
        /// Where /metrics and /status are: ADDRESS:PORT or unix:PATH.
        #[arg(
            long,
            env = "GALERA_PROBE_ADMIN_LISTEN",
            hide_env_values = true,
            value_name = "ADDRESS:PORT",
            value_parser = values::listen,
            help_heading = "Answers"
        )]
        admin_listen: Option<Listen>,
        /// File that takes the node out of service while it exists.
        #[arg(
            long,
            env = "GALERA_PROBE_MAINTENANCE_FILE",
            hide_env_values = true,
            value_name = "PATH",
            help_heading = "Answers"
        )]
        maintenance_file: Option<PathBuf>,
        /// Time to answer 503 after SIGTERM before the program ends.
        #[arg(
            long,
            env = "GALERA_PROBE_DRAIN",
            hide_env_values = true,
            value_name = "DURATION",
            default_value = "0s",
            value_parser = values::duration,
            help_heading = "Answers"
        )]
        drain: Duration,
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        timing: TimingArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Ask the node once: one line, exit code 0 to serve, 1 to refuse.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// What the node is wanted for.
        #[arg(
            long,
            value_name = "ROLE",
            default_value = "read-write",
            conflicts_with = "via",
            help_heading = "Question"
        )]
        role: Role,
        /// Ask the probe that answers at this URL, and not the node.
        #[arg(
            long,
            value_name = "URL",
            value_parser = values::url,
            help_heading = "Question"
        )]
        via: Option<values::Url>,
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Take the node out of service, put it back, or say which it is.
    #[command(after_help = MAINTENANCE_EXAMPLES)]
    Maintenance {
        /// What to do.
        change: Change,
        /// The file that `serve` looks for.
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

#[derive(Args)]
#[command(next_help_heading = "Node")]
pub(super) struct NodeArgs {
    /// The node: HOST:PORT, [IPV6]:PORT or unix:PATH.
    #[arg(
        long,
        env = "GALERA_PROBE_TARGET",
        hide_env_values = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:3306",
        value_parser = values::address
    )]
    pub(super) target: Address,
    /// The account to log in with.
    #[arg(
        long,
        env = "GALERA_PROBE_USER",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "galera_probe",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(super) user: String,
    /// File that holds the password; GALERA_PROBE_PASSWORD is the other way.
    #[arg(long, env = "GALERA_PROBE_PASSWORD_FILE", hide_env_values = true, value_name = "PATH")]
    pub(super) password_file: Option<PathBuf>,
    /// Option file whose [client] group says who logs in where.
    #[arg(long, env = "GALERA_PROBE_DEFAULTS_FILE", hide_env_values = true, value_name = "PATH")]
    pub(super) defaults_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    /// Time for each step: connect, greeting, tls, login, query.
    #[arg(
        long,
        env = "GALERA_PROBE_STEP_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = values::timeout
    )]
    pub(super) step_timeout: Duration,
    /// Time for the whole probe run with the node.
    #[arg(
        long,
        env = "GALERA_PROBE_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "2s",
        value_parser = values::timeout
    )]
    pub(super) timeout: Duration,
    /// The node is a plain server: one without Galera may serve.
    #[arg(
        long,
        env = "GALERA_PROBE_STANDALONE",
        hide_env_values = true,
        value_parser = BoolishValueParser::new()
    )]
    pub(super) standalone: bool,
    /// Whether a node that gives a state transfer may serve.
    #[arg(
        long,
        env = "GALERA_PROBE_DONOR",
        hide_env_values = true,
        value_name = "POLICY",
        default_value = "refuse"
    )]
    pub(super) donor: Donor,
}

#[derive(Args)]
#[command(next_help_heading = "Time")]
pub(super) struct TimingArgs {
    /// Time for which a verdict is given again before the node is asked anew.
    #[arg(
        long,
        env = "GALERA_PROBE_MAX_AGE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = values::duration
    )]
    pub(super) max_age: Duration,
    /// Longest time to stay fit after a stall before serving again.
    #[arg(
        long,
        env = "GALERA_PROBE_SETTLE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = values::duration
    )]
    pub(super) settle: Duration,
    /// Time to serve on a node that was fit and now times out.
    #[arg(
        long,
        env = "GALERA_PROBE_GRACE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "0s",
        value_parser = values::duration
    )]
    pub(super) grace: Duration,
    /// Time to keep one login open for more questions; 0s: a login for each.
    #[arg(
        long,
        env = "GALERA_PROBE_KEEP_CONNECTION",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "0s",
        value_parser = values::duration
    )]
    pub(super) keep_connection: Duration,
}

#[derive(Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArgs {
    /// Form of the log lines on standard error.
    #[arg(
        long,
        env = "GALERA_PROBE_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(super) log_format: LogFormat,
    /// What is logged at the least: error, warn, info, debug or trace.
    #[arg(
        long,
        env = "GALERA_PROBE_LOG_LEVEL",
        hide_env_values = true,
        value_name = "LEVEL",
        default_value = "info",
        value_parser = values::level
    )]
    pub(super) log_level: Level,
}

/// [`health::Role`], as it is written.
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

/// [`logging::LogFormat`], as it is written.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

impl From<LogFormat> for logging::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// [`galera::Donor`], as it is written.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Donor {
    Refuse,
    Serve,
    ServeUnlessRejecting,
}

impl From<Donor> for galera::Donor {
    fn from(donor: Donor) -> Self {
        match donor {
            Donor::Refuse => Self::Refuse,
            Donor::Serve => Self::Serve,
            Donor::ServeUnlessRejecting => Self::ServeUnlessRejecting,
        }
    }
}
