//! The account to log in with, read again while its file changes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::mysql::Credentials;
use crate::os::log_throttle::LogThrottle;
use crate::os::reloaded::Reloaded;

/// How long a probe run waits for the file. A disk that works takes well under a
/// millisecond; with one that does not, the last credentials serve on.
const TIMEOUT: Duration = Duration::from_millis(50);

/// How often the file is read while nobody logs in.
const REREAD_PAUSE: Duration = Duration::from_secs(1);

/// Gives the credentials for each login. Clones share them.
#[derive(Clone)]
pub struct CredentialSource(Reloaded<Credentials>);

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get().fmt(f)
    }
}

impl CredentialSource {
    /// The same credentials always.
    pub fn fixed(credentials: Credentials) -> Self {
        Self(Reloaded::fixed(credentials))
    }

    /// What `read` gives, which may block: `first`, until it is read again. Where
    /// it fails, the last credentials serve on, and the log says why.
    pub fn reloaded(
        first: Credentials,
        read: impl Fn() -> Result<Credentials, String> + Send + Sync + 'static,
    ) -> Self {
        let trouble = LogThrottle::default();
        Self(Reloaded::new("credentials", first, move |old| match read() {
            Ok(new) if new != *old => {
                info!("the credentials have changed");
                Some(new)
            }
            Ok(_) => None,
            Err(error) => {
                if trouble.is_due() {
                    warn!("{error}; the last credentials serve on");
                }
                None
            }
        }))
    }

    /// The credentials for a login that is about to begin.
    pub async fn current(&self) -> Arc<Credentials> {
        self.0.read(TIMEOUT).await
    }

    /// Has the file read soon, for those who wait for [`changed`](Self::changed).
    pub fn schedule_reread(&self) {
        self.0.schedule_reread(REREAD_PAUSE);
    }

    /// Returns when the credentials have changed since the last time.
    pub async fn changed(&mut self) {
        self.0.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::mysql::Password;

    fn credentials(password: &str) -> Credentials {
        Credentials::new("probe", Password::new(password)).unwrap()
    }

    fn from_file(path: &std::path::Path) -> CredentialSource {
        let path = path.to_owned();
        CredentialSource::reloaded(credentials("first"), move || {
            std::fs::read_to_string(&path)
                .map(|password| credentials(&password))
                .map_err(|error| error.to_string())
        })
    }

    #[tokio::test]
    async fn a_login_has_what_the_file_holds_and_what_it_held_last_while_it_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let mut login = from_file(&path);
        assert_eq!(*login.current().await, credentials("first"));
        std::fs::write(&path, "second").unwrap();
        assert_eq!(*login.current().await, credentials("second"));
        login.changed().await;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*login.current().await, credentials("second"));
    }

    #[tokio::test]
    async fn a_change_is_seen_without_a_login_by_a_scheduled_reread() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "second").unwrap();
        let mut login = from_file(&path);
        login.schedule_reread();
        login.changed().await;
        assert_eq!(*login.0.get(), credentials("second"));
    }

    #[tokio::test]
    async fn a_dead_mount_holds_up_no_login() {
        let (answers, reads) = channel::<()>();
        let reads = Mutex::new(reads);
        let login = CredentialSource::reloaded(credentials("first"), move || {
            let _ = reads.lock().unwrap().recv();
            Ok(credentials("second"))
        });
        for _ in 0..3 {
            assert_eq!(*login.current().await, credentials("first"));
        }
        answers.send(()).unwrap();
        while *login.current().await != credentials("second") {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn the_password_is_in_no_debug_output() {
        assert!(
            !format!("{:?}", CredentialSource::fixed(credentials("secret"))).contains("secret")
        );
    }
}
