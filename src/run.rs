//! The program's two jobs, wired together: [`serve`] and [`check`].

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tracing::{debug, info};

use crate::config::Node;
use crate::connect::Connector;
use crate::galera;
use crate::probe::Dialogue;
use crate::server;
use crate::target::Target;
use crate::verdict::Verdict;

/// Answers balancers on `listener` for ever. Dropped, it closes the listener and
/// the dialogue with the node.
pub async fn serve(listener: TcpListener, node: Node) {
    let (target, asking) = Target::new(Connector::new(&node.address), node.settings);
    let ask = move || {
        let asking = asking.clone();
        async move { asking.ask().await }
    };
    tokio::join!(target.run(), server::serve(listener, ask));
}

/// Opens the balancers' listener.
///
/// # Errors
/// What the operating system says.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Asks the node once, within its deadlines.
pub async fn check(node: &Node) -> Verdict {
    let settings = &node.settings;
    let node = Connector::new(&node.address);
    let mut dialogue = Dialogue::begin(&node, &settings.credentials, settings.deadlines);
    let outcome = dialogue.run().await;
    debug!(?outcome, step = %dialogue.step(), took = ?dialogue.began().elapsed(), "dialogue ended");
    match outcome {
        Ok(Ok(facts)) => galera::judge(&facts, settings.policy),
        Ok(Err(failure)) => Verdict::Refuse(failure.reason()),
        Err(stalled) => Verdict::Refuse(stalled.reason()),
    }
}
