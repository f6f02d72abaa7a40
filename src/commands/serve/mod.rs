//! The command `serve`: answers load balancers over HTTP until a signal stops it.

pub mod admin;
mod admin_service;
mod health_service;
mod listeners;
mod reload;
mod signals;

use std::io;
use std::path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::info;

use self::admin_service::AdminService;
use self::health_service::HealthService;
use self::reload::Reloader;
use self::signals::Signals;
use crate::cli::{Node, Serve};
use crate::monitor::Monitor;
use crate::node::connector::Connector;
use crate::os::systemd::Notifier;
use crate::server::{Listener, MAX_CONNECTIONS, Server, raise_descriptor_limit};

pub use self::signals::{Hangups, Stop};

/// How long the shutdown waits for the exchanges under way, and then again for the responses
/// to callers that still waited for the node. The process exits within twice this time.
const STOP_TIMEOUT: Duration = Duration::from_millis(30);

/// The connection limit of the admin listener: enough for Prometheus and a few people.
const MAX_ADMIN_CONNECTIONS: usize = 16;

/// Opens the listeners and serves until SIGTERM or SIGINT. A second signal ends the
/// program at once. SIGHUP reloads.
///
/// # Errors
/// A listener's address cannot be bound. The error has the flag and the fix.
pub async fn run(config: Serve) -> io::Result<()> {
    let (mut signals, hangups) = (Signals::new()?, Hangups::new()?);
    raise_descriptor_limit(config.listen.len());
    let mut health = Vec::new();
    for listen in &config.listen {
        health.push(listeners::bind("--listen", listen, "listening").await?);
    }
    let admin = match &config.admin_listen {
        Some(listen) => Some(listeners::bind("--admin-listen", listen, "admin pages").await?),
        None => None,
    };
    if let Some(file) = &config.maintenance_file {
        // The absolute path, because `maintenance on` may run in another folder.
        info!(path = %path::absolute(file)?.display(), "maintenance file");
    }
    let (stop, stopped) = oneshot::channel();
    let stopped = async { stopped.await.unwrap_or(Stop::Now) };
    let serving = serve(health, admin, config, stopped, hangups);
    let second_signal = async {
        let _ = stop.send(signals.next().await);
        signals.next().await
    };
    tokio::select! {
        () = serving => {}
        _ = second_signal => {}
    }
    Ok(())
}

/// Answers load balancers until `stop` resolves. Then it drains, finishes the exchanges
/// under way, and answers `stopping` to callers that still wait for the node.
///
/// After the drain it waits for its peers for at most 60 ms. Dropping the future closes the
/// listeners and the connection to the node.
pub async fn serve(
    listeners: Vec<Listener>,
    admin: Option<Listener>,
    config: Serve,
    stop: impl Future<Output = Stop>,
    hangups: Hangups,
) {
    let Serve { maintenance_file, drain, node, .. } = config;
    let Node { address, security, settings } = node;
    let (credentials, tls) = (settings.credentials.clone(), security.tls.clone());
    let (monitor, handle) = Monitor::new(Connector::with_security(&address, security), settings);
    let health = Arc::new(HealthService::new(handle.clone(), maintenance_file));
    if health.in_maintenance().await {
        info!("in maintenance");
    }
    info!(target = %address, version = admin::VERSION, "ready to probe");
    let pages = Arc::new(AdminService::new(handle.clone(), Arc::clone(&health), address));
    let reloader = Reloader { handle, credentials, tls, health: Arc::clone(&health) };
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
        () = reloader.run(hangups, &notifier) => {}
        () = stop_and_drain(stop, drain, &notifier, &health) => {}
    }
    notifier.stopping();
    let exchanges = async {
        tokio::join!(server.stop(STOP_TIMEOUT), admin.stop(STOP_TIMEOUT));
    };
    finish(monitor, exchanges).await;
}

/// Waits for `stop`, and then for the end of the drain.
async fn stop_and_drain(
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

/// Finishes the exchanges under way. After [`STOP_TIMEOUT`] it drops the monitor, which
/// answers the callers that still wait for the node.
async fn finish(
    mut monitor: Pin<Box<impl Future<Output = ()>>>,
    exchanges: impl Future<Output = ()>,
) {
    let mut exchanges = pin!(exchanges);
    tokio::select! {
        () = &mut monitor => {}
        () = &mut exchanges => return,
        () = sleep(STOP_TIMEOUT) => {}
    }
    drop(monitor);
    // A client that does not read its response in time loses it.
    let _ = timeout(STOP_TIMEOUT, exchanges).await;
}
