//! Background tasks: work that may block for any length of time, such as a name lookup or
//! a read from a dead mount, on a thread of its own.
//!
//! A blocked thread delays neither a response nor the exit of the program.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Blocking work that is run repeatedly, with at most one run at a time.
///
/// Callers share the current run, and each can stop waiting for it. Clones share the runs.
#[derive(Clone)]
pub(crate) struct BackgroundTask<T> {
    name: &'static str,
    work: Arc<dyn Fn() -> T + Send + Sync>,
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    current: Option<TaskRun<T>>,
    /// Whether the current run repeats the work before it ends, for
    /// [`run_from_now`](BackgroundTask::run_from_now).
    once_more: bool,
}

/// One run of a [`BackgroundTask`].
#[derive(Clone)]
pub(crate) struct TaskRun<T> {
    outcome: watch::Receiver<Option<T>>,
    began: Instant,
}

impl<T: Clone + Send + Sync + 'static> BackgroundTask<T> {
    /// Creates a task that runs `work` on threads called `name`. Starts no run.
    pub(crate) fn new(name: &'static str, work: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let state = State { current: None, once_more: false };
        Self { name, work: Arc::new(work), state: Arc::new(Mutex::new(state)) }
    }

    /// The name of the task's threads.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the current run, or starts a new one.
    ///
    /// # Errors
    /// The operating system's error if no thread can be created.
    pub(crate) fn run(&self) -> io::Result<TaskRun<T>> {
        self.start(false)
    }

    /// Like [`run`](Self::run), but the outcome is that of work that starts after this call.
    /// A current run therefore repeats its work: it may have read a file before the caller
    /// changed it.
    ///
    /// # Errors
    /// The operating system's error if no thread can be created.
    pub(crate) fn run_from_now(&self) -> io::Result<TaskRun<T>> {
        self.start(true)
    }

    fn start(&self, from_now: bool) -> io::Result<TaskRun<T>> {
        let mut state = lock(&self.state);
        if let Some(run) = &state.current {
            let run = run.clone();
            state.once_more |= from_now;
            return Ok(run);
        }
        let (sender, outcome) = watch::channel(None);
        let (work, shared) = (Arc::clone(&self.work), Arc::clone(&self.state));
        thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            let outcome = loop {
                let outcome = work();
                let mut state = lock(&shared);
                if !mem::take(&mut state.once_more) {
                    state.current = None;
                    break outcome;
                }
            };
            sender.send_replace(Some(outcome));
        })?;
        let run = TaskRun { outcome, began: Instant::now() };
        state.current = Some(run.clone());
        Ok(run)
    }

    /// Waits for the outcome of the current run, or of a new one.
    ///
    /// The timeout counts from the start of the run, not from this call. If the run is
    /// already older than `limit`, returns `TimedOut` at once.
    ///
    /// # Errors
    /// `TimedOut` at the timeout. Another error if no thread can be created or the work
    /// panicked.
    pub(crate) async fn run_with_timeout(&self, limit: Duration) -> io::Result<T> {
        let run = self.run()?;
        match timeout(run.time_left(limit), run.outcome()).await {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(io::Error::other("the thread panicked")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")),
        }
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Clone> TaskRun<T> {
    /// The time until the run is older than `limit`. Zero if it already is.
    pub(crate) fn time_left(&self, limit: Duration) -> Duration {
        limit.saturating_sub(self.began.elapsed())
    }

    /// Waits for the outcome. `None` if the work panicked.
    pub(crate) async fn outcome(mut self) -> Option<T> {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome.map_or(None, |outcome| outcome.clone())
    }
}

/// Runs `work` once on a thread and blocks until it returns, but no longer than `limit`.
/// At the timeout the thread is abandoned.
///
/// Blocks the caller: use [`BackgroundTask`] inside the runtime.
///
/// # Errors
/// The error of `work`, `TimedOut` (also if `work` panicked), or the operating system's
/// error if no thread can be created.
pub(crate) fn run_with_timeout<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let _ = sender.send(work());
    })?;
    receiver.recv_timeout(limit).unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn concurrent_callers_share_one_run() {
        let (release, released) = mpsc::channel();
        let released = Mutex::new(released);
        let task = BackgroundTask::new("test", move || released.lock().unwrap().recv().unwrap());
        let limit = Duration::from_secs(20);
        let (first, second, ()) =
            tokio::join!(task.run_with_timeout(limit), task.run_with_timeout(limit), async {
                release.send("done").unwrap();
            });
        assert_eq!((first.unwrap(), second.unwrap()), ("done", "done"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_timeout_counts_from_the_start_of_the_run() {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let task = BackgroundTask::new("test", move || released.lock().unwrap().recv().is_ok());
        let limit = Duration::from_secs(1);
        let began = Instant::now();
        for _ in 0..3 {
            let error = task.run_with_timeout(limit).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(began.elapsed(), limit);
        drop(release);
    }

    #[tokio::test]
    async fn a_run_from_now_repeats_work_that_began_before_the_call() {
        let (release, waits) = mpsc::channel();
        let waits = Mutex::new(waits);
        let task = BackgroundTask::new("test", move || waits.lock().unwrap().recv().unwrap());
        let first = task.run().unwrap();
        let second = task.run_from_now().unwrap();
        release.send("before the call").unwrap();
        release.send("after the call").unwrap();
        assert_eq!(second.outcome().await, Some("after the call"));
        assert_eq!(first.outcome().await, Some("after the call"));
    }
}
