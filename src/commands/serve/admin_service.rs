//! The service of the admin listener: `/metrics`, `/status` and `/livez`.

use std::sync::Arc;

use super::admin::{self, Exposition};
use super::health_service::HealthService;
use crate::http::{Format, Problem, Response, Route};
use crate::monitor::Handle;
use crate::node::address::Address;

/// Answers requests to the admin listener from the monitor's report.
pub(super) struct AdminService {
    handle: Handle,
    health: Arc<HealthService>,
    address: Address,
}

impl AdminService {
    /// Creates the service for one monitor, which probes the node at `address`.
    pub(super) fn new(handle: Handle, health: Arc<HealthService>, address: Address) -> Self {
        Self { handle, health, address }
    }

    /// Answers one request.
    pub(super) async fn answer(self: Arc<Self>, route: Route, format: Format) -> Response {
        match route {
            Route::Metrics => {
                let exposition = Exposition::of(format);
                let report = self.handle.report().await;
                let page = admin::metrics(report, self.health.exchanges(), exposition);
                Response::page(exposition.content_type(), page, format)
            }
            Route::Status => {
                let page = admin::status(&self.handle.report().await, &self.address);
                Response::page("application/json", page, format)
            }
            Route::Live => Response::live(format),
            Route::Health(_) => Response::problem(Problem::NotFound, format),
            Route::Problem(problem) => Response::problem(problem, format),
        }
    }
}
