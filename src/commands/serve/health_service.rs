//! The service of the health paths: `/`, `/read-write`, `/reader`, `/writer` and `/livez`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::admin::ExchangeCounter;
use crate::health::{Health, Reason, Role};
use crate::http::{Format, Problem, Response, Route};
use crate::monitor::Handle;
use crate::os::maintenance_file::MaintenanceFile;

/// Answers the health paths with the monitor's verdict, or with 503 during maintenance and
/// the drain.
pub(super) struct HealthService {
    handle: Handle,
    draining: AtomicBool,
    maintenance: Option<MaintenanceFile>,
    exchanges: ExchangeCounter,
}

impl HealthService {
    /// Creates the service for one monitor. While `maintenance_file` exists, every health
    /// path answers 503 `maintenance`.
    pub(super) fn new(handle: Handle, maintenance_file: Option<PathBuf>) -> Self {
        Self {
            handle,
            draining: AtomicBool::new(false),
            maintenance: maintenance_file.map(MaintenanceFile::new),
            exchanges: ExchangeCounter::default(),
        }
    }

    /// Starts the drain: from now on every health path answers 503 `draining`.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns the count of exchanges, by status.
    pub(super) fn exchanges(&self) -> &ExchangeCounter {
        &self.exchanges
    }

    /// Answers one request and counts it.
    pub(super) async fn answer(self: Arc<Self>, route: Route, format: Format) -> Response {
        let response = match route {
            Route::Health(role) => Response::health(self.health(role).await, format),
            Route::Live => Response::live(format),
            Route::Metrics | Route::Status => Response::problem(Problem::NotFound, format),
            Route::Problem(problem) => Response::problem(problem, format),
        };
        self.exchanges.count(&response);
        response
    }

    async fn health(&self, role: Role) -> Health {
        if self.draining.load(Ordering::Relaxed) {
            self.handle.refuse(Reason::Draining).await
        } else if self.in_maintenance().await {
            self.handle.refuse(Reason::Maintenance).await
        } else {
            self.handle.health(role).await
        }
    }

    /// Looks for the maintenance file now.
    pub(super) async fn recheck_maintenance(&self) {
        if let Some(maintenance) = &self.maintenance {
            maintenance.recheck().await;
        }
    }

    /// Returns whether the maintenance file exists.
    pub(super) async fn in_maintenance(&self) -> bool {
        match &self.maintenance {
            Some(maintenance) => maintenance.is_on().await,
            None => false,
        }
    }
}
