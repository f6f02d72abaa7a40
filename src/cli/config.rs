use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::health::Role;
use crate::monitor::Settings;
use crate::node::address::Address;
use crate::node::security::Security;
use crate::os::logging::LogSettings;
use crate::server::Listen;

use super::values::Url;

/// Everything that the program was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to do.
    pub action: Action,
    /// How to log.
    pub log: LogSettings,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answer balancers until told to stop.
    Serve(Box<Serve>),
    /// Ask the node once.
    Check {
        /// Which node, and how.
        node: Box<Node>,
        /// What for.
        role: Role,
    },
    /// Ask a probe that is running.
    Via {
        /// Where it answers.
        url: Url,
        /// How long it may take.
        budget: Duration,
    },
    /// Take the node out of service, or put it back.
    Maintenance {
        /// The maintenance file.
        file: PathBuf,
        /// What becomes of it.
        change: Change,
    },
}

/// How balancers are answered.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Where to listen; at least one.
    pub listen: Vec<Listen>,
    /// Where the admin pages are, if anywhere.
    pub admin_listen: Option<Listen>,
    /// The file that takes the node out of service while it exists.
    pub maintenance_file: Option<PathBuf>,
    /// For how long to refuse before the program ends.
    pub drain: Duration,
    /// Which node to ask, and how.
    pub node: Node,
}

/// What becomes of the maintenance file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Change {
    /// Take the node out of service: make the file.
    On,
    /// Put it back: remove the file.
    Off,
    /// Print which it is.
    Status,
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
