//! Log lines on standard error, as text or JSON, written by a thread of their own.

mod format;
mod queue;

use std::io;
use std::thread;
use std::time::Duration;

use tracing::subscriber::set_global_default;

use format::{lost_line, subscriber};
use queue::{LineQueue, write_lines};

pub use format::{LogFormat, LogSettings, error_line};

/// Lines that may wait for standard error; at 200 bytes each, 200 kB.
const QUEUE: usize = 1024;

/// How long the end of the program waits for standard error.
const FLUSH_TIME: Duration = Duration::from_millis(50);

/// The program's log.
pub struct Log {
    queue: LineQueue,
}

impl Log {
    /// Starts the writing thread and makes this the log of the whole program.
    ///
    /// # Errors
    /// No thread can be started, or the program has a log already.
    pub fn start(settings: LogSettings) -> io::Result<Self> {
        let (queue, messages) = LineQueue::new(QUEUE);
        let format = settings.format;
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&messages, |lost| lost_line(format, lost), io::stderr()))?;
        set_global_default(subscriber(settings, queue.clone())).map_err(io::Error::other)?;
        Ok(Self { queue })
    }

    /// Waits until the lines so far are written, at most [`FLUSH_TIME`].
    pub fn flush(&self) {
        self.queue.flush(FLUSH_TIME);
    }
}
