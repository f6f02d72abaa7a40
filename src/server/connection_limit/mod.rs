//! The limit on connections: each takes a slot, and at the limit the connection that has
//! been idle longest is evicted.

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

/// A bounded number of connections.
///
/// At the limit, evicts the connection that has been idle longest, so that idle clients
/// cannot lock out a balancer. A connection whose request is complete is never evicted.
pub(super) struct ConnectionLimit {
    max: usize,
    table: Mutex<Table>,
    /// Notified when a slot becomes free or can be evicted.
    changed: Notify,
}

/// The slot of one connection. Dropping it frees the slot, unless the connection went into
/// lingering close.
pub(super) struct Slot {
    limit: Arc<ConnectionLimit>,
    index: usize,
    /// The connection that keeps the slot's entry when the slot is dropped.
    lingering: Option<LingeringClose>,
}

/// The entries of all slots. It grows to the largest number of connections so far.
#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    /// Indices of the free entries.
    free: Vec<usize>,
    /// Indices of the entries in lingering close, in the order of their next check.
    lingering: VecDeque<usize>,
    /// The task that ends lingering closes at their timeout.
    timer: Option<AbortHandle>,
}

struct Entry {
    state: State,
    /// Wakes the connection's task when it is evicted.
    waker: Option<Waker>,
}

enum State {
    Free,
    /// Accepted; the exchange has not read yet.
    New,
    /// Its request is incomplete. The time of its last byte.
    Idle(Instant),
    /// Evicted: its task will close it.
    Evicted,
    /// A complete request waits for its response.
    Busy,
    /// In lingering close. The time of its response.
    Lingering(Instant, LingeringClose),
}

impl ConnectionLimit {
    pub(super) fn new(max: usize) -> Self {
        Self { max, table: Mutex::default(), changed: Notify::new() }
    }

    /// Takes a slot. If none is free, evicts a connection and waits.
    pub(super) async fn acquire(self: &Arc<Self>) -> Slot {
        loop {
            if let Some(slot) = self.try_acquire() {
                return slot;
            }
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            self.evict_longest_idle();
            if self.table().is_full(self.max) {
                changed.await;
            }
        }
    }

    fn try_acquire(self: &Arc<Self>) -> Option<Slot> {
        let mut table = self.table();
        let index = match table.free.pop() {
            Some(index) => index,
            None if table.entries.len() < self.max => {
                table.entries.push(Entry { state: State::Free, waker: None });
                table.entries.len() - 1
            }
            None => return None,
        };
        table.entries.get_mut(index)?.state = State::New;
        Some(Slot { limit: Arc::clone(self), index, lingering: None })
    }

    /// Evicts the connection that has been idle or in lingering close for longest. Returns
    /// false if there is none.
    pub(super) fn evict_longest_idle(&self) -> bool {
        let mut table = self.table();
        let idle = table.entries.iter().enumerate().filter_map(|(index, Entry { state, .. })| {
            let (State::Idle(since) | State::Lingering(since, _)) = state else { return None };
            Some((*since, index))
        });
        let Some((_, longest)) = idle.min() else { return false };
        match table.entries.get_mut(longest) {
            Some(Entry { state: State::Lingering(_, connection), .. }) => {
                // Reads first: closing a socket with unread bytes resets the connection.
                let _ = connection.is_finished();
                table.lingering.retain(|index| *index != longest);
                table.free(longest);
                self.changed.notify_waiters();
            }
            Some(Entry { state, waker }) => {
                *state = State::Evicted;
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
            None => {}
        }
        true
    }

    /// Waits until every slot is free.
    pub(super) async fn wait_until_empty(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut table = self.table();
                table.check_all_lingering(Instant::now());
                if table.is_empty() {
                    return;
                }
            }
            changed.await;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn is_empty(&self) -> bool {
        self.free.len() == self.entries.len()
    }

    fn is_full(&self, max: usize) -> bool {
        self.free.is_empty() && self.entries.len() >= max
    }

    fn free(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Entry { state: State::Free, waker: None };
            self.free.push(index);
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.timer.iter().for_each(AbortHandle::abort);
    }
}

impl Slot {
    /// Marks the connection as idle from now on. Its request is incomplete, so it can be
    /// evicted.
    pub(super) fn set_idle(&self) {
        self.set(State::Idle(Instant::now()));
    }

