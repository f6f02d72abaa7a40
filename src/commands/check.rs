//! `check`: queries the node once, or with `--via` a running probe.

use std::io;
use std::time::Duration;

use tracing::{debug, warn};

use super::via::{self, ProbeResponse};
use crate::cli::{Node, Url};
use crate::galera;
use crate::health::{Role, Verdict};
use crate::node::connector::Connector;
use crate::node::probe::{Probe, RELIES_ON_CACHE};

/// Asks the node once, within its deadlines.
pub(super) async fn node(node: &Node, role: Role) -> Verdict {
    let Node { address, security, settings } = node;
    let connector = Connector::secured(address, security.clone());
    let mut probe = Probe::begin(&connector, &settings.credentials, settings.deadlines);
    let outcome = probe.run().await;
    if probe.relies_on_cache() {
        warn!("{RELIES_ON_CACHE}");
    }
    debug!(?outcome, step = %probe.step(), took = ?probe.started().elapsed(), "probe run ended");
    let (verdict, cause) = match outcome {
        Ok(Ok(facts)) => (galera::judge(&facts, settings.policy, role), facts.to_string()),
        Ok(Err(failure)) => (Verdict::Refuse(failure.reason()), failure.to_string()),
        Err(stalled) => (Verdict::Refuse(stalled.reason()), stalled.to_string()),
    };
    if let Verdict::Refuse(reason) = verdict {
        warn!(target = %address, cause, advice = reason.advice(), "refuse, {reason}");
    }
    verdict
}

/// Asks a probe that is running, within `budget`: whether it answered 200, and what
/// it said.
///
/// # Errors
/// That it answered with what no probe answers: the URL is wrong.
pub(super) async fn running_probe(url: &Url, budget: Duration) -> io::Result<(bool, String)> {
    match via::query(url, budget).await {
        Ok(ProbeResponse { status: 200, line }) => Ok((true, line)),
        Ok(ProbeResponse { status: 503, line }) => Ok((false, line)),
        Ok(ProbeResponse { status, .. }) => Err(io::Error::other(format!(
            "--via: the answer's status is {status}: give the URL of one of a probe's paths"
        ))),
        Err(error) => Ok((false, format!("unreachable: the probe did not answer: {error}"))),
    }
}
