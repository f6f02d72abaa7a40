//! The task that owns a node: one dialogue at a time, however many ask, and no
//! asker waits for a node that is silent.

mod history;

use std::fmt;
use std::future::pending;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use crate::connect::Connect;
use crate::galera::{self, Facts, Policy};
use crate::mysql::Credentials;
use crate::probe::{Deadlines, Dialogue, Failure, Stalled};
use crate::verdict::{Health, Reason, Verdict};

use history::History;

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
    pub credentials: Arc<Credentials>,
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

/// The way to ask. Clones ask the same node.
#[derive(Clone, Debug)]
pub struct Asking(mpsc::Sender<Asker>);

/// Where an answer goes. It may be gone by then: that costs nothing.
type Asker = oneshot::Sender<Health>;

impl Asking {
    /// The node's health, within the dialogue's whole deadline. Dropped, it
    /// cancels nobody else's.
    pub async fn ask(&self) -> Health {
        let (asker, answer) = oneshot::channel();
        let stopping = Verdict::Refuse(Reason::Stopping).into();
        match self.0.send(asker).await {
            Ok(()) => answer.await.unwrap_or(stopping),
            Err(_) => stopping,
        }
    }
}

/// Owns a node and the one dialogue with it. It is a future like any other:
/// dropped, it closes its socket and leaves nothing.
pub struct Target {
    node: Box<dyn Connect>,
    settings: Settings,
    askers: mpsc::Receiver<Asker>,
    state: State,
    history: History,
    told: Option<Verdict>,
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
        let (sender, askers) = mpsc::channel(QUEUE);
        let target = Self {
            node: Box::new(node),
            askers,
            state: State::Idle,
            history: History::new(settings.timing),
            settings,
            told: None,
            warned: false,
        };
        (target, Asking(sender))
    }

    /// Answers until every [`Asking`] is gone.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                asker = self.askers.recv() => match asker {
                    Some(asker) => self.asked(asker, Instant::now()),
                    None => return,
                },
                event = self.state.next() => self.happened(event, Instant::now()),
            }
        }
    }

    fn asked(&mut self, asker: Asker, now: Instant) {
        let known = match &self.state {
            State::Idle => self.history.answer(now),
            State::Under { .. } | State::Held { .. } => self.history.silence(now),
        };
        match (known, &mut self.state) {
            (Some(health), _) => self.tell(health, vec![asker], &"nothing new of the node"),
            (None, State::Under { askers, .. }) => askers.push(asker),
            (None, State::Idle | State::Held { .. }) => self.begin(vec![asker]),
        }
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
                let (health, hold) = self.history.stalled(stalled, now);
                self.tell(health, askers, &stalled);
                if let Some(until) = hold {
                    self.state = State::Held { dialogue, until };
                }
            }
            (State::Held { dialogue, .. }, Event::HoldOver) => {
                drop(dialogue);
                self.history.abandoned();
                self.begin(Vec::new());
            }
            // A state makes no other events.
            (state, _) => self.state = state,
        }
    }

    fn begin(&mut self, askers: Vec<Asker>) {
        let Settings { credentials, deadlines, .. } = &self.settings;
        let dialogue = Dialogue::begin(&*self.node, credentials, *deadlines);
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
        let judged = outcome.as_ref().map(|facts| galera::judge(facts, self.settings.policy));
        let health = self.history.ended(judged, step, began, now);
        match &outcome {
            Ok(facts) => self.tell(health, askers, facts),
            Err(failure) => self.tell(health, askers, failure),
        }
    }

    /// Answers askers, and tells the log when the verdict is another.
    fn tell(&mut self, health: Health, askers: Vec<Asker>, cause: &dyn fmt::Display) {
        let verdict = health.verdict;
        if self.told.replace(verdict) != Some(verdict) {
            match verdict {
                Verdict::Serve => info!(%cause, "serve: {health}"),
                Verdict::Refuse(reason) => warn!(%cause, "refuse, {reason}: {health}"),
            }
        }
        for asker in askers {
            // One that has gone away costs nothing.
            let _ = asker.send(health);
        }
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
