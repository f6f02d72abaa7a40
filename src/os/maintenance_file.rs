//! The maintenance file: while it exists, the node gets no traffic and is not probed. The
//! script clustercheck has such a file too.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::os::background::{BackgroundTask, run_with_timeout};
use crate::os::log_throttle::LogThrottle;
use crate::os::regular_file::NONBLOCKING;

/// How long a health request waits for a check of the file. A working disk takes well
/// under a millisecond.
const TIMEOUT: Duration = Duration::from_millis(50);

/// How long the result of a successful check is used again. Limits the checks of a working
/// disk to five per second, however many callers there are.
const MAX_AGE: Duration = Duration::from_millis(200);

/// How long the `maintenance` commands wait for the file.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Tracks whether the maintenance file exists.
pub struct MaintenanceFile {
    path: PathBuf,
    /// Checks the file and stores the result in `last`, also if that takes longer than
    /// [`TIMEOUT`].
    check: BackgroundTask<Result<(), String>>,
    last: Arc<Mutex<LastCheck>>,
    log_throttle: LogThrottle,
}

/// The result of the last check that succeeded.
#[derive(Clone, Copy, Default)]
struct LastCheck {
    is_on: bool,
    /// `None` before the first check.
    checked: Option<Instant>,
}

impl MaintenanceFile {
    /// Tracks the file at `path`. Until the first check it counts as absent.
    pub fn new(path: PathBuf) -> Self {
        let file = path.clone();
        Self::with_check(path, move || file.try_exists())
    }

    fn with_check(
        path: PathBuf,
        exists: impl Fn() -> io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let last: Arc<Mutex<LastCheck>> = Arc::default();
        let result = Arc::clone(&last);
        let check = BackgroundTask::new("maintenance", exists, move |exists| {
            let is_on = exists.map_err(|error| error.to_string())?;
            *lock(&result) = LastCheck { is_on, checked: Some(Instant::now()) };
            Ok(())
        });
        Self { path, check, last, log_throttle: LogThrottle::default() }
    }

    /// Whether the file exists. If the check fails or takes longer than 50 ms, logs a warning
    /// (at most once per minute) and returns the last result.
    pub async fn is_on(&self) -> bool {
        let last = *lock(&self.last);
        if last.checked.is_some_and(|checked| checked.elapsed() < MAX_AGE) {
            return last.is_on;
        }
        if let Err(error) = self.check().await
            && self.log_throttle.is_due()
        {
            let state = if lock(&self.last).is_on { "on" } else { "off" };
            let path = self.path.display();
            warn!(%path, error, "cannot check the maintenance file: maintenance stays {state}");
        }
        lock(&self.last).is_on
    }

    async fn check(&self) -> Result<(), String> {
        self.check.run_with_timeout(TIMEOUT).await.map_err(|error| error.to_string())?
    }

    /// Checks the file now, for the operator: also after a check that just succeeded, and gives
    /// up one that hangs. If it fails, the next [`is_on`](Self::is_on) checks again and warns.
    pub async fn recheck(&self) {
        lock(&self.last).checked = None;
        let _ = self.check.run_anew(TIMEOUT).await;
    }
}

fn lock(last: &Mutex<LastCheck>) -> MutexGuard<'_, LastCheck> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creates the file. Leaves an existing one as it is.
///
/// # Errors
/// The operating system's error, or `TimedOut`.
pub fn on(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    run_with_timeout(COMMAND_TIMEOUT, move || {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).custom_flags(NONBLOCKING);
        options.open(path).map(drop)
    })
}

/// Removes the file if it is empty, as [`on`] or `touch` created it. A missing file is not
/// an error.
///
/// # Errors
/// The operating system's error, or `TimedOut`. Also for a file with content, which is not
/// a maintenance file and is left as it is.
pub fn off(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    run_with_timeout(COMMAND_TIMEOUT, move || match fs::metadata(&path) {
        Ok(file) if !file.is_file() || file.len() > 0 => Err(io::Error::other(
            "it is not an empty file: if it is the right path, remove it by hand",
        )),
        Ok(_) => fs::remove_file(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
}

/// Returns whether the file exists.
///
/// # Errors
/// The operating system's error, or `TimedOut`.
pub fn status(path: &Path) -> io::Result<bool> {
    let path = path.to_owned();
    run_with_timeout(COMMAND_TIMEOUT, move || path.try_exists())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn maintenance_is_on_while_the_file_exists() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("maintenance");
        for _ in 0..2 {
            assert!(!MaintenanceFile::new(path.clone()).is_on().await);
            on(&path).unwrap();
            assert!(MaintenanceFile::new(path.clone()).is_on().await && status(&path).unwrap());
            on(&path).unwrap();
            off(&path).unwrap();
            off(&path).unwrap();
            assert!(!status(&path).unwrap());
        }
    }

    #[test]
    fn off_removes_no_directory_and_no_file_with_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        fs::write(&path, "precious").unwrap();
        off(&path).unwrap_err();
        off(directory.path()).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_missing_directory_is_an_error_for_on_but_not_for_off() {
        let path = Path::new("/nonexistent/maintenance");
        assert_eq!(on(path).unwrap_err().kind(), io::ErrorKind::NotFound);
        off(path).unwrap();
    }

    /// The checks run on real threads, and each returns when the test sends its result.
    #[tokio::test]
    async fn a_check_that_hangs_or_fails_keeps_the_last_state() {
        let (results, checks) = channel();
        let checks = Mutex::new(checks);
        let maintenance =
            MaintenanceFile::with_check("x".into(), move || checks.lock().unwrap().recv().unwrap());
        // The first check hangs. Only the first caller waits for it, for TIMEOUT.
        assert!(!maintenance.is_on().await);
        results.send(Ok(true)).unwrap();
        while !maintenance.is_on().await {
            tokio::task::yield_now().await;
        }
        let expired = Instant::now().checked_sub(MAX_AGE);
        lock(&maintenance.last).checked = expired;
        assert!(maintenance.is_on().await, "the check hangs, and maintenance stays on");
        results.send(Err(io::ErrorKind::PermissionDenied.into())).unwrap();
        assert!(maintenance.is_on().await);
        while lock(&maintenance.last).is_on {
            let _ = results.send(Ok(false));
            maintenance.is_on().await;
        }
    }
}