    /// Marks the connection as busy. Its request is complete, so it cannot be evicted. This
    /// undoes an eviction that its task has not seen yet.
    pub(super) fn set_busy(&self) {
        self.set(State::Busy);
    }

    /// Leaves the slot to a connection in lingering close.
    pub(super) fn linger(mut self, connection: LingeringClose) {
        self.lingering = Some(connection);
    }

    /// Waits until the connection is evicted.
    pub(super) async fn evicted(&self) {
        poll_fn(|context| self.poll_evicted(context)).await;
    }

    fn poll_evicted(&self, context: &Context<'_>) -> Poll<()> {
        let mut table = self.limit.table();
        let Some(entry) = table.entries.get_mut(self.index) else { return Poll::Pending };
        if let State::Evicted = entry.state {
            return Poll::Ready(());
        }
        match &mut entry.waker {
            Some(waker) => waker.clone_from(context.waker()),
            waker => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn set(&self, state: State) {
        if let Some(entry) = self.limit.table().entries.get_mut(self.index) {
            let before = mem::replace(&mut entry.state, state);
            if matches!(before, State::New | State::Evicted) {
                // `acquire` may be waiting for a connection that can be evicted.
                self.limit.changed.notify_waiters();
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.limit.table();
        match self.lingering.take() {
            None => table.free(self.index),
            Some(connection) => {
                table.linger(self.index, connection, Instant::now());
                table.timer.get_or_insert_with(|| {
                    let limit = Arc::downgrade(&self.limit);
                    tokio::spawn(ConnectionLimit::end_lingering(limit)).abort_handle()
                });
            }
        }
        self.limit.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    pub(super) fn is_evicted(slot: &Slot) -> bool {
        ready(slot.evicted()).is_some()
    }

    /// Returns the output of a future that is ready at the first poll.
    pub(super) fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn evicts_the_connection_that_has_been_idle_longest() {
        let limit = Arc::new(ConnectionLimit::new(3));
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(limit.acquire().await);
            taken.iter().last().unwrap().set_idle();
            advance(Duration::from_secs(1)).await;
        }
        // The first sends another byte, the second completes its request.
        taken[0].set_idle();
        taken[1].set_busy();
        assert_eq!(ready(limit.acquire()).map(drop), None);
        assert_eq!(taken.iter().map(is_evicted).collect::<Vec<_>>(), [false, false, true]);
        drop(taken.remove(2));
        timeout(NEVER, limit.acquire()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_evict_a_connection_that_waits_for_its_response() {
        let limit = Arc::new(ConnectionLimit::new(2));
        let mut taken = [limit.acquire().await, limit.acquire().await];
        taken.iter().for_each(Slot::set_busy);
        assert!(!limit.evict_longest_idle());
        assert!(timeout(NEVER, limit.acquire()).await.is_err());
        taken[0].set_idle();
        assert!(limit.evict_longest_idle());
        // An evicted connection is not evicted again.
        assert!(!limit.evict_longest_idle());
        taken[1].set_idle();
        let [_, second] = &mut taken;
        assert!(limit.evict_longest_idle());
        assert!(is_evicted(second));
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_evict_a_new_connection_or_one_that_completes_its_request() {
        let limit = Arc::new(ConnectionLimit::new(1));
        let slot = limit.acquire().await;
        assert!(!limit.evict_longest_idle());
        slot.set_idle();
        assert!(limit.evict_longest_idle());
        slot.set_busy();
        assert!(!is_evicted(&slot));
        // The waiting `acquire` evicts the next connection that becomes idle.
        let waits = tokio::spawn({
            let limit = Arc::clone(&limit);
            async move { drop(limit.acquire().await) }
        });
        tokio::task::yield_now().await;
        slot.set_idle();
        assert!(!is_evicted(&slot));
        drop(slot);
        waits.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn is_empty_once_the_last_slot_is_free() {
        let limit = Arc::new(ConnectionLimit::new(2));
        let slot = limit.acquire().await;
        assert!(timeout(NEVER, limit.wait_until_empty()).await.is_err());
        drop(slot);
        timeout(NEVER, limit.wait_until_empty()).await.unwrap();
    }
}
