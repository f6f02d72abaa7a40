//! The log: lines on standard error, as text or JSON, written by a background thread.

mod format;
mod queue;

use std::io::{self, Write};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use tracing::subscriber::set_global_default;

use format::{lost_line, subscriber};
use queue::{LineQueue, write_lines};

pub use format::{LogFormat, LogSettings, error_line};

/// How many lines may wait for standard error: about 200 kB, at 200 bytes each.
const QUEUE: usize = 1024;

/// How long the program waits for standard error before it exits.
const FLUSH_TIME: Duration = Duration::from_millis(50);

/// The program's log.
pub struct Log {
    queue: LineQueue,
}

impl Log {
    /// Starts the writing thread and makes this the log of the whole program.
    ///
    /// # Errors
    /// The operating system's error if no thread can be created, or another error if the
    /// program already has a log.
    pub fn start(settings: LogSettings) -> io::Result<Self> {
        let (queue, lines) = LineQueue::new(QUEUE);
        let format = settings.format;
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&lines, |lost| lost_line(format, lost), io::stderr()))?;
        set_global_default(subscriber(settings, queue.clone())).map_err(io::Error::other)?;
        Ok(Self { queue })
    }

    /// Waits until the lines so far are written, at most 50 ms.
    pub fn flush(&self) {
        self.queue.flush(FLUSH_TIME);
    }
}

/// Writes an error to standard error while there is no log, and waits at most 50 ms for it.
pub fn write_error(line: &[u8]) {
    let (done, written) = sync_channel(1);
    let shared = line.to_owned();
    let writer = thread::Builder::new().spawn(move || {
        let _ = io::stderr().write_all(&shared);
        let _ = done.send(());
    });
    match writer {
        Ok(_) => {
            let _ = written.recv_timeout(FLUSH_TIME);
        }
        // Without a thread, there is no other way to report the error.
        Err(_) => {
            let _ = io::stderr().write_all(line);
        }
    }
}
