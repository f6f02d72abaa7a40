//! The settings of a monitor: how to log in, the deadlines, and which node counts as
//! healthy.

use std::time::Duration;

use crate::galera::Policy;
use crate::node::credentials::CredentialSource;
use crate::node::probe::Deadlines;

/// How a node is probed and judged.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The account for the login.
    pub credentials: CredentialSource,
    /// How long a step and a whole probe run may take.
    pub deadlines: Deadlines,
    /// Whether a plain server and a donor may serve.
    pub policy: Policy,
    /// How long verdicts and connections are used, and how a node is treated after a stall.
    pub timing: Timing,
}

/// How long verdicts and connections are used, and how a node is treated after a stall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// `--max-age`: the age up to which a verdict is reused without a new probe run. Zero:
    /// no verdict is reused, but callers still share the probe run under way.
    pub max_age: Duration,
    /// `--causality-check`: when a node must prove that it is in contact with its group.
    pub causality_check: CausalityCheck,
    /// `--settle`: the upper limit of the time for which a node must stay fit after a stall
    /// before it is served, if it cannot prove itself. Zero: it is served at once.
    pub settle: Duration,
    /// `--grace`: how long a stalled node is still served, counted from the last probe run
    /// that found it fit. Zero: not at all.
    pub grace: Duration,
    /// `--keep-connection`: the age up to which a connection is used for further probe
    /// runs. Zero: each probe run opens its own.
    pub keep_connection: Duration,
}

/// When a fit node must prove, by a causality check, that it is in contact with its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CausalityCheck {
    /// Once after each stall, before it is served again.
    #[default]
    AfterStall,
    /// In each probe run. A node that cannot is refused, except to readers.
    Always,
    /// Not at all: after a stall the node must stay fit for a time.
    Never,
}
