//! The task that owns a node: one probe run at a time, however many ask, and no
//! caller waits for a node that is silent.

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
use crate::node::credentials::CredentialSource;
use crate::node::probe::{Failure, Probe, RELIES_ON_CACHE, Stalled, Step};
use crate::node::tls::Tls;

use super::cached_verdict::{Cached, CachedVerdict};
use super::handle::{Caller, Handle, Request};
use super::report::{Activity, Recorder, Report, Source};
use super::settings::Settings;
use super::state::{Event, State};
use super::tracker::Tracker;

/// Callers that wait to be heard; those beyond wait to be put in.
const QUEUE: usize = 64;

/// Owns a node and the one probe run with it. It is a future like any other:
/// dropped, it closes its socket and leaves nothing.
pub struct Monitor {
    node: Box<dyn Connect>,
    tls: Option<Tls>,
    settings: Settings,
    requests: mpsc::Receiver<Request>,
    state: State,
    /// Logged in, and to be asked again; none while a probe run is under way.
    kept: Option<Probe>,
    tracker: Tracker,
    /// The probe run under way began with other credentials or certificates than there
    /// are now, so that its failure tells nothing of the next.
    outdated: bool,
    /// What the node last said.
    facts: Facts,
    recorder: Recorder,
    cached_verdict: Arc<CachedVerdict>,
    warned: bool,
}

impl Monitor {
    /// A target and the way to ask it. Nothing is done before [`run`](Self::run).
    pub fn new(node: impl Connect + 'static, settings: Settings) -> (Self, Handle) {
        let (sender, requests) = mpsc::channel(QUEUE);
        let cached_verdict: Arc<CachedVerdict> = Arc::default();
        let handle = Handle { requests: sender, cached_verdict: Arc::clone(&cached_verdict) };
        let monitor = Self {
            tls: node.security().tls,
            node: Box::new(node),
            requests,
            state: State::Idle,
            kept: None,
            tracker: Tracker::new(settings.timing),
            settings,
            outdated: false,
            facts: Facts::default(),
            recorder: Recorder::default(),
            cached_verdict,
            warned: false,
        };
        (monitor, handle)
    }

    /// Answers until every [`Handle`] is gone.
    pub async fn run(mut self) {
        loop {
            self.cached_verdict.store(self.cacheable(Instant::now()));
            tokio::select! {
                // Of two at once, what the node said is known before a caller is told.
                biased;
                event = self.state.next() => self.handle_event(event, Instant::now()),
                request = self.requests.recv() => match request {
                    Some(request) => self.handle_request(request, Instant::now()),
                    None => return,
                },
                () = changed(&mut self.settings.login, &mut self.tls) => {
                    self.outdated = true;
                    self.tracker.reset_back_off();
                    self.drop_kept();
                }
            }
        }
    }

    fn handle_request(&mut self, request: Request, now: Instant) {
        match request {
            Request::Health(caller) => self.handle_caller(caller, now),
            Request::Refuse(reason, answer) => {
                self.count(Source::Operator);
                self.drop_kept();
                let health = Verdict::Refuse(reason).into();
                self.record(health, &"the operator's wish", now);
                let _ = answer.send(health);
            }
            Request::Report(answer) => {
                let _ = answer.send(self.report(now));
            }
        }
    }

    fn handle_caller(&mut self, caller: Caller, now: Instant) {
        let known = match &self.state {
            State::Idle => self.tracker.cached(now),
            State::Probing { .. } | State::Held { .. } => self.tracker.silent_verdict(now),
        };
        match (known, &mut self.state) {
            (Some(health), _) => {
                self.count(Source::Cached);
                if self.tracker.back_off(now).is_some() {
                    // What is new in the files ends it.
                    self.settings.login.schedule_reread();
                    self.tls.iter().for_each(Tls::schedule_reread);
                }
                self.answer(health, [caller], &"nothing new of the node", now);
            }
            (None, State::Probing { callers, .. }) => {
                callers.push(caller);
                self.count(Source::Shared);
            }
            (None, State::Idle | State::Held { .. }) => {
                self.count(Source::Probe);
                self.start_probe(vec![caller]);
            }
        }
    }

