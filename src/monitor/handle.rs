use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::cached_verdict::CachedVerdict;
use super::report::Report;
use crate::health::{Health, Reason, Role, Verdict};

/// The way to ask. Clones ask the same node.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) cached_verdict: Arc<CachedVerdict>,
}

/// What is wanted of the target. Whoever waits for the answer may be gone by then:
/// that costs nothing.
#[derive(Debug)]
pub(super) enum Request {
    /// The node's health.
    Health(Caller),
    /// The same from one who may not have it, for this reason.
    Refuse(Reason, oneshot::Sender<Health>),
    /// What was seen and done.
    Report(oneshot::Sender<Report>),
}

#[derive(Debug)]
pub(super) struct Caller {
    pub(super) role: Role,
    pub(super) answer: oneshot::Sender<Health>,
}

impl Handle {
    /// The node's health for a role, within the probe run's whole deadline.
    /// Dropped, it cancels nobody else's.
    pub async fn health(&self, role: Role) -> Health {
        if !self.requests.is_closed()
            && let Some(health) = self.cached_verdict.get(role)
        {
            return health;
        }
        let health = self.request(|answer| Request::Health(Caller { role, answer })).await;
        health.unwrap_or(Verdict::Refuse(Reason::Stopping).into())
    }

    /// The refusal of a caller whom the operator keeps from the node. The node is
    /// not asked.
    pub async fn refuse(&self, reason: Reason) -> Health {
        let health = self.request(|answer| Request::Refuse(reason, answer)).await;
        health.unwrap_or(Verdict::Refuse(reason).into())
    }

    /// What was seen and done; nothing where the target is gone.
    pub async fn report(&self) -> Report {
        self.request(Request::Report).await.unwrap_or_default()
    }

    async fn request<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.ok()?;
        answered.await.ok()
    }
}
