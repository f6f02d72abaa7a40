//! The monitor's task: takes requests and events of the probe run one at a time, and
//! answers the callers.

mod answers;
mod holding;

use std::fmt;
use std::mem;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use crate::galera::{self, Facts, Policy};
use crate::health::{Role, Verdict};
use crate::node::connector::Connect;
use crate::node::probe::{Answer, Failure, LoginNotice, Probe, Stalled, Step};

use crate::monitor::handle::{Caller, Handle, Request};
use crate::monitor::held::Held;
use crate::monitor::prober::Prober;
use crate::monitor::report::{Recorder, Report, Source};
use crate::monitor::settings::Settings;
use crate::monitor::state::{Event, State};
use crate::monitor::tracker::{Ended, Tracker};
use crate::monitor::verdict_cache::VerdictCache;

/// Owns a node and the one probe run with it (law 2).
///
/// Dropping it, or the future of [`run`](Self::run), closes its connections and leaves no
/// task behind (law 5).
pub struct Monitor {
    requests: mpsc::Receiver<Request>,
    state: State,
    prober: Prober,
    policy: Policy,
    tracker: Tracker,
    /// Whether the credentials or certificates changed after the current probe run began.
    /// If it fails, no back-off starts, because the next probe run uses the new ones.
    login_changed: bool,
    /// The facts of the last probe run that the node answered.
    facts: Facts,
    recorder: Recorder,
    cache: Arc<VerdictCache>,
    /// The notice that was last logged. Each is logged once.
    logged_notice: Option<LoginNotice>,
}

/// How many requests the channel holds. While it is full, callers wait to send theirs.
const QUEUE: usize = 64;

impl Monitor {
    /// Returns a monitor and its handle. The monitor does nothing before
    /// [`run`](Self::run).
    pub fn new(node: impl Connect + 'static, settings: Settings) -> (Self, Handle) {
        let (sender, requests) = mpsc::channel(QUEUE);
        let cache: Arc<VerdictCache> = Arc::default();
        let handle = Handle { requests: sender, cache: Arc::clone(&cache) };
        let monitor = Self {
            requests,
            state: State::Idle,
            policy: settings.policy,
            tracker: Tracker::new(settings.timing),
            prober: Prober::new(node, settings),
            login_changed: false,
            facts: Facts::default(),
            recorder: Recorder::default(),
            cache,
            logged_notice: None,
        };
        (monitor, handle)
    }

    /// Answers requests until every [`Handle`] is dropped.
    pub async fn run(mut self) {
        loop {
            self.cache.store(self.cacheable(Instant::now()));
            tokio::select! {
                // If both are ready, handle the event first: the caller gets its result.
                biased;
                event = self.state.next_event() => self.handle_event(event, Instant::now()),
                request = self.requests.recv() => match request {
                    Some(request) => self.handle_request(request, Instant::now()),
                    None => return,
                },
                () = self.prober.login_change() => {
                    self.login_changed = true;
                    self.tracker.reset_back_off();
                    self.drop_kept();
                }
            }
        }
    }

    fn handle_request(&mut self, request: Request, now: Instant) {
        match request {
            Request::Health(caller) => self.handle_caller(caller, now),
            Request::Refuse(reason, reply) => {
                self.count_caller(Source::Operator);
                self.drop_kept();
                let health = Verdict::Refuse(reason).into();
                self.record(health, &"set by the operator", now);
                let _ = reply.send(health);
            }
            Request::Reload(reply) => {
                self.login_changed = true;
                self.tracker.reload();
                self.drop_kept();
                if let State::Held(held) = &mut self.state {
                    held.hurry_scout(now);
                }
                let _ = reply.send(());
            }
            Request::Report(reply) => {
                let _ = reply.send(self.report(now));
            }
        }
    }

    /// Answers a caller from the tracker, or adds it to the probe run under way, or
    /// starts a probe run.
    fn handle_caller(&mut self, caller: Caller, now: Instant) {
        let gives_up = self.tracker.gives_up_check(now);
        if gives_up {
            self.state = State::Idle;
        }
        let health = match &self.state {
            State::Idle => self.tracker.cached(now),
            State::Probing { .. } | State::Held(_) => self.tracker.silent_verdict(now),
        };
        match (health, &mut self.state) {
            (Some(health), state) => {
                let is_idle = matches!(state, State::Idle);
                let is_probe_due = gives_up || is_idle && self.tracker.is_probe_due(now);
                self.count_caller(Source::Cached);
                if self.tracker.back_off(now).is_some() {
                    // New credentials or certificates end the back-off.
                    self.prober.schedule_reread();
                }
                self.answer(health, [caller], &"no new answer from the node", now);
                if is_probe_due {
                    self.start_probe(Vec::new(), now);
                }
            }
            (None, State::Probing { callers, .. }) => {
                callers.push(caller);
                self.count_caller(Source::Shared);
            }
            (None, State::Idle | State::Held(_)) => {
                self.count_caller(Source::Probe);
                self.start_probe(vec![caller], now);
            }
        }
    }

