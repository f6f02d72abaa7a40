//! Arguments and environment to [`Config`], whole or not at all.

mod password;
mod tls;
mod values;

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing::Level;

use crate::connect::{Address, Security};
use crate::galera::Policy;
use crate::mysql::Credentials;
use crate::probe::Deadlines;
use crate::server::Listen;
use crate::target::{Settings, Timing};

/// Everything that the program was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to do.
    pub action: Action,
    /// Which node to ask, and how.
    pub node: Node,
    /// How to log.
    pub log: LogSettings,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer balancers until told to stop.
    Serve {
        /// Where to listen; at least one.
        listen: Vec<Listen>,
    },
    /// Ask once.
    Check,
}

/// Which node to ask, and how.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it listens.
    pub address: Address,
    /// How the way there is protected.
    pub security: Security,
    /// How it is asked.
    pub settings: Settings,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// The least level that is logged.
    pub level: Level,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

impl Config {
    /// Reads a command line, the program's name first, and the environment.
    ///
    /// # Errors
    /// What is wrong, with the flag's name and the fix; also `--help` and
    /// `--version`, as clap has it.
    pub fn read<I>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString> + Clone,
    {
        let (action, node, timing, log) = match Cli::try_parse_from(arguments)?.command {
            Command::Serve { listen, node, timing, log } => {
                (Action::Serve { listen }, node, timing.read(), log)
            }
            Command::Check { node, log } => (Action::Check, node, Timing::default(), log),
        };
        let log = LogSettings { format: log.log_format, level: log.log_level };
        Ok(Config { action, node: node.read(timing)?, log })
    }
}

/// Tells a load balancer whether a MariaDB Galera node should get traffic.
#[derive(Parser)]
#[command(name = "galera-probe", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer balancers over HTTP: 200 to give the node traffic, else 503.
    Serve {
        /// Where to answer HTTP: ADDRESS:PORT or unix:PATH; may be repeated.
        #[arg(
            long,
            env = "GALERA_PROBE_LISTEN",
            hide_env_values = true,
            value_name = "ADDRESS:PORT",
            value_delimiter = ',',
            default_value = "0.0.0.0:9200",
            value_parser = values::listen
        )]
        listen: Vec<Listen>,
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        timing: TimingArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Ask the node once: one line out, exit code 0 to serve, 1 to refuse.
    Check {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        log: LogArgs,
    },
}

#[derive(Args)]
struct NodeArgs {
    /// The node: HOST:PORT, [IPV6]:PORT or unix:PATH.
    #[arg(
        long,
        env = "GALERA_PROBE_TARGET",
        hide_env_values = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:3306",
        value_parser = values::address
    )]
    target: Address,
    /// The account to log in with.
    #[arg(
        long,
        env = "GALERA_PROBE_USER",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "galera_probe",
        value_parser = NonEmptyStringValueParser::new()
    )]
    user: String,
    /// File that holds the password; GALERA_PROBE_PASSWORD is the other way.
    #[arg(long, env = "GALERA_PROBE_PASSWORD_FILE", hide_env_values = true, value_name = "PATH")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    tls: tls::TlsArgs,
    /// Time for each step: connect, greeting, tls, login, query.
    #[arg(
        long,
        env = "GALERA_PROBE_STEP_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = values::timeout
    )]
    step_timeout: Duration,
    /// Time for the whole dialogue with the node.
    #[arg(
        long,
        env = "GALERA_PROBE_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "2s",
        value_parser = values::timeout
    )]
    timeout: Duration,
    /// The node is a plain server: one without Galera may serve.
    #[arg(
        long,
        env = "GALERA_PROBE_STANDALONE",
        hide_env_values = true,
        value_parser = BoolishValueParser::new()
    )]
    standalone: bool,
}

#[derive(Args)]
struct TimingArgs {
    /// Age up to which a verdict is given again without asking.
    #[arg(
        long,
        env = "GALERA_PROBE_MAX_AGE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = values::duration
    )]
    max_age: Duration,
    /// Longest time to stay fit after a stall before serving again.
    #[arg(
        long,
        env = "GALERA_PROBE_SETTLE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = values::duration
    )]
    settle: Duration,
    /// Time to serve on a node that was fit and now times out.
    #[arg(
        long,
        env = "GALERA_PROBE_GRACE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "0s",
        value_parser = values::duration
    )]
    grace: Duration,
}

#[derive(Args)]
struct LogArgs {
    /// Form of the log lines on standard error.
    #[arg(
        long,
        env = "GALERA_PROBE_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
    /// What is logged at the least: error, warn, info, debug or trace.
    #[arg(
        long,
        env = "GALERA_PROBE_LOG_LEVEL",
        hide_env_values = true,
        value_name = "LEVEL",
        default_value = "info",
        value_parser = values::level
    )]
    log_level: Level,
}

impl NodeArgs {
    fn read(self, timing: Timing) -> Result<Node, clap::Error> {
        let password = password::read(self.password_file.as_deref())?;
        let credentials = Credentials::new(self.user, password)
            .map_err(|error| invalid(format_args!("--user: {error}")))?;
        Ok(Node {
            security: self.tls.read(&self.target)?,
            address: self.target,
            settings: Settings {
                credentials: Arc::new(credentials),
                deadlines: Deadlines { step: self.step_timeout, whole: self.timeout },
                policy: Policy { standalone: self.standalone },
                timing,
            },
        })
    }
}

impl TimingArgs {
    fn read(self) -> Timing {
        Timing { max_age: self.max_age, settle: self.settle, grace: self.grace }
    }
}

fn invalid(message: impl Display) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format_args!("{message}\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
