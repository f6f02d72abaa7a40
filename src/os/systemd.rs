//! Notifications to systemd for a service of `Type=notify`.
//!
//! Does nothing if `NOTIFY_SOCKET` is not set.

use std::env;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::{NotifyState, watchdog_enabled};
use tokio::time::interval;
use tracing::warn;

/// Notifications that may wait for a slow service manager.
const QUEUE: usize = 8;

/// Sends notifications from a thread of its own, since a send may block.
pub struct Notifier {
    /// `None` without a service manager, or if the thread cannot be created.
    queue: Option<SyncSender<Vec<NotifyState<'static>>>>,
}

impl Notifier {
    /// Starts the thread if `NOTIFY_SOCKET` is set.
    pub fn start() -> Self {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return Self { queue: None };
        }
        let (queue, states) = sync_channel::<Vec<_>>(QUEUE);
        let thread = thread::Builder::new().name("notify".to_owned()).spawn(move || {
            for state in states {
                if let Err(error) = sd_notify::notify(&state) {
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

    /// Reports that the program answers health requests, or has reloaded.
    pub fn ready(&self) {
        self.send(vec![NotifyState::Ready]);
    }

    /// Reports that the program reloads, until [`ready`](Self::ready). For
    /// `Type=notify-reload`, the same message has the time.
    pub fn reloading(&self) {
        let time = NotifyState::monotonic_usec_now();
        self.send([NotifyState::Reloading].into_iter().chain(time).collect());
    }

    /// Reports that the program is shutting down.
    pub fn stopping(&self) {
        self.send(vec![NotifyState::Stopping]);
    }

    /// Feeds the watchdog twice per `WatchdogSec=` period. Never returns.
    ///
    /// Runs on the caller's task, so the feeding stops when that task does.
    pub async fn feed(&self) {
        if let (Some(_), Some(period)) = (&self.queue, watchdog_enabled()) {
            let mut ticks = interval((period / 2).max(Duration::from_millis(1)));
            loop {
                ticks.tick().await;
                self.send(vec![NotifyState::Watchdog]);
            }
        }
        std::future::pending().await
    }

    fn send(&self, state: Vec<NotifyState<'static>>) {
        if let Some(queue) = &self.queue {
            // A notification is dropped if the queue is full. The watchdog's are repeated.
            let _ = queue.try_send(state);
        }
    }
}
