//! Begins probe runs: on a new connection or on the kept one, with the current credentials
//! and certificates.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use super::settings::Settings;
use crate::galera::{Facts, KnownVariables, Policy};
use crate::node::connector::Connect;
use crate::node::credentials::CredentialSource;
use crate::node::probe::{Deadlines, Probe, Questions};
use crate::node::tls::Tls;

/// Connects to one node and logs in.
pub(super) struct Prober {
    node: Box<dyn Connect>,
    tls: Option<Tls>,
    credentials: CredentialSource,
    deadlines: Deadlines,
    keep_connection: Duration,
    /// The last probe run, if its connection stays logged in for the next one
    /// (`--keep-connection`). `None` while a probe run is under way.
    kept: Option<Probe>,
    /// The variables that the node had when it was last probed, whichever server it was.
    known: Option<Arc<KnownVariables>>,
    policy: Policy,
}

impl Prober {
    pub(super) fn new(node: impl Connect + 'static, settings: Settings) -> Self {
        Self {
            tls: node.security().tls,
            policy: settings.policy,
            node: Box::new(node),
            credentials: settings.credentials,
            deadlines: settings.deadlines,
            keep_connection: settings.timing.keep_connection,
            kept: None,
            known: None,
        }
    }

    /// Begins a probe run, on the kept connection if there is one. `causality`: a fit node is
    /// asked for a causality check.
    pub(super) fn begin(&mut self, causality: bool) -> Probe {
        // Read the files while the node is probed. A login reads the password file itself,
        // so only a kept connection needs a re-read of the credentials.
        self.tls.iter().for_each(Tls::schedule_reread);
        let questions = self.questions(causality);
        let kept = self.kept.take();
        let kept = kept.and_then(|kept| kept.repeat(self.deadlines, questions.clone()));
        if kept.is_some() {
            self.credentials.schedule_reread();
        }
        kept.unwrap_or_else(|| {
            Probe::begin(&*self.node, &self.credentials, self.deadlines, questions)
                .kept(self.keep_connection)
        })
    }

    /// Begins a probe run on a new connection, to replace one that failed on the kept
    /// connection. It gets the time that the callers of the failed one have left.
    pub(super) fn replace(&self, failed: Probe, causality: bool) -> Probe {
        let questions = self.questions(causality);
        failed.replace(&*self.node, &self.credentials, self.deadlines, questions)
    }

    /// Begins a probe run on another connection, while one or two are held.
    pub(super) fn scout(&self, causality: bool) -> Probe {
        let questions = self.questions(causality);
        Probe::begin(&*self.node, &self.credentials, self.deadlines, questions)
            .kept(self.keep_connection)
    }

    fn questions(&self, causality: bool) -> Questions {
        Questions { known: self.known.clone(), causality: causality.then_some(self.policy) }
    }

    /// Remembers which variables the node has, so that the next probe run can SELECT them.
    pub(super) fn remember(&mut self, facts: &Facts) {
        if !self.known.as_ref().is_some_and(|known| known.is_answered_by(facts)) {
            self.known = KnownVariables::of(facts).map(Arc::new);
        }
    }

    /// Keeps the connection of a probe run that the node answered, if it may be kept.
    pub(super) fn keep(&mut self, probe: Probe) {
        self.kept = probe.is_kept().then_some(probe);
    }

    /// Closes the kept connection.
    pub(super) fn drop_kept(&mut self) {
        self.kept = None;
    }

    /// Schedules a re-read of the credentials and certificates, so that
    /// [`login_change`](Self::login_change) detects new ones.
    pub(super) fn schedule_reread(&self) {
        self.credentials.schedule_reread();
        self.tls.iter().for_each(Tls::schedule_reread);
    }

    /// Returns when the credentials or the certificates have changed.
    pub(super) async fn login_change(&mut self) {
        let certificates = async {
            match &mut self.tls {
                Some(tls) => tls.changed().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.credentials.changed() => {}
            () = certificates => {}
        }
    }
}
