//! The task that owns a node: one dialogue at a time, however many ask, and no
//! asker waits for a node that is silent.

mod asking;
mod history;
mod report;

use std::fmt;
use std::future::pending;
use std::mem;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::connect::Connect;
use crate::galera::{self, Facts, Policy};
use crate::login::Login;
use crate::probe::{Deadlines, Dialogue, Failure, Stalled, Step};
use crate::verdict::{Health, Role, Verdict};

use asking::{Asker, Request};
use history::History;
use report::{Journal, Source};

pub use asking::Asking;
pub use report::{BUCKETS, Change, Doing, Ended, Histogram, Report, Tally};

/// Askers that wait to be heard; those beyond wait to be put in.
const QUEUE: usize = 64;

/// Said at the first login that works only as long as the server does not restart.
pub(crate) const RELIES_ON_CACHE: &str = "this login works only while the server has the \
    password in its cache (caching_sha2_password), and will fail after its next restart: \
    give --ssl-mode, or the server's socket as --target";

/// How a node is asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who logs in.
    pub login: Login,
    /// How long a dialogue may take.
    pub deadlines: Deadlines,
    /// What is wanted of the node.
    pub policy: Policy,
    /// How its verdicts hang together in time.
    pub timing: Timing,
}

/// How verdicts hang together in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How old a verdict may be that is given without asking; zero: always ask.
    pub max_age: Duration,
    /// The longest time that a node must stay fit after a stall; zero: none.
    pub settle: Duration,
    /// For how long a node that was fit is served on while it times out; zero:
    /// not at all.
    pub grace: Duration,
}

/// Owns a node and the one dialogue with it. It is a future like any other:
/// dropped, it closes its socket and leaves nothing.
pub struct Target {
    node: Box<dyn Connect>,
    settings: Settings,
    requests: mpsc::Receiver<Request>,
    state: State,
    history: History,
    /// What the node last said.
    facts: Facts,
    journal: Journal,
    warned: bool,
}

/// What the target is doing.
enum State {
    /// No dialogue. The next asker may begin one.
    Idle,
    /// A dialogue is under way within its deadlines; these wait for it.
    Under { dialogue: Dialogue, askers: Vec<Asker> },
    /// A dialogue stalled after the connect. It is kept open at the same step
    /// until the node wakes or the time comes.
    Held { dialogue: Dialogue, until: Instant },
}

/// What happens to a dialogue.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, moved once")]
enum Event {
    Ended(Result<Facts, Failure>),
    Stalled(Stalled),
    /// A dialogue was held for as long as it may be.
    HoldOver,
}

impl Target {
    /// A target and the way to ask it. Nothing is done before [`run`](Self::run).
    pub fn new(node: impl Connect + 'static, settings: Settings) -> (Self, Asking) {
        let (sender, requests) = mpsc::channel(QUEUE);
        let target = Self {
            node: Box::new(node),
            requests,
            state: State::Idle,
            history: History::new(settings.timing),
            settings,
            facts: Facts::default(),
            journal: Journal::default(),
            warned: false,
        };
        (target, Asking(sender))
    }

