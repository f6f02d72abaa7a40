use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// How the program was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After a drain, so that the balancer takes the node out first (SIGTERM).
    Drain,
    /// At once (SIGINT).
    Now,
}

/// The signals that end the program.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the operating system's default.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    /// Returns at the next signal.
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
