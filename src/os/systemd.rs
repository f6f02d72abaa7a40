//! What systemd is told of a service of `Type=notify`. Nothing of it where
//! NOTIFY_SOCKET is not set.

use std::env;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::{NotifyState, watchdog_enabled};
use tokio::time::interval;
use tracing::warn;

/// Notices that may wait for a manager that is slow to take them.
const QUEUE: usize = 8;

/// Tells the manager, by a thread of its own: it may not take a notice at once.
pub struct Notifier {
    queue: Option<SyncSender<NotifyState<'static>>>,
}

impl Notifier {
    /// Begins, if there is a manager to tell.
    pub fn start() -> Self {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return Self { queue: None };
        }
        let (queue, notices) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("notify".to_owned()).spawn(move || {
            for notice in notices {
                if let Err(error) = sd_notify::notify(&[notice]) {
                    warn!(%error, "cannot notify the service manager (NOTIFY_SOCKET)");
                    break;
                }
            }
        });
        if let Err(error) = &thread {
            warn!(%error, "cannot notify the service manager: no thread");
        }
        Self { queue: thread.is_ok().then_some(queue) }
    }

    /// HealthService are answered from now on.
    pub fn ready(&self) {
        self.tell(NotifyState::Ready);
    }

    /// The program was told to stop.
    pub fn stopping(&self) {
        self.tell(NotifyState::Stopping);
    }

    /// Feeds the watchdog, twice in each of its periods, for as long as the caller
    /// runs on.
    pub async fn feed(&self) {
        if let (Some(_), Some(period)) = (&self.queue, watchdog_enabled()) {
            let mut times = interval((period / 2).max(Duration::from_millis(1)));
            loop {
                times.tick().await;
                self.tell(NotifyState::Watchdog);
            }
        }
        std::future::pending().await
    }

    fn tell(&self, notice: NotifyState<'static>) {
        if let Some(queue) = &self.queue {
            // What finds the queue full is lost; the next of its kind may not be.
            let _ = queue.try_send(notice);
        }
    }
}
