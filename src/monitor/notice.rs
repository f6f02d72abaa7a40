use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::{State, Target};
use crate::health::{Health, Role, Verdict};

/// What askers are told without troubling the target, as it would tell them the same:
/// nothing has happened since it told somebody.
#[derive(Debug, Default)]
pub(super) struct Notice {
    posted: Mutex<Option<Posted>>,
    readers: AtomicU64,
}

/// What is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posted {
    /// For the roles in the order of [`Role::ALL`].
    pub(super) healths: [Health; Role::ALL.len()],
    pub(super) until: Instant,
}

impl Notice {
    /// Puts this in the place of what was posted.
    pub(super) fn post(&self, posted: Option<Posted>) {
        *self.posted.lock().unwrap_or_else(PoisonError::into_inner) = posted;
    }

    /// What is told to this role; nothing where the target is to be asked.
    pub(super) fn read(&self, role: Role) -> Option<Health> {
        let posted = (*self.posted.lock().unwrap_or_else(PoisonError::into_inner))?;
        if Instant::now() >= posted.until {
            return None;
        }
        self.readers.fetch_add(1, Ordering::Relaxed);
        let mut roles = Role::ALL.into_iter().zip(posted.healths);
        roles.find(|(other, _)| *other == role).map(|(_, health)| health)
    }

    /// How many have read one.
    pub(super) fn readers(&self) -> u64 {
        self.readers.load(Ordering::Relaxed)
    }
}

impl Target {
    /// What would be told to everybody who asks before anything else happens.
    pub(super) fn standing(&self, now: Instant) -> Option<Posted> {
        let State::Idle = self.state else { return None };
        let until = self.history.serves_until(now)?;
        let healths = Role::ALL.map(|role| self.for_role(Verdict::Serve.into(), role));
        // Where it is news, the target tells it.
        (self.journal.report.told == Some(healths)).then_some(Posted { healths, until })
    }
}
