mod closing;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::rest::Rest;

/// A bounded number of connections. When all places are taken, whoever has been
/// idle longest has to go, so that no crowd of silent clients keeps a balancer
/// out; a connection whose request is complete never has to.
pub(super) struct Places {
    most: usize,
    seats: Mutex<Seats>,
    freed: Notify,
}

/// As many seats as there ever were connections at once.
#[derive(Default)]
struct Seats {
    all: Vec<Seat>,
    /// Those that nobody has taken.
    free: Vec<usize>,
    /// Those that were answered, in the order in which they are looked after.
    closing: VecDeque<usize>,
    /// The task that sees to it that they are closed in time.
    timer: Option<AbortHandle>,
}

struct Seat {
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
    Leaving,
    /// A complete request waits for its answer.
    Busy,
    /// Answered then, and for the client to close.
    Closing(Instant, Rest),
}

/// One connection's place, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    seat: usize,
    /// What keeps the seat then.
    rest: Option<Rest>,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, seats: Mutex::default(), freed: Notify::new() }
    }

    /// A place, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            self.make_room();
            if self.seats().is_full(self.most) {
                freed.await;
            }
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut seats = self.seats();
        let seat = match seats.free.pop() {
            Some(seat) => seat,
            None if seats.all.len() < self.most => {
                seats.all.push(Seat { state: State::Free, waker: None });
                seats.all.len() - 1
            }
            None => return None,
        };
        seats.all.get_mut(seat)?.state = State::New;
        Some(Place { places: Arc::clone(self), seat, rest: None })
    }

    /// Tells whoever has been idle longest to go; false when nobody is idle.
    pub(super) fn make_room(&self) -> bool {
        let mut seats = self.seats();
        let idle = seats.all.iter().enumerate().filter_map(|(seat, Seat { state, .. })| {
            let (State::Idle(since) | State::Closing(since, _)) = state else { return None };
            Some((*since, seat))
        });
        let Some((_, longest)) = idle.min() else { return false };
        match seats.all.get_mut(longest) {
            Some(Seat { state: State::Closing(_, rest), .. }) => {
                // What has come is read, or closing would be a reset.
                let _ = rest.is_over();
                seats.closing.retain(|seat| *seat != longest);
                seats.free(longest);
                self.freed.notify_waiters();
            }
            Some(Seat { state, waker }) => {
                *state = State::Leaving;
                waker.take().into_iter().for_each(Waker::wake);
            }
            None => {}
        }
        true
    }

    /// Returns when no place is taken.
    pub(super) async fn empty(&self) {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            {
                let mut seats = self.seats();
                seats.look_after_all(Instant::now());
                if seats.all_are_free() {
                    return;
                }
            }
            freed.await;
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn all_are_free(&self) -> bool {
        self.free.len() == self.all.len()
    }

    fn is_full(&self, most: usize) -> bool {
        self.free.is_empty() && self.all.len() >= most
    }

    fn free(&mut self, seat: usize) {
        if let Some(taken) = self.all.get_mut(seat) {
            *taken = Seat { state: State::Free, waker: None };
            self.free.push(seat);
        }
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.timer.iter().for_each(AbortHandle::abort);
    }
}

impl Place {
    /// From now on it may be told to go.
    pub(super) fn idle(&self) {
        self.set(State::Idle(Instant::now()));
    }

    /// From now on it may not, and need not if it was told: its request is
    /// complete and has no answer yet.
    pub(super) fn busy(&self) {
        self.set(State::Busy);
    }

    /// Answered: the place is kept until the client closes what is left.
    pub(super) fn close(mut self, rest: Rest) {
        self.rest = Some(rest);
    }

    /// Returns when the connection has to go.
    pub(super) async fn told_to_go(&self) {
        poll_fn(|context| self.poll_told_to_go(context)).await;
    }

    fn poll_told_to_go(&self, context: &Context<'_>) -> Poll<()> {
        let mut seats = self.places.seats();
        let Some(seat) = seats.all.get_mut(self.seat) else { return Poll::Pending };
        if let State::Leaving = seat.state {
            return Poll::Ready(());
        }
        match &mut seat.waker {
            Some(waker) => waker.clone_from(context.waker()),
            waker => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    fn set(&self, state: State) {
        if let Some(seat) = self.places.seats().all.get_mut(self.seat) {
            let before = mem::replace(&mut seat.state, state);
            if matches!(before, State::New | State::Leaving) {
                // Whoever waits for room may find another to tell.
                self.places.freed.notify_waiters();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut seats = self.places.seats();
        match self.rest.take() {
            None => seats.free(self.seat),
            Some(rest) => {
                seats.close(self.seat, rest, Instant::now());
                seats.timer.get_or_insert_with(|| {
                    let places = Arc::downgrade(&self.places);
                    tokio::spawn(Places::close_in_time(places)).abort_handle()
                });
            }
        }
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    pub(super) fn told(place: &Place) -> bool {
        ready(place.told_to_go()).is_some()
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
        let places = Arc::new(Places::new(3));
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(places.take().await);
            taken.iter().last().unwrap().idle();
            advance(Duration::from_secs(1)).await;
        }
        // The first has sent another byte, the second a whole request.
        taken[0].idle();
        taken[1].busy();
        assert_eq!(ready(places.take()).map(drop), None);
        assert_eq!(taken.iter().map(told).collect::<Vec<_>>(), [false, false, true]);
        drop(taken.remove(2));
        timeout(NEVER, places.take()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn while_all_wait_for_answers_nobody_has_to_go() {
        let places = Arc::new(Places::new(2));
        let mut taken = [places.take().await, places.take().await];
        taken.iter().for_each(Place::busy);
        assert!(!places.make_room());
        assert!(timeout(NEVER, places.take()).await.is_err());
        taken[0].idle();
        assert!(places.make_room());
        // One that was told to go is not told twice.
        assert!(!places.make_room());
        taken[1].idle();
        let [_, second] = &mut taken;
        assert!(places.make_room());
        assert!(told(second));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_new_or_whose_request_came_after_all_does_not_go() {
        let places = Arc::new(Places::new(1));
        let place = places.take().await;
        assert!(!places.make_room());
        place.idle();
        assert!(places.make_room());
        place.busy();
        assert!(!told(&place));
        // Whoever waits for room sees to it that the next idle one goes.
        let waits = tokio::spawn({
            let places = Arc::clone(&places);
            async move { drop(places.take().await) }
        });
        tokio::task::yield_now().await;
        place.idle();
        assert!(!told(&place));
        drop(place);
        waits.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn empty_is_when_the_last_place_is_free() {
        let places = Arc::new(Places::new(2));
        let place = places.take().await;
        assert!(timeout(NEVER, places.empty()).await.is_err());
        drop(place);
        timeout(NEVER, places.empty()).await.unwrap();
    }
}
