//! The signals of `serve`.

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
    /// Installs the handlers, also those of the signals that are ignored.
    ///
    /// # Errors
    /// The operating system's error.
    pub(super) fn new() -> io::Result<Self> {
        // Sent by mistake, such as by a log rotation, these would end the program. A handler
        // stays when its `Signal` is dropped. Rust's start-up code ignores SIGPIPE.
        for kind in [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()]
        {
            drop(signal(kind)?);
        }
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

/// Receives SIGHUP.
pub struct Hangups(Option<Signal>);

impl Hangups {
    /// Installs the handler.
    ///
    /// # Errors
    /// The operating system's error.
    pub(super) fn new() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(|signal| Self(Some(signal)))
    }

    /// For an embedder, whose process handles its signals itself.
    pub fn none() -> Self {
        Self(None)
    }

    /// Waits for the next SIGHUP. Several at once count as one.
    pub(super) async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}
