//! The steps of a probe run, their deadlines, and the stall of a step.

use std::fmt;
use std::time::Duration;

use crate::health::Reason;

/// A part of a probe run with its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Resolves the host name and opens the connection.
    Connect,
    /// Waits for the server's first packet.
    Greeting,
    /// Performs the TLS handshake, if the connection uses TLS.
    Tls,
    /// Logs in, with all round trips of the authentication plugin.
    Login,
    /// Sends the statements and reads their replies.
    Query,
    /// Waits for the node's proof that it is in contact with its group.
    Causality,
}

impl Step {
    /// The step's name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Connect => "connect",
            Step::Greeting => "greeting",
            Step::Tls => "tls",
            Step::Login => "login",
            Step::Query => "query",
            Step::Causality => "causality",
        }
    }

    /// Whether the login is complete, so that the server holds nothing against a connection
    /// that is given up.
    pub fn is_logged_in(self) -> bool {
        matches!(self, Step::Query | Step::Causality)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long a probe run may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The limit for each step.
    pub step: Duration,
    /// The limit for the whole probe run.
    pub whole: Duration,
}

/// A deadline passed before a step was complete, or connecting itself timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// The step that was not complete.
    pub step: Step,
    /// How long the step had taken by then. On a connection that replaced a kept one, the
    /// connect and greeting steps count from the start of the replaced probe run.
    pub waited: Duration,
}

impl Stalled {
    /// The reason to refuse the node: each step has its own.
    pub fn reason(self) -> Reason {
        match self.step {
            Step::Connect => Reason::StalledConnect,
            Step::Greeting => Reason::StalledGreeting,
            Step::Tls => Reason::StalledTls,
            Step::Login => Reason::StalledLogin,
            Step::Query => Reason::StalledQuery,
            Step::Causality => Reason::StalledCausality,
        }
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} not done within {:?}", self.step, self.waited)
    }
}
