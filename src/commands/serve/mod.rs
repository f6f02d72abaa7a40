//! `serve`: answers load balancers over HTTP until a signal ends it.

pub mod admin;
mod admin_service;
mod health_service;
mod listeners;
mod signals;

use std::io;
use std::path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::info;

use crate::cli::{Node, Serve};
use crate::monitor::Monitor;
use crate::node::connector::Connector;
use crate::os::systemd::Notifier;
use crate::server::{Listener, MAX_CONNECTIONS, Server};

use admin_service::AdminService;
use health_service::HealthService;
use signals::Signals;

pub use signals::Stop;

/// How long exchanges under way may take once the program was told to stop; then how
/// long the answers of the remaining callers may take. The process ends within both.
const STOP_TIME: Duration = Duration::from_millis(30);

/// The most connections to the admin listener at once: Prometheus, and a few people.
const MAX_ADMIN_CONNECTIONS: usize = 16;

/// Opens the listeners and serves until SIGTERM or SIGINT. A second signal ends the
/// program at once.
///
/// # Errors
/// An address that cannot be listened on, with the flag and the fix.
pub async fn run(config: Serve) -> io::Result<()> {
    let mut signals = Signals::new()?;
    let mut listeners = Vec::new();
    for listen in &config.listen {
        listeners.push(listeners::bind("--listen", listen, "listening").await?);
    }
    let admin = match &config.admin_listen {
        Some(listen) => Some(listeners::bind("--admin-listen", listen, "admin pages").await?),
        None => None,
    };
    if let Some(file) = &config.maintenance_file {
        // Absolute, since `maintenance on` may be run in another folder.
        info!(path = %path::absolute(file)?.display(), "maintenance file");
    }
    let (stop, stopped) = oneshot::channel();
    let serving = serve(listeners, admin, config, async { stopped.await.unwrap_or(Stop::Now) });
    tokio::select! {
        () = serving => {}
        () = async { let _ = stop.send(signals.next().await); signals.next().await; } => {}
    }
    Ok(())
}

/// Answers balancers until `stop` resolves; then drains, finishes the exchanges under
/// way, and answers callers that still wait for the node with `stopping`. It waits for
/// no peer longer than twice [`STOP_TIME`].
///
/// Dropped, it closes the listeners and the connection to the node.
pub async fn serve(
    listeners: Vec<Listener>,
    admin: Option<Listener>,
    config: Serve,
    stop: impl Future<Output = Stop>,
) {
    let Serve { maintenance_file, drain, node, .. } = config;
    let Node { address, security, settings } = node;
    let (monitor, handle) = Monitor::new(Connector::secured(&address, security), settings);
    let health = Arc::new(HealthService::new(handle.clone(), maintenance_file));
    if health.in_maintenance().await {
        info!("in maintenance");
    }
    info!(target = %address, version = admin::VERSION, "ready to probe");
    let pages = Arc::new(AdminService::new(handle, Arc::clone(&health), address));
    let server = Server::new(listeners, MAX_CONNECTIONS, {
        let health = Arc::clone(&health);
        move |route, format| Arc::clone(&health).answer(route, format)
    });
    let admin = admin.into_iter().collect();
    let admin = Server::new(admin, MAX_ADMIN_CONNECTIONS, move |route, format| {
        Arc::clone(&pages).answer(route, format)
    });

    let notifier = Notifier::start();
    notifier.ready();
    let mut monitor = Box::pin(monitor.run());
    tokio::select! {
        () = &mut monitor => {}
        () = server.run() => {}
        () = admin.run() => {}
        () = notifier.feed() => {}
        () = drained(stop, drain, &notifier, &health) => {}
    }
    notifier.stopping();
    let exchanges = async {
        tokio::join!(server.stop(STOP_TIME), admin.stop(STOP_TIME));
    };
    finish(monitor, exchanges).await;
}

/// Returns once the program was told to stop and the drain is over.
async fn drained(
    stop: impl Future<Output = Stop>,
    drain: Duration,
    notifier: &Notifier,
    health: &HealthService,
) {
    if stop.await == Stop::Drain && !drain.is_zero() {
        notifier.stopping();
        info!("draining for {drain:?}: every health path answers 503");
        health.drain();
        sleep(drain).await;
    }
}

/// Lets the exchanges under way finish. Dropping the monitor answers the callers that
/// still wait for the node.
async fn finish(
    mut monitor: Pin<Box<impl Future<Output = ()>>>,
    exchanges: impl Future<Output = ()>,
) {
    let mut exchanges = pin!(exchanges);
    tokio::select! {
        () = &mut monitor => {}
        () = &mut exchanges => return,
        () = sleep(STOP_TIME) => {}
    }
    drop(monitor);
    // A client that does not take its answer in time gets none.
    let _ = timeout(STOP_TIME, exchanges).await;
}
