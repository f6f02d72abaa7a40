//! SIGHUP: reads all files again, and has the node probed for the next caller.

use std::sync::Arc;

use tokio::join;
use tracing::info;

use super::health_service::HealthService;
use super::signals::Hangups;
use crate::monitor::Handle;
use crate::node::credentials::CredentialSource;
use crate::node::tls::Tls;
use crate::os::systemd::Notifier;

/// What SIGHUP reloads.
pub(super) struct Reloader {
    pub(super) handle: Handle,
    pub(super) credentials: CredentialSource,
    pub(super) tls: Option<Tls>,
    pub(super) health: Arc<HealthService>,
}

impl Reloader {
    /// Reloads at each SIGHUP, without end.
    pub(super) async fn run(&self, mut hangups: Hangups, notifier: &Notifier) {
        loop {
            hangups.next().await;
            notifier.reloading();
            self.reload().await;
            notifier.ready();
        }
    }

    /// Reads the files first, so that the next probe run uses them.
    async fn reload(&self) {
        let certificates = async {
            if let Some(tls) = &self.tls {
                tls.reload().await;
            }
        };
        join!(self.credentials.reload(), certificates, self.health.recheck_maintenance());
        self.handle.reload().await;
        info!("SIGHUP: the files were read again, and the next request probes the node");
    }
}
