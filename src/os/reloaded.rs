//! A value that is read again when its files change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::os::background::BackgroundTask;
use crate::os::log_throttle::LogThrottle;

/// The last valid value that was read from some files. Clones share it.
#[derive(Clone)]
pub(crate) struct Reloaded<T> {
    value: watch::Receiver<Arc<T>>,
    /// `None` for a fixed value.
    reread: Option<BackgroundTask<()>>,
    last_scheduled: Arc<Mutex<Option<Instant>>>,
    log_throttle: Arc<LogThrottle>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Creates a value that never changes.
    pub(crate) fn fixed(value: T) -> Self {
        let (_, value) = watch::channel(Arc::new(value));
        Self { value, reread: None, last_scheduled: Arc::default(), log_throttle: Arc::default() }
    }

    /// Creates a value that starts as `first`.
    ///
    /// `read` gets the present value and returns the new one if the files have changed. It
    /// may block: it runs on a background thread called `name`. `name` also names the value
    /// in log messages, in the plural ("certificates").
    pub(crate) fn new(
        name: &'static str,
        first: T,
        read: impl Fn(&T) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        let (sender, value) = watch::channel(Arc::new(first));
        let present = value.clone();
        let read = move || {
            let old = Arc::clone(&present.borrow());
            read(&old)
        };
        let reread = BackgroundTask::new(name, read, move |new| {
            if let Some(new) = new {
                sender.send_replace(Arc::new(new));
            }
        });
        Self {
            value,
            reread: Some(reread),
            last_scheduled: Arc::default(),
            log_throttle: Arc::default(),
        }
    }

    /// The last value that was read. Does not touch the files.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.borrow())
    }

    /// Reads the files again and returns the value. If that takes longer than `timeout` or
    /// no thread can be created, logs a warning (at most once per minute) and returns the
    /// last value.
    pub(crate) async fn read(&self, timeout: Duration) -> Arc<T> {
        if let Some(reread) = &self.reread
            && let Err(error) = reread.run_with_timeout(timeout).await
            && self.log_throttle.is_due()
        {
            let name = reread.name();
            warn!("cannot read the {name} again: {error}: keeping the last ones");
        }
        self.get()
    }

    /// Starts to read the files in the background, unless this was called less than
    /// `pause` ago. [`changed`](Self::changed) returns if they hold a new value.
    pub(crate) fn schedule_reread(&self, pause: Duration) {
        let Some(reread) = &self.reread else { return };
        let mut last = self.last_scheduled.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= pause) {
            *last = Some(Instant::now());
            // If no thread can be created, the first call after `pause` tries again.
            let is_stuck = reread.run_from_now().is_ok_and(|run| run.time_left(pause).is_zero());
            if is_stuck && self.log_throttle.is_due() {
                let name = reread.name();
                warn!("cannot read the {name} again: timed out: keeping the last ones");
            }
        }
    }

    /// Waits for a change since the last call. Never returns for a fixed value.
    pub(crate) async fn changed(&mut self) {
        if self.value.changed().await.is_err() {
            std::future::pending().await
        }
    }
}
