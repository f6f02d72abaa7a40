use std::time::Duration;

use crate::galera::Policy;
use crate::node::credentials::CredentialSource;
use crate::node::probe::Deadlines;

/// How a node is asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who logs in.
    pub login: CredentialSource,
    /// How long a probe run may take.
    pub deadlines: Deadlines,
    /// What is wanted of the node.
    pub policy: Policy,
    /// How its verdicts hang together in time.
    pub timing: Timing,
}

/// How verdicts hang together in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How old a verdict may be that is given without handle; zero: always ask.
    pub max_age: Duration,
    /// The longest time that a node must stay fit after a stall; zero: none.
    pub settle: Duration,
    /// For how long a node that was fit is served on while it times out; zero:
    /// not at all.
    pub grace: Duration,
    /// How old a connection may be that is asked again; zero: each probe run has its
    /// own.
    pub keep_connection: Duration,
}
