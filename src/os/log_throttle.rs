//! Limits a repeated log message to once per minute.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Limits one log message to once per minute, however often a client causes it.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle(Mutex<Option<Instant>>);

impl LogThrottle {
    const PAUSE: Duration = Duration::from_secs(60);

    /// Whether to log the message now. `true` starts the pause of a minute.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = last.is_none_or(|last| now.duration_since(last) >= Self::PAUSE);
        if due {
            *last = Some(now);
        }
        due
    }
}
