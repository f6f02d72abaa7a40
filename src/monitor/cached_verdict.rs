use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::health::{Health, Role};

/// What callers are told without troubling the target, as it would tell them the same:
/// nothing has happened since it told somebody.
#[derive(Debug, Default)]
pub(super) struct CachedVerdict {
    cached: Mutex<Option<Cached>>,
    hits: AtomicU64,
}

/// What is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    /// For the roles in the order of [`Role::ALL`].
    pub(super) healths: [Health; Role::ALL.len()],
    pub(super) until: Instant,
}

impl CachedVerdict {
    /// Puts this in the place of what was posted.
    pub(super) fn store(&self, cached: Option<Cached>) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = cached;
    }

    /// What is told to this role; nothing where the target is to be asked.
    pub(super) fn get(&self, role: Role) -> Option<Health> {
        let cached = (*self.cached.lock().unwrap_or_else(PoisonError::into_inner))?;
        if Instant::now() >= cached.until {
            return None;
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        let mut roles = Role::ALL.into_iter().zip(cached.healths);
        roles.find(|(other, _)| *other == role).map(|(_, health)| health)
    }

    /// How many have read one.
    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}
