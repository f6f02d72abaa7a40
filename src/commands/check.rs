//! The command `check`: probes the node once, or queries a running probe with `--via`.

use std::io;
use std::time::Duration;

use tracing::{debug, warn};

use super::via::{self, ProbeResponse};
use crate::cli::{Node, Url};
use crate::galera;
use crate::health::{Reason, Role, Verdict};
use crate::monitor::CausalityCheck;
use crate::node::connector::Connector;
use crate::node::probe::{Answer, Causality, LoginNotice, Probe, Questions, Step};

/// Probes the node once, within its deadlines, and logs the cause of a refusal.
pub(super) async fn probe_node(node: &Node, role: Role) -> Verdict {
    let Node { address, security, settings } = node;
    let connector = Connector::with_security(address, security.clone());
    let is_asked = settings.timing.causality_check == CausalityCheck::Always;
    let questions = Questions { known: None, causality: is_asked.then_some(settings.policy) };
    let mut probe = Probe::begin(&connector, &settings.credentials, settings.deadlines, questions);
    let outcome = probe.run().await;
    if let Some(notice @ LoginNotice::ReliesOnCache) = probe.login_notice() {
        notice.log();
    }
    debug!(?outcome, step = %probe.step(), took = ?probe.started().elapsed(), "probe run ended");
    let (verdict, cause) = match outcome {
        Ok(Ok(Answer { facts, causality })) => {
            let verdict = match galera::judge(&facts, settings.policy, role) {
                Verdict::Serve if causality == Causality::Unproven && role != Role::Reader => {
                    Verdict::Refuse(Reason::Unproven)
                }
                verdict => verdict,
            };
            (verdict, facts.to_string())
        }
        Err(stalled) if stalled.step == Step::Causality && role == Role::Reader => {
            let facts = probe.facts();
            (galera::judge(facts, settings.policy, role), facts.to_string())
        }
        Ok(Err(failure)) => (Verdict::Refuse(failure.reason()), failure.to_string()),
        Err(stalled) => (Verdict::Refuse(stalled.reason()), stalled.to_string()),
    };
    if let Verdict::Refuse(reason) = verdict {
        warn!(target = %address, cause, advice = reason.advice(), "refuse, {reason}");
    }
    verdict
}

/// Queries a running probe within `timeout`. Returns whether the status is 200, and the
/// line to print. A probe that does not answer counts as a refusal.
///
/// # Errors
/// The status is neither 200 nor 503, so the URL is wrong.
pub(super) async fn query_probe(url: &Url, timeout: Duration) -> io::Result<(bool, String)> {
    match via::query(url, timeout).await {
        Ok(ProbeResponse { status: 200, line }) => Ok((true, line)),
        Ok(ProbeResponse { status: 503, line }) => Ok((false, line)),
        Ok(ProbeResponse { status, .. }) => Err(io::Error::other(format!(
            "--via: the response's status is {status}: give the URL of one of the probe's paths"
        ))),
        Err(error) => Ok((false, format!("unreachable: the probe did not answer: {error}"))),
    }
}
