//! The queue to the thread that writes the log.
//!
//! Standard error may block, for example if it is a full pipe. That must not delay a
//! response, so a line is dropped and counted if the queue is full.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// The sending end of the queue. Each [`write`](Write::write) is one whole line.
#[derive(Clone)]
pub(super) struct LineQueue {
    messages: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// The receiving end of the queue.
pub(super) struct QueuedLines {
    messages: Receiver<Message>,
    /// How many lines were dropped since the last message was handled.
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    /// A request for a reply when all lines before it are written.
    Flush(SyncSender<()>),
}

impl LineQueue {
    /// Creates a queue for at most `capacity` lines, and returns both ends.
    pub(super) fn new(capacity: usize) -> (Self, QueuedLines) {
        let (sender, receiver) = sync_channel(capacity);
        let lost = Arc::<AtomicU64>::default();
        let queue = Self { messages: sender, lost: Arc::clone(&lost) };
        (queue, QueuedLines { messages: receiver, lost })
    }

    /// Waits until the lines so far are written, at most `timeout`. Returns at once if the
    /// queue is full.
    pub(super) fn flush(&self, timeout: Duration) {
        let (done, written) = sync_channel(1);
        if self.messages.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(timeout);
        }
    }
}

impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.messages.try_send(Message::Line(line.to_owned())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl QueuedLines {
    /// Takes the lines that are waiting. Does not wait for more.
    pub(super) fn take(&self) -> Vec<u8> {
        let lines = self.messages.try_iter().filter_map(|message| match message {
            Message::Line(line) => Some(line),
            Message::Flush(_) => None,
        });
        lines.flatten().collect()
    }
}

/// Writes the lines to `output` until all sending ends are dropped. If lines were lost,
/// passes their number to `lost_line` and writes the line that it returns.
///
/// Ignores errors of `output`: there is no other place to report them.
pub(super) fn write_lines(
    queue: &QueuedLines,
    lost_line: impl Fn(u64) -> Vec<u8>,
    mut output: impl Write,
) {
    for message in &queue.messages {
        let flushed = match message {
            Message::Line(line) => {
                let _ = output.write_all(&line);
                None
            }
            Message::Flush(done) => Some(done),
        };
        let lost = queue.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = output.write_all(&lost_line(lost));
        }
        // Reply after the count of lost lines is written: the program may exit now.
        if let Some(done) = flushed {
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn counts_lines_that_find_the_queue_full_without_waiting() {
        let (mut queue, lines) = LineQueue::new(2);
        for _ in 0..5 {
            queue.write_all(b"line\n").unwrap();
        }
        queue.flush(Duration::ZERO);
        drop(queue);
        let mut output = Vec::new();
        write_lines(&lines, |lost| format!("{lost} lost\n").into_bytes(), &mut output);
        assert_eq!(String::from_utf8(output).unwrap(), "line\n3 lost\nline\n");
    }

    #[test]
    fn a_flush_returns_once_the_lines_before_it_and_the_count_of_lost_ones_are_written() {
        let (mut queue, lines) = LineQueue::new(2);
        queue.write_all(b"line\n").unwrap();
        let (done, written) = sync_channel(0);
        queue.messages.send(Message::Flush(done)).unwrap();
        queue.write_all(b"lost\n").unwrap();
        drop(queue);
        // `done` has no buffer: the writer cannot go on before `recv` takes its reply.
        let (sender, chunks) = sync_channel(8);
        let writer = thread::spawn(move || {
            write_lines(&lines, |lost| format!("{lost} lost\n").into_bytes(), Chunks(sender));
        });
        written.recv().unwrap();
        let written: Vec<u8> = chunks.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(written).unwrap(), "line\n1 lost\n");
        writer.join().unwrap();
    }

    /// Sends each write on.
    struct Chunks(SyncSender<Vec<u8>>);

    impl Write for Chunks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
