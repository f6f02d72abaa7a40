//! Work that may block for as long as it likes (a resolver, a file on a dead
//! mount) in threads of its own, so that it holds up no answer and no exit.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// One piece of work that is done now and then, one at a time. Whoever waits for
/// it may stop waiting. Clones share it.
#[derive(Clone)]
pub(crate) struct BackgroundTask<T> {
    name: &'static str,
    work: Arc<dyn Fn() -> T + Send + Sync>,
    under_way: Arc<Mutex<Option<TaskRun<T>>>>,
}

/// A run of the work.
#[derive(Clone)]
pub(crate) struct TaskRun<T> {
    outcome: watch::Receiver<Option<T>>,
    began: Instant,
}

impl<T: Clone + Send + Sync + 'static> BackgroundTask<T> {
    /// Work for threads of this name.
    pub(crate) fn new(name: &'static str, work: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self { name, work: Arc::new(work), under_way: Arc::default() }
    }

    /// Of its threads.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The run that is under way, or a new one.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn run(&self) -> io::Result<TaskRun<T>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = &*under_way {
            return Ok(run.clone());
        }
        let (sender, outcome) = watch::channel(None);
        let (work, slot) = (Arc::clone(&self.work), Arc::clone(&self.under_way));
        thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            let outcome = work();
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
            sender.send_replace(Some(outcome));
        })?;
        let run = TaskRun { outcome, began: Instant::now() };
        *under_way = Some(run.clone());
        Ok(run)
    }

    /// The outcome of the run that is under way or of a new one, for those who wait
    /// for it. A run that has used up somebody's budget gets no more of it.
    ///
    /// # Errors
    /// That it takes too long, or when no thread can be had.
    pub(crate) async fn within(&self, budget: Duration) -> io::Result<T> {
        let run = self.run()?;
        match timeout(run.left(budget), run.outcome()).await {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(io::Error::other("its thread is gone")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long")),
        }
    }
}

impl<T: Clone> TaskRun<T> {
    /// What it has not used up of somebody's budget.
    pub(crate) fn left(&self, budget: Duration) -> Duration {
        budget.saturating_sub(self.began.elapsed())
    }

    /// Its outcome; `None` if the work panicked.
    pub(crate) async fn outcome(mut self) -> Option<T> {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome.map_or(None, |outcome| outcome.clone())
    }
}

/// Does `work` once, for programs that have nothing else to do; it is given up
/// after `budget`.
///
/// # Errors
/// `work`'s, `TimedOut`, or that no thread can be had.
pub(crate) fn within<T: Send + 'static>(
    budget: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let _ = sender.send(work());
    })?;
    receiver.recv_timeout(budget).unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_wait_at_once_share_one_run_and_its_patience() {
        let (release, waits) = mpsc::channel();
        let waits = Mutex::new(waits);
        let aside = BackgroundTask::new("test", move || waits.lock().unwrap().recv().unwrap());
        let budget = Duration::from_secs(20);
        let (first, second, ()) = tokio::join!(aside.within(budget), aside.within(budget), async {
            release.send("done").unwrap();
        });
        assert_eq!((first.unwrap(), second.unwrap()), ("done", "done"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_used_up_somebodys_patience_gets_no_more_of_it() {
        let (release, waits) = mpsc::channel::<()>();
        let waits = Mutex::new(waits);
        let aside = BackgroundTask::new("test", move || waits.lock().unwrap().recv().is_ok());
        let budget = Duration::from_secs(1);
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(aside.within(budget).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(began.elapsed(), budget);
        drop(release);
    }
}
