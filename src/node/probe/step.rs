use std::fmt;
use std::time::Duration;

use crate::health::Reason;
use crate::mysql::Stage;

/// A part of a probe run with a deadline of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Resolving the name and opening the connection.
    Connect,
    /// Waiting for the server's first packet.
    Greeting,
    /// Beginning TLS, where it was asked for.
    Tls,
    /// The login, with every turn that it takes.
    Login,
    /// The statements and their replies.
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
    /// The word.
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

/// A deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// The step that was not done.
    pub step: Step,
    /// How long that step had been waited for.
    pub waited: Duration,
}

impl Stalled {
    /// The reason that names the step.
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
