//! The client side of the monitor: sends requests to its task and waits for the replies.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::report::Report;
use super::verdict_cache::VerdictCache;
use crate::health::{Health, Reason, Role, Verdict};

/// Queries a [`Monitor`](super::Monitor). Clones query the same monitor. It stops when the
/// last of them is dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) cache: Arc<VerdictCache>,
}

/// A request to the monitor's task, with the channel for the reply. If the receiver was
/// dropped, the task discards the reply.
#[derive(Debug)]
pub(super) enum Request {
    /// A caller wants the node's health.
    Health(Caller),
    /// A caller is refused for the operator's reason, such as maintenance.
    Refuse(Reason, oneshot::Sender<Health>),
    /// The operator has changed something: the next caller gets a new probe run.
    Reload(oneshot::Sender<()>),
    /// `/metrics` or `/status` wants the report.
    Report(oneshot::Sender<Report>),
}

/// A health request that waits for a verdict.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) role: Role,
    pub(super) reply: oneshot::Sender<Health>,
}

impl Handle {
    /// The node's health for `role`: from the cached verdict, or from a probe run that
    /// callers share. Returns within the deadline of the whole probe run, and refuses
    /// with [`Reason::Stopping`] once the monitor is gone.
    ///
    /// Dropping the future does not cancel the probe run: other callers may wait for it.
    pub async fn health(&self, role: Role) -> Health {
        if !self.requests.is_closed()
            && let Some(health) = self.cache.get(role)
        {
            return health;
        }
        let health = self.request(|reply| Request::Health(Caller { role, reply })).await;
        health.unwrap_or(Verdict::Refuse(Reason::Stopping).into())
    }

    /// Refuses one caller for the operator's reason, such as [`Reason::Maintenance`].
    /// The monitor counts and records the refusal, closes the kept connection, and starts no
    /// probe run.
    pub async fn refuse(&self, reason: Reason) -> Health {
        let health = self.request(|reply| Request::Refuse(reason, reply)).await;
        health.unwrap_or(Verdict::Refuse(reason).into())
    }

    /// Ends the back-off and forgets the last verdict, so that the next caller gets a new probe
    /// run, on a new connection.
    pub async fn reload(&self) {
        self.request(Request::Reload).await;
    }

    /// What the monitor has seen and done. Empty once the monitor is gone.
    pub async fn report(&self) -> Report {
        self.request(Request::Report).await.unwrap_or_default()
    }

    async fn request<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, replied) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        replied.await.ok()
    }
}
