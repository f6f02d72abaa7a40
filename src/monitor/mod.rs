//! The task that owns a node: one dialogue at a time, however many ask, and no
//! asker waits for a node that is silent.

mod asking;
mod history;
mod notice;
mod report;
mod settings;
mod state;

use std::fmt;
use std::future::pending;
use std::mem;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::galera::{self, Facts};
use crate::health::{Health, Role, Verdict};
use crate::node::connector::Connect;
use crate::node::credentials::Login;
use crate::node::probe::{Dialogue, Failure, Stalled, Step};
use crate::node::tls::Tls;

use asking::{Asker, Request};
use history::History;
use notice::Notice;
use report::{Journal, Source};
use state::{Event, State};

pub use asking::Asking;
pub use report::{BUCKETS, Change, Doing, Ended, Histogram, Report, Tally};
pub use settings::{Settings, Timing};

/// Askers that wait to be heard; those beyond wait to be put in.
const QUEUE: usize = 64;

/// Said at the first login that works only as long as the server does not restart.
pub(crate) const RELIES_ON_CACHE: &str = "this login works only while the server has the \
    password in its cache (caching_sha2_password), and will fail after its next restart: \
    give --ssl-mode verify-ca or verify-identity, or the server's socket as --target";

/// Owns a node and the one dialogue with it. It is a future like any other:
/// dropped, it closes its socket and leaves nothing.
pub struct Target {
    node: Box<dyn Connect>,
    tls: Option<Tls>,
    settings: Settings,
    requests: mpsc::Receiver<Request>,
    state: State,
    /// Logged in, and to be asked again; none while a dialogue is under way.
    kept: Option<Dialogue>,
    history: History,
    /// The dialogue under way began with other credentials or certificates than there
    /// are now, so that its failure tells nothing of the next.
    outdated: bool,
    /// What the node last said.
    facts: Facts,
    journal: Journal,
    notice: Arc<Notice>,
    warned: bool,
}

impl Target {
    /// A target and the way to ask it. Nothing is done before [`run`](Self::run).
    pub fn new(node: impl Connect + 'static, settings: Settings) -> (Self, Asking) {
        let (sender, requests) = mpsc::channel(QUEUE);
        let notice: Arc<Notice> = Arc::default();
        let asking = Asking { requests: sender, notice: Arc::clone(&notice) };
        let target = Self {
            tls: node.security().tls,
            node: Box::new(node),
            requests,
            state: State::Idle,
            kept: None,
            history: History::new(settings.timing),
            settings,
            outdated: false,
            facts: Facts::default(),
            journal: Journal::default(),
            notice,
            warned: false,
        };
        (target, asking)
    }

    /// Answers until every [`Asking`] is gone.
    pub async fn run(mut self) {
        loop {
            self.notice.post(self.standing(Instant::now()));
            tokio::select! {
                // Of two at once, what the node said is known before an asker is told.
                biased;
                event = self.state.next() => self.happened(event, Instant::now()),
                request = self.requests.recv() => match request {
                    Some(request) => self.requested(request, Instant::now()),
                    None => return,
                },
                () = changed(&mut self.settings.login, &mut self.tls) => {
                    self.outdated = true;
                    self.history.forgive();
                    self.let_go();
                }
            }
        }
    }

    fn requested(&mut self, request: Request, now: Instant) {
        match request {
            Request::Health(asker) => self.asked(asker, now),
            Request::Withheld(reason, answer) => {
                self.count(Source::Operator);
                self.let_go();
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
                    // What is new in the files ends it.
                    self.settings.login.poke();
                    self.tls.iter().for_each(Tls::poke);
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
        self.journal.report.tally.asked(source, 1);
    }

    fn happened(&mut self, event: Event, now: Instant) {
        match (mem::replace(&mut self.state, State::Idle), event) {
            (State::Under { dialogue, askers }, Event::Ended(Err(failure)))
                if dialogue.is_again() =>
            {
                self.replace(dialogue, askers, &failure);
            }
            (State::Under { dialogue, askers }, Event::Stalled(stalled)) if dialogue.is_again() => {
                self.replace(dialogue, askers, &stalled);
            }
            (State::Under { dialogue, askers }, Event::Ended(outcome)) => {
                self.ended(dialogue, outcome, askers, now);
            }
            (State::Held { dialogue, .. }, Event::Ended(outcome)) => {
                self.ended(dialogue, outcome, Vec::new(), now);
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
        let Settings { login, deadlines, timing, .. } = &self.settings;
        self.outdated = false;
        // Files are looked at while the node is asked; the password's at each login.
        self.tls.iter().for_each(Tls::poke);
        let kept = self.kept.take().and_then(|kept| kept.ask_again(*deadlines));
        if kept.is_some() {
            login.poke();
        }
        let dialogue = kept.unwrap_or_else(|| {
            Dialogue::begin(&*self.node, login, *deadlines).kept(timing.keep_connection)
        });
        self.state = State::Under { dialogue, askers };
    }

    /// What a kept connection does not answer, or answers with an error, is no word of
    /// the node's: a new one tells, to the same askers and within their time.
    fn replace(&mut self, kept: Dialogue, askers: Vec<Asker>, cause: &dyn fmt::Display) {
        debug!(%cause, "the kept connection is replaced");
        self.journal.report.tally.replaced();
        let Settings { login, deadlines, .. } = &self.settings;
        let dialogue = kept.replace(&*self.node, login, *deadlines);
        self.state = State::Under { dialogue, askers };
    }

    /// Keeps no connection: neither the one that is kept, nor the one under way.
    fn let_go(&mut self) {
        self.kept = None;
        if let State::Under { dialogue, .. } | State::Held { dialogue, .. } = &mut self.state {
            dialogue.retire();
        }
    }

    fn ended(
        &mut self,
        dialogue: Dialogue,
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
        self.journal.ended(&dialogue, as_reason);
        // Who is refused to readers is refused to all.
        let policy = self.settings.policy;
        let judged = outcome.as_ref().map(|facts| galera::judge(facts, policy, Role::Reader));
        let health = self.history.ended(judged, step, began, now);
        if mem::take(&mut self.outdated) {
            self.history.forgive();
        }
        match outcome {
            Ok(facts) => {
                let cause = facts.to_string();
                self.facts = facts;
                self.kept = dialogue.is_kept().then_some(dialogue);
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
}

/// Returns when who logs in, or with which certificates, has changed.
async fn changed(login: &mut Login, tls: &mut Option<Tls>) {
    let certificates = async {
        match tls {
            Some(tls) => tls.changed().await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = login.changed() => {}
        () = certificates => {}
    }
}
