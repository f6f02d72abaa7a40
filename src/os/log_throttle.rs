use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What happens as often as a client likes is logged once a minute.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle(Mutex<Option<Instant>>);

impl LogThrottle {
    const PAUSE: Duration = Duration::from_secs(60);

    /// Whether it is to be logged again; if so, not for a minute from now.
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
