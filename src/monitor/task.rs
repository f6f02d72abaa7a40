//! The monitor's task: takes requests and events of the probe run one at a time, and
//! answers the callers.

use std::fmt;
use std::mem;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use crate::galera::{self, Facts, Policy};
use crate::health::{Health, Role, Verdict};
use crate::node::connector::Connect;
use crate::node::probe::{Failure, LoginNotice, Probe, Stalled, Step};

use super::handle::{Caller, Handle, Request};
use super::prober::Prober;
use super::report::{Recorder, Report, Source};
use super::settings::Settings;
use super::state::{Event, State};
use super::tracker::Tracker;
use super::verdict_cache::{CachedVerdict, VerdictCache};

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
        let health = match &self.state {
            State::Idle => self.tracker.cached(now),
            State::Probing { .. } | State::Held { .. } => self.tracker.silent_verdict(now),
        };
        match (health, &mut self.state) {
            (Some(health), _) => {
                self.count_caller(Source::Cached);
                if self.tracker.back_off(now).is_some() {
                    // New credentials or certificates end the back-off.
                    self.prober.schedule_reread();
                }
                self.answer(health, [caller], &"no new answer from the node", now);
            }
            (None, State::Probing { callers, .. }) => {
                callers.push(caller);
                self.count_caller(Source::Shared);
            }
            (None, State::Idle | State::Held { .. }) => {
                self.count_caller(Source::Probe);
                self.start_probe(vec![caller]);
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
                self.replace_kept(probe, callers, &failure);
            }
            (State::Probing { probe, callers }, Event::Stalled(stalled)) if probe.is_repeated() => {
                self.replace_kept(probe, callers, &stalled);
            }
            (State::Probing { probe, callers }, Event::Ended(outcome)) => {
                self.probe_ended(probe, outcome, callers, now);
            }
            (State::Held { probe, .. }, Event::Ended(outcome)) => {
                self.probe_ended(probe, outcome, Vec::new(), now);
            }
            (State::Probing { probe, callers }, Event::Stalled(stalled)) => {
                debug!(%stalled, "probe run stalled");
                self.recorder.report.counters.count_timeout(stalled);
                let (health, hold) = self.tracker.probe_stalled(stalled, now);
                self.answer(health, callers, &stalled, now);
                match hold {
                    Some(until) => self.state = State::Held { probe, until },
                    None => self.recorder.probe_ended(&probe, Err(stalled.reason())),
                }
            }
            (State::Held { probe, .. }, Event::HoldExpired) => {
                let stalled = Stalled { step: probe.step(), waited: now - probe.started() };
                self.recorder.probe_ended(&probe, Err(stalled.reason()));
                self.recorder.report.counters.abandoned += u64::from(stalled.step != Step::Query);
                // The node sees one connection at a time: close this one first.
                drop(probe);
                self.tracker.hold_expired();
                self.start_probe(Vec::new());
            }
            // The other combinations do not occur.
            (state, _) => self.state = state,
        }
    }

    fn start_probe(&mut self, callers: Vec<Caller>) {
        self.login_changed = false;
        self.state = State::Probing { probe: self.prober.begin(), callers };
    }

    /// Continues on a new connection after a probe run on a kept one failed or stalled: the
    /// cause may be the connection and not the node. The callers wait for the new result.
    fn replace_kept(&mut self, failed: Probe, callers: Vec<Caller>, cause: &dyn fmt::Display) {
        debug!(%cause, "replacing the kept connection");
        self.recorder.report.counters.count_replaced();
        self.state = State::Probing { probe: self.prober.replace(failed), callers };
    }

    /// Closes the kept connection. A probe run under way closes its own when it ends.
    fn drop_kept(&mut self) {
        self.prober.drop_kept();
        if let State::Probing { probe, .. } | State::Held { probe, .. } = &mut self.state {
            probe.retire();
        }
    }

    fn probe_ended(
        &mut self,
        probe: Probe,
        outcome: Result<Facts, Failure>,
        callers: Vec<Caller>,
        now: Instant,
    ) {
        let (began, step) = (probe.started(), probe.step());
        debug!(?outcome, %step, took = ?now.duration_since(began), "probe run ended");
        let notice = probe.login_notice();
        if notice.is_some() && self.logged_notice != notice {
            self.logged_notice = notice;
            notice.into_iter().for_each(LoginNotice::log);
        }
        self.recorder.probe_ended(&probe, outcome.as_ref().map_err(Failure::reason));
        // A node that is refused to readers is refused for every role.
        let policy = self.policy;
        let judged = outcome.as_ref().map(|facts| galera::judge(facts, policy, Role::Reader));
        let health = self.tracker.probe_ended(judged, step, began, now);
        if mem::take(&mut self.login_changed) {
            self.tracker.reset_back_off();
        }
        match outcome {
            Ok(facts) => {
                let cause = facts.to_string();
                self.prober.remember(&facts);
                self.facts = facts;
                self.prober.keep(probe);
                self.answer(health, callers, &cause, now);
            }
            Err(failure) => self.answer(health, callers, &failure, now),
        }
    }

    /// Records `health`, which is the one for readers, and sends each caller the health
    /// for its role.
    fn answer(
        &mut self,
        health: Health,
        callers: impl IntoIterator<Item = Caller>,
        cause: &dyn fmt::Display,
        now: Instant,
    ) {
        self.record(health, cause, now);
        for Caller { role, reply } in callers {
            let _ = reply.send(self.for_role(health, role));
        }
    }

    fn record(&mut self, health: Health, cause: &dyn fmt::Display, now: Instant) {
        let healths = Role::ALL.map(|role| self.for_role(health, role));
        self.recorder.record(healths, cause, now);
    }

    /// The health for `role`, from the one for readers.
    fn for_role(&self, health: Health, role: Role) -> Health {
        match health.verdict {
            Verdict::Serve => galera::judge(&self.facts, self.policy, role).into(),
            Verdict::Refuse(_) => health,
        }
    }

    /// The verdict that every caller would get until the next event, if it may be cached.
    fn cacheable(&self, now: Instant) -> Option<CachedVerdict> {
        let State::Idle = self.state else { return None };
        let until = self.tracker.serves_until(now)?;
        let healths = Role::ALL.map(|role| self.for_role(Verdict::Serve.into(), role));
        // If the verdict has changed, the task itself answers the next caller, to record the
        // change.
        let is_recorded = self.recorder.report.verdicts == Some(healths);
        is_recorded.then_some(CachedVerdict { healths, until })
    }

    fn report(&self, now: Instant) -> Report {
        let activity = self.state.activity(now);
        let back_off = self.tracker.back_off(now);
        let mut report = Report { activity, back_off, ..self.recorder.report.clone() };
        report.counters.count_callers(Source::Cached, self.cache.hits());
        report
    }
}
