//! The program's two jobs, wired together: [`serve`] and [`check`].

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::config::Node;
use crate::connect::{Connector, Security};
use crate::galera;
use crate::probe::Dialogue;
use crate::server::{Listener, Server};
use crate::target::{RELIES_ON_CACHE, Target};
use crate::verdict::Verdict;

/// What an exchange under way may still take when the program is told to stop,
/// and then what its answer may take. The process ends within both.
const STOP_TIME: Duration = Duration::from_millis(30);

/// Answers balancers until `stop`, then finishes the exchanges under way, but
/// waits for nobody outside: whoever waits for the node is told `stopping`.
/// Dropped, it closes the listeners and the dialogue with the node.
pub async fn serve(listeners: Vec<Listener>, node: Node, stop: impl Future<Output = ()>) {
    info!(target = %node.address, version = env!("CARGO_PKG_VERSION"), "ready to ask");
    let connector = Connector::secured(&node.address, node.security.clone());
    let (target, asking) = Target::new(connector, node.settings);
    let server = Server::new(listeners, move || {
        let asking = asking.clone();
        async move { asking.ask().await }
    });
    let mut target = Box::pin(target.run());
    tokio::select! {
        () = &mut target => {}
        () = server.run() => {}
        () = keep_fresh(&node.security) => {}
        () = stop => {}
    }
    let mut stopping = pin!(server.stop(STOP_TIME));
    tokio::select! {
        () = &mut target => {}
        () = &mut stopping => return,
        () = sleep(STOP_TIME) => {}
    }
    drop(target);
    // Who does not take its answer in time goes without.
    let _ = timeout(STOP_TIME, stopping).await;
}

async fn keep_fresh(security: &Security) {
    match &security.tls {
        Some(tls) => tls.keep_fresh().await,
        None => pending().await,
    }
}

/// Asks the node once, within its deadlines.
pub async fn check(node: &Node) -> Verdict {
    let Node { address, security, settings } = node;
    let connector = Connector::secured(address, security.clone());
    let mut dialogue = Dialogue::begin(&connector, &settings.credentials, settings.deadlines);
    let outcome = dialogue.run().await;
    if dialogue.relies_on_cache() {
        warn!("{RELIES_ON_CACHE}");
    }
    debug!(?outcome, step = %dialogue.step(), took = ?dialogue.began().elapsed(), "dialogue ended");
    let (verdict, cause) = match outcome {
        Ok(Ok(facts)) => (galera::judge(&facts, settings.policy), facts.to_string()),
        Ok(Err(failure)) => (Verdict::Refuse(failure.reason()), failure.to_string()),
        Err(stalled) => (Verdict::Refuse(stalled.reason()), stalled.to_string()),
    };
    if let Verdict::Refuse(reason) = verdict {
        warn!(target = %address, %cause, "refuse, {reason}");
    }
    verdict
}
