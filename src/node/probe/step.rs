//! The steps of a probe run, their deadlines, and the stall of a step.

use std::fmt;
use std::time::Duration;

use crate::health::Reason;
use crate::mysql::Stage;

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
}

impl From<Stage> for Step {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Greeting => Step::Greeting,
            Stage::Login => Step::Login,
            Stage::Query => Step::Query,
        }
    }
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
        }
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
        }
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} not done within {:?}", self.step, self.waited)
    }
}
