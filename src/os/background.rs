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

/// The age at which a run is given up, so that the next one can start: its mount may have
/// been replaced meanwhile. Doubles with each run that was given up and has not returned.
const GIVE_UP: Duration = Duration::from_secs(60);

/// The most runs that are given up and have not returned. Each holds a thread. With these
/// times, the last one is given up after two hours.
const MAX_GIVEN_UP: u32 = 7;

/// Blocking work that is run repeatedly. The next run starts when the one before has
/// returned or was given up.
///
/// Callers share the current run, and each can stop waiting for it. Clones share the runs.
#[derive(Clone)]
pub(crate) struct BackgroundTask<T> {
    name: &'static str,
    /// Performs the run with this number. Returns `None` if it was given up meanwhile.
    perform: Arc<dyn Fn(u64) -> Option<T> + Send + Sync>,
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    current: Option<TaskRun<T>>,
    /// Whether the current run repeats the work before it ends, for
    /// [`run_from_now`](BackgroundTask::run_from_now).
    once_more: bool,
    /// The number of the last run that was started.
    number: u64,
    /// How many runs were given up and have not returned.
    given_up: u32,
}

/// One run of a [`BackgroundTask`].
#[derive(Clone)]
pub(crate) struct TaskRun<T> {
    outcome: watch::Receiver<Option<T>>,
    began: Instant,
}

impl<T: Clone + Send + Sync + 'static> BackgroundTask<T> {
    /// Creates a task that runs `work` on threads called `name`. Starts no run.
    ///
    /// `finish` turns the result into the outcome of the run, and may store it. It must not
    /// block. It is not called for a run that was given up: its result may be outdated.
    pub(crate) fn new<W>(
        name: &'static str,
        work: impl Fn() -> W + Send + Sync + 'static,
        finish: impl Fn(W) -> T + Send + Sync + 'static,
    ) -> Self {
        let state = State { current: None, once_more: false, number: 0, given_up: 0 };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let perform = move |number| loop {
            let result = work();
            let mut state = lock(&shared);
            if state.number != number {
                state.given_up -= 1;
                return None;
            }
            if !mem::take(&mut state.once_more) {
                state.current = None;
                return Some(finish(result));
            }
        };
        Self { name, perform: Arc::new(perform), state }
    }

    /// The name of the task's threads.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the current run, or starts a new one.
    ///
    /// # Errors
    /// `OutOfMemory` if no thread can be created.
    pub(crate) fn run(&self) -> io::Result<TaskRun<T>> {
        self.start(false, None)
    }

    /// Like [`run`](Self::run), but the outcome is that of work that starts after this call.
    /// A current run therefore repeats its work: it may have read a file before the caller
    /// changed it.
    ///
    /// # Errors
    /// `OutOfMemory` if no thread can be created.
    pub(crate) fn run_from_now(&self) -> io::Result<TaskRun<T>> {
        self.start(true, None)
    }

    /// Like [`run_from_now`](Self::run_from_now), and waits for the outcome. A run that began
    /// more than `limit` ago is given up already.
    ///
    /// # Errors
    /// As of [`run_with_timeout`](Self::run_with_timeout).
    pub(crate) async fn run_anew(&self, limit: Duration) -> io::Result<T> {
        self.start(true, Some(limit))?.outcome_within(limit).await
    }

    fn start(&self, from_now: bool, give_up: Option<Duration>) -> io::Result<TaskRun<T>> {
        let mut state = lock(&self.state);
        if let Some(run) = state.current_to_share(give_up) {
            state.once_more |= from_now;
            return Ok(run);
        }
        let (sender, outcome) = watch::channel(None);
        let (perform, number) = (Arc::clone(&self.perform), state.number + 1);
        let thread = thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            if let Some(outcome) = perform(number) {
                sender.send_replace(Some(outcome));
            }
        });
        // The error is EAGAIN, which of a socket would have another meaning.
        thread.map_err(|error| {
            io::Error::new(io::ErrorKind::OutOfMemory, format!("no thread can be created: {error}"))
        })?;
        state.given_up += u32::from(state.current.is_some());
        (state.number, state.once_more) = (number, false);
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
    /// `TimedOut` at the timeout. Another error if no thread can be created, or the run was
    /// given up.
    pub(crate) async fn run_with_timeout(&self, limit: Duration) -> io::Result<T> {
        self.run()?.outcome_within(limit).await
    }
}

