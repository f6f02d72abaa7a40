//! What is left of connections that were answered, until their clients close them.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{ConnectionLimit, Entry, Slots, State};
use crate::server::lingering_close::LingeringClose;

/// For seeing a client close after its answer. Not shorter than a request's time: a
/// timer that is due before all others makes the runtime wake itself.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// How many of those that were answered are looked after when another is, and how long
/// after their answer at the soonest: before, hardly a client has closed.
const LOOKS: usize = 2;
const SOON: Duration = Duration::from_millis(1);

impl ConnectionLimit {
    /// Closes what is left of connections when its time is over.
    pub(super) async fn close_in_time(limit: Weak<Self>) {
        while let Some(next) = limit.upgrade().and_then(|limit| limit.slots().next_to_close()) {
            sleep_until(next).await;
            if let Some(limit) = limit.upgrade() {
                limit.slots().close_late(Instant::now());
                limit.freed.notify_waiters();
            }
        }
    }
}

impl Slots {
    /// The index is left to the rest of a connection. Others that were answered before
    /// are looked after.
    pub(super) fn close(&mut self, index: usize, rest: LingeringClose, now: Instant) {
        for _ in 0..LOOKS {
            if self.closing.front().is_some_and(|next| self.age(*next, now) >= SOON) {
                self.look_after_next(now);
            }
        }
        if let Some(index) = self.all.get_mut(index) {
            *index = Entry { state: State::Closing(now, rest), waker: None };
        }
        self.closing.push_back(index);
    }

    pub(super) fn look_after_all(&mut self, now: Instant) {
        for _ in 0..self.closing.len() {
            self.look_after_next(now);
        }
    }

    /// Closes those that are out of time. The others are not looked at: this may be
    /// as often as somebody is answered.
    fn close_late(&mut self, now: Instant) {
        for _ in 0..self.closing.len() {
            match self.closing.front() {
                Some(next) if self.age(*next, now) >= CLOSE_TIME => self.look_after_next(now),
                _ => self.closing.rotate_left(1),
            }
        }
    }

    /// Frees the index if the client has closed, too, or is out of time.
    fn look_after_next(&mut self, now: Instant) {
        let Some(index) = self.closing.pop_front() else { return };
        let is_late = self.age(index, now) >= CLOSE_TIME;
        if let Some(Entry { state: State::Closing(_, rest), .. }) = self.all.get_mut(index) {
            match rest.is_over() || is_late {
                true => self.free(index),
                false => self.closing.push_back(index),
            }
        }
    }

    /// How long ago its connection was answered.
    fn age(&self, index: usize, now: Instant) -> Duration {
        match self.all.get(index) {
            Some(Entry { state: State::Closing(since, _), .. }) => now.duration_since(*since),
            _ => Duration::MAX,
        }
    }

    /// When the next connection that was answered is out of time; if there is none,
    /// nobody sees to them any more.
    fn next_to_close(&mut self) -> Option<Instant> {
        let closing = self.all.iter().filter_map(|index| match index.state {
            State::Closing(since, _) => Some(since + CLOSE_TIME),
            _ => None,
        });
        let next = closing.min();
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

    use super::super::tests::{ready, told};
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    /// What is left of a connection that was answered, and its client.
    async fn closing(limit: &Arc<ConnectionLimit>) -> UnixStream {
        let (client, socket) = UnixStream::pair().unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        limit.take().await.close(LingeringClose::socket(socket.into()));
        client
    }

    /// Whether the client's connection was closed, and not reset.
    fn is_closed(mut client: &UnixStream) -> bool {
        client.read(&mut [0]).unwrap() == 0 && client.write(b"x").is_err()
    }

    fn free(limit: &ConnectionLimit) -> usize {
        limit.slots().free.len()
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_keeps_its_place_until_it_closes_and_another_is_answered() {
        let limit = Arc::new(ConnectionLimit::new(9));
        let count = || limit.slots().closing.len();
        let (first, second) = (closing(&limit).await, closing(&limit).await);
        drop(first);
        // It is too soon to look.
        let third = closing(&limit).await;
        assert_eq!(count(), 3);
        advance(SOON).await;
        let _fourth = closing(&limit).await;
        assert_eq!(count(), 3);
        // One that does not close is in nobody's way.
        drop(third);
        let _fifth = closing(&limit).await;
        assert_eq!(count(), 3);
        assert!(!is_closed(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_close_is_closed_upon_after_5_s_although_nobody_else_asks() {
        let limit = Arc::new(ConnectionLimit::new(9));
        for _ in 0..2 {
            let first = closing(&limit).await;
            sleep_until(Instant::now() + CLOSE_TIME / 2).await;
            let second = closing(&limit).await;
            let began = Instant::now();
            timeout(NEVER, limit.freed.notified()).await.unwrap();
            assert_eq!(began.elapsed(), CLOSE_TIME / 2);
            assert!(is_closed(&first) && !is_closed(&second));
            timeout(NEVER, limit.empty()).await.unwrap();
            assert_eq!(began.elapsed(), CLOSE_TIME);
            assert!(is_closed(&second));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_sends_after_its_answer_is_read_up_to_a_limit() {
        let limit = Arc::new(ConnectionLimit::new(9));
        let mut client = closing(&limit).await;
        for _ in 0..64 {
            assert_eq!(free(&limit), 0);
            client.write_all(&[b'x'; 1024]).unwrap();
            limit.slots().look_after_all(Instant::now());
        }
        assert_eq!(free(&limit), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_who_was_answered_long_ago_goes_at_once() {
        let limit = Arc::new(ConnectionLimit::new(3));
        let silent = limit.take().await;
        silent.idle();
        advance(SOON).await;
        let (first, second) = (closing(&limit).await, closing(&limit).await);
        // The longest idle is the silent one.
        assert_eq!(ready(limit.take()).map(drop), None);
        assert!(told(&silent) && limit.slots().closing.len() == 2);
        drop(silent);
        let _taken = [ready(limit.take()).unwrap(), ready(limit.take()).unwrap()];
        assert!(is_closed(&first) && !is_closed(&second));
        assert_eq!(limit.slots().closing.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_closed_is_in_nobodys_way_at_the_end() {
        let limit = Arc::new(ConnectionLimit::new(3));
        drop(closing(&limit).await);
        assert!(ready(limit.empty()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_at_the_limit_sees_no_reset_whatever_it_sent_after_its_answer() {
        let limit = Arc::new(ConnectionLimit::new(1));
        let mut client = closing(&limit).await;
        client.write_all(b"\r\n").unwrap();
        let _taken = limit.take().await;
        assert!(is_closed(&client));
    }

    /// It never closes; how often it was looked at.
    struct Looks(Arc<AtomicUsize>);

    impl AsyncRead for Looks {
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
    async fn each_of_a_crowd_that_does_not_close_is_looked_at_a_few_times() {
        const CROWD: u32 = 400;
        let limit = Arc::new(ConnectionLimit::new(2048));
        let looks = Arc::<AtomicUsize>::default();
        for _ in 0..CROWD {
            limit.take().await.close(LingeringClose::other(Looks(Arc::clone(&looks))));
            sleep_until(Instant::now() + CLOSE_TIME / CROWD).await;
        }
        sleep_until(Instant::now() + CLOSE_TIME).await;
        assert_eq!(free(&limit), limit.slots().all.len());
        // When another is answered, and at the end.
        let most = (LOOKS + 1) * usize::try_from(CROWD).unwrap();
        assert!(looks.load(SeqCst) <= most);
    }
}
