mod lingering;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::lingering_close::LingeringClose;

/// A bounded number of connections. When all limit are taken, whoever has been
/// idle longest has to go, so that no crowd of silent clients keeps a balancer
/// out; a connection whose request is complete never has to.
pub(super) struct ConnectionLimit {
    most: usize,
    slots: Mutex<Slots>,
    freed: Notify,
}

/// As many slots as there ever were connections at once.
#[derive(Default)]
struct Slots {
    all: Vec<Entry>,
    /// Those that nobody has taken.
    free: Vec<usize>,
    /// Those that were answered, in the order in which they are looked after.
    closing: VecDeque<usize>,
    /// The task that sees to it that they are closed in time.
    timer: Option<AbortHandle>,
}

struct Entry {
    state: State,
    /// Of whoever waits to be told to go.
    waker: Option<Waker>,
}

enum State {
    /// Nobody's.
    Free,
    /// Nobody has looked yet whether a request is there.
    New,
    /// No complete request, or no more; the last byte came then.
    Idle(Instant),
    /// Told to go.
    Evicted,
    /// A complete request waits for its answer.
    Busy,
    /// Answered then, and for the client to close.
    Closing(Instant, LingeringClose),
}

/// One connection's slot, until it is dropped.
pub(super) struct Slot {
    limit: Arc<ConnectionLimit>,
    index: usize,
    /// What keeps the index then.
    rest: Option<LingeringClose>,
}

impl ConnectionLimit {
    pub(super) fn new(most: usize) -> Self {
        Self { most, slots: Mutex::default(), freed: Notify::new() }
    }

    /// A slot, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Slot {
        loop {
            if let Some(slot) = self.try_take() {
                return slot;
            }
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            self.evict_longest_idle();
            if self.slots().is_full(self.most) {
                freed.await;
            }
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let mut slots = self.slots();
        let index = match slots.free.pop() {
            Some(index) => index,
            None if slots.all.len() < self.most => {
                slots.all.push(Entry { state: State::Free, waker: None });
                slots.all.len() - 1
            }
            None => return None,
        };
        slots.all.get_mut(index)?.state = State::New;
        Some(Slot { limit: Arc::clone(self), index, rest: None })
    }

    /// Tells whoever has been idle longest to go; false when nobody is idle.
    pub(super) fn evict_longest_idle(&self) -> bool {
        let mut slots = self.slots();
        let idle = slots.all.iter().enumerate().filter_map(|(index, Entry { state, .. })| {
            let (State::Idle(since) | State::Closing(since, _)) = state else { return None };
            Some((*since, index))
        });
        let Some((_, longest)) = idle.min() else { return false };
        match slots.all.get_mut(longest) {
            Some(Entry { state: State::Closing(_, rest), .. }) => {
                // What has come is read, or closing would be a reset.
                let _ = rest.is_over();
                slots.closing.retain(|index| *index != longest);
                slots.free(longest);
                self.freed.notify_waiters();
            }
            Some(Entry { state, waker }) => {
                *state = State::Evicted;
                waker.take().into_iter().for_each(Waker::wake);
            }
            None => {}
        }
        true
    }

