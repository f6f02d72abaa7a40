//! Log lines to standard error, by a thread of their own: a pipe that nobody
//! reads must not hold up an answer. Lines that it does not take are counted
//! and lost.

mod line;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::Level;
use tracing::subscriber::set_global_default;

use line::Lines;

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// The least level that is logged.
    pub level: Level,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Lines that may wait; at 200 bytes a line, 200 kB.
const QUEUE: usize = 1024;

/// How long the end of the program waits for standard error.
const FLUSH: Duration = Duration::from_millis(50);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The way to the writing thread.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Starts the thread and makes it the program's log.
    ///
    /// # Errors
    /// When no thread can be had, or the program has a log.
    pub fn start(settings: LogSettings) -> io::Result<Self> {
        let (log, messages) = Self::of(QUEUE);
        let lost = Arc::clone(&log.lost);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&messages, &lost, settings.format, io::stderr()))?;
        set_global_default(Lines { log: log.clone(), settings }).map_err(io::Error::other)?;
        Ok(log)
    }

    fn of(queue: usize) -> (Self, Receiver<Message>) {
        let (queue, messages) = sync_channel(queue);
        (Log { queue, lost: Arc::default() }, messages)
    }

    fn take(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was logged is written, but not long.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH);
        }
    }
}

/// Errors of the output have nowhere to be told.
fn write(
    messages: &Receiver<Message>,
    lost: &AtomicU64,
    format: LogFormat,
    mut output: impl Write,
) {
    for message in messages {
        match message {
            Message::Line(line) => {
                let _ = output.write_all(&line);
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let said = format!("{lost} log lines were lost: standard error was too slow");
            let _ = match format {
                LogFormat::Text => writeln!(output, "{said}"),
                LogFormat::Json => writeln!(output, r#"{{"level":"WARN","message":"{said}"}}"#),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_find_the_queue_full_are_counted_and_never_waited_for() {
        let (log, messages) = Log::of(2);
        for _ in 0..5 {
            log.take(b"line\n".to_vec());
        }
        log.flush();
        let Log { queue, lost } = log;
        drop(queue);
        let mut output = Vec::new();
        write(&messages, &lost, LogFormat::Json, &mut output);
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "line\n\
             {\"level\":\"WARN\",\"message\":\"3 log lines were lost: standard error was too slow\"}\n\
             line\n"
        );
    }

    #[test]
    fn a_flush_returns_once_the_lines_before_it_are_written() {
        let (queue, messages) = sync_channel(2);
        let (done, wait) = sync_channel(1);
        queue.send(Message::Line(b"line\n".to_vec())).unwrap();
        queue.send(Message::Flush(done)).unwrap();
        drop(queue);
        let mut output = Vec::new();
        write(&messages, &AtomicU64::new(0), LogFormat::Text, &mut output);
        wait.try_recv().unwrap();
        assert_eq!(output, b"line\n");
    }
}