    fn count(&mut self, source: Source) {
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
                drop(probe);
                self.tracker.abandoned();
                self.start_probe(Vec::new());
            }
            // A state makes no other events.
            (state, _) => self.state = state,
        }
    }

    fn start_probe(&mut self, callers: Vec<Caller>) {
        let Settings { login, deadlines, timing, .. } = &self.settings;
        self.outdated = false;
        // Files are looked at while the node is asked; the password's at each login.
        self.tls.iter().for_each(Tls::schedule_reread);
        let kept = self.kept.take().and_then(|kept| kept.repeat(*deadlines));
        if kept.is_some() {
            login.schedule_reread();
        }
        let probe = kept.unwrap_or_else(|| {
            Probe::begin(&*self.node, login, *deadlines).kept(timing.keep_connection)
        });
        self.state = State::Probing { probe, callers };
    }

    /// What a kept connection does not answer, or answers with an error, is no word of
    /// the node's: a new one tells, to the same callers and within their time.
    fn replace_kept(&mut self, kept: Probe, callers: Vec<Caller>, cause: &dyn fmt::Display) {
        debug!(%cause, "the kept connection is replaced");
        self.recorder.report.counters.count_replaced();
        let Settings { login, deadlines, .. } = &self.settings;
        let probe = kept.replace(&*self.node, login, *deadlines);
        self.state = State::Probing { probe, callers };
    }

    /// Keeps no connection: neither the one that is kept, nor the one under way.
    fn drop_kept(&mut self) {
        self.kept = None;
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
        if probe.relies_on_cache() && !mem::replace(&mut self.warned, true) {
            warn!("{RELIES_ON_CACHE}");
        }
        let as_reason = outcome.as_ref().map_err(Failure::reason);
        self.recorder.probe_ended(&probe, as_reason);
        // Who is refused to readers is refused to all.
        let policy = self.settings.policy;
        let judged = outcome.as_ref().map(|facts| galera::judge(facts, policy, Role::Reader));
        let health = self.tracker.probe_ended(judged, step, began, now);
        if mem::take(&mut self.outdated) {
            self.tracker.reset_back_off();
        }
        match outcome {
            Ok(facts) => {
                let cause = facts.to_string();
                self.facts = facts;
                self.kept = probe.is_kept().then_some(probe);
                self.answer(health, callers, &cause, now);
            }
            Err(failure) => self.answer(health, callers, &failure, now),
        }
    }

    fn answer(
        &mut self,
        health: Health,
        callers: impl IntoIterator<Item = Caller>,
        cause: &dyn fmt::Display,
        now: Instant,
    ) {
        self.record(health, cause, now);
        for Caller { role, answer } in callers {
            let _ = answer.send(self.for_role(health, role));
        }
    }

    fn record(&mut self, health: Health, cause: &dyn fmt::Display, now: Instant) {
        let healths = Role::ALL.map(|role| self.for_role(health, role));
        self.recorder.record(healths, cause, now);
    }

    /// What readers are told, as it is for another role.
    fn for_role(&self, health: Health, role: Role) -> Health {
        match health.verdict {
            Verdict::Serve => galera::judge(&self.facts, self.settings.policy, role).into(),
            Verdict::Refuse(_) => health,
        }
    }

    /// What would be told to everybody who asks before anything else happens.
    pub(super) fn cacheable(&self, now: Instant) -> Option<Cached> {
        let State::Idle = self.state else { return None };
        let until = self.tracker.serves_until(now)?;
        let healths = Role::ALL.map(|role| self.for_role(Verdict::Serve.into(), role));
        // Where it is news, the target tells it.
        (self.recorder.report.verdicts == Some(healths)).then_some(Cached { healths, until })
    }

    pub(super) fn report(&self, now: Instant) -> Report {
        let activity = match &self.state {
            State::Idle => Activity::Idle,
            State::Probing { probe, .. } => {
                Activity::Probing { step: probe.step(), so_far: now - probe.started() }
            }
            State::Held { probe, until } => Activity::Held {
                step: probe.step(),
                so_far: now - probe.started(),
                left: until.saturating_duration_since(now),
            },
        };
        let back_off = self.tracker.back_off(now);
        let mut report = Report { activity, back_off, ..self.recorder.report.clone() };
        report.counters.count_callers(Source::Cached, self.cached_verdict.hits());
        report
    }
}

/// Returns when who logs in, or with which certificates, has changed.
async fn changed(login: &mut CredentialSource, tls: &mut Option<Tls>) {
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