    fn count_caller(&mut self, source: Source) {
        self.recorder.report.counters.count_callers(source, 1);
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match (mem::replace(&mut self.state, State::Idle), event) {
            (State::Probing { probe, callers }, Event::Ended(Err(failure)))
                if probe.is_repeated() =>
            {
                self.replace_kept(probe, callers, &failure, now);
            }
            (State::Probing { probe, callers }, Event::Stalled(stalled))
                if probe.is_repeated() && stalled.step != Step::Causality =>
            {
                self.replace_kept(probe, callers, &stalled, now);
            }
            (State::Probing { probe, callers }, Event::Ended(outcome)) => {
                self.probe_ended(probe, outcome, callers, false, now);
            }
            (State::Probing { probe, callers }, Event::Stalled(stalled)) => {
                self.probe_stalled(probe, stalled, callers, now);
            }
            (State::Held(held), Event::Held(event)) => self.handle_held(held, event, now),
            // The other combinations do not occur.
            (state, _) => self.state = state,
        }
    }

    fn probe_stalled(
        &mut self,
        probe: Probe,
        stalled: Stalled,
        callers: Vec<Caller>,
        now: Instant,
    ) {
        debug!(%stalled, "probe run stalled");
        self.recorder.report.counters.count_timeout(stalled);
        if stalled.step == Step::Causality {
            // The facts are complete, and fit.
            self.prober.remember(probe.facts());
            self.facts = probe.facts().clone();
        }
        let (health, hold) = self.tracker.probe_stalled(stalled, probe.started(), now);
        self.answer(health, callers, &stalled, now);
        match hold {
            Some(until) => {
                let is_first = !self.tracker.has_given_up();
                self.state = State::Held(Held::new(probe, until, is_first, now));
            }
            None => self.recorder.probe_ended(&probe, Err(stalled.reason())),
        }
    }

    fn start_probe(&mut self, callers: Vec<Caller>, now: Instant) {
        self.login_changed = false;
        let probe = self.prober.begin(self.tracker.wants_proof(now));
        self.state = State::Probing { probe, callers };
    }

    /// Continues on a new connection after a probe run on a kept one failed or stalled: the
    /// cause may be the connection and not the node. The callers wait for the new result.
    fn replace_kept(
        &mut self,
        failed: Probe,
        callers: Vec<Caller>,
        cause: &dyn fmt::Display,
        now: Instant,
    ) {
        debug!(%cause, "replacing the kept connection");
        self.recorder.report.counters.count_replaced();
        let probe = self.prober.replace(failed, self.tracker.wants_proof(now));
        self.state = State::Probing { probe, callers };
    }

    /// Closes the kept connection. A probe run under way closes its own when it ends.
    fn drop_kept(&mut self) {
        self.prober.drop_kept();
        self.state.retire();
    }

    /// `was_held`: the probe run stalled before it ended.
    fn probe_ended(
        &mut self,
        probe: Probe,
        outcome: Result<Answer, Failure>,
        callers: Vec<Caller>,
        was_held: bool,
        now: Instant,
    ) {
        let (began, step) = (probe.started(), probe.step());
        debug!(?outcome, %step, took = ?now.duration_since(began), "probe run ended");
        let notice = probe.login_notice();
        if notice.is_some() && self.logged_notice != notice {
            self.logged_notice = notice;
            notice.into_iter().for_each(LoginNotice::log);
        }
        let facts = outcome.as_ref().map(|answer| &answer.facts);
        self.recorder.probe_ended(&probe, facts.map_err(Failure::reason));
        // A node that is refused to readers is refused for every role.
        let policy = self.policy;
        let judged = outcome
            .as_ref()
            .map(|answer| (galera::judge(&answer.facts, policy, Role::Reader), answer.causality));
        let ended = Ended { outcome: judged, step, began, was_held };
        let health = self.tracker.probe_ended(ended, now);
        if mem::take(&mut self.login_changed) {
            self.tracker.reset_back_off();
        }
        match outcome {
            Ok(Answer { facts, .. }) => {
                let cause = facts.to_string();
                self.prober.remember(&facts);
                self.facts = facts;
                self.prober.keep(probe);
                self.answer(health, callers, &cause, now);
            }
            Err(failure) => self.answer(health, callers, &failure, now),
        }
    }

    fn report(&self, now: Instant) -> Report {
        let activity = self.state.activity(now);
        let back_off = self.tracker.back_off(now);
        let mut report = Report { activity, back_off, ..self.recorder.report.clone() };
        report.counters.count_callers(Source::Cached, self.cache.hits());
        report
    }
}