impl<T: Clone> State<T> {
    /// Returns the current run, unless it is to be given up. `give_up` is the age for that,
    /// if it is another one than the usual.
    fn current_to_share(&self, give_up: Option<Duration>) -> Option<TaskRun<T>> {
        let run = self.current.as_ref()?;
        let give_up = give_up.unwrap_or(GIVE_UP * 2_u32.pow(self.given_up));
        let is_shared = run.began.elapsed() < give_up || self.given_up >= MAX_GIVEN_UP;
        is_shared.then(|| run.clone())
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Clone + Send + Sync> TaskRun<T> {
    /// The time until the run is older than `limit`. Zero if it already is.
    pub(crate) fn time_left(&self, limit: Duration) -> Duration {
        limit.saturating_sub(self.began.elapsed())
    }

    async fn outcome_within(self, limit: Duration) -> io::Result<T> {
        match timeout(self.time_left(limit), self.outcome()).await {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(io::Error::other("given up")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")),
        }
    }

    /// Waits for the outcome. `None` if the run was given up, or its work panicked.
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
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::time::advance;

    use super::*;

    #[tokio::test]
    async fn concurrent_callers_share_one_run() {
        let (release, released) = mpsc::channel();
        let released = Mutex::new(released);
        let work = move || released.lock().unwrap().recv().unwrap();
        let task = BackgroundTask::new("test", work, |result| result);
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
        let work = move || released.lock().unwrap().recv().is_ok();
        let task = BackgroundTask::new("test", work, |result| result);
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
        let work = move || waits.lock().unwrap().recv().unwrap();
        let task = BackgroundTask::new("test", work, |result| result);
        let first = task.run().unwrap();
        let second = task.run_from_now().unwrap();
        release.send("before the call").unwrap();
        release.send("after the call").unwrap();
        assert_eq!(second.outcome().await, Some("after the call"));
        assert_eq!(first.outcome().await, Some("after the call"));
    }

    /// A task whose first `hanging` runs wait at the barrier, and whose later ones return at
    /// once; the number of runs that have begun; the results that were stored.
    fn hanging_task(hanging: usize) -> (BackgroundTask<()>, Arc<Barrier>, [Arc<AtomicUsize>; 2]) {
        let barrier = Arc::new(Barrier::new(hanging + 1));
        let [begun, stored] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let (gate, count, results) =
            (Arc::clone(&barrier), Arc::clone(&begun), Arc::clone(&stored));
        let work = move || {
            if count.fetch_add(1, SeqCst) < hanging {
                gate.wait();
            }
        };
        let finish = move |()| {
            results.fetch_add(1, SeqCst);
        };
        (BackgroundTask::new("test", work, finish), barrier, [begun, stored])
    }

    fn spin_until(condition: impl Fn() -> bool) {
        while !condition() {
            thread::yield_now();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_hangs_is_given_up_after_a_minute_and_its_late_result_discarded() {
        let (task, barrier, [begun, stored]) = hanging_task(1);
        let first = task.run().unwrap();
        spin_until(|| begun.load(SeqCst) == 1);
        advance(GIVE_UP - Duration::from_millis(1)).await;
        assert!(task.run().unwrap().outcome.same_channel(&first.outcome));
        advance(Duration::from_millis(1)).await;
        let second = task.run().unwrap();
        assert!(!second.outcome.same_channel(&first.outcome));
        assert_eq!(second.outcome().await, Some(()));
        barrier.wait();
        assert_eq!(first.outcome().await, None);
        assert_eq!(stored.load(SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_seven_runs_within_two_hours_and_then_waits_until_one_returns() {
        let (task, barrier, [begun, stored]) = hanging_task(8);
        let mut minutes = Vec::new();
        for minute in 0..24 * 60 {
            let before = begun.load(SeqCst);
            let number = lock(&task.state).number;
            task.run().unwrap();
            if lock(&task.state).number > number {
                spin_until(|| begun.load(SeqCst) > before);
                minutes.push(minute);
            }
            advance(Duration::from_secs(60)).await;
        }
        assert_eq!(minutes, [0, 1, 3, 7, 15, 31, 63, 127]);
        let last = task.run().unwrap();
        barrier.wait();
        assert_eq!(last.outcome().await, Some(()));
        spin_until(|| lock(&task.state).given_up == 0);
        assert_eq!(task.run().unwrap().outcome().await, Some(()));
        assert_eq!((begun.load(SeqCst), stored.load(SeqCst)), (9, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn for_the_operator_a_run_that_hangs_is_given_up_at_once() {
        let (task, barrier, [begun, stored]) = hanging_task(1);
        task.run().unwrap();
        spin_until(|| begun.load(SeqCst) == 1);
        advance(Duration::from_secs(1)).await;
        // Its outcome may come after the timeout: the paused clock is ahead of the thread.
        let _ = task.run_anew(Duration::from_secs(1)).await;
        spin_until(|| begun.load(SeqCst) == 2);
        barrier.wait();
        spin_until(|| lock(&task.state).given_up == 0);
        spin_until(|| lock(&task.state).current.is_none());
        assert_eq!(stored.load(SeqCst), 1);
    }
}
