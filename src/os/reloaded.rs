//! What files hold, read again while it is used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::os::background::BackgroundTask;
use crate::os::log_throttle::LogThrottle;

/// The last good value of some files. Clones share it.
#[derive(Clone)]
pub(crate) struct Reloaded<T> {
    value: watch::Receiver<Arc<T>>,
    look: Option<BackgroundTask<()>>,
    looked: Arc<Mutex<Option<Instant>>>,
    trouble: Arc<LogThrottle>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// The same value always.
    pub(crate) fn fixed(value: T) -> Self {
        let (_, value) = watch::channel(Arc::new(value));
        Self { value, look: None, looked: Arc::default(), trouble: Arc::default() }
    }

    /// `first`, until `read`, which may block, finds another than the one it is given.
    /// Its threads have this name.
    pub(crate) fn new(
        name: &'static str,
        first: T,
        read: impl Fn(&T) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        let (sender, value) = watch::channel(Arc::new(first));
        let look = BackgroundTask::new(name, move || {
            let old = Arc::clone(&sender.borrow());
            if let Some(new) = read(&old) {
                sender.send_replace(Arc::new(new));
            }
        });
        Self { value, look: Some(look), looked: Arc::default(), trouble: Arc::default() }
    }

    /// What was read last.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.borrow())
    }

    /// What the files hold now, as far as that can be seen within `budget`.
    pub(crate) async fn read(&self, budget: Duration) -> Arc<T> {
        if let Some(look) = &self.look
            && let Err(error) = look.within(budget).await
            && self.trouble.is_due()
        {
            let what = look.name();
            warn!("the {what} cannot be read again: {error}: the last ones serve on");
        }
        self.get()
    }

    /// Has the files read soon, for those who wait for [`changed`](Self::changed),
    /// unless that was asked for less than `pause` ago.
    pub(crate) fn schedule_reread(&self, pause: Duration) {
        let Some(look) = &self.look else { return };
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_none_or(|looked| looked.elapsed() >= pause) {
            *looked = Some(Instant::now());
            // Where no thread can be had, the next schedule_reread may do better.
            let is_stuck = look.run().is_ok_and(|run| run.left(pause).is_zero());
            if is_stuck && self.trouble.is_due() {
                let what = look.name();
                warn!("the {what} cannot be read again: it takes too long: the last ones serve on");
            }
        }
    }

    /// Returns when the value has changed since the last time.
    pub(crate) async fn changed(&mut self) {
        if self.value.changed().await.is_err() {
            std::future::pending().await
        }
    }
}
