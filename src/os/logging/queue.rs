//! The queue to the thread that writes the log.
//!
//! Standard error may block, for example if it is a full pipe. That must not delay a
//! response, so a line is dropped and counted if the queue is full.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
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

    /// Waits until the lines so far are written, at most `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let (done, written) = sync_channel(1);
        let messages = self.messages.clone();
        // On a thread of its own, because sending waits while the queue is full.
        let _ = thread::Builder::new().spawn(move || messages.send(Message::Flush(done)));
        let _ = written.recv_timeout(timeout);
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
/// A line that `output` does not take is lost too. The next one begins on a line of its own.
pub(super) fn write_lines(
    queue: &QueuedLines,
    lost_line: impl Fn(u64) -> Vec<u8>,
    output: impl Write,
) {
    let mut output = LineWriter { output, is_torn: false };
    for message in &queue.messages {
        let flushed = match message {
            Message::Line(line) => {
                if output.write_line(&line).is_err() {
                    queue.lost.fetch_add(1, Ordering::Relaxed);
                }
                None
            }
            Message::Flush(done) => Some(done),
        };
        let lost = queue.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && output.write_line(&lost_line(lost)).is_err() {
            queue.lost.fetch_add(lost, Ordering::Relaxed);
        }
        // Reply after the count of lost lines is written: the program may exit now.
        if let Some(done) = flushed {
            let _ = done.send(());
        }
    }
}

/// Writes whole lines to an output that may fail, such as a full disk or a non-blocking
/// pipe.
struct LineWriter<W> {
    output: W,
    /// The output ends within a line.
    is_torn: bool,
}

impl<W: Write> LineWriter<W> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.output.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut left = line;
        while !left.is_empty() {
            let written = match self.output.write(left) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => written,
            };
            let written = written.inspect_err(|_| self.is_torn = left.len() < line.len())?;
            left = left.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_flush_waits_for_a_queue_that_is_full() {
        let (mut queue, lines) = LineQueue::new(1);
        queue.write_all(b"line\n").unwrap();
        let written = thread::spawn(move || {
            let mut output = Vec::new();
            write_lines(&lines, |_| unreachable!(), &mut output);
            output
        });
        queue.flush(Duration::from_secs(60));
        drop(queue);
        assert_eq!(written.join().unwrap(), b"line\n");
    }

    /// Takes so many bytes of each write in turn, and fails for a `None`.
    struct Failing(std::vec::IntoIter<Option<usize>>, Vec<u8>);

    impl Write for &mut Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.0.next().unwrap_or(Some(usize::MAX));
            let taken = most.ok_or(io::ErrorKind::StorageFull)?.min(bytes.len());
            self.1.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_the_output_does_not_take_is_counted_and_the_next_begins_a_line() {
        for (writes, expected) in [
            // Fails within a line; the count fails too.
            (vec![Some(2), None, None], "li\nline\n1 lost\nline\n"),
            // Fails before a line.
            (vec![None, None], "line\n1 lost\nline\n"),
            (vec![Some(5), Some(3), Some(1)], "line\nline\nline\n"),
        ] {
            let (mut queue, lines) = LineQueue::new(8);
            for _ in 0..3 {
                queue.write_all(b"line\n").unwrap();
            }
            drop(queue);
            let mut output = Failing(writes.into_iter(), Vec::new());
            write_lines(&lines, |lost| format!("{lost} lost\n").into_bytes(), &mut output);
            assert_eq!(String::from_utf8(output.1).unwrap(), expected);
        }
    }
}
