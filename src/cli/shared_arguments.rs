//! The flags that several commands share: the node, the timing and the log.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use clap::{Args, ValueEnum};
use tracing::Level;

use super::log_format::LOG_FORMAT_VARIABLE;
use super::tls::TlsArgs;
use super::values;
use crate::galera;
use crate::monitor;
use crate::node::address::Address;
use crate::os::logging;

#[derive(Args)]
#[command(next_help_heading = "Node")]
pub(super) struct NodeArgs {
    /// Address of the node: HOST:PORT, [IPV6]:PORT or unix:PATH.
    #[arg(
        long,
        env = "GALERA_PROBE_TARGET",
        hide_env_values = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:3306",
        value_parser = values::address
    )]
    pub(super) target: Address,
    /// Account to log in with.
    #[arg(
        long,
        env = "GALERA_PROBE_USER",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "galera_probe",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(super) user: String,
    /// File with the password; the alternative is GALERA_PROBE_PASSWORD.
    #[arg(long, env = "GALERA_PROBE_PASSWORD_FILE", hide_env_values = true, value_name = "PATH")]
    pub(super) password_file: Option<PathBuf>,
    /// Option file with the account and the address
    ///
    /// The groups [client], [client-server] and [client-mariadb] are read.
    #[arg(long, env = "GALERA_PROBE_DEFAULTS_FILE", hide_env_values = true, value_name = "PATH")]
    pub(super) defaults_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    /// Deadline of each step: connect, greeting, tls, login, query, causality.
    #[arg(
        long,
        env = "GALERA_PROBE_STEP_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = values::timeout
    )]
    pub(super) step_timeout: Duration,
    /// Deadline of the whole probe run.
    #[arg(
        long,
        env = "GALERA_PROBE_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "2s",
        value_parser = values::timeout
    )]
    pub(super) timeout: Duration,
    /// Allow a plain server, without Galera, to serve.
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
    /// When a fit node must prove that it is in contact with its group
    ///
    /// `check` asks only with always.
    #[arg(
        long,
        env = "GALERA_PROBE_CAUSALITY_CHECK",
        hide_env_values = true,
        value_name = "WHEN",
        default_value = "after-stall"
    )]
    pub(super) causality_check: CausalityCheck,
}

/// The values of `--causality-check`.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum CausalityCheck {
    /// Once after each stall, before the node serves again.
    AfterStall,
    /// In each probe run; readers are served without it.
    Always,
    /// Never; after a stall the node must stay fit for a time.
    Never,
}

impl From<CausalityCheck> for monitor::CausalityCheck {
    fn from(check: CausalityCheck) -> Self {
        match check {
            CausalityCheck::AfterStall => Self::AfterStall,
            CausalityCheck::Always => Self::Always,
            CausalityCheck::Never => Self::Never,
        }
    }
}

#[derive(Args)]
#[command(next_help_heading = "Timing")]
pub(super) struct TimingArgs {
    /// Maximum age of a cached verdict before the node is probed again.
    #[arg(
        long,
        env = "GALERA_PROBE_MAX_AGE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = values::duration
    )]
    pub(super) max_age: Duration,
    /// Maximum time that a node must stay fit after a stall without proof.
    #[arg(
        long,
        env = "GALERA_PROBE_SETTLE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = values::duration
    )]
    pub(super) settle: Duration,
    /// Time to keep serving a node that was fit and now times out.
    #[arg(
        long,
        env = "GALERA_PROBE_GRACE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "0s",
        value_parser = values::duration
    )]
    pub(super) grace: Duration,
    /// Time to keep a connection for more probe runs; 0s: a login for each.
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
    /// Format of the log lines on standard error.
    #[arg(
        long,
        env = LOG_FORMAT_VARIABLE,
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(super) log_format: LogFormat,
    /// Minimum level of the log: error, warn, info, debug or trace.
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

/// The values of `--log-format`.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    /// Text lines, for people.
    Text,
    /// One JSON object per line, for log collectors.
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

/// The values of `--donor`.
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
