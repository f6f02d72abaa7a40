//! The signals that stop `serve`.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// How `serve` stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After the drain, so that the balancer removes the node first (SIGTERM).
    Drain,
    /// Without a drain (SIGINT).
    Now,
}

/// Receives SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The operating system's error.
    pub(super) fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => {
                info!("SIGTERM: stopping");
                Stop::Drain
            }
            _ = self.interrupt.recv() => {
                info!("SIGINT: stopping");
                Stop::Now
            }
        }
    }
}
