//! What is remembered of a node from one dialogue to the next, and what follows
//! from it: functions of what happened and the time, without a dialogue in them.

use std::time::Duration;

use tokio::time::Instant;

use super::Timing;
use crate::probe::{Failure, Stalled, Step};
use crate::verdict::{Health, Reason, Time, Verdict};

/// The first time that a stalled dialogue is held, and that is waited after a
/// handshake that could not be finished.
const FIRST_HOLD: Duration = Duration::from_secs(5);

/// The longest. With doubling up to it, a stall of 24 h costs 79 connections,
/// under the 100 (max_connect_errors) that block an address.
const LAST_HOLD: Duration = Duration::from_secs(20 * 60);

#[derive(Debug)]
pub(super) struct History {
    timing: Timing,
    /// The last verdict, and when it was reached.
    last: Option<(Verdict, Instant)>,
    /// Dialogues since the last completed login that were closed while they
    /// stalled, or whose handshake could not be finished.
    abandoned: u32,
    /// No dialogue begins before this.
    not_before: Option<Instant>,
    /// The node is stalled: it has said nothing since.
    stall: Option<Stall>,
    settling: Option<Settling>,
    /// When the node was last found fit, and not settling.
    fit: Option<Instant>,
}

#[derive(Debug)]
struct Stall {
    /// When the first step that stalled began.
    since: Instant,
    /// The last that stalled.
    last: Stalled,
}

/// After a stall, until the node has stayed fit for long enough.
#[derive(Debug)]
struct Settling {
    woke: Instant,
    needed: Duration,
    /// The first of the dialogues that found it fit without a break, of those
    /// that began after it woke.
    fit_since: Option<Instant>,
}

