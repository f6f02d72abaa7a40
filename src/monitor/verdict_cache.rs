//! The cached verdict: while it is valid, a [`Handle`](super::Handle) answers callers
//! without a message to the monitor's task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::health::{Health, Role};

/// Holds at most one verdict. The [`Monitor`](super::Monitor) stores it, and its handles
/// read it.
///
/// The monitor stores a verdict only while it would itself give every caller this one.
#[derive(Debug, Default)]
pub(super) struct VerdictCache {
    cached: Mutex<Option<CachedVerdict>>,
    hits: AtomicU64,
}

/// A verdict that is valid for a limited time.
#[derive(Clone, Copy, Debug)]
pub(super) struct CachedVerdict {
    /// One for each role, in the order of [`Role::ALL`].
    pub(super) healths: [Health; Role::ALL.len()],
    /// The first moment at which it is no longer valid.
    pub(super) until: Instant,
}

impl VerdictCache {
    /// Replaces the verdict. `None` removes it.
    pub(super) fn store(&self, cached: Option<CachedVerdict>) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = cached;
    }

    /// The verdict for `role`, or `None` if the caller has to query the monitor.
    pub(super) fn get(&self, role: Role) -> Option<Health> {
        let cached = (*self.cached.lock().unwrap_or_else(PoisonError::into_inner))?;
        if Instant::now() >= cached.until {
            return None;
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        let mut roles = Role::ALL.into_iter().zip(cached.healths);
        roles.find(|(other, _)| *other == role).map(|(_, health)| health)
    }

    /// How many callers were answered from the cache.
    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}
