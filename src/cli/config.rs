//! The program's settings, complete and checked: the action to run and how to log.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::values::Url;
use crate::health::Role;
use crate::monitor::Settings;
use crate::node::address::Address;
use crate::node::security::Security;
use crate::os::logging::LogSettings;
use crate::server::Listen;

/// The settings from the command line, the environment and the account files.
#[derive(Clone, Debug)]
pub struct Config {
    /// The command to run.
    pub action: Action,
    /// The format and the level of the log.
    pub log: LogSettings,
    /// Warnings about the settings, for the log.
    pub warnings: Vec<String>,
}

/// A command with its settings.
#[derive(Clone, Debug)]
pub enum Action {
    /// `serve`: answer load balancers until a signal ends the program.
    Serve(Box<Serve>),
    /// `check`: probe the node once.
    Check {
        /// The node and how to probe it.
        node: Box<Node>,
        /// The role that the verdict is for.
        role: Role,
    },
    /// `check --via`: query a running probe.
    Via {
        /// The URL of one of its paths.
        url: Url,
        /// The deadline of the whole HTTP exchange, including the connect.
        timeout: Duration,
    },
    /// `maintenance`: start or end maintenance, or print whether it is on.
    Maintenance {
        /// The maintenance file.
        file: PathBuf,
        /// What to do with the file.
        change: Change,
    },
}

/// The settings of `serve`.
#[derive(Clone, Debug)]
pub struct Serve {
    /// The listeners for load balancers. [`Config::read`] gives at least one.
    pub listen: Vec<Listen>,
    /// The listener for `/metrics` and `/status`. `None`: no admin pages.
    pub admin_listen: Option<Listen>,
    /// The file that puts the node into maintenance while it exists.
    pub maintenance_file: Option<PathBuf>,
    /// How long to answer 503 `draining` after SIGTERM. Zero: not at all.
    pub drain: Duration,
    /// The node and how to probe it.
    pub node: Node,
}

/// What the command `maintenance` does with the maintenance file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Change {
    /// Start maintenance: create the file.
    On,
    /// End maintenance: remove the file.
    Off,
    /// Print `on` or `off`.
    Status,
}

/// The node and how to probe it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The address of its MySQL port or socket.
    pub address: Address,
    /// How the transport is protected.
    pub security: Security,
    /// The account, the deadlines, the policy and the timing.
    pub settings: Settings,
}