impl History {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            last: None,
            abandoned: 0,
            not_before: None,
            stall: None,
            settling: None,
            fit: None,
        }
    }

    /// What an asker is told without asking the node; `None` when the node is
    /// to be asked.
    pub(super) fn answer(&self, now: Instant) -> Option<Health> {
        if let Some(health) = self.silence(now) {
            return Some(health);
        }
        let (verdict, at) = self.last?;
        let fresh = now.duration_since(at) < self.timing.max_age;
        let backing_off = self.not_before.is_some_and(|begin| now < begin);
        (fresh || backing_off).then(|| self.health(verdict, now))
    }

    /// What an asker is told while the node, once connected, is known to say
    /// nothing: nobody waits for it then. A connection that does not come about
    /// is no such thing, since each asker's attempt at it is a new one.
    pub(super) fn silence(&self, now: Instant) -> Option<Health> {
        let stall = self.stall.as_ref().filter(|stall| stall.last.step != Step::Connect)?;
        Some(self.health(Verdict::Refuse(stall.last.reason()), now))
    }

    /// A dialogue stalled. What its askers are told, and until when it is held;
    /// `None` when it is to be dropped, as it costs the node nothing.
    pub(super) fn stalled(&mut self, stalled: Stalled, now: Instant) -> (Health, Option<Instant>) {
        let since = now.checked_sub(stalled.waited).unwrap_or(now);
        let since = self.stall.as_ref().map_or(since, |earlier| earlier.since);
        self.stall = Some(Stall { since, last: stalled });
        let verdict = Verdict::Refuse(stalled.reason());
        self.last = Some((verdict, now));
        let held = stalled.step != Step::Connect;
        (self.health(verdict, now), held.then(|| now + hold(self.abandoned)))
    }

    /// A held dialogue was closed at its limit.
    pub(super) fn abandoned(&mut self) {
        self.abandoned = self.abandoned.saturating_add(1);
    }

    /// A dialogue that began at `begun` ended, with the verdict on its facts or
    /// a failure. `step` is how far it came.
    pub(super) fn ended(
        &mut self,
        outcome: Result<Verdict, &Failure>,
        step: Step,
        begun: Instant,
        now: Instant,
    ) -> Health {
        self.not_before = None;
        if step == Step::Query {
            self.abandoned = 0;
        } else if outcome.is_err_and(|failure| backs_off(failure, step)) {
            self.not_before = Some(now + hold(self.abandoned));
            self.abandoned();
        }
        let stall = self.stall.take();
        if let Some(stall) = &stall {
            self.woke(now, now.duration_since(stall.since));
        }
        let verdict = match outcome {
            Ok(Verdict::Serve) => self.settled(begun, now),
            Ok(refused) => refused,
            Err(failure) => Verdict::Refuse(failure.reason()),
        };
        match (verdict, &mut self.settling) {
            (Verdict::Serve, _) => self.fit = Some(now),
            (Verdict::Refuse(Reason::Settling), _) | (_, None) => {}
            (Verdict::Refuse(_), Some(settling)) => settling.fit_since = None,
        }
        // The dialogue that settles is the next one: it need not wait.
        let woke_fit = stall.is_some() && verdict == Verdict::Refuse(Reason::Settling);
        self.last = (!woke_fit).then_some((verdict, now));
        self.health(verdict, now)
    }

    fn woke(&mut self, now: Instant, stalled: Duration) {
        // Grace kept the node in service all along: there is nothing to return to.
        if self.has_grace(now) {
            return;
        }
        let earlier = self.settling.as_ref().map_or(Duration::ZERO, |settling| settling.needed);
        let needed = settling_time(stalled, self.timing.settle).max(earlier);
        if !needed.is_zero() {
            self.settling = Some(Settling { woke: now, needed, fit_since: None });
        }
    }

    /// The verdict on a node that was found fit.
    fn settled(&mut self, begun: Instant, now: Instant) -> Verdict {
        let Some(settling) = &mut self.settling else { return Verdict::Serve };
        // What was asked before it woke, it may answer from before it slept.
        if begun >= settling.woke {
            let since = *settling.fit_since.get_or_insert(now);
            if now.duration_since(since) >= settling.needed {
                self.settling = None;
                return Verdict::Serve;
            }
        }
        Verdict::Refuse(Reason::Settling)
    }

    fn health(&self, verdict: Verdict, now: Instant) -> Health {
        match (verdict, &self.stall, &self.settling) {
            (Verdict::Refuse(_), Some(_), _) if self.has_grace(now) => Verdict::Serve.into(),
            (Verdict::Refuse(_), Some(stall), _) => {
                Health { verdict, time: Some(Time::For(now.duration_since(stall.since))) }
            }
            (Verdict::Refuse(Reason::Settling), None, Some(settling)) => {
                let fit = settling.fit_since.map_or(Duration::ZERO, |since| now - since);
                Health { verdict, time: Some(Time::Left(settling.needed.saturating_sub(fit))) }
            }
            _ => verdict.into(),
        }
    }

    /// A node that times out is served on for a while.
    fn has_grace(&self, now: Instant) -> bool {
        self.fit.is_some_and(|fit| now.duration_since(fit) < self.timing.grace)
    }
}

/// How long to hold a stalled dialogue, or to wait after an unfinished
/// handshake, when `abandoned` were before it.
fn hold(abandoned: u32) -> Duration {
    FIRST_HOLD.saturating_mul(2_u32.saturating_pow(abandoned)).min(LAST_HOLD)
}

/// For how long a node must stay fit after it was stalled.
fn settling_time(stalled: Duration, most: Duration) -> Duration {
    stalled.saturating_mul(2).min(most)
}

/// Whether asking again at once would count against the prober's address, or
/// could not succeed.
fn backs_off(failure: &Failure, step: Step) -> bool {
    match failure {
        Failure::Connect(_) => false,
        Failure::Broken { .. } => step != Step::Query,
        Failure::Session(crate::mysql::Error::Refused(_)) | Failure::Statement(_) => {
            matches!(failure.reason(), Reason::HostBlocked | Reason::AccessDenied)
        }
        Failure::Session(_) | Failure::Answer => step != Step::Query,
    }
}
