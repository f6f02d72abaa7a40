//! The account to log in with, and how it is read again when its files change.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::mysql::Credentials;
use crate::os::reloaded::Reloaded;

/// How long a probe run waits for the files. A working disk takes well under a
/// millisecond. At the timeout the last credentials are used.
const TIMEOUT: Duration = Duration::from_millis(50);

/// The minimum time between two scheduled re-reads.
const REREAD_PAUSE: Duration = Duration::from_secs(1);

/// Provides the credentials for each login. Clones share them.
#[derive(Clone)]
pub struct CredentialSource(Reloaded<Credentials>);

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get().fmt(f)
    }
}

impl CredentialSource {
    /// Creates a source of credentials that never change.
    pub fn fixed(credentials: Credentials) -> Self {
        Self(Reloaded::fixed(credentials))
    }

    /// Creates a source that starts with `first` and calls `read` for newer credentials.
    ///
    /// `read` may block: it runs on a background thread. If it fails, the last credentials
    /// stay in use and the error is logged, at most once per minute.
    pub fn reloaded(
        first: Credentials,
        read: impl Fn() -> Result<Credentials, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Reloaded::new("credentials", first, move |old| {
            read().map(|new| (new != *old).then_some(new))
        }))
    }

    /// Reads the files again and returns the credentials for a new login. If the files
    /// cannot be read in 50 ms, returns the last credentials.
    pub async fn current(&self) -> Arc<Credentials> {
        self.0.read(TIMEOUT).await
    }

    /// Starts to read the files in the background, at most once per second.
    /// [`changed`](Self::changed) returns if the credentials have changed.
    pub fn schedule_reread(&self) {
        self.0.schedule_reread(REREAD_PAUSE);
    }

    /// Reads the files again for the operator, within a second.
    pub(crate) async fn reload(&self) {
        self.0.reload().await;
    }

    /// Waits for a change since the last call. Never returns for fixed credentials.
    pub async fn changed(&mut self) {
        self.0.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::mysql::Password;

    fn credentials(password: &str) -> Credentials {
        Credentials::new("probe", Password::new(password)).unwrap()
    }

    fn source_from(path: &Path) -> CredentialSource {
        let path = path.to_owned();
        CredentialSource::reloaded(credentials("first"), move || {
            fs::read_to_string(&path)
                .map(|password| credentials(&password))
                .map_err(|error| error.to_string())
        })
    }

    #[tokio::test]
    async fn a_login_uses_the_present_password_or_the_last_one_if_the_file_is_unreadable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let mut source = source_from(&path);
        assert_eq!(*source.current().await, credentials("first"));
        fs::write(&path, "second").unwrap();
        assert_eq!(*source.current().await, credentials("second"));
        source.changed().await;
        fs::remove_file(&path).unwrap();
        assert_eq!(*source.current().await, credentials("second"));
    }

    #[tokio::test]
    async fn a_scheduled_reread_detects_a_change_without_a_login() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        fs::write(&path, "second").unwrap();
        let mut source = source_from(&path);
        source.schedule_reread();
        source.changed().await;
        assert_eq!(*source.0.get(), credentials("second"));
    }

    #[tokio::test]
    async fn a_read_that_hangs_does_not_delay_a_login() {
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let source = CredentialSource::reloaded(credentials("first"), move || {
            let _ = released.lock().unwrap().recv();
            Ok(credentials("second"))
        });
        for _ in 0..3 {
            assert_eq!(*source.current().await, credentials("first"));
        }
        release.send(()).unwrap();
        while *source.current().await != credentials("second") {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn debug_output_does_not_contain_the_password() {
        assert!(
            !format!("{:?}", CredentialSource::fixed(credentials("secret"))).contains("secret")
        );
    }
}