    /// Answers until every [`Asking`] is gone.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                // Of two at once, what the node said is known before an asker is told.
                biased;
                event = self.state.next() => self.happened(event, Instant::now()),
                request = self.requests.recv() => match request {
                    Some(request) => self.requested(request, Instant::now()),
                    None => return,
                },
                () = self.settings.login.changed() => self.history.forgive(),
            }
        }
    }

    fn requested(&mut self, request: Request, now: Instant) {
        match request {
            Request::Health(asker) => self.asked(asker, now),
            Request::Withheld(reason, answer) => {
                self.count(Source::Operator);
                let health = Verdict::Refuse(reason).into();
                self.note(health, &"the operator's wish", now);
                let _ = answer.send(health);
            }
            Request::Report(answer) => {
                let _ = answer.send(self.report(now));
            }
        }
    }

    fn asked(&mut self, asker: Asker, now: Instant) {
        let known = match &self.state {
            State::Idle => self.history.answer(now),
            State::Under { .. } | State::Held { .. } => self.history.silence(now),
        };
        match (known, &mut self.state) {
            (Some(health), _) => {
                self.count(Source::Known);
                if self.history.backing_off(now).is_some() {
                    // New credentials end it.
                    self.settings.login.poke();
                }
                self.tell(health, [asker], &"nothing new of the node", now);
            }
            (None, State::Under { askers, .. }) => {
                askers.push(asker);
                self.count(Source::Shared);
            }
            (None, State::Idle | State::Held { .. }) => {
                self.count(Source::Dialogue);
                self.begin(vec![asker]);
            }
        }
    }

    fn count(&mut self, source: Source) {
        self.journal.report.tally.asked(source);
    }

    fn happened(&mut self, event: Event, now: Instant) {
        match (mem::replace(&mut self.state, State::Idle), event) {
            (State::Under { dialogue, askers }, Event::Ended(outcome)) => {
                self.ended(&dialogue, outcome, askers, now);
            }
            (State::Held { dialogue, .. }, Event::Ended(outcome)) => {
                self.ended(&dialogue, outcome, Vec::new(), now);
            }
            (State::Under { dialogue, askers }, Event::Stalled(stalled)) => {
                debug!(%stalled, "dialogue stalled");
                self.journal.report.tally.stalled(stalled);
                let (health, hold) = self.history.stalled(stalled, now);
                self.tell(health, askers, &stalled, now);
                match hold {
                    Some(until) => self.state = State::Held { dialogue, until },
                    None => self.journal.ended(&dialogue, Err(stalled.reason())),
                }
            }
            (State::Held { dialogue, .. }, Event::HoldOver) => {
                let stalled = Stalled { step: dialogue.step(), waited: now - dialogue.began() };
                self.journal.ended(&dialogue, Err(stalled.reason()));
                self.journal.report.tally.abandoned += u64::from(stalled.step != Step::Query);
                drop(dialogue);
                self.history.abandoned();
                self.begin(Vec::new());
            }
            // A state makes no other events.
            (state, _) => self.state = state,
        }
    }

    fn begin(&mut self, askers: Vec<Asker>) {
        let Settings { login, deadlines, .. } = &self.settings;
        let dialogue = Dialogue::begin(&*self.node, login, *deadlines);
        self.state = State::Under { dialogue, askers };
    }

    fn ended(
        &mut self,
        dialogue: &Dialogue,
        outcome: Result<Facts, Failure>,
        askers: Vec<Asker>,
        now: Instant,
    ) {
        let (began, step) = (dialogue.began(), dialogue.step());
        debug!(?outcome, %step, took = ?now.duration_since(began), "dialogue ended");
        if dialogue.relies_on_cache() && !mem::replace(&mut self.warned, true) {
            warn!("{RELIES_ON_CACHE}");
        }
        let as_reason = outcome.as_ref().map_err(Failure::reason);
        self.journal.ended(dialogue, as_reason);
        // Who is refused to readers is refused to all.
        let policy = self.settings.policy;
        let judged = outcome.as_ref().map(|facts| galera::judge(facts, policy, Role::Reader));
        let health = self.history.ended(judged, step, began, now);
        match outcome {
            Ok(facts) => {
                let cause = facts.to_string();
                self.facts = facts;
                self.tell(health, askers, &cause, now);
            }
            Err(failure) => self.tell(health, askers, &failure, now),
        }
    }

    fn tell(
        &mut self,
        health: Health,
        askers: impl IntoIterator<Item = Asker>,
        cause: &dyn fmt::Display,
        now: Instant,
    ) {
        self.note(health, cause, now);
        for Asker { role, answer } in askers {
            let _ = answer.send(self.for_role(health, role));
        }
    }

    fn note(&mut self, health: Health, cause: &dyn fmt::Display, now: Instant) {
        let healths = Role::ALL.map(|role| self.for_role(health, role));
        self.journal.told(healths, cause, now);
    }

    /// What readers are told, as it is for another role.
    fn for_role(&self, health: Health, role: Role) -> Health {
        match health.verdict {
            Verdict::Serve => galera::judge(&self.facts, self.settings.policy, role).into(),
            Verdict::Refuse(_) => health,
        }
    }

    fn report(&self, now: Instant) -> Report {
        let doing = match &self.state {
            State::Idle => Doing::Idle,
            State::Under { dialogue, .. } => {
                Doing::Asking { step: dialogue.step(), so_far: now - dialogue.began() }
            }
            State::Held { dialogue, until } => Doing::Held {
                step: dialogue.step(),
                so_far: now - dialogue.began(),
                left: until.saturating_duration_since(now),
            },
        };
        Report { doing, backing_off: self.history.backing_off(now), ..self.journal.report.clone() }
    }
}

impl State {
    /// Cancelled at any point it loses nothing.
    async fn next(&mut self) -> Event {
        match self {
            State::Idle => pending().await,
            State::Under { dialogue, .. } => match dialogue.run().await {
                Ok(outcome) => Event::Ended(outcome),
                Err(stalled) => Event::Stalled(stalled),
            },
            State::Held { dialogue, until } => match timeout_at(*until, dialogue.finish()).await {
                Ok(outcome) => Event::Ended(outcome),
                Err(_) => Event::HoldOver,
            },
        }
    }
}
