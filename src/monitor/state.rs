use std::future::pending;

use tokio::time::{Instant, timeout_at};

use super::asking::Asker;
use crate::galera::Facts;
use crate::node::probe::{Dialogue, Failure, Stalled};

/// What the target is doing.
pub(super) enum State {
    /// No dialogue. The next asker may begin one.
    Idle,
    /// A dialogue is under way within its deadlines; these wait for it.
    Under { dialogue: Dialogue, askers: Vec<Asker> },
    /// A dialogue stalled after the connect. It is kept open at the same step
    /// until the node wakes or the time comes.
    Held { dialogue: Dialogue, until: Instant },
}

/// What happens to a dialogue.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, moved once")]
pub(super) enum Event {
    Ended(Result<Facts, Failure>),
    Stalled(Stalled),
    /// A dialogue was held for as long as it may be.
    HoldOver,
}

impl State {
    /// Cancelled at any point it loses nothing.
    pub(super) async fn next(&mut self) -> Event {
        match self {
            State::Idle => pending().await,
            State::Under { dialogue, .. } => match dialogue.run().await {
                Ok(outcome) => Event::Ended(outcome),
                Err(stalled) => Event::Stalled(stalled),
            },
            State::Held { dialogue, until } => match timeout_at(*until, dialogue.finish()).await {
                Ok(outcome) => Event::Ended(outcome),
                Err(_) => Event::HoldOver,
            },
        }
    }
}
