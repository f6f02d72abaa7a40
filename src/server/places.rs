use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::rest::Rest;

/// For seeing a client close after its answer. Not shorter than a request's time: a
/// timer that is due before all others makes the runtime wake itself.
pub(super) const CLOSE_TIME: Duration = Duration::from_secs(5);

/// How many of those that were answered are looked after when another is, and how long
/// after their answer at the soonest: before, hardly a client has closed.
const LOOKS: usize = 2;
const SOON: Duration = Duration::from_millis(1);

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

    /// Closes what is left of connections when its time is over.
    async fn close_in_time(places: Weak<Self>) {
        while let Some(next) = places.upgrade().and_then(|places| places.seats().next_to_close()) {
            sleep_until(next).await;
            if let Some(places) = places.upgrade() {
                places.seats().close_late(Instant::now());
                places.freed.notify_waiters();
            }
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

    /// The seat is left to the rest of a connection. Others that were answered before
    /// are looked after.
    fn close(&mut self, seat: usize, rest: Rest, now: Instant) {
        for _ in 0..LOOKS {
            if self.closing.front().is_some_and(|next| self.age(*next, now) >= SOON) {
                self.look_after_next(now);
            }
        }
        if let Some(seat) = self.all.get_mut(seat) {
            *seat = Seat { state: State::Closing(now, rest), waker: None };
        }
        self.closing.push_back(seat);
    }

    fn look_after_all(&mut self, now: Instant) {
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

    /// Frees the seat if the client has closed, too, or is out of time.
    fn look_after_next(&mut self, now: Instant) {
        let Some(seat) = self.closing.pop_front() else { return };
        let is_late = self.age(seat, now) >= CLOSE_TIME;
        if let Some(Seat { state: State::Closing(_, rest), .. }) = self.all.get_mut(seat) {
            match rest.is_over() || is_late {
                true => self.free(seat),
                false => self.closing.push_back(seat),
            }
        }
    }

    /// How long ago its connection was answered.
    fn age(&self, seat: usize, now: Instant) -> Duration {
        match self.all.get(seat) {
            Some(Seat { state: State::Closing(since, _), .. }) => now.duration_since(*since),
            _ => Duration::MAX,
        }
    }

    /// When the next connection that was answered is out of time; if there is none,
    /// nobody sees to them any more.
    fn next_to_close(&mut self) -> Option<Instant> {
        let closing = self.all.iter().filter_map(|seat| match seat.state {
            State::Closing(since, _) => Some(since + CLOSE_TIME),
            _ => None,
        });
        let next = closing.min();
        self.timer = self.timer.take().filter(|_| next.is_some());
        next
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
    use std::io::{self, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::io::{AsyncRead, ReadBuf};
    use tokio::time::{advance, timeout};

    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    /// What is left of a connection that was answered, and its client.
    async fn closing(places: &Arc<Places>) -> UnixStream {
        let (client, socket) = UnixStream::pair().unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        places.take().await.close(Rest::socket(socket.into()));
        client
    }

    /// Whether the client's connection was closed, and not reset.
    fn is_closed(mut client: &UnixStream) -> bool {
        client.read(&mut [0]).unwrap() == 0 && client.write(b"x").is_err()
    }

    fn free(places: &Places) -> usize {
        places.seats().free.len()
    }

    fn told(place: &Place) -> bool {
        ready(place.told_to_go()).is_some()
    }

    /// The value of a future that is ready at once.
    fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        match pin!(future).poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
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

    #[tokio::test(start_paused = true)]
    async fn who_was_answered_keeps_its_place_until_it_closes_and_another_is_answered() {
        let places = Arc::new(Places::new(9));
        let count = || places.seats().closing.len();
        let (first, second) = (closing(&places).await, closing(&places).await);
        drop(first);
        // It is too soon to look.
        let third = closing(&places).await;
        assert_eq!(count(), 3);
        advance(SOON).await;
        let _fourth = closing(&places).await;
        assert_eq!(count(), 3);
        // One that does not close is in nobody's way.
        drop(third);
        let _fifth = closing(&places).await;
        assert_eq!(count(), 3);
        assert!(!is_closed(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_close_is_closed_upon_after_5_s_although_nobody_else_asks() {
        let places = Arc::new(Places::new(9));
        for _ in 0..2 {
            let first = closing(&places).await;
            sleep_until(Instant::now() + CLOSE_TIME / 2).await;
            let second = closing(&places).await;
            let began = Instant::now();
            timeout(NEVER, places.freed.notified()).await.unwrap();
            assert_eq!(began.elapsed(), CLOSE_TIME / 2);
            assert!(is_closed(&first) && !is_closed(&second));
            timeout(NEVER, places.empty()).await.unwrap();
            assert_eq!(began.elapsed(), CLOSE_TIME);
            assert!(is_closed(&second));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_sends_after_its_answer_is_read_up_to_a_limit() {
        let places = Arc::new(Places::new(9));
        let mut client = closing(&places).await;
        for _ in 0..64 {
            assert_eq!(free(&places), 0);
            client.write_all(&[b'x'; 1024]).unwrap();
            places.seats().look_after_all(Instant::now());
        }
        assert_eq!(free(&places), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_limit_who_was_answered_long_ago_goes_at_once() {
        let places = Arc::new(Places::new(3));
        let silent = places.take().await;
        silent.idle();
        advance(SOON).await;
        let (first, second) = (closing(&places).await, closing(&places).await);
        // The longest idle is the silent one.
        assert_eq!(ready(places.take()).map(drop), None);
        assert!(told(&silent) && places.seats().closing.len() == 2);
        drop(silent);
        let _taken = [ready(places.take()).unwrap(), ready(places.take()).unwrap()];
        assert!(is_closed(&first) && !is_closed(&second));
        assert_eq!(places.seats().closing.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_closed_is_in_nobodys_way_at_the_end() {
        let places = Arc::new(Places::new(3));
        drop(closing(&places).await);
        assert!(ready(places.empty()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_at_the_limit_sees_no_reset_whatever_it_sent_after_its_answer() {
        let places = Arc::new(Places::new(1));
        let mut client = closing(&places).await;
        client.write_all(b"\r\n").unwrap();
        let _taken = places.take().await;
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
        let places = Arc::new(Places::new(2048));
        let looks = Arc::<AtomicUsize>::default();
        for _ in 0..CROWD {
            places.take().await.close(Rest::other(Looks(Arc::clone(&looks))));
            sleep_until(Instant::now() + CLOSE_TIME / CROWD).await;
        }
        sleep_until(Instant::now() + CLOSE_TIME).await;
        assert_eq!(free(&places), places.seats().all.len());
        // When another is answered, and at the end.
        let most = (LOOKS + 1) * usize::try_from(CROWD).unwrap();
        assert!(looks.load(SeqCst) <= most);
    }
}