    /// Returns when no slot is taken.
    pub(super) async fn empty(&self) {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            {
                let mut slots = self.slots();
                slots.look_after_all(Instant::now());
                if slots.all_are_free() {
                    return;
                }
            }
            freed.await;
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn all_are_free(&self) -> bool {
        self.free.len() == self.all.len()
    }

    fn is_full(&self, most: usize) -> bool {
        self.free.is_empty() && self.all.len() >= most
    }

    fn free(&mut self, index: usize) {
        if let Some(taken) = self.all.get_mut(index) {
            *taken = Entry { state: State::Free, waker: None };
            self.free.push(index);
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.timer.iter().for_each(AbortHandle::abort);
    }
}

impl Slot {
    /// From now on it may be told to go.
    pub(super) fn idle(&self) {
        self.set(State::Idle(Instant::now()));
    }

    /// From now on it may not, and need not if it was told: its request is
    /// complete and has no answer yet.
    pub(super) fn busy(&self) {
        self.set(State::Busy);
    }

    /// Answered: the slot is kept until the client closes what is left.
    pub(super) fn close(mut self, rest: LingeringClose) {
        self.rest = Some(rest);
    }

    /// Returns when the connection has to go.
    pub(super) async fn evicted(&self) {
        poll_fn(|context| self.poll_evicted(context)).await;
    }

    fn poll_evicted(&self, context: &Context<'_>) -> Poll<()> {
        let mut slots = self.limit.slots();
        let Some(index) = slots.all.get_mut(self.index) else { return Poll::Pending };
        if let State::Evicted = index.state {
            return Poll::Ready(());
        }
        match &mut index.waker {
            Some(waker) => waker.clone_from(context.waker()),
            waker => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn set(&self, state: State) {
        if let Some(index) = self.limit.slots().all.get_mut(self.index) {
            let before = mem::replace(&mut index.state, state);
            if matches!(before, State::New | State::Evicted) {
                // Whoever waits for room may find another to tell.
                self.limit.freed.notify_waiters();
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.limit.slots();
        match self.rest.take() {
            None => slots.free(self.index),
            Some(rest) => {
                slots.close(self.index, rest, Instant::now());
                slots.timer.get_or_insert_with(|| {
                    let limit = Arc::downgrade(&self.limit);
                    tokio::spawn(ConnectionLimit::close_in_time(limit)).abort_handle()
                });
            }
        }
        self.limit.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    pub(super) fn told(slot: &Slot) -> bool {
        ready(slot.evicted()).is_some()
    }

    /// The value of a future that is ready at once.
    pub(super) fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_the_one_that_has_been_idle_longest_has_to_go() {
        let limit = Arc::new(ConnectionLimit::new(3));
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(limit.take().await);
            taken.iter().last().unwrap().idle();
            advance(Duration::from_secs(1)).await;
        }
        // The first has sent another byte, the second a whole request.
        taken[0].idle();
        taken[1].busy();
        assert_eq!(ready(limit.take()).map(drop), None);
        assert_eq!(taken.iter().map(told).collect::<Vec<_>>(), [false, false, true]);
        drop(taken.remove(2));
        timeout(NEVER, limit.take()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn while_all_wait_for_answers_nobody_has_to_go() {
        let limit = Arc::new(ConnectionLimit::new(2));
        let mut taken = [limit.take().await, limit.take().await];
        taken.iter().for_each(Slot::busy);
        assert!(!limit.evict_longest_idle());
        assert!(timeout(NEVER, limit.take()).await.is_err());
        taken[0].idle();
        assert!(limit.evict_longest_idle());
        // One that was told to go is not told twice.
        assert!(!limit.evict_longest_idle());
        taken[1].idle();
        let [_, second] = &mut taken;
        assert!(limit.evict_longest_idle());
        assert!(told(second));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_new_or_whose_request_came_after_all_does_not_go() {
        let limit = Arc::new(ConnectionLimit::new(1));
        let slot = limit.take().await;
        assert!(!limit.evict_longest_idle());
        slot.idle();
        assert!(limit.evict_longest_idle());
        slot.busy();
        assert!(!told(&slot));
        // Whoever waits for room sees to it that the next idle one goes.
        let waits = tokio::spawn({
            let limit = Arc::clone(&limit);
            async move { drop(limit.take().await) }
        });
        tokio::task::yield_now().await;
        slot.idle();
        assert!(!told(&slot));
        drop(slot);
        waits.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn empty_is_when_the_last_place_is_free() {
        let limit = Arc::new(ConnectionLimit::new(2));
        let slot = limit.take().await;
        assert!(timeout(NEVER, limit.empty()).await.is_err());
        drop(slot);
        timeout(NEVER, limit.empty()).await.unwrap();
    }
}
