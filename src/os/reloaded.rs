//! A value that is read again when its files change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::os::background::BackgroundTask;
use crate::os::log_throttle::LogThrottle;

/// How long [`Reloaded::reload`] waits for the files.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// The last valid value that was read from some files. Clones share it.
#[derive(Clone)]
pub(crate) struct Reloaded<T> {
    value: watch::Receiver<Arc<T>>,
    /// `None` for a fixed value.
    reread: Option<BackgroundTask<()>>,
    last_scheduled: Arc<Mutex<Option<Instant>>>,
    problems: Arc<ProblemLog>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Creates a value that never changes.
    pub(crate) fn fixed(value: T) -> Self {
        let (_, value) = watch::channel(Arc::new(value));
        Self { value, reread: None, last_scheduled: Arc::default(), problems: Arc::default() }
    }

    /// Creates a value that starts as `first`.
    ///
    /// `read` gets the present value and returns the new one if the files have changed. It
    /// may block: it runs on a background thread called `name`. `name` also names the value
    /// in log messages, in the plural ("certificates"). If `read` fails, its error is logged
    /// and the last value stays.
    pub(crate) fn new(
        name: &'static str,
        first: T,
        read: impl Fn(&T) -> Result<Option<T>, String> + Send + Sync + 'static,
    ) -> Self {
        let (sender, value) = watch::channel(Arc::new(first));
        let problems: Arc<ProblemLog> = Arc::default();
        let (present, log) = (value.clone(), Arc::clone(&problems));
        let read = move || {
            let old = Arc::clone(&present.borrow());
            read(&old)
        };
        let reread = BackgroundTask::new(name, read, move |read| match read {
            Ok(None) => {}
            Ok(Some(new)) => {
                info!("the {name} have changed");
                sender.send_replace(Arc::new(new));
            }
            Err(problem) => log.warn(name, problem),
        });
        Self { value, reread: Some(reread), last_scheduled: Arc::default(), problems }
    }

    /// The last value that was read. Does not touch the files.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.borrow())
    }

    /// Reads the files again and returns the value. If that takes longer than `timeout` or
    /// no thread can be created, logs a warning and returns the last value.
    pub(crate) async fn read(&self, timeout: Duration) -> Arc<T> {
        if let Some(reread) = &self.reread
            && let Err(error) = reread.run_with_timeout(timeout).await
        {
            self.problems.warn_unread(reread.name(), &error.to_string());
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
            if is_stuck {
                self.problems.warn_unread(reread.name(), "timed out");
            }
        }
    }

    /// Reads the files again for the operator: waits for it up to a second, gives up a read
    /// that hangs, and logs a problem also if that is not its first time.
    pub(crate) async fn reload(&self) {
        let Some(reread) = &self.reread else { return };
        self.problems.forget();
        if let Err(error) = reread.run_anew(RELOAD_TIMEOUT).await {
            self.problems.warn_unread(reread.name(), &error.to_string());
        }
    }

    /// Waits for a change since the last call. Never returns for a fixed value.
    pub(crate) async fn changed(&mut self) {
        if self.value.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Logs why files cannot be read again: a problem that is new, and then once per minute.
#[derive(Default)]
struct ProblemLog {
    last: Mutex<String>,
    throttle: LogThrottle,
}

impl ProblemLog {
    fn warn_unread(&self, name: &str, cause: &str) {
        self.warn(name, format!("the {name} cannot be read again: {cause}"));
    }

    fn warn(&self, name: &str, problem: String) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.throttle.is_due() || *last != problem {
            warn!("{problem}; keeping the last {name}");
            *last = problem;
        }
    }

    /// The next problem counts as new.
    fn forget(&self) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
