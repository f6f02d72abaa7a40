//! The connections in lingering close: checked for their client's close when others enter,
//! and ended at their timeout.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{ConnectionLimit, Entry, State, Table};
use crate::server::lingering_close::LingeringClose;

/// How long a client may take to close its side after the response. It is not shorter than
/// the timeout of a request: a timer that is due before all others makes the runtime wake
/// itself, which costs a system call.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections in lingering close are checked whenever another one enters it.
const CHECKS: usize = 2;

/// The age below which a connection in lingering close is not checked. Few clients have
/// closed by then.
const MIN_AGE: Duration = Duration::from_millis(1);

impl ConnectionLimit {
    /// Ends each lingering close at its timeout. Returns when none is left, or when the
    /// limit is dropped.
    pub(super) async fn end_lingering(limit: Weak<Self>) {
        while let Some(next) = limit.upgrade().and_then(|limit| limit.table().next_timeout()) {
            sleep_until(next).await;
            if let Some(limit) = limit.upgrade() {
                limit.table().end_expired(Instant::now());
                limit.changed.notify_waiters();
            }
        }
    }
}

impl Table {
    /// Puts a connection into lingering close, and checks up to [`CHECKS`] others.
    pub(super) fn linger(&mut self, index: usize, connection: LingeringClose, now: Instant) {
        for _ in 0..CHECKS {
            if self.lingering.front().is_some_and(|next| self.age(*next, now) >= MIN_AGE) {
                self.check_next_lingering(now);
            }
        }
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Entry { state: State::Lingering(now, connection), waker: None };
        }
        self.lingering.push_back(index);
    }

    pub(super) fn check_all_lingering(&mut self, now: Instant) {
        for _ in 0..self.lingering.len() {
            self.check_next_lingering(now);
        }
    }

    /// Ends the lingering closes that are past their timeout. It does not read from the
    /// others, because it can run as often as responses are sent.
    fn end_expired(&mut self, now: Instant) {
        for _ in 0..self.lingering.len() {
            match self.lingering.front() {
                Some(next) if self.age(*next, now) >= CLOSE_TIMEOUT => {
                    self.check_next_lingering(now)
                }
                _ => self.lingering.rotate_left(1),
            }
        }
    }

    /// Frees the entry if its client has closed, or if it is past the timeout.
    fn check_next_lingering(&mut self, now: Instant) {
        let Some(index) = self.lingering.pop_front() else { return };
        let is_expired = self.age(index, now) >= CLOSE_TIMEOUT;
        if let Some(Entry { state: State::Lingering(_, connection), .. }) =
            self.entries.get_mut(index)
        {
            match connection.is_finished() || is_expired {
                true => self.free(index),
                false => self.lingering.push_back(index),
            }
        }
    }

    /// Returns the time since the connection's response.
    fn age(&self, index: usize, now: Instant) -> Duration {
        match self.entries.get(index) {
            Some(Entry { state: State::Lingering(since, _), .. }) => now.duration_since(*since),
            _ => Duration::MAX,
        }
    }

    /// Returns the next timeout of a lingering close. If there is none, forgets the timer
    /// task, which then ends.
    fn next_timeout(&mut self) -> Option<Instant> {
        let timeouts = self.entries.iter().filter_map(|entry| match entry.state {
            State::Lingering(since, _) => Some(since + CLOSE_TIMEOUT),
            _ => None,
        });
        let next = timeouts.min();
        self.timer = self.timer.take().filter(|_| next.is_some());
        next
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, ReadBuf};
    use tokio::time::{advance, timeout};

    use super::super::tests::{is_evicted, ready};
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    /// Puts a connection into lingering close. Returns the client's end.
    async fn lingering(limit: &Arc<ConnectionLimit>) -> UnixStream {
        let (client, socket) = UnixStream::pair().unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        limit.acquire().await.linger(LingeringClose::socket(socket.into()));
        client
    }

    /// Whether the client's connection was closed, and not reset.
    fn is_closed(mut client: &UnixStream) -> bool {
        client.read(&mut [0]).unwrap() == 0 && client.write(b"x").is_err()
    }

    fn free(limit: &ConnectionLimit) -> usize {
        limit.table().free.len()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answered_connection_keeps_its_slot_until_its_client_closes_and_it_is_checked() {
        let limit = Arc::new(ConnectionLimit::new(9));
        let count = || limit.table().lingering.len();
        let (first, second) = (lingering(&limit).await, lingering(&limit).await);
        drop(first);
        // Too young to be checked.
        let third = lingering(&limit).await;
        assert_eq!(count(), 3);
        advance(MIN_AGE).await;
        let _fourth = lingering(&limit).await;
        assert_eq!(count(), 3);
        // The second, which does not close, does not hold up the check of the third.
        drop(third);
        let _fifth = lingering(&limit).await;
        assert_eq!(count(), 3);
        assert!(!is_closed(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn closes_an_answered_connection_after_5_s() {
        let limit = Arc::new(ConnectionLimit::new(9));
        for _ in 0..2 {
            let first = lingering(&limit).await;
            sleep_until(Instant::now() + CLOSE_TIMEOUT / 2).await;
            let second = lingering(&limit).await;
            let began = Instant::now();
            timeout(NEVER, limit.changed.notified()).await.unwrap();
            assert_eq!(began.elapsed(), CLOSE_TIMEOUT / 2);
            assert!(is_closed(&first) && !is_closed(&second));
            timeout(NEVER, limit.wait_until_empty()).await.unwrap();
            assert_eq!(began.elapsed(), CLOSE_TIMEOUT);
            assert!(is_closed(&second));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reads_up_to_64_kib_after_the_response() {
        let limit = Arc::new(ConnectionLimit::new(9));
        let mut client = lingering(&limit).await;
        for _ in 0..64 {
            assert_eq!(free(&limit), 0);
            client.write_all(&[b'x'; 1024]).unwrap();
            limit.table().check_all_lingering(Instant::now());
        }
        assert_eq!(free(&limit), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_evicts_the_oldest_lingering_connection_at_once() {
        let limit = Arc::new(ConnectionLimit::new(3));
        let silent = limit.acquire().await;
        silent.set_idle();
        advance(MIN_AGE).await;
        let (first, second) = (lingering(&limit).await, lingering(&limit).await);
        // The silent connection has been idle longest.
        assert_eq!(ready(limit.acquire()).map(drop), None);
        assert!(is_evicted(&silent) && limit.table().lingering.len() == 2);
        drop(silent);
        let _taken = [ready(limit.acquire()).unwrap(), ready(limit.acquire()).unwrap()];
        assert!(is_closed(&first) && !is_closed(&second));
        assert_eq!(limit.table().lingering.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn is_empty_once_the_lingering_clients_have_closed() {
        let limit = Arc::new(ConnectionLimit::new(3));
        drop(lingering(&limit).await);
        assert!(ready(limit.wait_until_empty()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn evicting_a_lingering_connection_with_unread_bytes_does_not_reset_it() {
        let limit = Arc::new(ConnectionLimit::new(1));
        let mut client = lingering(&limit).await;
        client.write_all(b"\r\n").unwrap();
        let _taken = limit.acquire().await;
        assert!(is_closed(&client));
    }

    /// A client that never closes. Counts how often it is checked.
    struct NeverCloses(Arc<AtomicUsize>);

    impl AsyncRead for NeverCloses {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.fetch_add(1, SeqCst);
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn checks_each_of_many_clients_that_do_not_close_a_few_times() {
        const CLIENTS: u32 = 400;
        let limit = Arc::new(ConnectionLimit::new(2048));
        let checks = Arc::<AtomicUsize>::default();
        for _ in 0..CLIENTS {
            limit.acquire().await.linger(LingeringClose::other(NeverCloses(Arc::clone(&checks))));
            sleep_until(Instant::now() + CLOSE_TIMEOUT / CLIENTS).await;
        }
        sleep_until(Instant::now() + CLOSE_TIMEOUT).await;
        assert_eq!(free(&limit), limit.table().entries.len());
        // Each is checked when others enter, and at its timeout.
        let max = (CHECKS + 1) * usize::try_from(CLIENTS).unwrap();
        assert!(checks.load(SeqCst) <= max);
    }
}
