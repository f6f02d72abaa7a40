//! The maintenance file: while it exists, the node gets no traffic and is not
//! asked, as clustercheck has it.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::os::background::{BackgroundTask, within};
use crate::os::log_throttle::LogThrottle;

/// How long an answer waits for a look at the file. A disk that works takes well
/// under a millisecond.
const TIMEOUT: Duration = Duration::from_millis(50);

/// How old a look may be that is used again, so that a crowd of callers costs no
/// crowd of looks.
const FRESH: Duration = Duration::from_millis(200);

/// How long the commands wait for the file.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// Follows the file.
pub struct MaintenanceFile {
    path: PathBuf,
    look: BackgroundTask<Result<(), String>>,
    known: Arc<Mutex<Known>>,
    trouble: LogThrottle,
}

#[derive(Clone, Copy, Default)]
struct Known {
    on: bool,
    looked: Option<Instant>,
}

impl MaintenanceFile {
    /// Follows the file at `path`. Until it was seen, it does not exist.
    pub fn new(path: PathBuf) -> Self {
        let file = path.clone();
        Self::with(path, move || file.try_exists())
    }

    fn with(path: PathBuf, exists: impl Fn() -> io::Result<bool> + Send + Sync + 'static) -> Self {
        let known: Arc<Mutex<Known>> = Arc::default();
        let seen = Arc::clone(&known);
        let look = BackgroundTask::new("maintenance", move || {
            let on = exists().map_err(|error| error.to_string())?;
            *lock(&seen) = Known { on, looked: Some(Instant::now()) };
            Ok(())
        });
        Self { path, look, known, trouble: LogThrottle::default() }
    }

    /// Whether the file exists. Where that cannot be seen in time, what was seen
    /// last stands, and the log says so.
    pub async fn is_on(&self) -> bool {
        let known = *lock(&self.known);
        if known.looked.is_some_and(|looked| looked.elapsed() < FRESH) {
            return known.on;
        }
        if let Err(error) = self.look().await
            && self.trouble.is_due()
        {
            let stands = if lock(&self.known).on { "on" } else { "off" };
            let path = self.path.display();
            warn!(%path, error, "cannot look for the maintenance file: maintenance stays {stands}");
        }
        lock(&self.known).on
    }

    async fn look(&self) -> Result<(), String> {
        self.look.within(TIMEOUT).await.map_err(|error| error.to_string())?
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the file; one that is there already is left as it is.
///
/// # Errors
/// What the operating system says, and that it takes too long.
pub fn on(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    within(COMMAND_TIMEOUT, move || {
        OpenOptions::new().create(true).truncate(false).write(true).open(path).map(drop)
    })
}

/// Removes the file, if it is one that [`on`] or `touch` made.
///
/// # Errors
/// What the operating system says, and that it takes too long; a file with content
/// is somebody else's, and left.
pub fn off(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    within(COMMAND_TIMEOUT, move || match fs::metadata(&path) {
        Ok(file) if !file.is_file() || file.len() > 0 => {
            Err(io::Error::other("it is no empty file: remove it by hand if it is the right one"))
        }
        Ok(_) => fs::remove_file(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
}

/// Whether the file exists.
///
/// # Errors
/// What the operating system says, and that it takes too long.
pub fn status(path: &Path) -> io::Result<bool> {
    let path = path.to_owned();
    within(COMMAND_TIMEOUT, move || path.try_exists())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn it_is_on_while_the_file_exists() {
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
    fn off_removes_nothing_that_holds_anything() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        fs::write(&path, "precious").unwrap();
        off(&path).unwrap_err();
        off(directory.path()).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_folder_that_is_missing_is_an_error_of_on_and_none_of_off() {
        let path = Path::new("/nonexistent/maintenance");
        assert_eq!(on(path).unwrap_err().kind(), io::ErrorKind::NotFound);
        off(path).unwrap();
    }

    /// The time is tokio's: the looks' threads answer when the test says.
    #[tokio::test]
    async fn a_dead_mount_holds_up_nobody_and_the_last_known_state_stands() {
        let (answers, looks) = channel();
        let looks = Mutex::new(looks);
        let maintenance =
            MaintenanceFile::with("x".into(), move || looks.lock().unwrap().recv().unwrap());
        // Nobody answers: waited for a little, then not at all.
        assert!(!maintenance.is_on().await);
        answers.send(Ok(true)).unwrap();
        while !maintenance.is_on().await {
            tokio::task::yield_now().await;
        }
        let looked = Instant::now().checked_sub(FRESH);
        lock(&maintenance.known).looked = looked;
        assert!(maintenance.is_on().await, "nobody answers, and it stays on");
        answers.send(Err(io::ErrorKind::PermissionDenied.into())).unwrap();
        assert!(maintenance.is_on().await);
        while lock(&maintenance.known).on {
            let _ = answers.send(Ok(false));
            maintenance.is_on().await;
        }
    }
}
