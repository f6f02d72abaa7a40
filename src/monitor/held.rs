//! Held connections: the one that stalled, and the scouts that were sent since.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio::time::{Instant, sleep_until};

use super::back_off::SCOUTS;
use crate::node::probe::{Answer, Failure, Milestone, Probe, Stalled, Step};

/// The connections of a stalled probe run and of its scouts, the oldest first. At least one.
pub(super) struct Held {
    pub(super) probes: Vec<HeldProbe>,
    /// When the oldest one is given up.
    pub(super) until: Instant,
    /// When the first one stalled.
    since: Instant,
    /// How many scouts were sent, apart from those that could not connect.
    scouts: usize,
    /// How many may be sent.
    limit: usize,
    /// When the next scout is due, if one is to be sent.
    next_scout: Option<Instant>,
}

/// A held connection.
pub(super) struct HeldProbe {
    pub(super) probe: Probe,
    /// Whether it is a scout within its deadlines.
    is_trying: bool,
}

/// An event of a held connection, with its index.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, moved once")]
pub(super) enum HeldEvent {
    /// The server accepted its login.
    LoggedIn(usize),
    /// The node answered, or the connection failed.
    Ended(usize, Result<Answer, Failure>),
    /// A scout was not answered within its deadline.
    ScoutStalled(usize, Stalled),
    /// Another scout is due.
    ScoutDue,
    /// The oldest connection is to be given up.
    Expired,
}

impl Held {
    /// Holds a probe run that stalled. `is_first`: scouts are sent. They were sent already if
    /// a connection was given up since the stall began.
    ///
    /// A causality check gets only one. The server goes on with a check for 30 s although its
    /// connection is closed, and the account's MAX_USER_CONNECTIONS counts it.
    pub(super) fn new(probe: Probe, until: Instant, is_first: bool, now: Instant) -> Self {
        let probes = vec![HeldProbe { probe, is_trying: false }];
        let is_check = probes.iter().any(|held| held.probe.step() == Step::Causality);
        let limit = match (is_first, is_check) {
            (true, false) => SCOUTS.len(),
            (true, true) => 1,
            (false, _) => 0,
        };
        let mut held = Self { probes, until, since: now, scouts: 0, limit, next_scout: None };
        held.schedule_scout();
        held
    }

    /// The oldest connection.
    pub(super) fn oldest(&self) -> Option<&Probe> {
        self.probes.first().map(|held| &held.probe)
    }

    /// Sends a scout at once, unless the node has as many connections as it may have.
    pub(super) fn hurry_scout(&mut self, now: Instant) {
        if self.probes.len() <= SCOUTS.len() {
            self.next_scout = Some(now);
        }
    }

    /// Adds a scout.
    pub(super) fn send_scout(&mut self, probe: Probe) {
        self.probes.push(HeldProbe { probe, is_trying: true });
        self.scouts = self.scouts.saturating_add(1);
        self.schedule_scout();
    }

    /// A scout ended without an answer. If it cost the server nothing, another one is sent at
    /// `again`.
    pub(super) fn scout_failed(&mut self, index: usize, again: Option<Instant>) -> Probe {
        let failed = self.probes.remove(index).probe;
        if again.is_some() {
            self.scouts = self.scouts.saturating_sub(1);
            self.next_scout = again;
        }
        failed
    }

    /// A scout passed its deadline in a step that is worth waiting for.
    pub(super) fn hold_scout(&mut self, index: usize) {
        if let Some(held) = self.probes.get_mut(index) {
            held.is_trying = false;
        }
    }

    /// One connection decides: the others are no longer needed.
    pub(super) fn keep_only(&mut self, index: usize) {
        let mut position = 0;
        self.probes.retain(|_| {
            position += 1;
            position == index + 1
        });
        if let Some(held) = self.probes.first_mut() {
            held.is_trying = false;
        }
    }

    /// Gives up the oldest connection. A scout takes its place, if there is one.
    pub(super) fn give_up_oldest(&mut self, now: Instant) -> Probe {
        let oldest = self.probes.remove(0).probe;
        if !self.probes.is_empty() {
            self.scouts = self.scouts.saturating_sub(1);
            self.next_scout = Some(now);
        }
        oldest
    }

    /// Waits for the next event. Cancel safe.
    pub(super) async fn next_event(&mut self) -> HeldEvent {
        let next_scout = self.next_scout;
        let until = self.until;
        let mut events: Vec<_> = self.probes.iter_mut().enumerate().map(event).collect();
        tokio::select! {
            biased;
            event = first(&mut events) => event,
            () = sleep_until(until) => HeldEvent::Expired,
            () = async {
                match next_scout {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            } => HeldEvent::ScoutDue,
        }
    }

    fn schedule_scout(&mut self) {
        let next = SCOUTS.get(self.scouts).filter(|_| self.scouts < self.limit);
        self.next_scout = next.map(|after| self.since + *after);
    }
}

type Event<'a> = Pin<Box<dyn Future<Output = HeldEvent> + Send + 'a>>;

/// The next event of one held connection.
fn event((index, held): (usize, &mut HeldProbe)) -> Event<'_> {
    Box::pin(async move {
        if held.is_trying {
            return match held.probe.run().await {
                Ok(outcome) => HeldEvent::Ended(index, outcome),
                Err(stalled) => HeldEvent::ScoutStalled(index, stalled),
            };
        }
        match held.probe.finish().await {
            Milestone::LoggedIn => HeldEvent::LoggedIn(index),
            Milestone::Ended(outcome) => HeldEvent::Ended(index, outcome),
        }
    })
}

/// The first of several events.
async fn first(events: &mut [Event<'_>]) -> HeldEvent {
    poll_fn(|context| {
        for event in &mut *events {
            if let Poll::Ready(event) = event.as_mut().poll(context) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    })
    .await
}
